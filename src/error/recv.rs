//! Why nothing more is received.

use super::StoreError;
use thiserror::Error;

/// Why nothing more is received.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The intake is closed and everything was taken.
    #[error("the channel is closed and empty")]
    Closed,
    /// The channel was halted; what is left is on disk.
    #[error("the channel was halted")]
    Halted,
    /// The next record can't be decoded. Delivery stops here, the data stays on disk.
    #[error("record {seq} cannot be decoded: {message}")]
    Undecodable {
        /// The record's sequence number.
        seq: u64,
        /// What the codec said.
        message: String,
    },
    /// The store failed for good, or holds what this build can't read
    /// ([`StoreError::Unsupported`]): nothing more comes in this process, and the data stays.
    #[error("the backlog cannot be read: {0}")]
    Store(StoreError),
}

/// Why [`try_recv`](crate::Receiver::try_recv) returned nothing.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is ready right now.
    #[error("nothing is ready right now")]
    Empty,
    /// The intake is closed and everything was taken.
    #[error("the channel is closed and empty")]
    Closed,
    /// The channel was halted; what is left is on disk.
    #[error("the channel was halted")]
    Halted,
    /// Anything else; see [`RecvError`].
    #[error(transparent)]
    Failed(RecvError),
}

/// Why [`recv_timeout`](crate::Receiver::recv_timeout) returned nothing.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    #[error("nothing came in time")]
    Timeout,
    /// The intake is closed and everything was taken.
    #[error("the channel is closed and empty")]
    Closed,
    /// The channel was halted; what is left is on disk.
    #[error("the channel was halted")]
    Halted,
    /// Anything else; see [`RecvError`].
    #[error(transparent)]
    Failed(RecvError),
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Self::Closed,
            RecvError::Halted => Self::Halted,
            other => Self::Failed(other),
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Self::Closed,
            RecvError::Halted => Self::Halted,
            other => Self::Failed(other),
        }
    }
}
