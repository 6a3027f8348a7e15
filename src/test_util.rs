//! For tests of the user's own code (cargo feature `test-util`): temporary channels and injected faults.

use crate::DiskBufferedChannel;
use crate::error::{OpenError, StoreError};
use crate::store::faulty::Operation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// An operation of the store that a test can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailOn {
    /// Writing blocks.
    Append,
    /// Reading a block back.
    Read,
    /// Syncing to the device.
    Sync,
    /// Giving space back.
    Remove,
}

impl From<FailOn> for Operation {
    fn from(on: FailOn) -> Self {
        match on {
            FailOn::Append => Self::Append,
            FailOn::Read => Self::Read,
            FailOn::Sync => Self::Sync,
            FailOn::Remove => Self::Remove,
        }
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> DiskBufferedChannel<T> {
    /// A channel in a new temporary directory. The directory is removed when the last handle is gone.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// ```
    /// let channel = overspill::DiskBufferedChannel::<u32>::temporary()?;
    /// channel.sender().send(7)?;
    /// assert_eq!(channel.receiver().recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn temporary() -> Result<Self, OpenError> {
        let system = std::env::temp_dir();
        let dir = tempfile::Builder::new()
            .prefix("overspill-")
            .tempdir()
            .map_err(|error| StoreError::io("create a directory in", &system, error))?;
        Self::builder(dir.path()).owning(dir).open()
    }
}

impl<T> DiskBufferedChannel<T> {
    /// Makes the next such operation of the store fail once, without any effect. `StorageFull` is a full disk; any other kind is a
    /// failing device. The channel tries again by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use overspill::{DiskBufferedChannel, FailOn};
    ///
    /// let channel = DiskBufferedChannel::<u32>::temporary()?;
    /// channel.fail_next(FailOn::Sync, std::io::ErrorKind::StorageFull);
    /// assert!(channel.sync().is_err());
    /// assert!(channel.sync().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_next(&self, on: FailOn, kind: io::ErrorKind) {
        self.fail_nth(on, 0, kind);
    }

    /// As [`fail_next`](Self::fail_next), after `successes` more such operations.
    pub fn fail_nth(&self, on: FailOn, successes: usize, kind: io::ErrorKind) {
        let settings = self.settings();
        let error = StoreError::io("(injected) use", &settings.dir, kind.into());
        settings.faults.fail(on.into(), successes, error);
    }

    /// Moves the clock of [`manual_clock`](crate::Builder::manual_clock): what is due by then is delivered again, and what is too
    /// old expires.
    pub fn advance_clock(&self, by: std::time::Duration) {
        self.settings().clock.advance(by);
        self.wake_worker();
    }
}
