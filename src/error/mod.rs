//! What can go wrong: one enum per operation, each with its facts, and with the item where there is one.

/// Shows an error by its message: items need not be `Debug`.
macro_rules! debug_by_message {
    ($($name:ident),*) => {$(
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

mod finish;
mod halt;
mod open;
mod recv;
mod send;
mod store;

pub use self::finish::{AckError, DeadLetterError};
pub use self::halt::{HaltError, HaltFault, HaltReport, SyncError};
pub use self::open::{ConfigError, OpenError, SchemaTag};
pub use self::recv::{RecvError, RecvTimeoutError, TryRecvError};
pub use self::send::{SendError, SendTimeoutError, TrySendError};
pub use self::store::StoreError;

use std::sync::Arc;
use thiserror::Error;

/// What a codec said about an item that it can't encode or a record that it can't decode.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct CodecError(Arc<dyn std::error::Error + Send + Sync>);

impl CodecError {
    /// Wraps any error, or a message.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}
