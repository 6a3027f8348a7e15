//! An item in a consumer's hands.

use crate::core::Shared;
use crate::deliver::Back;
use crate::error::AckError;
use crate::held::{Parcel, Slip};
use crate::wait::{Ticket, block_until};
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// What an item is called for ever: no two items of whatever channel have the same.
///
/// An item keeps its id across redelivery and restarts, whatever crashed in between. So a consumer that remembers the ids it
/// has handled (the newest few: as many as deliveries may be repeated) handles each item once.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct ItemId {
    /// The channel's own id, drawn when its directory was created.
    pub channel: [u8; 16],
    /// Which opening of the directory admitted the item. After a crash sequence numbers that never reached the disk are given
    /// out again: under another incarnation.
    pub incarnation: u64,
    /// The item's sequence number.
    pub seq: u64,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.channel {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}-{}", self.incarnation, self.seq)
    }
}

/// An item that must be acknowledged: until then it is the channel's, and comes again.
///
/// Dropping it gives it back, as [`release`](Self::release) does; dropped by a panic it counts as failed, as with
/// [`nack`](Self::nack). It keeps nothing open: when the channel is halted meanwhile, the item is saved in its place and
/// delivered again after the next open.
///
/// # Examples
///
/// ```
/// # use overspill::DiskBufferedChannel;
/// # let dir = tempfile::tempdir()?;
/// let channel = DiskBufferedChannel::<String>::open(dir.path().join("spool"))?;
/// let (tx, rx) = (channel.sender(), channel.acking_receiver());
/// tx.send("once".to_owned())?;
///
/// let delivery = rx.recv()?;
/// assert_eq!((delivery.as_str(), delivery.attempt()), ("once", 1));
/// delivery.nack();
///
/// let delivery = rx.recv()?;
/// assert_eq!((delivery.as_str(), delivery.attempt()), ("once", 2));
/// delivery.ack()?;
/// assert!(rx.try_recv().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a delivery that is dropped comes again"]
pub struct Delivery<T> {
    shared: Arc<Shared<T>>,
    slip: Slip,
    /// Leaves only as the delivery ends.
    item: Option<T>,
}

