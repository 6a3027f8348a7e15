//! Why an item was not accepted.

use super::{CodecError, StoreError};
use std::fmt;
use thiserror::Error;

/// Why an item was not accepted. [`into_inner`](Self::into_inner) gives it back.
#[derive(Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The intake is closed, or no receiver is left.
    #[error("the channel is closed")]
    Closed(T),
    /// The channel was halted.
    #[error("the channel was halted")]
    Halted(T),
    /// The quota or the file system is full, and the policy is `WhenFull::Reject`.
    #[error("the channel's disk space is used up")]
    Full(T),
    /// The item's encoding is larger than `item_bytes_max`.
    #[error("the item takes {bytes} bytes, and at most {max} are allowed")]
    TooLarge {
        /// The item.
        item: T,
        /// Its size, encoded, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// The codec refused the item.
    #[error("the item cannot be encoded: {source}")]
    Encode {
        /// The item.
        item: T,
        /// What the codec said.
        source: CodecError,
    },
    /// The store failed for good, before the item was admitted.
    #[error("the item cannot be stored: {source}")]
    Store {
        /// The item.
        item: T,
        /// What happened.
        source: StoreError,
    },
    /// The item was admitted, and then the store failed before it was durable. It stays in the
    /// queue and may be delivered.
    #[error("item {seq} is in the channel, but its durability is not confirmed: {source}")]
    Unconfirmed {
        /// The item's sequence number.
        seq: u64,
        /// What happened.
        source: StoreError,
    },
}

impl<T> SendError<T> {
    /// The item, unless it was admitted ([`Unconfirmed`](Self::Unconfirmed)).
    pub fn into_inner(self) -> Option<T> {
        match self {
            Self::Closed(item)
            | Self::Halted(item)
            | Self::Full(item)
            | Self::TooLarge { item, .. }
            | Self::Encode { item, .. }
            | Self::Store { item, .. } => Some(item),
            Self::Unconfirmed { .. } => None,
        }
    }
}

/// Why [`try_send`](crate::Sender::try_send) did not accept an item.
#[derive(Error)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room right now: the space is used up, or the writer is behind.
    #[error("the channel has no room right now")]
    Full(T),
    /// The intake is closed, or no receiver is left.
    #[error("the channel is closed")]
    Closed(T),
    /// The channel was halted.
    #[error("the channel was halted")]
    Halted(T),
    /// Anything else; see [`SendError`].
    #[error(transparent)]
    Failed(SendError<T>),
}

/// Why [`send_timeout`](crate::Sender::send_timeout) did not accept an item.
#[derive(Error)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    #[error("the channel had no room in time")]
    Timeout(T),
    /// The intake is closed, or no receiver is left.
    #[error("the channel is closed")]
    Closed(T),
    /// The channel was halted.
    #[error("the channel was halted")]
    Halted(T),
    /// Anything else; see [`SendError`].
    #[error(transparent)]
    Failed(SendError<T>),
}

impl<T> TrySendError<T> {
    /// The item, unless it was admitted ([`SendError::Unconfirmed`]).
    pub fn into_inner(self) -> Option<T> {
        match self {
            Self::Full(item) | Self::Closed(item) | Self::Halted(item) => Some(item),
            Self::Failed(error) => error.into_inner(),
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The item, unless it was admitted ([`SendError::Unconfirmed`]).
    pub fn into_inner(self) -> Option<T> {
        match self {
            Self::Timeout(item) | Self::Closed(item) | Self::Halted(item) => Some(item),
            Self::Failed(error) => error.into_inner(),
        }
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Full(item) => Self::Full(item),
            SendError::Closed(item) => Self::Closed(item),
            SendError::Halted(item) => Self::Halted(item),
            other => Self::Failed(other),
        }
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Closed(item) => Self::Closed(item),
            SendError::Halted(item) => Self::Halted(item),
            other => Self::Failed(other),
        }
    }
}

debug_by_message!(SendError, TrySendError, SendTimeoutError);
