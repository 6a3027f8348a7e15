//! The sending end.

use crate::core::{Patience, SendOp, Shared};
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::feed::Feeder;
use crate::handle::Handle;
use crate::sink::SendSink;
use crate::sync;
use crate::wait::block_in_crowd;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The sending end of a channel. Clones send into the same channel; with the last of them the intake ends.
///
/// # Examples
///
/// ```
/// # use overspill::DiskBufferedChannel;
/// # let dir = tempfile::tempdir()?;
/// let (tx, rx, _control) = DiskBufferedChannel::<String>::open(dir.path().join("spool"))?.split();
/// let other = tx.clone();
/// std::thread::spawn(move || other.send("from a thread".to_owned())).join().unwrap()?;
/// assert_eq!(rx.recv()?, "from a thread");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender<T> {
    handle: Handle<T>,
}

/// A send in progress: leaves the waiting list however it ends.
struct Sending<'a, T> {
    shared: &'a Arc<Shared<T>>,
    op: SendOp<T>,
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        self.shared.leave_send(&mut self.op);
    }
}

impl<'a, T> Sending<'a, T> {
    fn new(shared: &'a Arc<Shared<T>>, item: T, patience: Patience) -> Result<Self, SendError<T>> {
        let item = if shared.settings.encodes_always() {
            shared.through_the_codec(item)?
        } else {
            item
        };
        Ok(Self {
            shared,
            op: SendOp::new(item, patience),
        })
    }

    fn block(&mut self, deadline: Option<Instant>) -> Option<Result<(), SendError<T>>> {
        let is_in_crowd = Cell::new(false);
        let poll = |waker: &Waker| {
            let polled = self.shared.poll_send(&mut self.op, Some(waker));
            is_in_crowd.set(self.op.is_in_crowd());
            polled
        };
        block_in_crowd(deadline, poll, || is_in_crowd.get())
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(handle: Handle<T>) -> Self {
        Self { handle }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.handle.shared
    }

    /// Sends an item; waits while there is no room.
    ///
    /// The item may go straight to a receiver, or through the codec and the disk: fields that serde skips may
    /// or may not survive.
    ///
    /// # Errors
    ///
    /// [`SendError`] gives the item back, unless it was admitted and its durability then failed. In
    /// `Durability::Spill` an item is encoded only when it spills, so `Encode` and `TooLarge` are found only then.
    ///
    /// # Durability
    ///
    /// `Ok` means what [`Durability`](crate::Durability) says.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let Err(item) = self.shared().state.push(item) else {
            return Ok(());
        };
        let mut sending = Sending::new(self.shared(), item, Patience::MayBlock)?;
        match self.shared().poll_send(&mut sending.op, None) {
            Poll::Ready(result) => result,
            Poll::Pending => sending.block(None).unwrap_or(Ok(())),
        }
    }

    /// Sends an item if there is room right now. In `Durability::Process` it still waits for the item to be written.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] gives the item back when there is no room, also while the writer is only behind.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let Err(item) = self.shared().state.push(item) else {
            return Ok(());
        };
        let mut sending = Sending::new(self.shared(), item, Patience::MayBlock)?;
        if let Poll::Ready(result) = self.shared().poll_send(&mut sending.op, None) {
            return Ok(result?);
        }
        if sending.op.is_admitted() {
            return Ok(sending.block(None).unwrap_or(Ok(()))?);
        }
        match sending.op.take_item() {
            Some(item) => Err(TrySendError::Full(item)),
            None => Ok(()),
        }
    }

    /// Sends an item; waits for room for at most `timeout`. Once the item is admitted the time stops counting.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] gives the item back.
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let mut sending = Sending::new(self.shared(), item, Patience::MayBlock)?;
        let deadline = sync::now().checked_add(timeout);
        if let Some(result) = sending.block(deadline) {
            return Ok(result?);
        }
        match sending.op.take_item() {
            Some(item) => Err(SendTimeoutError::Timeout(item)),
            None => Ok(sending.block(None).unwrap_or(Ok(()))?),
        }
    }

    /// Sends every item of `items`; waits while there is no room. Takes an item only when there is a place for it,
    /// and as many per lock round as the iterator gives in about a millisecond, up to 256. Returns how many were
    /// accepted.
    ///
    /// The iterator runs outside the lock and may use the channel itself. When a halt comes while it runs, what
    /// it gave is saved.
    ///
    /// # Errors
    ///
    /// [`SendError`] gives back the one item that found no place; the iterator still has the others.
    pub fn send_all<I: Iterator<Item = T>>(&self, items: &mut I) -> Result<usize, SendError<T>> {
        self.shared().send_all(items)
    }

    /// Sends an item; the future waits while there is no room.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropped before the item is admitted, the future drops the item; afterwards the item stays in the channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use overspill::DiskBufferedChannel;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let (tx, rx, control) = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?.split();
    /// tx.send_async(1).await?;
    /// assert_eq!(rx.recv_async().await?, 1);
    /// control.halt_async().await?;
    /// # Ok(()) }
    /// ```
    pub fn send_async(&self, item: T) -> impl Future<Output = Result<(), SendError<T>>> + '_
    where
        T: Send,
    {
        let sending = Sending::new(self.shared(), item, Patience::NeverBlocks);
        async move {
            let mut sending = sending?;
            if let Some(item) = sending.op.take_item() {
                match self.shared().state.push(item) {
                    Ok(()) => return Ok(()),
                    Err(item) => sending.op.give_item(item),
                }
            }
            let this = &mut sending;
            poll_fn(|cx| this.shared.poll_send(&mut this.op, Some(cx.waker()))).await
        }
    }

    /// As [`send_all`](Self::send_all); the future waits while there is no room.
    ///
    /// # Errors
    ///
    /// As [`send_all`](Self::send_all).
    ///
    /// # Cancel safety
    ///
    /// The future holds no item while it waits: what was taken from the iterator is in the channel.
    pub async fn send_all_async<I: Iterator<Item = T>>(
        &self,
        items: &mut I,
    ) -> Result<usize, SendError<T>> {
        let mut feeder = Feeder::new(self.shared(), Patience::NeverBlocks);
        poll_fn(|cx| feeder.poll(items, cx.waker())).await
    }

    /// This sender as a [`Sink`](futures_sink::Sink).
    pub fn sink(self) -> SendSink<T> {
        SendSink::new(self)
    }
}

/// What both ends say about the channel.
macro_rules! both_ends {
    ($name:ident) => {
        $crate::handle::every_handle!($name);

        impl<T> $name<T> {
            /// Items that the front, the part in memory that is ready to be received, may hold. What is beyond it
            /// waits on disk.
            pub fn capacity(&self) -> usize {
                self.handle.shared.settings.memory_items
            }

            /// True when both handles belong to one channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.handle.shared, &other.handle.shared)
            }
        }
    };
}
pub(crate) use both_ends;
both_ends!(Sender);
