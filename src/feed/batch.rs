//! Items on their way from an iterator into the channel.

use crate::encoded::Encoded;
use crate::seq::Seq;
use crate::state::{Phase, State};
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Empty ones that are kept for the next items: as many as there are threads, perhaps, that fill one at a time.
const SPARE_BATCHES: usize = 8;

/// Items that were taken from an iterator and are not admitted yet.
#[derive(Debug)]
pub(crate) struct Batch<T>(Mutex<Filling<T>>);

#[derive(Debug)]
struct Filling<T> {
    items: Vec<T>,
    /// A halt has taken the items.
    taken: bool,
    /// What found no room when the others were admitted.
    left: Encoded<T>,
    /// The last number given out for it.
    last: Option<Seq>,
}

impl<T> Filling<T> {
    fn within(room: Vec<T>) -> Self {
        Self {
            items: room,
            taken: false,
            left: Encoded::default(),
            last: None,
        }
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self(Mutex::new(Filling::within(Vec::new())))
    }
}

impl<T> Batch<T> {
    /// Adds an item, or gives it back when a halt has come.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut filling = self.0.lock();
        if filling.taken {
            return Err(item);
        }
        filling.items.push(item);
        Ok(())
    }

    /// Takes the items and ends the filling.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut filling = self.0.lock();
        filling.taken = true;
        let left = std::mem::take(&mut filling.left);
        let mut items = std::mem::take(&mut filling.items);
        items.extend(left.into_unplaced());
        items
    }

    pub(crate) fn has_left(&self) -> bool {
        !self.0.lock().left.is_placed()
    }

    pub(crate) fn take_left(&self) -> Encoded<T> {
        std::mem::take(&mut self.0.lock().left)
    }

    pub(crate) fn put_left(&self, left: Encoded<T>, last: Option<Seq>) {
        let mut filling = self.0.lock();
        filling.left = left;
        filling.last = last;
    }

    /// The last number given out for what was left.
    pub(crate) fn last(&self) -> Option<Seq> {
        self.0.lock().last
    }

    /// Gives it room for items, unless its next sender has made some by now.
    pub(crate) fn give_room(&self, emptied: VecDeque<T>) {
        let mut filling = self.0.lock();
        if filling.items.capacity() == 0 {
            filling.items = emptied.into();
        }
    }
}

impl<T> State<T> {
    /// An empty batch, which a halt collects from now on.
    pub(super) fn open_batch(&mut self) -> Arc<Batch<T>> {
        let batch = self.spare_batches.pop().unwrap_or_default();
        self.batches.push(Arc::clone(&batch));
        batch
    }

    /// Whether the batch is its sender's to admit.
    pub(crate) fn has_batch(&self, batch: &Arc<Batch<T>>) -> bool {
        self.batch_index(batch).is_some()
    }

    /// Takes the batch from where a halt would collect it; false when one has.
    pub(crate) fn close_batch(&mut self, batch: &Arc<Batch<T>>) -> bool {
        let index = self.batch_index(batch);
        let closed = index.map(|index| self.batches.swap_remove(index));
        closed.is_some()
    }

    fn batch_index(&self, batch: &Arc<Batch<T>>) -> Option<usize> {
        // From `Halting` on the batch is the worker's, which saves it.
        let mut open = self.batches.iter().filter(|_| self.phase == Phase::Open);
        open.position(|open| Arc::ptr_eq(open, batch))
    }

    /// Keeps a batch and the room for its items, all of which have left it, for the next ones. Its sender uses it no more.
    pub(crate) fn keep_batch(&mut self, batch: &Arc<Batch<T>>, emptied: VecDeque<T>) {
        if self.spare_batches.len() < SPARE_BATCHES {
            *batch.0.lock() = Filling::within(emptied.into());
            self.spare_batches.push(Arc::clone(batch));
        }
    }
}
