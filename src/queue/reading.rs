//! How a queue is read: the next block, and an account of every number that no block has.

use super::{Damage, Queue};
use crate::block::Block;
use crate::dir::Quarantined;
use crate::error::StoreError;
use crate::event::Event;
use crate::ledger::Outcome;
use crate::seq::Seq;
use crate::store::ReadError;
use std::ops::Range;

/// The outcome of a read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// The next block; `None` when there is none before the end.
    pub(crate) block: Option<Block>,
    /// Numbers before the block that no store has, and what became of them.
    pub(crate) missing: Vec<(Range<Seq>, Outcome)>,
    pub(crate) quarantined: Vec<Quarantined>,
    pub(crate) events: Vec<Event>,
}

impl Queue {
    /// The first block at or after `from` and before `end`, and an account of every number before it.
    pub(crate) fn read(&mut self, from: Seq, end: Seq) -> Result<Read, StoreError> {
        let mut read = Read::default();
        let mut at = from;
        let mut met = Vec::new();
        let mut last = None;
        while at < end && read.block.is_none() {
            match self.store.read(at) {
                Ok(Some(block)) if block.first() < end => {
                    self.check_readable(&block)?;
                    read.block = Some(block);
                }
                Ok(_) => break,
                Err(ReadError::Store(error)) => return Err(error),
                Err(ReadError::Damaged {
                    unit,
                    path,
                    reason,
                    resume,
                }) => {
                    met.push(unit);
                    let this = Some((unit, reason.clone()));
                    let again = last == this;
                    last = this;
                    let lost = from..from;
                    self.damaged
                        .entry(unit)
                        .or_insert(Damage { path, reason, lost });
                    match resume.or_else(|| self.store.unit_after(unit)) {
                        Some(resume) => at = resume.max(at + u64::from(again)),
                        None => break,
                    }
                }
            }
        }
        if let Some(block) = read.block.take() {
            self.figures.blocks_read += 1;
            self.figures.bytes_read += block.len() as u64;
            read.block = Some(block.into_plain());
        }
        let stop = read
            .block
            .as_ref()
            .map_or(end, |block| block.first().max(from));
        self.add_known_damage(from..stop, &mut met);
        let known = match &read.block {
            Some(block) => block.header().prev_end,
            None if met.is_empty() => self.stored_end,
            None => self.stored_end.max(self.store.end()),
        };
        read.missing = self.account(from..stop, known, met.iter().min().copied());
        if met.is_empty() {
            self.look_for_the_lost(&read.missing);
        }
        for unit in met {
            if let Some(damage) = self.damaged.get_mut(&unit) {
                let start = if damage.lost.is_empty() {
                    from
                } else {
                    damage.lost.start
                };
                damage.lost = start..stop;
            }
        }
        Ok(read)
    }

    /// What this build can't read is no damage: it waits for one that can.
    pub(super) fn check_readable(&self, block: &Block) -> Result<(), StoreError> {
        match block.header().needs() {
            None => Ok(()),
            Some(needs) => Err(StoreError::Unsupported {
                path: self.directory.path().to_owned(),
                seq: block.first(),
                needs,
            }),
        }
    }

    /// Damage that was told before anybody asked for these numbers, and what it cost is found only now.
    fn add_known_damage(&self, missing: Range<Seq>, met: &mut Vec<Seq>) {
        let units = self.damaged.iter().filter(|(unit, damage)| {
            damage.lost.is_empty()
                && **unit < missing.end
                && self
                    .store
                    .unit_after(**unit)
                    .is_none_or(|next| next > missing.start)
        });
        if !missing.is_empty() {
            met.extend(units.map(|(unit, _)| *unit));
        }
    }

    /// What is lost and was not met as damage may be in bytes at a unit's end that look like a write that was cut off:
    /// then the unit is kept.
    fn look_for_the_lost(&mut self, missing: &[(Range<Seq>, Outcome)]) {
        let lost = missing
            .iter()
            .find(|(_, outcome)| *outcome == Outcome::Lost);
        if let Some((lost, _)) = lost
            && let Some((unit, path)) = self.store.suspect(lost.start)
        {
            let damage = Damage {
                path,
                reason: format!("cut off: numbers from {} on are missing", lost.start),
                lost: lost.clone(),
            };
            self.damaged.entry(unit).or_insert(damage);
        }
    }

    /// What became of numbers that no block holds. A clean stop had saved everything below `clean_tail`, and
    /// `known_end` is how far blocks are known to have been written: below these, missing is lost. Above,
    /// the numbers were in memory when the process died, and so may others have been that are older than every unit
    /// which is `damaged`: what was written behind them may be finished and gone.
    fn account(
        &self,
        missing: Range<Seq>,
        known_end: Seq,
        damaged: Option<Seq>,
    ) -> Vec<(Range<Seq>, Outcome)> {
        if missing.is_empty() {
            return Vec::new();
        }
        let clean_tail = self.base.clean_tail;
        let lost_end = known_end.max(clean_tail).clamp(missing.start, missing.end);
        let memory_end = self.base.ledger.memory_end();
        let memory_end = damaged.map_or(memory_end, |unit| unit.min(memory_end));
        let saved_end = clean_tail.clamp(missing.start, lost_end);
        let memory_end = memory_end.clamp(saved_end, lost_end);
        let parts = if memory_end > saved_end {
            vec![
                (missing.start..saved_end, Outcome::Lost),
                (saved_end..memory_end, Outcome::Unaccounted),
                (memory_end..lost_end, Outcome::Lost),
            ]
        } else {
            vec![(missing.start..lost_end, Outcome::Lost)]
        };
        parts
            .into_iter()
            .chain([(lost_end..missing.end, Outcome::Unaccounted)])
            .filter(|(range, _)| !range.is_empty())
            .collect()
    }
}
