//! The receiving end whose items must be acknowledged.

use crate::batch::Batch;
use crate::core::Shared;
use crate::deliver::Back;
use crate::delivery::Delivery;
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::Handle;
use crate::held::Parcel;
use crate::sender::both_ends;
use crate::stream::DeliveryStream;
use crate::sync;
use crate::take::Places;
use crate::take_out::{Asker, Haul};
use crate::verbs::{Receives, Receiving, verbs};
use crate::wait::{Alarm, block_briefly, block_until};
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The receiving end of a channel whose items must be acknowledged: each is a [`Delivery`]. Clones share the items.
///
/// An item that comes back (released, dropped, not acknowledged) is delivered again ahead of those that were never
/// delivered, to one receiver at a time. [`recv`](Self::recv) and its kin end with [`RecvError::Closed`] only when nothing is pending and
/// nothing is out. Where only memory has an item, it is encoded as it goes out: a halt saves it whatever its consumer does.
///
/// # Examples
///
/// ```
/// # use overspill::DiskBufferedChannel;
/// # let dir = tempfile::tempdir()?;
/// # fn deliver(_: &u32) -> bool { true }
/// let channel = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?;
/// channel.sender().send_all(&mut (0..3))?;
/// channel.close();
/// for delivery in &channel.acking_receiver() {
///     if deliver(&delivery) {
///         delivery.ack()?;
///     } else {
///         delivery.release();
///     }
/// }
/// assert_eq!(channel.stats().acknowledged, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AckReceiver<T> {
    handle: Handle<T>,
}

impl<T> AckReceiver<T> {
    pub(crate) fn new(handle: Handle<T>) -> Self {
        Self { handle }
    }

    fn deliver(&self, parcel: Parcel<T>) -> Delivery<T> {
        Delivery::new(Arc::clone(&self.handle.shared), parcel)
    }
}

impl<T> Receives<T> for AckReceiver<T> {
    type Item = Delivery<T>;

    fn pop(&self) -> Option<Delivery<T>> {
        None
    }

    fn poll_one(
        &self,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<Delivery<T>, RecvError>> {
        let shared = &self.handle.shared;
        let taken = shared.poll_deliver(Asker::Consumer, places, waker);
        taken.map_ok(|parcel| self.deliver(parcel))
    }

    fn poll_many(
        &self,
        into: &mut Vec<Delivery<T>>,
        max: usize,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>> {
        let shared = &self.handle.shared;
        let (mut haul, mut parcels) = (Haul::default(), Vec::new());
        let taken = shared.poll_deliver_many(&mut haul, &mut parcels, max, u64::MAX, places, waker);
        taken.map_ok(|()| {
            let count = parcels.len();
            into.extend(parcels.into_iter().map(|parcel| self.deliver(parcel)));
            count
        })
    }

    fn stay_awake(&self) -> bool {
        self.handle.shared.state.news().stay_awake()
    }

    fn leave(&self, places: &mut Places) {
        self.handle.shared.leave_recv(places);
    }
}

verbs!(
    AckReceiver,
    Delivery<T>,
    DeliveryIter,
    DeliveryTryIter,
    DeliveryIntoIter
);

impl<T> AckReceiver<T> {
    /// Receives a batch: waits for the first item, then up to `linger` for more, until there are `max_items` of them or
    /// they have `max_bytes` encoded. One item is always taken, whatever its size.
    ///
    /// It doesn't wait for what can't come: after the intake has ended, or when as many deliveries are out as may be.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_batch(
        &self,
        max_items: usize,
        max_bytes: u64,
        linger: Duration,
    ) -> Result<Batch<T>, RecvError> {
        let mut gathering = Gathering::new(&self.handle.shared, max_items, max_bytes);
        match gathering.take(None) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => block_briefly(None, |waker| gathering.take(Some(waker)))
                .unwrap_or(Err(RecvError::Halted))?,
        }
        gathering.linger(linger);
        // Past the time there is nothing to be had but what is there.
        match gathering.poll_more(None) {
            Poll::Ready(gathered) => gathered?,
            Poll::Pending if linger.is_zero() => {}
            Poll::Pending => {
                block_briefly(gathering.until, |waker| gathering.poll_more(Some(waker)))
                    .unwrap_or(Ok(()))?;
            }
        }
        Ok(gathering.finish())
    }

    /// As [`recv_batch`](Self::recv_batch), without blocking the runtime.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what it has gathered goes back in its place.
    pub async fn recv_batch_async(
        &self,
        max_items: usize,
        max_bytes: u64,
        linger: Duration,
    ) -> Result<Batch<T>, RecvError> {
        let mut gathering = Gathering::new(&self.handle.shared, max_items, max_bytes);
        let polled = &mut gathering;
        poll_fn(|cx| polled.take(Some(cx.waker()))).await?;
        polled.linger(linger);
        poll_fn(|cx| polled.poll_more_by_the_clock(cx.waker())).await?;
        Ok(gathering.finish())
    }

