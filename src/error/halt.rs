//! What a halt did, and what kept it, or a sync, from saving everything.

use super::{CodecError, StoreError};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Why [`sync`](crate::DiskBufferedChannel::sync) can't promise anything.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The channel was halted. What a successful halt saved was synced by it.
    #[error("the channel was halted")]
    Halted,
    /// An item in memory can't be encoded, so it can't be put on disk.
    #[error("item {seq} cannot be encoded: {message}")]
    Encode {
        /// The item's sequence number.
        seq: u64,
        /// What the codec said.
        message: String,
    },
    /// The disk or the store failed.
    #[error(transparent)]
    Store(StoreError),
}

/// What a halt did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaltReport {
    /// Items on disk now, to be replayed at the next open: everything that was pending.
    pub saved: u64,
    /// How many of them were out as deliveries.
    pub in_flight: u64,
    /// How long the halt took.
    pub elapsed: Duration,
}

/// Why a halt could not save everything.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HaltFault {
    /// Items could not be encoded.
    #[error("{count} items cannot be encoded: {source}")]
    Encode {
        /// How many.
        count: u64,
        /// What the codec said of the first one.
        source: CodecError,
    },
    /// The disk or the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was called from the channel's own event callback, which it would wait for.
    #[error("halt was called from the channel's own event callback")]
    FromCallback,
    /// The channel was halted already when these leftovers came.
    #[error("the channel was halted already")]
    TooLate,
    /// The channel was crashed on purpose.
    #[error("the channel was crashed")]
    Crashed,
}

/// A halt that could not save everything. The channel is halted all the same.
#[derive(Error)]
#[error("{} items could not be saved: {source}", items.len())]
#[non_exhaustive]
pub struct HaltError<T> {
    /// What was done.
    pub report: HaltReport,
    /// What was in the way.
    pub source: HaltFault,
    items: Vec<T>,
}

impl<T> HaltError<T> {
    pub(crate) fn new(report: HaltReport, source: HaltFault, items: Vec<T>) -> Self {
        Self {
            report,
            source,
            items,
        }
    }

    /// The items that are not on disk, in order.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

debug_by_message!(HaltError);
