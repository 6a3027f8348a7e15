//! The durable queue: a store, the checkpoint beside it, the lock on both, and what is done about damage.
//!
//! Only the worker calls this (and `open`, before there is a worker). The order of persistent steps is
//! the crash table of ARCHITECTURE.md.

#[cfg(test)]
mod crash;
mod schema;
mod stores;
#[cfg(test)]
mod tests;

use crate::block::Block;
use crate::config::Settings;
use crate::dir::{
    ChannelId, Checkpoint, CheckpointFile, DeadLetter, DirLock, Directory, Era, Letters, Origin,
    Persist, Quarantine, Quarantined, fs,
};
use crate::error::{OpenError, StoreError};
use crate::event::Event;
use crate::ledger::{Ledger, Outcome};
use crate::seq::Seq;
use crate::state::{Figures, Limits};
use crate::stats::OpenReport;
use crate::store::{ReadError, Store};
use crate::sync;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A drained store that occupies no more than this is kept for the next spill.
const KEPT_BYTES: u64 = 4 << 20;
/// How long a measurement of the file system is believed, while there is more room than this.
const MEASURED_FOR: Duration = Duration::from_millis(50);
const FAR_BYTES: u64 = 256 << 20;
/// The default of `disk_free_min`: the smaller of this and a twentieth of the file system.
const FREE_BYTES: u64 = 1 << 30;

pub(crate) struct Queue {
    directory: Directory,
    lock: Option<DirLock>,
    file: CheckpointFile,
    store: Box<dyn Store>,
    quarantine: Quarantine,
    quarantined_bytes: u64,
    letters: Letters,
    /// Bytes of the directory outside the store and the quarantine that are there for good.
    fixed_bytes: u64,
    disk_bytes_max: Option<u64>,
    disk_free_min: u64,
    /// What the file system leaves to the store, and until when that is believed.
    measured: Cell<Option<(Instant, u64)>>,
    /// What the next checkpoint starts from.
    base: Checkpoint,
    /// One past the highest number that was appended in order.
    stored_end: Seq,
    /// Below it, numbers may be missing since an unclean stop, and nobody has come across them yet.
    unclean_end: Seq,
    /// `Ok` means synced here: what was written and not synced was promised to nobody.
    claims_synced_only: bool,
    /// Damaged units that are still in place, with what is known about them.
    damaged: BTreeMap<Seq, Damage>,
    limits: Limits,
    figures: Figures,
}

#[derive(Clone, Debug)]
struct Damage {
    path: PathBuf,
    reason: String,
    lost: Range<Seq>,
}

/// What opening a directory brings to light.
pub(crate) struct Recovered {
    pub(crate) ledger: Ledger,
    pub(crate) next_seq: Seq,
    pub(crate) disk_room: u64,
    pub(crate) report: OpenReport,
    pub(crate) channel: ChannelId,
    /// What records of earlier times are written in.
    pub(crate) eras: Vec<Era>,
}

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

/// What to do with the newest unit when nothing in it is needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Keep a small one: the next spill needs it.
    KeepSmall,
    /// The channel ends: give everything back.
    Remove,
}

