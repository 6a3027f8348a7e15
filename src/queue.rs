//! The durable queue: a store, the checkpoint beside it, the lock on both, and what is done about damage.
//!
//! Only the worker calls this (and `open`, before there is a worker). The order of persistent steps is
//! the crash table of ARCHITECTURE.md.

#[cfg(test)]
mod crash;
mod opening;
mod reading;
mod schema;
mod stores;
#[cfg(test)]
mod tests;

pub(crate) use opening::Recovered;
pub(crate) use reading::Read;

use crate::block::Block;
use crate::dir::{
    Checkpoint, CheckpointFile, DeadLetter, DirLock, Directory, Letters, Persist, Quarantine,
    Quarantined, fs,
};
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::state::{Figures, Limits};
use crate::store::Store;
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

/// What to do with the newest unit when nothing in it is needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Keep a small one: the next spill needs it.
    KeepSmall,
    /// The channel ends: give everything back.
    Remove,
}

impl Queue {
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

    /// Bytes of blocks that may be appended now. Where these are few, what was removed has come back.
    fn available(&mut self) -> u64 {
        let available = self.store.headroom(self.store_bytes_max());
        if available >= FAR_BYTES || !self.store.settle() {
            return available;
        }
        self.measured.set(None);
        self.store.headroom(self.store_bytes_max())
    }

    /// Hands blocks to the operating system, within the limits. They continue the tail, or are older than everything
    /// stored.
    pub(crate) fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        let needed = blocks.iter().map(|block| block.len() as u64).sum::<u64>();
        let available = self.available();
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
        if self.store.uses_open_files(blocks) {
            self.lock.as_ref().map_or(Ok(()), DirLock::check_name)?;
        } else {
            // By the names of this directory another one's files would be overwritten.
            self.check_lock()?;
        }
        self.store.append(blocks)?;
        for block in blocks {
            self.figures.blocks_written += 1;
            self.figures.bytes_written += block.len() as u64;
            self.figures.plain_bytes_written += block.plain_len() as u64;
        }
        self.stored_end = blocks
            .iter()
            .map(|block| block.end())
            .fold(self.stored_end, Seq::max);
        Ok(())
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
        // Somebody may wait for it.
        self.available();
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
