//! The builder: what a channel is to be like, said before it is opened.

use crate::block::Compression;
#[cfg(any(test, feature = "test-util"))]
use crate::clock::Clock;
use crate::codec::{Bincode, Codec};
use crate::config::{Backoff, Durability, Settings, Storage, WhenFull};
use crate::error::{CodecError, OpenError, SendError};
use crate::event::{Event, Listener};
use crate::schema::Migrations;
use crate::{DiskBufferedChannel, channel};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Sets up a [`DiskBufferedChannel`]. Setters can't fail: [`open`](Self::open) checks them together.
///
/// # Examples
///
/// ```
/// use overspill::{DiskBufferedChannel, Durability, WhenFull};
///
/// # let dir = tempfile::tempdir()?;
/// let channel = DiskBufferedChannel::<String>::builder(dir.path().join("spool"))
///     .memory_items(256)
///     .disk_bytes_max(1 << 30)
///     .when_full(WhenFull::DropOldest)
///     .durability(Durability::Process)
///     .open()?;
/// # channel.halt()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Builder<T, C = Bincode> {
    settings: Settings,
    codec: C,
    migrations: Migrations<T>,
    rejected: Rejected<T>,
}

/// The callback of an adapter, for items that found no place.
pub(crate) type OnRejected<T> = dyn Fn(SendError<T>) + Send + Sync;

type Rejected<T> = Option<Arc<OnRejected<T>>>;

impl<T, C: Clone> Clone for Builder<T, C> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            codec: self.codec.clone(),
            migrations: self.migrations.clone(),
            rejected: self.rejected.clone(),
        }
    }
}

impl<T, C> fmt::Debug for Builder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<T> Builder<T> {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            settings: Settings::new(dir),
            codec: Bincode,
            migrations: Migrations::default(),
            rejected: None,
        }
    }
}

impl<T, C> Builder<T, C> {
    /// Items that the front, the part of the channel that is ready to be received, may hold. Default 1024.
    #[must_use]
    pub fn memory_items(mut self, items: usize) -> Self {
        self.settings.memory_items = items;
        self
    }

