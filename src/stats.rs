//! What a channel says about itself.

use crate::error::StoreError;
use serde::{Serialize, Serializer};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Exact figures of a channel at one moment.
///
/// The first terms obey the conservation law at every moment, and survive restarts:
///
/// ```text
/// accepted = acknowledged + pending + in_flight
///          + dropped.full + dropped.expired + dropped.unencodable
///          + dead_lettered + lost + unaccounted
/// ```
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Items that `send` accepted since the directory was created.
    pub accepted: u64,
    /// Items that consumers finished; plain receives acknowledge as they return.
    pub acknowledged: u64,
    /// Items that wait: in memory, on disk, or between the two.
    pub pending: u64,
    /// Deliveries that are out.
    pub in_flight: u64,
    /// Items dropped, by reason.
    pub dropped: Dropped,
    /// Items ever set aside as dead letters.
    pub dead_lettered: u64,
    /// Items whose bytes were on disk and are damaged or gone.
    pub lost: u64,
    /// After an unclean stop in `Durability::Spill`: numbers of items that were either delivered or
    /// lost. An upper bound of the loss.
    pub unaccounted: u64,

    /// Items that went through memory only: never encoded, never written. Since open, as all below.
    pub passed_through: u64,
    /// Items put to disk.
    pub spilled: u64,
    /// Items read back from disk.
    pub replayed: u64,
    /// Deliveries that were repeated.
    pub redelivered: u64,
    /// Items in memory, ready to be received.
    pub front_items: u64,
    /// Items in memory, encoded, not yet on disk.
    pub staging_items: u64,
    /// Items on disk (and in read-ahead) that wait.
    pub backlog_items: u64,
    /// Bytes that the directory occupies.
    pub disk_bytes: u64,
    /// Bytes of them in quarantine.
    pub quarantined_bytes: u64,
    /// Blocks put to disk.
    pub blocks_written: u64,
    /// Blocks read back.
    pub blocks_read: u64,
    /// Bytes of the blocks put to disk, as they stand there.
    pub bytes_written: u64,
    /// Bytes that the blocks put to disk would have without compression.
    pub uncompressed_bytes_written: u64,
    /// Bytes of the blocks read back, as they stand on disk.
    pub bytes_read: u64,
    /// Times that data was synced to the device.
    pub syncs: u64,
    /// Unfinished items that a kill of this process would lose now: 0 in `Process` and above.
    pub at_risk_items: u64,
    /// Unfinished items that a power cut would lose now, as far as the store can tell.
    pub unsynced_items: u64,
    /// Age of the oldest waiting item: an upper bound while it is in memory.
    pub oldest_age: Option<Duration>,
    /// True while items wait on disk.
    pub spilling: bool,
    /// For how long the writer has been unable to write.
    pub stalled: Option<Duration>,
    /// The last failure of the disk or the store, until it works again.
    pub last_error: Option<ErrorReport>,
}

impl Stats {
    /// How many bytes one byte on disk stands for: `uncompressed_bytes_written / bytes_written`, 1 without
    /// compression. `None` while nothing was written.
    #[allow(clippy::cast_precision_loss, reason = "a ratio for humans")]
    pub fn compression_ratio(&self) -> Option<f64> {
        let written = Some(self.bytes_written).filter(|bytes| *bytes > 0)?;
        Some(self.uncompressed_bytes_written as f64 / written as f64)
    }
}

/// Items that were accepted and then dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dropped {
    /// By `WhenFull::DropOldest` or `WhenFull::DropNewest`.
    pub full: u64,
    /// Older than `max_age`.
    pub expired: u64,
    /// Could not be encoded when they had to be saved at the last drop.
    pub unencodable: u64,
}

/// A failure of the disk or the store.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// The operating system's kind of error.
    #[serde(serialize_with = "kind_by_name")]
    pub kind: io::ErrorKind,
    /// The file or directory.
    pub path: PathBuf,
    /// Since when it fails.
    pub since: SystemTime,
    /// The whole message.
    pub message: String,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn kind_by_name<S: Serializer>(kind: &io::ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(kind)
}

impl ErrorReport {
    pub(crate) fn new(error: &StoreError) -> Self {
        Self {
            kind: error.kind(),
            path: error.path().to_owned(),
            since: SystemTime::now(),
            message: error.to_string(),
        }
    }
}

/// What [`open`](crate::DiskBufferedChannel::open) found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// True when the directory was new.
    pub created: bool,
    /// Items that wait on disk: they are replayed first.
    pub replayed: u64,
    /// True when the last owner halted or dropped the channel; true for a new directory.
    pub clean_shutdown: bool,
    /// Which opening of the directory this is, from 1.
    pub incarnation: u64,
    /// Ranges found missing or damaged while opening.
    pub lost: Vec<std::ops::RangeInclusive<u64>>,
    /// Everything that was set aside so far.
    pub quarantined: Vec<crate::dir::Quarantined>,
    /// True when nobody can tell any more which dead letters were requeued: the oldest may be there although they were.
    pub dead_letters_uncertain: bool,
    /// Files in the directory that are not the channel's. They are left alone.
    pub unknown_files: Vec<PathBuf>,
}
