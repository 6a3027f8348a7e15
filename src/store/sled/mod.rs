//! The default store: a chain of small sled databases.
//!
//! One growing sled database never gives space back, and a damaged byte can cost all of it. So blocks
//! go to a chain of databases of bounded size, each in a directory named by its first number. No key
//! is overwritten or removed; when everything in a database is finished, the whole of it is removed.
//! At most two are open: the newest, which is appended to, and one older, which is read.

mod chain;
mod database;
mod engine;
mod frame;
mod guard;
mod limits;
mod mark;
mod reserve;
mod salvage;
#[cfg(test)]
mod tests;
mod wreck;

use self::chain::{Chain, Unit};
use self::database::Database;
use self::guard::Fault;
use self::mark::Mark;
use self::reserve::Reserve;
use self::wreck::{Salvaged, Wrecks};
use crate::block::Block;
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "test-util")]
pub(crate) use self::frame::fuzz as fuzz_part;
pub(crate) use self::limits::{QUOTA_BYTES_LEAST, value_bytes_max};

/// How the store is laid out.
#[derive(Clone, Debug)]
pub(crate) struct SledOptions {
    /// The store's own directory; made at the first append.
    pub(crate) dir: PathBuf,
    /// Written into every database, for the day when the channel's own identity file is gone.
    pub(crate) identity: Vec<u8>,
    /// Bytes of log in a database before the next one is begun.
    pub(crate) database_bytes: u64,
    /// sled's `segment_size` for new databases: a power of two.
    pub(crate) segment_bytes: usize,
}

impl SledOptions {
    /// The layout that suits a quota of `disk_bytes_max` bytes.
    pub(crate) fn new(dir: PathBuf, identity: Vec<u8>, disk_bytes_max: Option<u64>) -> Self {
        Self {
            dir,
            identity,
            database_bytes: limits::database_bytes(disk_bytes_max),
            segment_bytes: limits::segment_bytes(disk_bytes_max),
        }
    }
}

/// A chain of sled databases.
pub(crate) struct SledStore {
    options: SledOptions,
    chain: Chain,
    reserve: Reserve,
    /// The newest database and one other, in no order, as far as they are open.
    open: Vec<Database>,
    wrecks: Wrecks,
    /// The newest database, when it was made under another identity: where the channel's own file is damaged, the newest
    /// one's copy is believed, so what comes now goes to another.
    outdated: Option<Seq>,
    end: Seq,
    /// sled is unusable in this process from here on.
    poisoned: Option<StoreError>,
}

impl SledStore {
    /// Opens the store, which takes as long whatever it holds. Damage to the newest database is told by the read
    /// that meets it; until then what is known of it stands for the end.
    pub(crate) fn open(options: SledOptions) -> Result<Self, StoreError> {
        let chain = Chain::open(&options.dir)?;
        let reserve_bytes = limits::reserve_bytes(options.database_bytes, options.segment_bytes);
        let reserve = Reserve::open(&options.dir, reserve_bytes);
        let mut store = Self {
            options,
            chain,
            reserve,
            open: Vec::new(),
            wrecks: Wrecks::default(),
            outdated: None,
            end: 0,
            poisoned: None,
        };
        store.find_end()?;
        store.outdated = store.newest().filter(|newest| {
            let copy = store.chain.identity(*newest);
            copy.as_ref() != Some(&store.options.identity)
        });
        Ok(store)
    }

    /// Damage isn't lost here: whoever reads meets it. But an end that is only unknown now
    /// must not be taken for low: numbers would be given out twice.
    fn find_end(&mut self) -> Result<(), StoreError> {
        self.end = 0;
        let Some(newest) = self.newest() else {
            return Ok(());
        };
        self.end = match self.database(newest) {
            Ok(database) => database.end(),
            Err(Fault::Damaged(_)) => self.wrecks.end(newest, &self.chain.path(newest))?,
            Err(fault) => return Err(self.error(newest, fault)),
        };
        Ok(())
    }

    fn newest(&self) -> Option<Seq> {
        self.chain.units().last().map(|unit| unit.name)
    }

