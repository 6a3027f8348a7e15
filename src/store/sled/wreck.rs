//! Damaged databases, and how far their damage has been told.
//!
//! One that is found damaged isn't given to sled again: its blocks come from its raw bytes, in order. That it is
//! damaged is told once, and then with everything that is missing in it.

use super::database::Database;
use super::guard::Fault;
use super::salvage::Salvage;
use crate::block::Block;
use crate::error::StoreError;
use crate::seq::Seq;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What a read of a damaged database comes to.
#[derive(Debug)]
pub(super) enum Salvaged {
    /// The next block; `None` when there is none any more.
    Block(Option<Block>),
    /// Numbers are missing, or it is the first time: reading goes on at `resume`, and where there is none nothing
    /// is left.
    Damage { reason: String, resume: Option<Seq> },
}

/// The damaged databases of a chain.
#[derive(Debug, Default)]
pub(super) struct Wrecks {
    known: BTreeMap<Seq, Wreck>,
    /// The one that is read from. The others are searched again when it is their turn.
    open: Option<(Seq, Salvage)>,
}

#[derive(Debug)]
struct Wreck {
    reason: String,
    /// One past the highest number that it is known to have held.
    end: Option<Seq>,
    /// Somebody knows that it is damaged.
    is_told: bool,
}

impl Wrecks {
    /// Takes the database `name` for damaged; it went to `end` as far as is known.
    pub(super) fn add(&mut self, name: Seq, reason: String, end: Option<Seq>) {
        self.known.entry(name).or_insert(Wreck {
            reason,
            end,
            is_told: false,
        });
    }

    pub(super) fn forget(&mut self, name: Seq) {
        self.known.remove(&name);
        self.open.take_if(|(open, _)| *open == name);
    }

    /// Why the database `name` is damaged, if it is.
    pub(super) fn reason(&self, name: Seq) -> Option<&str> {
        self.known.get(&name).map(|wreck| wreck.reason.as_str())
    }

    /// One past the highest number that the database `name` in `dir` is known to have held.
    pub(super) fn end(&mut self, name: Seq, dir: &Path) -> Result<Seq, StoreError> {
        let found = self.salvage(name, dir)?.end();
        let known = self.known.get(&name).and_then(|wreck| wreck.end);
        // Where nothing is known, somebody was about to store the number that named it, or had. Were that given out
        // again, its block would have to go here.
        Ok(known.unwrap_or(name.saturating_add(1)).max(found))
    }

    /// The block of the database `name` that holds `at`, or the first after it below `limit`; what is missing before
    /// that comes first.
    pub(super) fn read(
        &mut self,
        name: Seq,
        dir: &Path,
        at: Seq,
        limit: Seq,
    ) -> Result<Salvaged, StoreError> {
        let block = self.salvage(name, dir)?.read(at, limit);
        let block = block.map_err(|error| StoreError::io("read", dir, error))?;
        let Some(wreck) = self.known.get_mut(&name) else {
            return Ok(Salvaged::Block(block));
        };
        let next = block.as_ref().map_or(limit, Block::first);
        let is_missing = next > at.max(name);
        if wreck.is_told && !is_missing {
            return Ok(Salvaged::Block(block));
        }
        wreck.is_told = true;
        Ok(Salvaged::Damage {
            reason: wreck.reason.clone(),
            resume: Some(next.max(at)).filter(|next| *next < Seq::MAX),
        })
    }

    /// Copies the blocks of the database `name` in `dir` that begin within `numbers` into the new one in `dest`.
    pub(super) fn copy(
        &mut self,
        name: Seq,
        dir: &Path,
        numbers: Range<Seq>,
        dest: &Path,
    ) -> Result<(), StoreError> {
        let salvage = self.salvage(name, dir)?;
        let mut copy = None;
        let mut at = numbers.start;
        let failed = |fault: Fault| fault.into_error(dest);
        loop {
            let block = salvage.read(at, numbers.end);
            let block = block.map_err(|error| StoreError::io("read", dir, error))?;
            let Some(block) = block else { break };
            at = block.end();
            if numbers.contains(&block.first()) {
                let copy = match &mut copy {
                    Some(copy) => copy,
                    None => copy.insert(Database::open(numbers.start, dest).map_err(failed)?),
                };
                copy.insert(&block).map_err(failed)?;
            }
        }
        copy.map_or(Ok(()), Database::close).map_err(failed)
    }

    fn salvage(&mut self, name: Seq, dir: &Path) -> Result<&mut Salvage, StoreError> {
        let salvage = match self.open.take() {
            Some((open, salvage)) if open == name => salvage,
            _ => Salvage::open(dir).map_err(|error| StoreError::io("read", dir, error))?,
        };
        Ok(&mut self.open.insert((name, salvage)).1)
    }
}
