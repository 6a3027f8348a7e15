//! The channel itself: a handle that is both ends, and makes those of either.

mod control;
mod open;

pub use self::control::Control;
pub(crate) use self::open::{open, open_async};

use crate::ack_receiver::AckReceiver;
use crate::builder::Builder;
#[cfg(feature = "test-util")]
use crate::config::Settings;
use crate::error::OpenError;
use crate::handle::{Handle, Role};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::stats::OpenReport;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A channel from producers to consumers that spills to disk when the consumers lag, and replays what is left at the next start, in order.
///
/// The channel handle can send and receive through [`sender`](Self::sender) and [`receiver`](Self::receiver) and counts as one of each:
/// while it lives, neither end is disconnected. [`split`](Self::split) gives it up for a pair.
///
/// # Durability
///
/// What an accepted item survives is chosen with [`Builder::durability`]. In the default, `Durability::Spill`, a
/// process that ends without [`halt`](Self::halt) or drop (`process::exit`, an unhandled SIGTERM, abort) loses what was in memory:
/// [`Stats::at_risk_items`](crate::Stats::at_risk_items) says how much that is.
///
/// # Examples
///
/// ```
/// use overspill::DiskBufferedChannel;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("spool");
/// let channel = DiskBufferedChannel::<String>::open(&dir)?;
/// channel.sender().send("disk 3 is hot".to_owned())?;
/// channel.halt()?;
///
/// let channel = DiskBufferedChannel::<String>::open(&dir)?;
/// assert_eq!(channel.open_report().replayed, 1);
/// assert_eq!(channel.receiver().recv()?, "disk 3 is hot");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DiskBufferedChannel<T> {
    handle: Handle<T>,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> DiskBufferedChannel<T> {
    /// Opens the channel in `dir` with every default; creates the directory where there is none.
    ///
    /// In `Durability::Spill` (the default), a process that ends without `halt` or drop loses what was in memory.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is in the way; the directory is then as it was.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder(dir).open()
    }
}

impl<T> DiskBufferedChannel<T> {
    /// Settings for a channel in `dir`.
    pub fn builder(dir: impl AsRef<Path>) -> Builder<T> {
        Builder::new(dir.as_ref())
    }

    /// A new sending handle.
    pub fn sender(&self) -> Sender<T> {
        Sender::new(self.handle.share(Role::Sends))
    }

    /// A new receiving handle whose items are acknowledged as `recv` returns them.
    pub fn receiver(&self) -> Receiver<T> {
        Receiver::new(self.handle.share(Role::Receives))
    }

    /// A new receiving handle whose items must be acknowledged: [`Delivery`](crate::Delivery).
    pub fn acking_receiver(&self) -> AckReceiver<T> {
        AckReceiver::new(self.handle.share(Role::Receives))
    }

    /// Gives the channel up for a sender, a receiver, and a [`Control`] that counts as neither.
    ///
    /// # Examples
    ///
    /// ```
    /// # use overspill::DiskBufferedChannel;
    /// # let dir = tempfile::tempdir()?;
    /// let (tx, rx, control) = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?.split();
    /// tx.send(7)?;
    /// drop(tx);
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [7]);
    /// control.halt()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (Sender<T>, Receiver<T>, Control<T>) {
        let control = Control::new(self.handle.share(Role::Neither));
        (self.sender(), self.receiver(), control)
    }

    /// Has the worker look at the clock again, if there is one.
    #[cfg(feature = "test-util")]
    pub(crate) fn wake_worker(&self) {
        self.handle.shared.enter(|state, wakes| {
            if state.release_due(wakes).is_some() {
                state.kick(wakes);
            }
        });
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn settings(&self) -> &Settings {
        &self.handle.shared.settings
    }

    /// What opening the directory found.
    pub fn open_report(&self) -> &OpenReport {
        &self.handle.shared.report
    }
}