    /// The open database named `name`. Opens it, and closes what makes a third; a damaged one stays closed.
    fn database(&mut self, name: Seq) -> Result<&mut Database, Fault> {
        if let Some(reason) = self.wrecks.reason(name) {
            return Err(Fault::Damaged(reason.to_owned()));
        }
        let open = self
            .open
            .iter()
            .position(|database| database.name() == name);
        let at = match open {
            Some(at) => at,
            None => self.open_database(name).inspect_err(|fault| {
                if let Fault::Damaged(reason) = fault {
                    self.wreck(name, reason);
                }
            })?,
        };
        self.open
            .get_mut(at)
            .ok_or_else(|| Fault::Damaged("not open".to_owned()))
    }

    /// Gives up the database `name`: from now on its blocks come from its raw bytes.
    fn wreck(&mut self, name: Seq, reason: &str) {
        let open = self.open.iter().find(|database| database.name() == name);
        let dir = self.chain.path(name);
        let mark = Mark::read(&dir).ok().flatten();
        let end = open.map(Database::end).or(mark.map(|mark| mark.end));
        // What was inserted is flushed by that. What sled makes of the damage can't be helped.
        let _ = self.close_where(|open| open == name, Database::close);
        if mark.is_none() {
            // Only memory: the next process finds out for itself.
            let _ = Mark::of_damaged(end.unwrap_or(name.saturating_add(1))).write(&dir);
        }
        if let Some(unit) = self.chain.unit_mut(name) {
            unit.end = None;
        }
        self.wrecks.add(name, reason.to_owned(), end);
    }

    fn open_database(&mut self, name: Seq) -> Result<usize, Fault> {
        let newest = self.newest();
        self.close_where(
            |open| Some(name) != newest && Some(open) != newest,
            Database::seal,
        )?;
        let path = self.chain.path(name);
        let database = match Database::open(name, &path) {
            Err(fault) if fault.is_full() && self.reserve.release() => Database::open(name, &path),
            opened => opened,
        }?;
        // A size that can't be measured now keeps its last value.
        let _ = self.note(name, database.end());
        self.open.push(database);
        Ok(self.open.len() - 1)
    }

    /// Closes the open databases that `unwanted` names, as `close` says; the first error counts.
    fn close_where(
        &mut self,
        unwanted: impl Fn(Seq) -> bool,
        close: impl Fn(Database) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut closed = Ok(());
        for database in std::mem::take(&mut self.open) {
            let (name, end) = (database.name(), database.end());
            if unwanted(name) {
                closed = closed.and(close(database));
                let _ = self.note(name, end);
            } else {
                self.open.push(database);
            }
        }
        closed
    }

    /// Gives up an open database after an error in it, whatever its state.
    fn abandon(&mut self, name: Seq) {
        self.open.retain(|database| database.name() != name);
    }

    /// Takes down what the database `name` holds and occupies.
    fn note(&mut self, name: Seq, end: Seq) -> Result<(), StoreError> {
        if self.newest() == Some(name) {
            self.end = end;
        }
        self.chain.refresh(name, end)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    /// For `map_err`: the error that users see. Poison stays.
    fn error(&mut self, name: Seq, fault: Fault) -> StoreError {
        self.remember(fault.into_error(&self.chain.path(name)))
    }

    fn remember(&mut self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Poisoned { .. }) {
            self.poisoned = Some(error.clone());
        }
        error
    }

    /// The database that `block` goes to, open, and made where a new one is due.
    fn place(&mut self, block: &Block) -> Result<Seq, StoreError> {
        let first = block.first();
        let Some(name) = self.chain.at_or_below(first).map(|unit| unit.name) else {
            return self.create(first);
        };
        if self
            .open
            .iter()
            .any(|database| database.name() == name && database.has_failed())
        {
            self.close_where(|open| open == name, Database::close)
                .map_err(|fault| self.error(name, fault))?;
        }
        let database_bytes = self.options.database_bytes;
        match self.database(name) {
            // A new database named `first` would hide what this one holds at or above it.
            Ok(database) => {
                let ends_below = name < first && first >= database.end();
                let is_full = database.is_full(block, database_bytes);
                if ends_below && (is_full || self.outdated == Some(name)) {
                    self.create(first)
                } else {
                    Ok(name)
                }
            }
            Err(Fault::Damaged(_)) if name < first => self.create(first),
            Err(fault) => Err(self.error(name, fault)),
        }
    }

