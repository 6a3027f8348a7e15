//! What the disk and the stores on it refuse: the source of many another error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// A failure of the disk or of the store on it.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The store panicked. sled then refuses work in this process for good: only a new process heals it.
    #[error("the store under {} panicked and is unusable until the process restarts: {message}", path.display())]
    Poisoned {
        /// The store's directory.
        path: PathBuf,
        /// What the panic said.
        message: String,
    },
    /// The store has not returned from an operation.
    #[error("the store under {} has not finished an operation for {after:?}", path.display())]
    Hung {
        /// The store's directory.
        path: PathBuf,
        /// For how long.
        after: Duration,
    },
    /// Bytes that should be there are damaged or gone.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// Which file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A block is whole, and this build can't read what is in it. It stays where it is.
    #[error("the block at number {seq} under {} can be read with {needs}", path.display())]
    Unsupported {
        /// The channel's directory.
        path: PathBuf,
        /// The sequence number of its first item.
        seq: u64,
        /// What it takes to read it.
        needs: &'static str,
    },
    /// The quota, the free-space limit or the file system has no room.
    #[error("no room under {}: {needed} bytes needed, {available} available", path.display())]
    Full {
        /// The channel's directory.
        path: PathBuf,
        /// Bytes that had to be written.
        needed: u64,
        /// Bytes that the quota and the file system leave.
        available: u64,
    },
    /// The dead letters have no room: requeue or purge them.
    #[error("no room for dead letters under {}: {needed} bytes needed, the limit is {limit}", path.display())]
    DeadLettersFull {
        /// The directory of the dead letters.
        path: PathBuf,
        /// Bytes that had to be written.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    /// True for everything that heals when space returns: quota, limit of the dead letters, ENOSPC, EDQUOT.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } | Self::DeadLettersFull { .. } => true,
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }

    /// True when trying again in this process can't help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Poisoned { .. } | Self::Hung { .. })
    }

    /// The file or directory it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Poisoned { path, .. }
            | Self::Hung { path, .. }
            | Self::Damaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Full { path, .. }
            | Self::DeadLettersFull { path, .. } => path,
        }
    }

    /// The operating system's kind of error; `Other` where it isn't one of its errors.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Full { .. } | Self::DeadLettersFull { .. } => io::ErrorKind::StorageFull,
            Self::Hung { .. } => io::ErrorKind::TimedOut,
            Self::Damaged { .. } => io::ErrorKind::InvalidData,
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Poisoned { .. } => io::ErrorKind::Other,
        }
    }
}

impl Eq for StoreError {}

impl PartialEq for StoreError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.path() == other.path()
    }
}