    /// The deliveries as a stream: owned, fused, and it can be moved while it is polled.
    pub fn stream(&self) -> DeliveryStream<T> {
        DeliveryStream::new(self.clone())
    }
}

both_ends!(AckReceiver);

/// A batch in the making. What it holds when it is dropped goes back as if it had never been out.
struct Gathering<'a, T> {
    shared: &'a Arc<Shared<T>>,
    places: Places,
    /// Empty: room for what is taken next.
    haul: Haul<T>,
    parcels: Vec<Parcel<T>>,
    /// Encoded bytes of these.
    bytes: u64,
    max_items: usize,
    max_bytes: u64,
    /// When it stops waiting.
    until: Option<Instant>,
    alarm: Option<Alarm>,
}

impl<'a, T> Gathering<'a, T> {
    fn new(shared: &'a Arc<Shared<T>>, max_items: usize, max_bytes: u64) -> Self {
        Self {
            shared,
            places: Places::default(),
            haul: Haul::default(),
            parcels: Vec::new(),
            bytes: 0,
            max_items: max_items.max(1),
            max_bytes,
            until: None,
            alarm: None,
        }
    }

    /// Says how long it may wait for more than it has.
    fn linger(&mut self, linger: Duration) {
        self.until = sync::now().checked_add(linger);
    }

    /// Takes what there is now; ready when it is enough or no more can come.
    fn poll_more(&mut self, waker: Option<&Waker>) -> Poll<Result<(), RecvError>> {
        while !self.is_full() {
            match self.take(waker) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(RecvError::Halted)) => return Poll::Ready(Err(RecvError::Halted)),
                Poll::Pending if self.may_wait() => return Poll::Pending,
                // Nothing more will come; if that is an error, the next receive says the same.
                Poll::Pending | Poll::Ready(Err(_)) => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As [`poll_more`](Self::poll_more), woken when the time is up.
    fn poll_more_by_the_clock(&mut self, waker: &Waker) -> Poll<Result<(), RecvError>> {
        let polled = self.poll_more(Some(waker));
        let Some(until) = self.until.filter(|_| polled.is_pending()) else {
            return polled;
        };
        if until <= sync::now() {
            return Poll::Ready(Ok(()));
        }
        self.shared.enter(|state, wakes| {
            state.alarms.set(&mut self.alarm, until, waker, wakes);
            state.kick(wakes);
        });
        Poll::Pending
    }

    fn may_wait(&self) -> bool {
        !self.places.limit.is_held() && self.shared.has_more_to_come()
    }

    fn is_full(&self) -> bool {
        self.parcels.len() >= self.max_items || self.bytes >= self.max_bytes
    }

    /// Takes items out; waits for them if it has a waker.
    fn take(&mut self, waker: Option<&Waker>) -> Poll<Result<(), RecvError>> {
        let before = self.parcels.len();
        let taken = self.shared.poll_deliver_many(
            &mut self.haul,
            &mut self.parcels,
            self.max_items - before,
            self.max_bytes.saturating_sub(self.bytes),
            &mut self.places,
            waker,
        );
        if matches!(taken, Poll::Ready(Ok(()))) {
            self.weigh(before);
        }
        taken
    }

    /// Adds up what was taken, and gives back what is too much: some sizes are known only once an item is out.
    fn weigh(&mut self, from: usize) {
        let mut fitting = from;
        for parcel in self.parcels.get(from..).unwrap_or_default() {
            let bytes = self.bytes.saturating_add(parcel.slip.bytes.into());
            if bytes > self.max_bytes && fitting > 0 {
                break;
            }
            self.bytes = bytes;
            fitting += 1;
        }
        if fitting < self.parcels.len() {
            let surplus = self.parcels.split_off(fitting);
            // What is just too large comes with the next batch: this one is as full as it gets.
            self.max_items = self.parcels.len();
            self.shared.take_back(surplus, Back::Unseen);
        }
    }

    fn finish(mut self) -> Batch<T> {
        Batch::new(Arc::clone(self.shared), std::mem::take(&mut self.parcels))
    }
}

impl<T> Drop for Gathering<'_, T> {
    fn drop(&mut self) {
        self.shared.leave_recv(&mut self.places);
        if let Some(alarm) = self.alarm.take() {
            self.shared
                .enter(|state, wakes| state.alarms.cancel(alarm, wakes));
        }
        let parcels = std::mem::take(&mut self.parcels);
        if !parcels.is_empty() {
            self.shared.take_back(parcels, Back::Unseen);
        }
    }
}