    fn create(&mut self, name: Seq) -> Result<Seq, StoreError> {
        let before = self.newest();
        if let Some(before) = before {
            // The name of a new database says that everything below it was stored.
            self.flush(before)?;
        }
        let segment_bytes = self.options.segment_bytes;
        let limit = self.chain.name_above(name).unwrap_or(Seq::MAX);
        let below = self.chain.at_or_below(name).map(|unit| unit.name);
        let wreck = below.filter(|below| self.wrecks.reason(*below).is_some());
        let wreck = wreck.map(|wreck| (wreck, self.chain.path(wreck)));
        let wrecks = &mut self.wrecks;
        let fill = |dir: &Path| {
            Database::create(dir, segment_bytes).map_err(|fault| fault.into_error(dir))?;
            // The new name hides what a damaged database holds above it: that comes along.
            wreck.map_or(Ok(()), |(wreck, path)| {
                wrecks.copy(wreck, &path, name + 1..limit, dir)
            })
        };
        let created = self.chain.create(name, &self.options.identity, fill);
        created.map_err(|error| self.remember(error))?;
        // Only now: on a full disk the one that was full stays open and can be read.
        self.close_where(|open| Some(open) == before, Database::seal)
            .and_then(|()| self.database(name).map(|_| name))
            .map_err(|fault| self.error(name, fault))
    }

    /// Inserts `blocks` and flushes each database that took some of them.
    fn insert(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        let mut written: Option<Seq> = None;
        for block in blocks {
            let name = self.place(block)?;
            if let Some(before) = written.replace(name).filter(|before| *before != name) {
                self.flush(before)?;
            }
            self.change(name, |database| database.insert(block))?;
        }
        written.map_or(Ok(()), |name| self.flush(name))
    }

    fn flush(&mut self, name: Seq) -> Result<(), StoreError> {
        // One that was closed meanwhile was flushed by that.
        if self.open.iter().any(|database| database.name() == name) {
            let end = self.change(name, Database::flush)?;
            // One that was removed meanwhile is still written to, where nobody will ever find it.
            self.note(name, end)?;
        }
        Ok(())
    }

    /// Runs a write on a database and returns where it ends then. One in which a write fails takes no
    /// more of them until it is opened again.
    fn change(
        &mut self,
        name: Seq,
        write: impl FnOnce(&mut Database) -> Result<(), Fault>,
    ) -> Result<Seq, StoreError> {
        let written = self.database(name).and_then(|database| {
            let written = write(database).inspect_err(|_| database.set_failed());
            written.map(|()| database.end())
        });
        written.map_err(|fault| self.error(name, fault))
    }

    /// Closes the database `name` so that its files can be moved.
    fn release(&mut self, name: Seq) -> Result<(), StoreError> {
        self.close_where(|open| open == name, Database::close)
            .or_else(|fault| match self.error(name, fault) {
                poisoned @ StoreError::Poisoned { .. } => Err(poisoned),
                // What couldn't be saved is about to go.
                _ => Ok(()),
            })
    }

    /// The block of the database `name` that holds `at`, or the first after it.
    fn read_unit(&mut self, name: Seq, at: Seq) -> Result<Option<Block>, ReadError> {
        let limit = self.chain.name_above(name).unwrap_or(Seq::MAX);
        let read = self.database(name);
        match read.and_then(|database| database.read(at, limit)) {
            Ok(read) => return Ok(read),
            Err(Fault::Damaged(reason)) => {
                if self.wrecks.reason(name).is_none() {
                    self.wreck(name, &reason);
                }
            }
            Err(fault) => {
                self.abandon(name);
                return Err(self.error(name, fault).into());
            }
        }
        let path = self.chain.path(name);
        match self.wrecks.read(name, &path, at, limit)? {
            Salvaged::Block(block) => Ok(block),
            Salvaged::Damage { reason, resume } => Err(ReadError::Damaged {
                unit: name,
                path,
                reason,
                resume,
            }),
        }
    }
}