impl Queue {
    /// Locks and opens the directory, finds out where to go on, and begins a new incarnation.
    pub(crate) fn open(settings: &Settings, codec: &str) -> Result<(Self, Recovered), OpenError> {
        stores::check(settings)?;
        let (directory, unknown_files) = Directory::prepare(&settings.disk, &settings.dir)?;
        let lock = DirLock::acquire(&directory)?;
        let wanted = schema::wanted(settings, codec);
        let contents = directory.load(&lock, stores::kind(settings), &wanted)?;
        let store = stores::open(settings, &directory, &contents.identity)?;
        let quarantine = Quarantine::new(&directory);
        let quarantined = quarantine.list()?;
        let quarantined_bytes = quarantine.bytes()?;
        let letters = Letters::open(
            &directory,
            contents.identity.channel,
            stores::letter_limits(settings),
        )?;
        let whole = fs::tree_bytes(directory.disk(), directory.path())?;
        let mut queue = Self {
            fixed_bytes: whole.saturating_sub(
                quarantined_bytes
                    + store.disk_bytes()
                    + contents.checkpoint_file.large_bytes()
                    + letters.bytes(),
            ),
            disk_bytes_max: settings.disk_bytes_max,
            disk_free_min: settings
                .disk_free_min
                .unwrap_or_else(|| free_min(&directory)),
            measured: Cell::new(None),
            base: Checkpoint::default(),
            stored_end: store.end(),
            unclean_end: 0,
            damaged: BTreeMap::new(),
            limits: stores::limits(settings),
            claims_synced_only: settings.is_sync(),
            figures: Figures::default(),
            lock: Some(lock),
            file: contents.checkpoint_file,
            directory,
            store,
            quarantine,
            quarantined_bytes,
            letters,
        };
        let mut was = match contents.checkpoint {
            Some(checkpoint) => checkpoint,
            None => queue.rebuild_checkpoint(contents.identity.channel),
        };
        let least = contents.identity.incarnation_least();
        was.incarnation = was.incarnation.max(least);
        let report = OpenReport {
            created: contents.origin == Origin::Created,
            clean_shutdown: was.clean,
            quarantined,
            unknown_files,
            dead_letters_uncertain: queue.letters.is_position_lost(),
            ..OpenReport::default()
        };
        let today = contents.changes_schema.then_some(wanted.schema);
        let recovered = queue.recover(was, report).and_then(|recovered| {
            queue.enter_schema(settings, contents.identity, today, recovered)
        });
        match recovered {
            Ok(recovered) => Ok((queue, recovered)),
            Err(error) => {
                // The next one to open it shall find it closed.
                let _ = queue.abandon();
                Err(error)
            }
        }
    }

    /// No slot is readable: the newest block says how far things had come when it was sealed.
    fn rebuild_checkpoint(&mut self, channel: [u8; 16]) -> Checkpoint {
        // Nobody knows how many incarnations there were; seconds are more than opens.
        let incarnation = crate::clock::system_ms() / 1000;
        let mut checkpoint = Checkpoint {
            channel,
            incarnation,
            ..Checkpoint::default()
        };
        // Where there is damage, the first look only tells of it.
        let newest = self.look_at_last().or_else(|_| self.look_at_last());
        let newest = newest.ok().flatten();
        if let Some(header) = newest.as_ref().map(Block::header) {
            checkpoint.incarnation = incarnation.max(header.incarnation);
            checkpoint.ledger = Ledger::restore(
                header.cursor,
                crate::seq::SeqSet::default(),
                header.counters,
            );
        }
        checkpoint.ledger = self.file.with_large(&checkpoint.ledger);
        checkpoint
    }

    fn recover(&mut self, was: Checkpoint, mut report: OpenReport) -> Result<Recovered, OpenError> {
        let mut ledger = was.ledger;
        if !was.clean {
            self.settle_letters(&mut ledger)?;
        }
        let named_end = self.stored_end;
        let last = self.look_at_last();
        if let Ok(Some(last)) = &last
            && !ledger.covers(&(last.first()..last.end()))
        {
            self.check_readable(last)?;
        }
        if matches!(last, Ok(None)) {
            // A process died between making a unit and writing to it: the name that it left is a number to go on
            // from, and says nothing about the numbers below, which may never have left memory.
            self.stored_end = 0;
        }
        self.stored_end = self.stored_end.max(was.tail);
        self.figures.synced_end = was.tail;
        // A number that the checkpoint tells of is never given out again.
        let told_end = ledger.end();
        let next_seq = self
            .stored_end
            .max(named_end)
            .max(was.clean_tail)
            .max(told_end);
        if !was.clean || was.clean_tail < next_seq {
            self.unclean_end = next_seq;
        }
        // Those from there on are given out again.
        ledger.limit_memory_end(next_seq);
        self.base = Checkpoint {
            incarnation: was.incarnation + 1,
            clean: false,
            ledger: ledger.clone(),
            ..was
        };
        let first = ledger.next_unfinished(ledger.cursor());
        if !report.clean_shutdown && first < next_seq {
            // What was in front when the process died left a gap here, and the report should not call it pending.
            let read = self.read(first, next_seq);
            if let Err(unsupported @ StoreError::Unsupported { .. }) = read {
                return Err(unsupported.into());
            }
            if let Ok(read) = read {
                for (range, outcome) in read.missing {
                    if ledger.finish(range.clone(), outcome) > 0 && outcome == Outcome::Lost {
                        report.lost.push(range.start..=range.end - 1);
                    }
                }
                report.quarantined.extend(read.quarantined);
            }
        }
        // The incarnation is on the device before anything is admitted under it.
        self.write_what_fits(&ledger)?;
        report.incarnation = self.base.incarnation;
        report.replayed = ledger.pending(next_seq);
        Ok(Recovered {
            disk_room: self.room(),
            ledger,
            next_seq,
            report,
            channel: self.base.channel,
            eras: Vec::new(),
        })
    }

