//! Deliveries that are handled together.

use crate::core::Shared;
use crate::deliver::Back;
use crate::delivery::{Delivery, dropped};
use crate::error::AckError;
use crate::held::Parcel;
use std::collections::{VecDeque, vec_deque};
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

/// Items that must be acknowledged, in their order. Made by [`AckReceiver::recv_batch`](crate::AckReceiver::recv_batch).
///
/// What isn't acknowledged when the batch is dropped goes back to the channel, as with [`Delivery`].
///
/// # Examples
///
/// ```
/// # use overspill::DiskBufferedChannel;
/// # use std::time::Duration;
/// # let dir = tempfile::tempdir()?;
/// let channel = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?;
/// let (tx, rx) = (channel.sender(), channel.acking_receiver());
/// tx.send_all(&mut (0..5))?;
///
/// let mut batch = rx.recv_batch(4, 1 << 20, Duration::from_millis(1))?;
/// assert_eq!(batch.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
/// batch.ack_first(3)?;
/// batch.release();
/// assert_eq!(*rx.recv()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch that is dropped comes again"]
pub struct Batch<T> {
    shared: Arc<Shared<T>>,
    parcels: VecDeque<Parcel<T>>,
}

impl<T> Batch<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, parcels: Vec<Parcel<T>>) -> Self {
        Self {
            shared,
            parcels: parcels.into(),
        }
    }

    /// Items in it that are not acknowledged.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// True when all of it is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// The items that are not acknowledged, oldest first.
    pub fn iter(&self) -> BatchIter<'_, T> {
        BatchIter(self.parcels.iter())
    }

    /// Finishes all items, with one look at the channel.
    ///
    /// # Errors
    ///
    /// As [`Delivery::ack`].
    pub fn ack(mut self) -> Result<(), AckError> {
        self.ack_first(self.len())
    }

    /// Finishes the oldest `count` of the items that are left, or all if there are fewer.
    ///
    /// # Errors
    ///
    /// As [`Delivery::ack`]; then none of them is finished.
    pub fn ack_first(&mut self, count: usize) -> Result<(), AckError> {
        let count = count.min(self.len());
        let slips = self.parcels.iter().take(count).map(|parcel| parcel.slip);
        let acknowledged = self.shared.acknowledge(slips);
        self.parcels.drain(..count);
        acknowledged
    }

    /// Gives all items back, as [`Delivery::release`] does.
    pub fn release(self) {
        drop(self);
    }

    /// The items one by one.
    pub fn into_deliveries(mut self) -> Vec<Delivery<T>> {
        let parcels = std::mem::take(&mut self.parcels);
        let deliver = |parcel| Delivery::new(Arc::clone(&self.shared), parcel);
        parcels.into_iter().map(deliver).collect()
    }

    fn give_back(&mut self, back: Back) {
        let parcels = std::mem::take(&mut self.parcels);
        if !parcels.is_empty() {
            self.shared.take_back(parcels, back);
        }
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        self.give_back(dropped());
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a T;
    type IntoIter = BatchIter<'a, T>;

    fn into_iter(self) -> BatchIter<'a, T> {
        self.iter()
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The items of a batch. Made by [`Batch::iter`].
pub struct BatchIter<'a, T>(vec_deque::Iter<'a, Parcel<T>>);

impl<'a, T> Iterator for BatchIter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.next().map(|parcel| &parcel.item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for BatchIter<'_, T> {}
impl<T> FusedIterator for BatchIter<'_, T> {}

impl<T> fmt::Debug for BatchIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}
