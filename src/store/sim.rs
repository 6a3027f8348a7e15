//! A store in memory, for tests: the whole contract, and a disk that outlives the store.

use crate::block::Block;
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a [`SimStore`] writes to. Clones share it, so a test can open it again after a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Units>>);

type Units = BTreeMap<Seq, BTreeMap<Seq, Slot>>;

#[derive(Clone, Debug)]
enum Slot {
    Sound(Arc<Block>),
    Damaged(Arc<Block>),
}

impl Slot {
    fn block(&self) -> &Arc<Block> {
        match self {
            Self::Sound(block) | Self::Damaged(block) => block,
        }
    }
}

impl SimDisk {
    /// Makes the block that begins at `first` unreadable.
    pub(crate) fn damage(&self, first: Seq) {
        for slot in self
            .units()
            .values_mut()
            .filter_map(|unit| unit.get_mut(&first))
        {
            *slot = Slot::Damaged(slot.block().clone());
        }
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in memory: units of a fixed number of blocks, and as many bytes as `headroom` allows.
#[derive(Debug)]
pub(crate) struct SimStore {
    disk: SimDisk,
    unit_blocks: usize,
    excluded: BTreeSet<Seq>,
}

impl SimStore {
    /// Opens what `disk` holds; a new unit is begun after `unit_blocks` blocks.
    pub(crate) fn open(disk: SimDisk, unit_blocks: usize) -> Self {
        Self {
            disk,
            unit_blocks,
            excluded: BTreeSet::new(),
        }
    }

    /// Runs `look` on the units that aren't excluded.
    fn with_units<R>(&self, look: impl FnOnce(&BTreeMap<Seq, &BTreeMap<Seq, Slot>>) -> R) -> R {
        let units = self.disk.units();
        let seen = units
            .iter()
            .filter(|(name, _)| !self.excluded.contains(name));
        look(&seen.map(|(name, unit)| (*name, unit)).collect())
    }

    fn path(unit: Seq) -> PathBuf {
        PathBuf::from(format!("sim/{unit}"))
    }

    fn append_one(&mut self, block: &Arc<Block>) {
        let first = block.first();
        let name = self.with_units(|units| {
            let (name, unit) = units.range(..=first).next_back()?;
            let continues = unit.keys().next_back().is_some_and(|last| *last >= first);
            (continues || unit.len() < self.unit_blocks).then_some(*name)
        });
        let mut units = self.disk.units();
        let unit = units.entry(name.unwrap_or(first)).or_default();
        unit.insert(first, Slot::Sound(block.clone()));
    }
}

fn end_of(unit: &BTreeMap<Seq, Slot>) -> Option<Seq> {
    unit.values().next_back().map(|slot| slot.block().end())
}

impl Store for SimStore {
    fn units(&self) -> Vec<Seq> {
        self.with_units(|units| units.keys().copied().collect())
    }

    fn unit_after(&self, unit: Seq) -> Option<Seq> {
        self.with_units(|units| units.range(unit + 1..).next().map(|(name, _)| *name))
    }

    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        for block in blocks {
            self.append_one(block);
        }
        Ok(())
    }

    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        self.with_units(|units| {
            let slots = |(name, unit): (&Seq, &&BTreeMap<Seq, Slot>)| {
                let slots: Vec<_> = unit.values().cloned().map(|slot| (*name, slot)).collect();
                slots
            };
            let mut ahead = units
                .iter()
                .flat_map(slots)
                .skip_while(|(_, slot)| slot.block().end() <= at);
            match ahead.next() {
                None => Ok(None),
                Some((unit, Slot::Sound(block))) => {
                    let read = Block::parse(block.as_bytes().into_owned());
                    read.map(Some).map_err(|error| ReadError::Damaged {
                        unit,
                        path: Self::path(unit),
                        reason: error.to_string(),
                        resume: Some(block.end()),
                    })
                }
                Some((unit, Slot::Damaged(_))) => {
                    let resume = ahead.next().filter(|(name, _)| *name == unit);
                    Err(ReadError::Damaged {
                        unit,
                        path: Self::path(unit),
                        reason: "damaged by the test".to_owned(),
                        resume: resume.map(|(_, slot)| slot.block().first()),
                    })
                }
            }
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&self) -> Seq {
        self.with_units(|units| units.values().next_back().and_then(|unit| end_of(unit)))
            .unwrap_or(0)
    }

    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq> {
        self.with_units(|units| {
            let is_finished = |name: Seq, unit: &BTreeMap<Seq, Slot>| {
                finished.covers(&(name..end_of(unit).unwrap_or(name)))
            };
            let mut names: Vec<Seq> = units
                .iter()
                .filter(|(name, unit)| is_finished(**name, unit))
                .map(|(name, _)| *name)
                .collect();
            if names.len() < units.len() {
                names.retain(|name| Some(name) != units.keys().next_back());
            }
            names
        })
    }

    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)> {
        self.with_units(|units| {
            let newest = *units.keys().next_back()?;
            let (name, unit) = units.range(from..newest.max(from)).next()?;
            Some((*name, *name..end_of(unit)?))
        })
    }

    fn remove(&mut self, unit: Seq) -> Result<(), StoreError> {
        self.disk.units().remove(&unit);
        Ok(())
    }

    fn settle(&mut self) -> bool {
        false
    }

    fn set_aside(&mut self, unit: Seq, _dest: &Path) -> Result<(), StoreError> {
        self.remove(unit)
    }

    fn exclude(&mut self, unit: Seq) {
        self.excluded.insert(unit);
    }

    fn disk_bytes(&self) -> u64 {
        let units = self.disk.units();
        let slots = units.values().flat_map(BTreeMap::values);
        slots.map(|slot| slot.block().len() as u64).sum()
    }

    fn headroom(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.disk_bytes())
    }

    fn slack(&self) -> u64 {
        0
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBuilder, Seal};

    fn block(first: Seq) -> Arc<Block> {
        let mut builder = BlockBuilder::new(first, 0, 16);
        builder.push(b"one");
        builder.push(b"two");
        Arc::new(builder.seal(&Seal::default()))
    }

    #[test]
    fn blocks_outlive_the_store_and_damage_is_met_once() {
        let disk = SimDisk::default();
        let blocks: Vec<_> = [0, 2, 4, 6, 8].map(block).into();
        SimStore::open(disk.clone(), 3).append(&blocks).unwrap();
        disk.damage(2);
        let mut store = SimStore::open(disk, 3);
        assert_eq!(store.end(), 10);
        assert_eq!(store.read(1).unwrap().unwrap(), *blocks[0]);
        assert!(matches!(
            store.read(2),
            Err(ReadError::Damaged {
                unit: 0,
                resume: Some(4),
                ..
            })
        ));
        assert_eq!(store.read(5).unwrap().unwrap(), *blocks[2]);
        assert!(store.read(10).unwrap().is_none());
    }

    #[test]
    fn a_finished_unit_is_reclaimable_and_the_newest_only_with_all_others() {
        let mut store = SimStore::open(SimDisk::default(), 2);
        store.append(&[0, 2, 4, 6].map(block)).unwrap();
        let mut ledger = Ledger::default();
        ledger.acknowledge(4, 4);
        assert!(store.reclaimable(&ledger).is_empty());
        ledger.acknowledge(0, 4);
        assert_eq!(store.reclaimable(&ledger), [0, 4]);
        assert_eq!(store.oldest_unit(0), Some((0, 0..4)));
        assert_eq!(store.oldest_unit(1), None, "the newest is written to");
        store.remove(0).unwrap();
        assert_eq!(store.read(0).unwrap().unwrap().first(), 4);
    }
}