    /// Encoded bytes that staging, prefetch and refill may hold together; one item is always admitted. Default 64 MiB.
    #[must_use]
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.memory_bytes_max = bytes;
        self
    }

    /// The largest encoding of one item, in bytes. Default 16 MiB, at most 1 GiB.
    #[must_use]
    pub fn item_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.item_bytes_max = bytes;
        self
    }

    /// Encoded bytes per block, the unit of disk I/O. Each store has its default and its largest; tiny values work.
    #[must_use]
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.settings.block_bytes = Some(bytes);
        self
    }

    /// Log store: bytes in a segment file before the next one is begun. Default 64 MiB, less under a small quota; tiny
    /// values work. sled ignores it.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.settings.segment_bytes = Some(bytes);
        self
    }

    /// Bytes that the directory may occupy, quarantine included: a hard limit. Default: none.
    #[must_use]
    pub fn disk_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.disk_bytes_max = Some(bytes);
        self
    }

    /// Leaves this many bytes of the file system free. Default: the smaller of 1 GiB and 5 % of it.
    #[must_use]
    pub fn disk_free_min(mut self, bytes: u64) -> Self {
        self.settings.disk_free_min = Some(bytes);
        self
    }

    /// What happens to new items while the disk space is used up. Default: [`WhenFull::Block`].
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.settings.when_full = policy;
        self
    }

    /// What an accepted item survives. Default: [`Durability::Spill`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Where the backlog is kept. Default: [`Storage::Sled`].
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.settings.storage = storage;
        self
    }

    /// How blocks are written from now on. Default: [`Compression::None`]. A directory may change, and hold both.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// How items become bytes. Default: [`Bincode`].
    #[must_use]
    pub fn codec<D: Codec<T>>(self, codec: D) -> Builder<T, D> {
        Builder {
            settings: self.settings,
            codec,
            migrations: self.migrations,
            rejected: self.rejected,
        }
    }

    /// A tag for the shape of the items. A directory that was written under a different one isn't opened, unless
    /// [`migrate`](Self::migrate) says how to read it. One that was written without a tag takes this one.
    #[must_use]
    pub fn schema(mut self, tag: impl Into<String>) -> Self {
        self.settings.schema = Some(tag.into());
        self
    }

    /// Reads what was written under an earlier [`schema`](Self::schema) tag, whichever the codec was then: a directory with
    /// that tag takes the new one as it is opened. What waits in it goes through `read`, what comes goes through the
    /// codec. One call for each tag of which something may still wait; the last one for a tag counts.
    ///
    /// A record that `read` refuses is treated as one that the codec can't decode: it becomes a dead letter, or, where none
    /// of three whole blocks can be read, delivery stops with [`RecvError::Undecodable`](crate::RecvError::Undecodable). Dead
    /// letters keep their bytes, and those of an earlier schema go through `read` when they are requeued.
    ///
    /// # Examples
    ///
    /// ```
    /// use overspill::DiskBufferedChannel;
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Line {
    ///     level: u8,
    ///     text: String,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("spool");
    /// // Once upon a time, lines were bare text.
    /// let channel = DiskBufferedChannel::<String>::builder(&dir).schema("line/1").open()?;
    /// channel.sender().send("listening on port 80".to_owned())?;
    /// channel.halt()?;
    ///
    /// let channel = DiskBufferedChannel::<Line>::builder(&dir)
    ///     .schema("line/2")
    ///     .migrate("line/1", |record| {
    ///         let (text, _) = bincode::serde::decode_from_slice(record, bincode::config::standard())?;
    ///         Ok::<_, bincode::error::DecodeError>(Line { level: 6, text })
    ///     })
    ///     .open()?;
    /// assert_eq!(channel.receiver().recv()?.text, "listening on port 80");
    /// # channel.halt()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn migrate<E>(
        mut self,
        tag: impl Into<String>,
        read: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let tag = tag.into();
        self.settings.readable.push(tag.clone());
        let read = move |record: &[u8]| read(record).map_err(CodecError::new);
        self.migrations.add(tag, Arc::new(read));
        self
    }

    /// Older items are dropped and counted in [`Dropped::expired`](crate::Dropped::expired): as they would be delivered, and on disk
    /// as they would be read. An item may get a sixteenth older. Default: none.
    ///
    /// Only this uses the wall clock. One that jumps back makes nothing expire early.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = Some(age);
        self
    }

    /// Failed deliveries of one item that make it a dead letter. Default: no limit.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = Some(attempts);
        self
    }

    /// How long an item waits after a [`nack`](crate::Delivery::nack): `first` after the first, twice as long after each
    /// further one, `most` at most. Default: not at all.
    #[must_use]
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.settings.backoff = Backoff { first, most };
        self
    }

    /// Deliveries that may be out at once, those that came back and wait included. Default 65,536, at most 262,144.
    ///
    /// Acking receivers wait beyond it. Memory holds as many items beside [`memory_items`](Self::memory_items), and in
    /// `Durability::Spill` the encodings of those that no disk has.
    #[must_use]
    pub fn in_flight_max(mut self, deliveries: usize) -> Self {
        self.settings.in_flight_max = deliveries;
        self
    }

    /// Bytes that dead letters may occupy; one letter by itself always finds room. Default 64 MiB. Delivery pauses when
    /// they are used up, and goes on when letters are requeued or purged.
    #[must_use]
    pub fn dead_letter_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.dead_letter_bytes_max = bytes;
        self
    }

    /// Is told what happens, on the worker thread, outside the lock. Its panics are caught.
    #[must_use]
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.settings.listener = Listener::new(callback);
        self
    }

    /// For the adapters of [`pipe`](crate::pipe): gets the items that found no place in the channel, with the
    /// reason. Without it they are dropped.
    #[cfg(any(feature = "crossbeam", feature = "tokio"))]
    #[must_use]
    pub fn on_rejected(mut self, callback: impl Fn(SendError<T>) + Send + Sync + 'static) -> Self {
        self.rejected = Some(Arc::new(callback));
        self
    }

    /// The callback of [`on_rejected`](Self::on_rejected), or one that drops.
    #[cfg(any(feature = "crossbeam", feature = "tokio"))]
    pub(crate) fn rejected(&self) -> Arc<OnRejected<T>>
    where
        T: 'static,
    {
        self.rejected.clone().unwrap_or_else(|| Arc::new(drop))
    }

    /// Passes every item through the codec, whichever way it goes: shows in a test what a spill would
    /// do to the items (to `#[serde(skip)]` fields, for instance).
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn always_encode(mut self) -> Self {
        self.settings.always_encode = true;
        self
    }

    /// Ages and delays go by a clock that stands until
    /// [`advance_clock`](DiskBufferedChannel::advance_clock) moves it. Clones of the builder share it: with them it goes on
    /// across a restart.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.settings.clock = Clock::manual();
        self
    }

    /// Removes the directory when the channel is gone.
    #[cfg(feature = "test-util")]
    pub(crate) fn owning(mut self, dir: tempfile::TempDir) -> Self {
        self.settings.temporary = Some(std::sync::Arc::new(dir));
        self
    }

    #[cfg(test)]
    pub(crate) fn simulated(mut self, disk: crate::store::sim::SimDisk) -> Self {
        self.settings.sim = Some(disk);
        self
    }
}

impl<T: Send + 'static, C: Codec<T> + 'static> Builder<T, C> {
    /// Opens the channel; creates its directory where there is none.
    ///
    /// Costs the same however much waits in the directory. In `Durability::Spill`, a process that ends without
    /// `halt` or drop (`process::exit`, an unhandled SIGTERM, abort) loses what was in memory.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is in the way; the directory is then as it was.
    pub fn open(self) -> Result<DiskBufferedChannel<T>, OpenError> {
        self.settings.check()?;
        channel::open(self.settings, Box::new(self.codec), &self.migrations)
    }

    /// As [`open`](Self::open), on a thread of its own: nothing blocks the runtime.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the opening to its thread, which closes the channel again.
    pub async fn open_async(self) -> Result<DiskBufferedChannel<T>, OpenError> {
        self.settings.check()?;
        channel::open_async(self.settings, Box::new(self.codec), self.migrations).await
    }
}