    /// After a crash: what is a dead letter is no item any more, and letters that became items are none.
    fn settle_letters(&mut self, ledger: &mut Ledger) -> Result<(), StoreError> {
        let mut told = Vec::new();
        self.letters.scan(|letter| told.push(letter.seq))?;
        for seq in told {
            ledger.finish(seq..seq + 1, Outcome::DeadLettered);
        }
        let Some(intent) = self.letters.pending_intent().cloned() else {
            return Ok(());
        };
        // The answer is for good.
        self.store.sync()?;
        let was_stored = match self.store.read(intent.first_seq) {
            Ok(Some(block)) => {
                let header = block.header();
                header.has_origins()
                    && header.first == intent.first_seq
                    && header.incarnation == intent.incarnation
            }
            Ok(None) | Err(ReadError::Damaged { .. }) => false,
            Err(ReadError::Store(error)) => return Err(error),
        };
        self.letters.resolve(was_stored)
    }

    /// The block that holds the highest stored number. Damage may be told only once, so it is noted here, too.
    fn look_at_last(&mut self) -> Result<Option<Block>, ReadError> {
        let last = self.stored_end.saturating_sub(1);
        self.store.read(last).inspect_err(|error| {
            if let ReadError::Damaged {
                unit, path, reason, ..
            } = error
            {
                self.damaged.entry(*unit).or_insert(Damage {
                    path: path.clone(),
                    reason: reason.clone(),
                    lost: last..last,
                });
            }
        })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn refill_max(&self) -> usize {
        self.limits.refill_max
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.base.incarnation
    }

    /// How far a block that is sealed now may say that numbers were written: what is missing below is lost.
    pub(crate) fn claimed_end(&self) -> Seq {
        if self.claims_synced_only {
            self.figures.synced_end
        } else {
            self.stored_end
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let disk_bytes = self.bytes_beside() + self.store.disk_bytes();
        Figures {
            disk_bytes,
            quarantined_bytes: self.quarantined_bytes,
            ..self.figures.clone()
        }
    }

    /// Bytes of the directory outside the store.
    fn bytes_beside(&self) -> u64 {
        self.fixed_bytes + self.file.large_bytes() + self.quarantined_bytes + self.letters.bytes()
    }

    /// Bytes of blocks that may be admitted: they find room in however many appends they come.
    pub(crate) fn room(&self) -> u64 {
        let limit = self.store_bytes_max();
        self.store
            .headroom(limit.saturating_sub(self.store.slack()))
    }

    /// What quota and file system leave to the store.
    fn store_bytes_max(&self) -> u64 {
        let by_quota = self
            .disk_bytes_max
            .map_or(u64::MAX, |max| max.saturating_sub(self.bytes_beside()));
        by_quota.min(self.file_system_max())
    }

    /// What the file system leaves to the store, what it holds included. What we write takes from the one and gives to
    /// the other, so this is asked again only after a while, or when it is near.
    fn file_system_max(&self) -> u64 {
        let held = self.store.disk_bytes();
        let now = sync::now();
        let known = self
            .measured
            .get()
            .filter(|(until, most)| now < *until && most.saturating_sub(held) > FAR_BYTES);
        if let Some((_, most)) = known {
            return most;
        }
        let space = self.directory.disk().space(self.directory.path());
        let most = space.map_or(u64::MAX, |space| {
            held.saturating_add(space.free.saturating_sub(self.disk_free_min))
        });
        self.measured.set(Some((now + MEASURED_FOR, most)));
        most
    }

    /// Hands blocks to the operating system, within the limits. They continue the tail, or are older than everything
    /// stored.
    pub(crate) fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        let needed = blocks
            .iter()
            .map(|block| block.as_bytes().len() as u64)
            .sum::<u64>();
        let available = self.store.headroom(self.store_bytes_max());
        if needed > available {
            let path = self.directory.path().to_owned();
            return Err(StoreError::Full {
                path,
                needed,
                available,
            });
        }
        self.append_beyond_limits(blocks)
    }

    /// As [`append`](Self::append), for a halt, which may exceed the quota by what memory held.
    pub(crate) fn append_beyond_limits(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        self.check_lock()?;
        self.store.append(blocks)?;
        for block in blocks {
            self.figures.blocks_written += 1;
            self.figures.bytes_written += block.as_bytes().len() as u64;
            self.figures.plain_bytes_written += block.plain_len() as u64;
        }
        self.stored_end = blocks
            .iter()
            .map(|block| block.end())
            .fold(self.stored_end, Seq::max);
        Ok(())
    }

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
            self.figures.bytes_read += block.as_bytes().len() as u64;
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
    fn check_readable(&self, block: &Block) -> Result<(), StoreError> {
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

    /// Tells the operating system how far things have come.
    pub(crate) fn checkpoint(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        self.write_checkpoint(ledger, Persist::Os)
    }

    /// Puts how far things have come on the device.
    pub(crate) fn checkpoint_durably(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        self.check_lock()?;
        self.write_checkpoint(ledger, Persist::Device)
    }

    fn write_checkpoint(&mut self, ledger: &Ledger, persist: Persist) -> Result<(), StoreError> {
        self.base.ledger = ledger.clone();
        self.file.write(&self.base, persist)
    }

    /// A checkpoint on the device that a full disk doesn't stop: it tells no less than any before. Returns the ledger that
    /// it tells, where that isn't all.
    fn write_what_fits(&mut self, ledger: &Ledger) -> Result<Option<Ledger>, StoreError> {
        self.base.ledger = ledger.clone();
        self.file.write_what_fits(&self.base)
    }

    /// Gives back what holds finished numbers only; sets aside what of it is damaged.
    pub(crate) fn reclaim(
        &mut self,
        ledger: &Ledger,
        newest: Newest,
    ) -> Result<Vec<Quarantined>, StoreError> {
        let kept = self
            .disk_bytes_max
            .map_or(KEPT_BYTES, |max| KEPT_BYTES.min(max / 8));
        // What is damaged isn't kept: the next process would take it for any other finished unit.
        let is_small = self.damaged.is_empty() && self.store.disk_bytes() <= kept;
        let mut units = match newest {
            Newest::KeepSmall if is_small => Vec::new(),
            _ => self.store.reclaimable(ledger),
        };
        if units.is_empty() && !self.file.can_shrink(ledger) {
            return Ok(Vec::new());
        }
        // The pointer is away, on the device, before the data goes. A full disk may leave no room to tell of all that is
        // finished. Then a unit goes only when all of it is told of: what is missing and isn't would count as lost. The
        // others go when consumers have filled the gaps between finished numbers, which needs no space.
        if let Some(on_device) = self.write_what_fits(ledger)? {
            let told = self.store.reclaimable(&on_device);
            units.retain(|unit| told.contains(unit));
        }
        let (damaged, sound): (Vec<Seq>, Vec<Seq>) = units
            .into_iter()
            .partition(|unit| self.damaged.contains_key(unit));
        // Sound ones first: on a full disk the others need the room.
        for unit in sound {
            self.store.remove(unit)?;
        }
        let mut quarantined = Vec::new();
        for unit in damaged {
            if let Some(damage) = self.damaged.get(&unit).cloned() {
                quarantined.push(self.set_aside(unit, damage)?);
                self.damaged.remove(&unit);
            }
        }
        Ok(quarantined)
    }

    /// Moves a damaged unit to the quarantine, or leaves it in place when that is full.
    fn set_aside(&mut self, unit: Seq, damage: Damage) -> Result<Quarantined, StoreError> {
        let bytes = fs::tree_bytes(self.directory.disk(), &damage.path)?;
        let limit = self.disk_bytes_max.map_or(u64::MAX, |max| max / 4);
        if !self.quarantine.fits(bytes, limit)? {
            self.store.exclude(unit);
            return Ok(Quarantined::new(
                &damage.lost,
                bytes,
                damage.reason,
                damage.path,
            ));
        }
        let dest = self.quarantine.admit(unit, &damage.lost, &damage.reason)?;
        self.store.set_aside(unit, &dest)?;
        self.quarantined_bytes = self.quarantine.bytes()?;
        Ok(Quarantined::new(&damage.lost, bytes, damage.reason, dest))
    }

    /// The numbers of the oldest unit that holds only numbers from `from` on.
    pub(crate) fn oldest_unit(&mut self, from: Seq) -> Option<Range<Seq>> {
        self.store.oldest_unit(from).map(|(_, range)| range)
    }

    /// Puts everything on the device, and the cursor with it.
    pub(crate) fn sync(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        self.sync_data()?;
        self.write_checkpoint(ledger, Persist::Device)
    }

    /// Puts everything that was appended on the device.
    pub(crate) fn sync_data(&mut self) -> Result<(), StoreError> {
        self.check_lock()?;
        self.store.sync()?;
        self.figures.syncs += 1;
        self.figures.synced_end = self.stored_end;
        // The data is there, so the next checkpoint may say so.
        self.base.tail = self.stored_end;
        Ok(())
    }

    /// Writes down dead letters, on the device. Only then their items are finished.
    pub(crate) fn append_letters(&mut self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        self.check_lock()?;
        let needed = letters.iter().map(Letters::frame_bytes).sum::<u64>();
        let available = self
            .store_bytes_max()
            .saturating_sub(self.store.disk_bytes());
        if needed > available {
            let path = self.directory.path().to_owned();
            return Err(StoreError::Full {
                path,
                needed,
                available,
            });
        }
        self.letters.append(letters)
    }

    /// The dead letters. What is done with them counts only while the directory is there.
    pub(crate) fn letters(&mut self) -> Result<&mut Letters, StoreError> {
        self.check_lock()?;
        Ok(&mut self.letters)
    }

    /// Ends the incarnation cleanly: everything below `next_seq` is saved or finished.
    pub(crate) fn close(
        &mut self,
        ledger: &Ledger,
        next_seq: Seq,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.check_lock()?;
        let mut quarantined = Vec::new();
        if !self.file.has_room(ledger) {
            // On a full disk the checkpoint needs what finished units take.
            quarantined = self.reclaim(ledger, Newest::KeepSmall)?;
        }
        self.store.sync()?;
        self.figures.syncs += 1;
        self.base.tail = next_seq;
        // What an earlier unclean stop took with it is not lost only because this stop is clean.
        if ledger.cursor() >= self.unclean_end {
            self.base.clean_tail = next_seq;
        }
        self.base.clean = true;
        self.write_checkpoint(ledger, Persist::Device)?;
        quarantined.extend(self.reclaim(ledger, Newest::Remove)?);
        Ok(quarantined)
    }

    /// Nothing may be promised that was written into a directory that isn't there any more.
    fn check_lock(&self) -> Result<(), StoreError> {
        self.lock.as_ref().map_or(Ok(()), DirLock::check)
    }

    /// Lets go of the directory; nothing more is written.
    pub(crate) fn abandon(mut self) -> Result<(), StoreError> {
        let closed = self.store.close();
        if let Some(lock) = self.lock.take() {
            lock.release()?;
        }
        closed
    }
}

fn free_min(directory: &Directory) -> u64 {
    let space = directory.disk().space(directory.path());
    space.map_or(0, |space| FREE_BYTES.min(space.total / 20))
}