impl Store for SledStore {
    fn units(&self) -> Vec<Seq> {
        self.chain.units().iter().map(|unit| unit.name).collect()
    }

    fn unit_after(&self, unit: Seq) -> Option<Seq> {
        self.chain.name_above(unit)
    }

    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        self.check()?;
        if blocks.is_empty() {
            return Ok(());
        }
        self.chain.make_dir()?;
        self.reserve.hold()?;
        self.insert(blocks)
    }

    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        self.check()?;
        let from = self.chain.at_or_below(at).map_or(0, |unit| unit.name);
        let units = self.chain.units().iter().filter(|unit| unit.name >= from);
        let names: Vec<Seq> = units
            .filter(|unit| unit.end.is_none_or(|end| end > at))
            .map(|unit| unit.name)
            .collect();
        for name in names {
            if let Some(block) = self.read_unit(name, at)? {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.check()?;
        for name in self.open.iter().map(Database::name).collect::<Vec<_>>() {
            self.change(name, Database::sync)?;
        }
        Ok(())
    }

    fn end(&self) -> Seq {
        self.end
    }

    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq> {
        let is_finished = |unit: &&Unit| {
            let end = self.chain.end_of(unit).unwrap_or(self.end);
            finished.covers(&(unit.name..end))
        };
        let mut names: Vec<Seq> = self
            .chain
            .units()
            .iter()
            .filter(is_finished)
            .map(|unit| unit.name)
            .collect();
        if names.len() < self.chain.units().len() {
            names.retain(|name| Some(*name) != self.newest());
        }
        names
    }

    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)> {
        let newest = self.newest();
        let units = self.chain.units().iter().map(|unit| unit.name);
        let names: Vec<Seq> = units
            .filter(|name| *name >= from && Some(*name) != newest)
            .collect();
        // One that can't be opened is left to the read that meets it.
        names.into_iter().find_map(|name| {
            let end = self.database(name).ok()?.end();
            Some((name, name..end))
        })
    }

    fn remove(&mut self, unit: Seq) -> Result<(), StoreError> {
        self.release(unit)?;
        self.chain.remove(unit)?;
        self.wrecks.forget(unit);
        if self.chain.units().is_empty() {
            self.reserve.release();
        }
        self.find_end()
    }

    fn settle(&mut self) -> bool {
        false
    }

    fn set_aside(&mut self, unit: Seq, dest: &Path) -> Result<(), StoreError> {
        self.release(unit)?;
        self.chain.move_out(unit, dest)?;
        self.wrecks.forget(unit);
        self.find_end()
    }

    fn exclude(&mut self, unit: Seq) {
        self.abandon(unit);
        self.chain.exclude(unit);
        self.wrecks.forget(unit);
        if self.find_end().is_err() {
            // The next read or append meets the error.
            self.end = self.newest().unwrap_or(0);
        }
    }

    fn disk_bytes(&self) -> u64 {
        self.chain.disk_bytes() + self.reserve.bytes()
    }

    fn headroom(&self, limit: u64) -> u64 {
        let segment_bytes = self.options.segment_bytes;
        let opening = |unit: &Unit| limits::opening_bytes(unit.size.log_bytes, segment_bytes);
        let promised =
            self.chain.units().iter().map(opening).sum::<u64>() + self.reserve.missing_bytes();
        let free = limit.saturating_sub(self.disk_bytes() + promised);
        limits::headroom(free, segment_bytes, self.options.identity.len())
    }

    fn slack(&self) -> u64 {
        limits::beginning_bytes(self.options.segment_bytes, self.options.identity.len())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let name = self.end;
        self.close_where(|_| true, Database::seal)
            .map_err(|fault| self.error(name, fault))
    }
}
