//! The panic guard around every call into sled, and what such a call can end in.

use crate::error::StoreError;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Why a call into sled, or into a file beside it, failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The operating system refused; nothing is known about the data.
    Io {
        operation: &'static str,
        source: io::Error,
    },
    /// The bytes are wrong or gone.
    Damaged(String),
    /// sled panicked where that means its process-wide state may be broken.
    Poisoned(String),
}

impl Fault {
    /// For `map_err`: an I/O error with what was attempted.
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    pub(super) fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }

    /// The error that users see, about the database in `path`.
    pub(super) fn into_error(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Io { operation, source } => StoreError::io(operation, &path, source),
            Self::Damaged(reason) => StoreError::Damaged { path, reason },
            Self::Poisoned(message) => StoreError::Poisoned { path, message },
        }
    }
}

/// Runs `call` and turns a panic in it into its message.
///
/// Whatever `call` touched may be half-changed afterwards: the caller gives the database up.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&'static str>().copied())
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        let number = 7;
        assert_eq!(guarded(|| -> () { panic!("plain") }).unwrap_err(), "plain");
        assert_eq!(
            guarded(|| -> () { panic!("got {number}") }).unwrap_err(),
            "got 7"
        );
        assert_eq!(guarded(|| number).unwrap(), 7);
    }
}
