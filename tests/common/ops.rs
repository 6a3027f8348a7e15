//! One step of a history, decoded from two bytes: the same decoder serves proptest and the fuzzer.

use overspill::{Compression, Durability, FailOn, Storage, WhenFull};
use std::io;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

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
    pub(crate) deliveries: Deliveries,
}

/// What is set about deliveries, dead letters and age.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deliveries {
    pub(crate) in_flight_max: usize,
    pub(crate) max_attempts: Option<u32>,
    /// After the first failure, and at most.
    pub(crate) backoff: (Duration, Duration),
    pub(crate) max_age: Option<Duration>,
    pub(crate) dead_letter_bytes_max: u64,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            in_flight_max: 1000,
            max_attempts: None,
            backoff: (Duration::ZERO, Duration::ZERO),
            max_age: None,
            dead_letter_bytes_max: 64 << 20,
        }
    }
}

impl Deliveries {
    pub(crate) fn decode(code: u8, arg: u8) -> Self {
        Self {
            in_flight_max: match code & 7 {
                few @ 0..=4 => 1 + usize::from(few),
                _ => 1000,
            },
            max_attempts: match code >> 3 & 3 {
                0 => None,
                most => Some(u32::from(most)),
            },
            backoff: match code >> 5 & 3 {
                0 => (2 * HOUR, 6 * HOUR),
                _ => (Duration::ZERO, Duration::ZERO),
            },
            // The clock moves by five hours: far from this age, as far as ages are known.
            max_age: arg.is_multiple_of(4).then_some(16 * HOUR),
            dead_letter_bytes_max: if arg & 0x1c == 0 { 300 } else { 64 << 20 },
        }
    }
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
            deliveries: Deliveries::default(),
        }
    }

    pub(crate) fn with_deliveries(self, deliveries: Deliveries) -> Self {
        Self { deliveries, ..self }
    }

    /// True when nothing but their own limit keeps dead letters from being written.
    pub(crate) fn takes_letters(&self) -> bool {
        self.disk == Disk::Roomy
    }

    /// Failed deliveries that make an item a dead letter.
    pub(crate) fn max_attempts(&self) -> Option<u32> {
        self.deliveries
            .max_attempts
            .filter(|_| self.takes_letters())
    }

    /// How long an item waits after so many failures, in milliseconds.
    pub(crate) fn backoff_ms(&self, failures: u32) -> u64 {
        let (first, most) = self.deliveries.backoff;
        let doubled = first * (1 << failures.saturating_sub(1).min(8));
        ms(doubled.min(most))
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
    Deliver(Verb),
    Finish(Finish, u8),
    FinishBatch(BatchEnd, u8),
    /// So many times five hours pass.
    Advance(u8),
    Letters,
    Requeue,
    /// Polled so many times, and the process ends.
    RequeueAndCrash(u8),
    Purge,
}

/// How an item is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Recv,
    TryRecv,
    TryMany(u8),
    /// Polled so many times, then dropped.
    Async(u8),
    ManyAsync(u8),
    Stream,
    Batch(u8),
    BatchAsync(u8),
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Ack,
    AckSync,
    AckAndTake,
    Release,
    DropPanicking,
    Nack,
    NackAfter,
    DeadLetter,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchEnd {
    AckFirst,
    Ack,
    Release,
    DropPanicking,
    Split,
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

    /// As [`decode`](Self::decode), half of them about deliveries.
    pub(crate) fn decode_any(code: u8, arg: u8) -> Self {
        if code & 0x80 == 0 {
            return Self::decode(code, arg);
        }
        match code % 64 {
            0..=4 => Self::Deliver(Verb::Recv),
            5..=8 => Self::Deliver(Verb::TryRecv),
            9..=12 => Self::Deliver(Verb::TryMany(arg % 8)),
            13..=14 => Self::Deliver(Verb::Async(arg % 4)),
            15..=16 => Self::Deliver(Verb::ManyAsync(arg % 8)),
            17..=18 => Self::Deliver(Verb::Stream),
            19..=21 => Self::Deliver(Verb::Batch(arg)),
            22..=23 => Self::Deliver(Verb::BatchAsync(arg)),
            24..=28 => Self::Finish(Finish::Ack, arg),
            29 => Self::Finish(Finish::AckSync, arg),
            30 => Self::Finish(Finish::AckAndTake, arg),
            31..=33 => Self::Finish(Finish::Release, arg),
            34 => Self::Finish(Finish::DropPanicking, arg),
            35..=37 => Self::Finish(Finish::Nack, arg),
            38..=39 => Self::Finish(Finish::NackAfter, arg),
            40..=42 => Self::Finish(Finish::DeadLetter, arg),
            43 => Self::FinishBatch(BatchEnd::AckFirst, arg),
            44 => Self::FinishBatch(BatchEnd::Ack, arg),
            45 => Self::FinishBatch(BatchEnd::Release, arg),
            46 => Self::FinishBatch(BatchEnd::DropPanicking, arg),
            47 => Self::FinishBatch(BatchEnd::Split, arg),
            48..=49 => Self::Advance(1 + arg % 3),
            50 => Self::Letters,
            51 => Self::Requeue,
            52 => Self::RequeueAndCrash(arg % 8),
            53 => Self::Purge,
            54..=57 => Self::SendAll(arg % 16),
            58..=59 => Self::TrySend(arg),
            60 => Self::Sync,
            61 => Self::Reopen(End::Halt),
            62 => Self::Reopen(End::Crash),
            _ => Self::TryRecv(arg),
        }
    }
}

/// Whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