impl<T> Delivery<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, parcel: Parcel<T>) -> Self {
        Self {
            shared,
            slip: parcel.slip,
            item: Some(parcel.item),
        }
    }

    /// The item's sequence number. The first item ever has 0.
    pub fn seq(&self) -> u64 {
        self.slip.seq
    }

    /// Which attempt this is: 1 and one more for each delivery of the item that failed.
    ///
    /// Deliveries that were released don't count. The count survives a halt; a crash may forget the failures since
    /// the last checkpoint, so it may be too low, never too high.
    pub fn attempt(&self) -> u32 {
        self.slip.failures.saturating_add(1)
    }

    /// What the item is called for ever.
    pub fn id(&self) -> ItemId {
        ItemId {
            channel: self.shared.channel,
            incarnation: self.slip.incarnation,
            seq: self.slip.seq,
        }
    }

    /// What the item was called before it was a dead letter that was requeued.
    pub fn requeued_from(&self) -> Option<ItemId> {
        let letter = self
            .shared
            .enter(|state, _| state.held.origin_of(self.slip.seq));
        letter.map(|letter| ItemId {
            channel: self.shared.channel,
            incarnation: letter.incarnation,
            seq: letter.seq,
        })
    }

    /// Finishes the item: it never comes again. In any order, from any thread.
    ///
    /// # Errors
    ///
    /// [`AckError::TooLate`] when the channel was halted meanwhile: the item was saved and comes again.
    ///
    /// # Durability
    ///
    /// The acknowledgement is written down lazily: after a crash the item may come again, unless a later
    /// [`sync`](crate::DiskBufferedChannel::sync) or [`ack_sync`](Self::ack_sync) returned. A halt writes all of them.
    pub fn ack(mut self) -> Result<(), AckError> {
        let item = self.item.take();
        let acknowledged = self.shared.acknowledge([self.slip]);
        drop(item);
        acknowledged
    }

    /// As [`ack`](Self::ack), and returns when the device has it: then the item doesn't come again, whatever happens.
    ///
    /// Those who wait at the same time share the write.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack); [`AckError::Unconfirmed`] when the item is acknowledged and the device failed.
    pub fn ack_sync(self) -> Result<(), AckError> {
        let shared = Arc::clone(&self.shared);
        self.ack()?;
        let request = shared.request_persist();
        let mut ticket = Ticket::default();
        block_until(None, |waker| {
            shared.poll_persist(request, &mut ticket, waker)
        })
        .unwrap_or(Ok(()))
    }

    /// As [`ack_sync`](Self::ack_sync), without blocking the runtime.
    ///
    /// # Errors
    ///
    /// As [`ack_sync`](Self::ack_sync).
    ///
    /// # Cancel safety
    ///
    /// Once polled the item is acknowledged; dropping the future only gives up waiting.
    pub async fn ack_sync_async(self) -> Result<(), AckError> {
        struct Persisting<'a, T>(&'a Arc<Shared<T>>, Ticket);
        impl<T> Drop for Persisting<'_, T> {
            fn drop(&mut self) {
                self.0.leave_life(&mut self.1);
            }
        }
        let shared = Arc::clone(&self.shared);
        self.ack()?;
        let request = shared.request_persist();
        let mut persisting = Persisting(&shared, Ticket::default());
        let persisting = &mut persisting;
        poll_fn(|cx| {
            persisting
                .0
                .poll_persist(request, &mut persisting.1, cx.waker())
        })
        .await
    }

    /// As [`ack`](Self::ack), and gives the item. After a halt the item comes again all the same.
    pub fn ack_and_take(mut self) -> T {
        let item = self.take();
        // Too late is no reason to keep the item from whoever asks for it.
        let _ = self.shared.acknowledge([self.slip]);
        item
    }

    /// Gives the item back, ahead of those that were never delivered. That isn't a failure of the item: the far end is
    /// away, or the consumer was cancelled.
    pub fn release(self) {
        drop(self);
    }

    /// Gives the item back as failed: it comes again after the builder's [`backoff`](crate::Builder::backoff), until
    /// [`max_attempts`](crate::Builder::max_attempts) are used up, which makes it a dead letter.
    pub fn nack(mut self) {
        self.give_back(Back::Failed(None));
    }

    /// As [`nack`](Self::nack), and it doesn't come again before `delay` has passed; other items do. A restart forgets
    /// the delay.
    pub fn nack_after(mut self, delay: Duration) {
        self.give_back(Back::Failed(Some(delay)));
    }

    /// Sets the item aside as a dead letter, with its bytes and this reason. It can be looked at and put back:
    /// [`dead_letters`](crate::DiskBufferedChannel::dead_letters).
    ///
    /// # Durability
    ///
    /// The worker writes it down soon; until it has, the item is pending, and a crash delivers it again.
    pub fn dead_letter(mut self, reason: impl Into<String>) {
        let (item, slip) = (self.take(), self.slip);
        self.shared.set_aside(Parcel { item, slip }, reason.into());
    }

    fn take(&mut self) -> T {
        let Some(item) = self.item.take() else {
            unreachable!("an item leaves as its delivery ends")
        };
        item
    }

    fn give_back(&mut self, back: Back) {
        if let Some(item) = self.item.take() {
            let slip = self.slip;
            self.shared.take_back([Parcel { item, slip }], back);
        }
    }
}

/// What dropping an item says of it.
pub(crate) fn dropped() -> Back {
    if std::thread::panicking() {
        Back::Failed(None)
    } else {
        Back::Released
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if self.item.is_some() {
            self.give_back(dropped());
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let Some(item) = &self.item else {
            unreachable!("an item leaves as its delivery ends")
        };
        item
    }
}

impl<T> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("seq", &self.seq())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
