//! One step of a history, decoded from two bytes: the same decoder serves proptest and the fuzzer.

use overspill::{Compression, Durability, FailOn, Storage, WhenFull};
use std::io;
use std::time::Duration;

/// What the disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Roomy,
    /// A quota that a dozen of the larger items use up.
    Quota(WhenFull),
    /// Nothing but what a halt saves.
    NoRoom(WhenFull),
}

impl Disk {
    pub(crate) fn policy(self) -> WhenFull {
        match self {
            Self::Roomy => WhenFull::Block,
            Self::Quota(policy) | Self::NoRoom(policy) => policy,
        }
    }

    /// True when accepted items may be dropped.
    pub(crate) fn drops(self) -> bool {
        matches!(self.policy(), WhenFull::DropOldest | WhenFull::DropNewest)
    }
}

/// The channel's settings.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) storage: Storage,
    pub(crate) compression: Compression,
    pub(crate) durability: Durability,
    pub(crate) memory_items: usize,
    pub(crate) memory_bytes_max: usize,
    pub(crate) disk: Disk,
    pub(crate) always_encode: bool,
}

impl Setup {
    pub(crate) fn decode(code: u8, arg: u8) -> Self {
        let policy = match arg % 4 {
            0 => WhenFull::Block,
            1 => WhenFull::Reject,
            2 => WhenFull::DropOldest,
            _ => WhenFull::DropNewest,
        };
        let storage = if code & 0x80 == 0 {
            Storage::Sled
        } else {
            Storage::Log
        };
        Self {
            compression: if code & 0x60 == 0x60 {
                Compression::Lz4
            } else {
                Compression::None
            },
            durability: match (code & 1, storage, arg >> 5) {
                (0, ..) => Durability::Spill,
                (_, Storage::Log, 0 | 1) => Durability::Sync,
                (_, Storage::Log, 2) => Durability::Interval(Duration::from_millis(1)),
                _ => Durability::Process,
            },
            storage,
            memory_items: 1 + usize::from(code >> 1 & 3),
            memory_bytes_max: if code & 8 == 0 { 64 << 20 } else { 256 },
            disk: match arg >> 2 & 7 {
                // Items that are compressed never fill it.
                0 | 1 if code & 0x60 != 0x60 => Disk::Quota(policy),
                2 => Disk::NoRoom(policy),
                _ => Disk::Roomy,
            },
            always_encode: code & 0x70 == 0,
        }
    }

    pub(crate) fn writes_ahead(&self) -> bool {
        self.durability != Durability::Spill
    }

    /// True when a blocking send returns without a receiver's help.
    pub(crate) fn never_blocks(&self) -> bool {
        let refuses = matches!(self.disk.policy(), WhenFull::Reject | WhenFull::DropNewest);
        self.disk == Disk::Roomy || refuses
    }

    /// True when `Ok` means that the item, and so everything before it, is written: not when it may have been dropped.
    pub(crate) fn confirms_by_ok(&self) -> bool {
        self.disk == Disk::Roomy || self.disk.policy() != WhenFull::DropNewest
    }

    /// Bytes that an item carries: mostly several items to a block, now and then one that fills blocks. Small blocks are
    /// not compressed, the others are.
    pub(crate) fn pad(&self, id: u64) -> usize {
        match (self.disk, id % 8) {
            (Disk::Quota(_), _) => 8 << 10,
            (_, 7) if self.compression == Compression::Lz4 => 400,
            (_, 7) => 100,
            (_, pad) => usize::try_from(pad).unwrap_or(0),
        }
    }
}

/// How the channel ends before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Halt,
    HaltAsync,
    /// With so many leftovers.
    HaltWith(u8),
    Drain,
    /// The last handle is dropped.
    Drop,
    Crash,
}

/// One step. The number picks a handle, or says how many items or polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Send(u8),
    TrySend(u8),
    SendTimeout(u8),
    SendAll(u8),
    /// Polled so many times, then dropped.
    SendAsync(u8),
    SendAllAsync(u8),
    Sink(u8),
    Recv(u8),
    TryRecv(u8),
    RecvMany(u8),
    TryRecvMany(u8),
    RecvAsync(u8),
    RecvManyAsync(u8),
    /// Polls a stream that stays alive.
    Stream,
    DropStream,
    Sync,
    SyncAsync(u8),
    Close,
    Fail(FailOn, io::ErrorKind),
    CloneSender(u8),
    DropSender(u8),
    CloneReceiver(u8),
    DropReceiver(u8),
    Reopen(End),
}

impl Op {
    pub(crate) fn decode(code: u8, arg: u8) -> Self {
        match code % 64 {
            0..=3 => Self::Send(arg),
            4..=9 => Self::TrySend(arg),
            10 => Self::SendTimeout(arg),
            11..=13 => Self::SendAll(arg % 16),
            14..=16 => Self::SendAsync(arg % 4),
            17..=19 => Self::SendAllAsync(arg),
            20..=21 => Self::Sink(arg % 4),
            22..=25 => Self::Recv(arg),
            26..=29 => Self::TryRecv(arg),
            30..=32 => Self::RecvMany(arg % 8),
            33..=34 => Self::TryRecvMany(arg % 8),
            35..=37 => Self::RecvAsync(arg % 4),
            38..=39 => Self::RecvManyAsync(arg % 8),
            40..=42 => Self::Stream,
            43 => Self::DropStream,
            44..=45 => Self::Sync,
            46 => Self::SyncAsync(arg % 4),
            47 => Self::Close,
            48..=49 => Self::Fail(fail_on(arg), fail_kind(arg)),
            50 => Self::CloneSender(arg),
            51 => Self::DropSender(arg),
            52 => Self::CloneReceiver(arg),
            53 => Self::DropReceiver(arg),
            54..=55 => Self::Reopen(End::Halt),
            56 => Self::Reopen(End::HaltAsync),
            57 => Self::Reopen(End::HaltWith(arg % 8)),
            58 => Self::Reopen(End::Drain),
            59..=60 => Self::Reopen(End::Drop),
            _ => Self::Reopen(End::Crash),
        }
    }
}

fn fail_on(arg: u8) -> FailOn {
    match arg % 4 {
        0 => FailOn::Append,
        1 => FailOn::Read,
        2 => FailOn::Sync,
        _ => FailOn::Remove,
    }
}

fn fail_kind(arg: u8) -> io::ErrorKind {
    if arg & 4 == 0 {
        io::ErrorKind::Other
    } else {
        io::ErrorKind::StorageFull
    }
}
