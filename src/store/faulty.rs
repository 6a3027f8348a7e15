//! A store that fails when a test says so.

use crate::block::Block;
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An operation of a store that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Append,
    Read,
    Sync,
    Remove,
}

/// A failure that waits for its turn.
#[derive(Debug)]
struct Planned {
    operation: Operation,
    /// How many such operations still succeed before it.
    after: usize,
    error: StoreError,
}

/// The failures that a [`Faulty`] store has ahead of it. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<Planned>>>);

impl Faults {
    /// Makes the `nth` next `operation`, counted from 0, fail with `error`, once and without any effect.
    pub(crate) fn fail(&self, operation: Operation, nth: usize, error: StoreError) {
        self.planned().push(Planned {
            operation,
            after: nth,
            error,
        });
    }

    /// Counts one `operation` and fails it if it is the turn of one.
    fn meet(&self, operation: Operation) -> Result<(), StoreError> {
        let mut planned = self.planned();
        let due = planned
            .iter()
            .position(|p| p.operation == operation && p.after == 0);
        for waiting in planned.iter_mut().filter(|p| p.operation == operation) {
            waiting.after = waiting.after.saturating_sub(1);
        }
        due.map_or(Ok(()), |due| Err(planned.remove(due).error))
    }

    fn planned(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any store, with failures put in front of it.
pub(crate) struct Faulty {
    inner: Box<dyn Store>,
    faults: Faults,
}

impl Faulty {
    pub(crate) fn new(inner: Box<dyn Store>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl Store for Faulty {
    fn units(&self) -> Vec<Seq> {
        self.inner.units()
    }

    fn unit_after(&self, unit: Seq) -> Option<Seq> {
        self.inner.unit_after(unit)
    }

    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        self.faults.meet(Operation::Append)?;
        self.inner.append(blocks)
    }

    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        self.faults.meet(Operation::Read)?;
        self.inner.read(at)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.faults.meet(Operation::Sync)?;
        self.inner.sync()
    }

    fn end(&self) -> Seq {
        self.inner.end()
    }

    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq> {
        self.inner.reclaimable(finished)
    }

    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)> {
        self.inner.oldest_unit(from)
    }

    fn remove(&mut self, unit: Seq) -> Result<(), StoreError> {
        self.faults.meet(Operation::Remove)?;
        self.inner.remove(unit)
    }

    fn settle(&mut self) -> bool {
        self.inner.settle()
    }

    fn set_aside(&mut self, unit: Seq, dest: &Path) -> Result<(), StoreError> {
        self.inner.set_aside(unit, dest)
    }

    fn exclude(&mut self, unit: Seq) {
        self.inner.exclude(unit);
    }

    fn suspect(&mut self, at: Seq) -> Option<(Seq, PathBuf)> {
        self.inner.suspect(at)
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }

    fn headroom(&self, limit: u64) -> u64 {
        self.inner.headroom(limit)
    }

    fn slack(&self) -> u64 {
        self.inner.slack()
    }

    fn uses_open_files(&self, blocks: &[Arc<Block>]) -> bool {
        self.inner.uses_open_files(blocks)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sim::{SimDisk, SimStore};

    #[test]
    fn the_planned_operation_fails_once_and_only_it() {
        let faults = Faults::default();
        let mut store = Faulty::new(
            Box::new(SimStore::open(SimDisk::default(), 4)),
            faults.clone(),
        );
        let full = StoreError::Full {
            path: "spool".into(),
            needed: 1,
            available: 0,
        };
        faults.fail(Operation::Sync, 1, full);
        assert!(store.append(&[]).is_ok());
        assert!(store.sync().is_ok());
        assert!(store.sync().unwrap_err().is_full());
        assert!(store.sync().is_ok());
    }
}
