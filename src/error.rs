//! What can go wrong: one enum per operation, each with its facts, and with the item where there is one.

use std::fmt;
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

/// A setting that can't be kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit of zero would let nothing through.
    #[error("`{setting}` must be at least 1")]
    Zero {
        /// The builder's method.
        setting: &'static str,
    },
    /// A limit is below what the store can work with.
    #[error("`{setting}` is {found} bytes, and this store needs at least {least}")]
    TooSmall {
        /// The builder's method.
        setting: &'static str,
        /// What was asked for, in bytes.
        found: u64,
        /// The least that works, in bytes.
        least: u64,
    },
    /// A limit is above what the format can hold.
    #[error("`{setting}` is {found} bytes, and the format holds at most {most}")]
    TooLarge {
        /// The builder's method.
        setting: &'static str,
        /// What was asked for, in bytes.
        found: u64,
        /// The most that works, in bytes.
        most: u64,
    },
    /// sled confirms writes that a power cut then takes back, so it can't keep `Interval` or `Sync`.
    #[error(
        "durability {durability} needs a store whose fsync reaches the device, and sled's doesn't: \
         use `Durability::Process` on sled, or the log store (`Storage::Log`)"
    )]
    DurabilityUnsupported {
        /// The level that was asked for.
        durability: &'static str,
    },
    /// The crate was built without this compression.
    #[error("{compression} compression is not compiled in: enable the cargo feature `{feature}`")]
    CompressionUnavailable {
        /// The compression that was asked for.
        compression: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The crate was built without this store.
    #[error("the {storage} store is not compiled in: enable the cargo feature `{feature}`")]
    StorageUnavailable {
        /// The store that was asked for.
        storage: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
}

/// Why a directory can't be opened. Nothing in it was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting can't be kept.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Another channel, in this process or another one, has the directory open.
    #[error("{} is in use by process {}", path.display(), pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The channel's directory.
        path: PathBuf,
        /// The owner's process id, where its lock file says it.
        pid: Option<u32>,
    },
    /// The directory holds something else, or a newer format.
    #[error("{} {}", path.display(), describe_format(*found, *supported))]
    Format {
        /// The channel's directory.
        path: PathBuf,
        /// The format version found; `None` when the files aren't a channel's.
        found: Option<u32>,
        /// The newest format version that this crate reads.
        supported: u32,
    },
    /// The directory was written with another codec or another schema tag. The data stays.
    #[error("{} was written with {found}, not with {expected}", path.display())]
    Schema {
        /// The channel's directory.
        path: PathBuf,
        /// What the directory says.
        found: SchemaTag,
        /// What the builder says.
        expected: SchemaTag,
    },
    /// The disk or the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn describe_format(found: Option<u32>, supported: u32) -> String {
    match found {
        Some(found) => {
            format!(
                "has format version {found}; this version reads up to {supported}: use a newer overspill"
            )
        }
        None => {
            "holds files that are not a channel's: choose an empty or a new directory".to_owned()
        }
    }
}

/// What a directory's records are written in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaTag {
    /// The codec's name.
    pub codec: String,
    /// The builder's `schema` tag.
    pub schema: Option<String>,
}

impl SchemaTag {
    pub(crate) fn new(codec: &str, schema: Option<&str>) -> Self {
        Self {
            codec: codec.to_owned(),
            schema: schema.map(str::to_owned),
        }
    }
}

impl fmt::Display for SchemaTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "codec `{}` and schema `{schema}`", self.codec),
            None => write!(f, "codec `{}` and no schema", self.codec),
        }
    }
}

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
debug_by_message!(SendError, TrySendError, SendTimeoutError);

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
