//! Why an item is not finished: its acknowledgement counts for nothing, or its dead letter stays as it is.

use super::StoreError;
use thiserror::Error;

/// Why an acknowledgement counts for nothing, or may not last.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AckError {
    /// The channel was halted meanwhile: the item was saved, and comes again at the next open.
    #[error("too late: the channel was halted, and the item comes again")]
    TooLate,
    /// The item is acknowledged, but that could not be put on the device: after a crash it may come again.
    #[error("acknowledged, but not put on the device: {0}")]
    Unconfirmed(#[source] StoreError),
}

/// Why dead letters can't be looked at, put back or removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The channel is halted: open it again.
    #[error("the channel was halted")]
    Halted,
    /// It was asked by the channel's own event callback, which must not wait for the worker: it is the worker.
    #[error("called from the channel's event callback")]
    FromCallback,
    /// The disk failed. What was not requeued is a dead letter still.
    #[error(transparent)]
    Store(#[from] StoreError),
}
