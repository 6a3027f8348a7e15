//! Items on their way from an iterator into the channel.

use crate::state::State;
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
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self(Mutex::new(Filling {
            items: Vec::new(),
            taken: false,
        }))
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
        std::mem::take(&mut filling.items)
    }
}

impl<T> Batch<T> {
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

    /// The batch is its sender's to admit; false when a halt has collected it.
    pub(crate) fn close_batch(&mut self, batch: &Arc<Batch<T>>) -> bool {
        let mut open = self.batches.iter();
        let index = open.position(|open| Arc::ptr_eq(open, batch));
        let closed = index.map(|index| self.batches.swap_remove(index));
        closed.is_some()
    }

    /// Keeps a batch and the room for its items, all of which have left it, for the next ones. Its sender uses it no more.
    pub(crate) fn keep_batch(&mut self, batch: &Arc<Batch<T>>, emptied: VecDeque<T>) {
        if self.spare_batches.len() < SPARE_BATCHES {
            *batch.0.lock() = Filling {
                items: emptied.into(),
                taken: false,
            };
            self.spare_batches.push(Arc::clone(batch));
        }
    }
}
