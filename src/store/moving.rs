//! Two stores at once: what another kind of store holds is read from there, what is new goes to the one that was asked for.

use crate::block::Block;
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store that is read until it is empty, and the one that is written to.
pub(crate) struct Moving {
    from: Box<dyn Store>,
    to: Box<dyn Store>,
}

impl Moving {
    pub(crate) fn new(from: Box<dyn Store>, to: Box<dyn Store>) -> Self {
        Self { from, to }
    }

    /// The store that has the unit. Where both have one of that name, the old one's goes first.
    fn owner(&mut self, unit: Seq) -> &mut Box<dyn Store> {
        if self.from.units().contains(&unit) {
            &mut self.from
        } else {
            &mut self.to
        }
    }
}

impl Store for Moving {
    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        self.to.append(blocks)
    }

    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        let old = self.from.read(at)?;
        if old.as_ref().is_some_and(|old| old.first() <= at) {
            return Ok(old);
        }
        let new = self.to.read(at)?;
        Ok(match (old, new) {
            (Some(old), Some(new)) if new.first() < old.first() => Some(new),
            (old, new) => old.or(new),
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.from.sync()?;
        self.to.sync()
    }

    fn end(&self) -> Seq {
        self.from.end().max(self.to.end())
    }

    fn units(&self) -> Vec<Seq> {
        let mut units = self.from.units();
        units.extend(self.to.units());
        units.sort_unstable();
        units
    }

    fn unit_after(&self, unit: Seq) -> Option<Seq> {
        let after = [self.from.unit_after(unit), self.to.unit_after(unit)];
        after.into_iter().flatten().min()
    }

    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq> {
        let mut units = self.from.reclaimable(finished);
        units.extend(self.to.reclaimable(finished));
        units
    }

    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)> {
        let oldest = [self.from.oldest_unit(from), self.to.oldest_unit(from)];
        oldest.into_iter().flatten().min_by_key(|(unit, _)| *unit)
    }

    fn remove(&mut self, unit: Seq) -> Result<(), StoreError> {
        self.owner(unit).remove(unit)
    }

    fn settle(&mut self) -> bool {
        self.from.settle() | self.to.settle()
    }

    fn set_aside(&mut self, unit: Seq, dest: &Path) -> Result<(), StoreError> {
        self.owner(unit).set_aside(unit, dest)
    }

    fn exclude(&mut self, unit: Seq) {
        self.owner(unit).exclude(unit);
    }

    fn suspect(&mut self, at: Seq) -> Option<(Seq, PathBuf)> {
        self.from.suspect(at).or_else(|| self.to.suspect(at))
    }

    fn disk_bytes(&self) -> u64 {
        self.from.disk_bytes() + self.to.disk_bytes()
    }

    fn headroom(&self, limit: u64) -> u64 {
        let left = limit.saturating_sub(self.from.disk_bytes());
        self.to.headroom(left)
    }

    fn slack(&self) -> u64 {
        self.to.slack()
    }

    fn uses_open_files(&self, blocks: &[Arc<Block>]) -> bool {
        self.to.uses_open_files(blocks)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let closed = self.from.close();
        self.to.close()?;
        closed
    }
}
