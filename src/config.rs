//! The settings of a channel, and which of them can't be kept.

use crate::block::Compression;
use crate::clock::Clock;
use crate::disk::DiskRef;
use crate::error::ConfigError;
use crate::event::Listener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a `send` that returned `Ok` survives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Halt, drop and restart. A crash loses what was in memory:
    /// [`Stats::at_risk_items`](crate::Stats::at_risk_items) says how much that is right now.
    /// Nothing is encoded or written while the consumer keeps up.
    #[default]
    Spill,
    /// Also a crash or `kill -9` of the process: every item is handed to the operating system before `Ok`.
    Process,
    /// Also a power cut, up to the last such duration: a timer syncs what was accepted, idle or not. Not on sled.
    Interval(Duration),
    /// Also a power cut: `Ok` only after the device has it. Senders that wait at the same time share one sync. Not
    /// on sled.
    Sync,
}

impl Durability {
    fn name(&self) -> &'static str {
        match self {
            Self::Spill => "spill",
            Self::Process => "process",
            Self::Interval(_) => "interval",
            Self::Sync => "sync",
        }
    }
}

/// What happens to new items while the disk space is used up.
///
/// *Full* is one condition: `disk_bytes_max`, `disk_free_min`, or a file system without room. It ends by itself
/// as consumers take items or space returns. Draining needs no free space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Senders wait.
    #[default]
    Block,
    /// Senders get the item back in [`SendError::Full`](crate::SendError::Full). They wait only for what is being written, which
    /// tells how much room is left.
    Reject,
    /// The oldest items on disk are dropped and counted, a whole database or segment at a time; never what is in
    /// memory.
    /// Waits where there is nothing to drop.
    DropOldest,
    /// The new item is accepted, dropped and counted.
    DropNewest,
}

/// Where the backlog is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// A chain of small sled databases (cargo feature `sled`): the default where it is compiled in.
    #[cfg_attr(feature = "sled", default)]
    Sled,
    /// Our own segment log: the store for heavy spilling and for power cuts. Always there.
    #[cfg_attr(not(feature = "sled"), default)]
    Log,
}

/// Days of backlog must not hang on one power cut, whatever was promised.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// The largest settable `item_bytes_max`: record lengths are 32 bits wide on disk.
const ITEM_BYTES_LIMIT: u64 = 1 << 30;

/// How long an item waits after a delivery that failed: each time twice as long, up to a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Backoff {
    /// The wait after so many failures.
    pub(crate) fn after(self, failures: u32) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let factor = 1_u32.checked_shl(failures.saturating_sub(1));
        let delay = factor.and_then(|factor| self.first.checked_mul(factor));
        delay.unwrap_or(self.most).min(self.most)
    }
}

/// Settings without types.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) memory_items: usize,
    pub(crate) memory_bytes_max: usize,
    pub(crate) item_bytes_max: usize,
    pub(crate) block_bytes: Option<usize>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) disk_bytes_max: Option<u64>,
    pub(crate) disk_free_min: Option<u64>,
    pub(crate) when_full: WhenFull,
    pub(crate) durability: Durability,
    pub(crate) storage: Storage,
    pub(crate) compression: Compression,
    pub(crate) schema: Option<String>,
    /// Other tags whose records can be read.
    pub(crate) readable: Vec<String>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Backoff,
    pub(crate) in_flight_max: usize,
    pub(crate) dead_letter_bytes_max: u64,
    pub(crate) clock: Clock,
    pub(crate) listener: Listener,
    /// Where the directory is.
    pub(crate) disk: DiskRef,
    pub(crate) always_encode: bool,
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) faults: crate::store::faulty::Faults,
    #[cfg(feature = "test-util")]
    pub(crate) temporary: Option<std::sync::Arc<tempfile::TempDir>>,
    #[cfg(test)]
    pub(crate) sim: Option<crate::store::sim::SimDisk>,
}

impl Settings {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            memory_items: 1024,
            memory_bytes_max: 64 << 20,
            item_bytes_max: 16 << 20,
            block_bytes: None,
            segment_bytes: None,
            disk_bytes_max: None,
            disk_free_min: None,
            when_full: WhenFull::default(),
            durability: Durability::default(),
            storage: Storage::default(),
            compression: Compression::default(),
            schema: None,
            readable: Vec::new(),
            max_age: None,
            max_attempts: None,
            backoff: Backoff::default(),
            in_flight_max: 65_536,
            dead_letter_bytes_max: 64 << 20,
            clock: Clock::default(),
            listener: Listener::default(),
            disk: crate::disk::real(),
            always_encode: false,
            #[cfg(any(test, feature = "test-util"))]
            faults: crate::store::faulty::Faults::default(),
            #[cfg(feature = "test-util")]
            temporary: None,
            #[cfg(test)]
            sim: None,
        }
    }

    /// True when every item goes to disk before `send` returns.
    pub(crate) fn is_write_ahead(&self) -> bool {
        self.durability != Durability::Spill
    }

    /// True when `Ok` means that the device has the item.
    pub(crate) fn is_sync(&self) -> bool {
        self.durability == Durability::Sync
    }

    /// True when a thread that sends may write for itself. sled stays on the worker: it may panic, and hang.
    pub(crate) fn lets_senders_write(&self) -> bool {
        self.storage == Storage::Log && self.is_write_ahead()
    }

    /// True when what a failed sync should have covered must still be at hand.
    pub(crate) fn keeps_unsynced(&self) -> bool {
        matches!(self.durability, Durability::Interval(_) | Durability::Sync)
    }

    /// How long what was written may stay unsynced; `None` where no time is promised.
    pub(crate) fn sync_within(&self) -> Option<Duration> {
        match (self.storage, &self.durability) {
            (Storage::Sled, _) | (_, Durability::Sync) => None,
            (Storage::Log, Durability::Interval(within)) => Some(*within),
            (Storage::Log, _) => Some(SYNC_WITHIN),
        }
    }

    /// True when every item passes through the codec, whichever way it goes.
    pub(crate) fn encodes_always(&self) -> bool {
        self.always_encode
    }

    /// Whether all of them can be kept, together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let zero = [
            ("memory_items", self.memory_items == 0),
            ("memory_bytes_max", self.memory_bytes_max == 0),
            ("item_bytes_max", self.item_bytes_max == 0),
            ("block_bytes", self.block_bytes == Some(0)),
            ("segment_bytes", self.segment_bytes == Some(0)),
            ("disk_bytes_max", self.disk_bytes_max == Some(0)),
            ("max_age", self.max_age.is_some_and(|age| age.is_zero())),
            ("max_attempts", self.max_attempts == Some(0)),
            ("in_flight_max", self.in_flight_max == 0),
        ];
        if let Some((setting, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { setting });
        }
        if self.item_bytes_max as u64 > ITEM_BYTES_LIMIT {
            return Err(ConfigError::TooLarge {
                setting: "item_bytes_max",
                found: self.item_bytes_max as u64,
                most: ITEM_BYTES_LIMIT,
            });
        }
        if self.compression == Compression::Lz4 && cfg!(not(feature = "lz4")) {
            return Err(ConfigError::CompressionUnavailable {
                compression: "lz4",
                feature: "lz4",
            });
        }
        match (self.storage, &self.durability) {
            (Storage::Sled, Durability::Interval(_) | Durability::Sync) => {
                Err(ConfigError::DurabilityUnsupported {
                    durability: self.durability.name(),
                })
            }
            _ => Ok(()),
        }
    }
}
