//! Where a restart begins: three slots in one file. A write takes neither the newest one, which the end of the process
//! leaves, nor the last one that was synced, which is all that a power cut may leave: of what was written since, the
//! device has any part.
//!
//! A slot takes so many finished ranges and failures. What has no room there goes to a larger file beside it when it
//! must be on the device; otherwise it is left out. Two rules make any slot that can be read, together with that file,
//! tell all that was ever promised:
//!
//! - a slot leaves out only what the file tells, on the device, or what nobody was promised: it holds all that the last
//!   durable slot held;
//! - the file goes only when a durable slot tells everything without it.

use super::bytes::Unreadable;
use super::checkpoint_format::{
    Details, Found, SLOT_FAILURES, SLOT_LEN, SLOT_MAGIC, SLOT_RANGES, decode, encode_slot,
};
use super::checkpoint_large::{self as large, Large};
use super::{ChannelId, Directory, fs};
use crate::disk::{DiskFile, How};
use crate::error::{OpenError, StoreError};
use crate::ledger::Ledger;
use crate::seq::{Seq, SeqSet};
use std::cmp::Reverse;
use std::io::{self, IoSlice};

const SLOTS: usize = 3;
const FILE_LEN: usize = SLOTS * SLOT_LEN;

/// What is written down about a channel from time to time. It may be behind, never ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) channel: ChannelId,
    pub(crate) incarnation: u64,
    /// Every number below was written to the store in order, or is finished.
    pub(crate) tail: Seq,
    /// The next number at the last clean stop: everything below was saved.
    pub(crate) clean_tail: Seq,
    /// True from a clean stop until the next open.
    pub(crate) clean: bool,
    pub(crate) ledger: Ledger,
}

/// How far a checkpoint must get before `write` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persist {
    /// To the operating system: it survives this process.
    Os,
    /// To the device: it survives a power cut.
    Device,
}

/// How much a slot takes.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    ranges: usize,
    failures: usize,
}

impl Capacity {
    fn takes(&self, details: &Details) -> bool {
        details.ranges.len() <= self.ranges && details.failures.len() <= self.failures
    }
}

/// The open `checkpoint` file, and the one beside it.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    directory: Directory,
    file: Box<dyn DiskFile>,
    large: Large,
    /// The slot of the newest checkpoint.
    newest: usize,
    /// The slot of the newest one that is on the device.
    durable: usize,
    /// The ranges of the durable slot: every later slot tells these, too.
    promised: SeqSet,
    /// Of the newest checkpoint.
    generation: u64,
    capacity: Capacity,
}

/// The newest slot that can be read.
#[derive(Debug, Default)]
struct Newest {
    found: Option<Found>,
    slot: usize,
}

impl Newest {
    fn generation(&self) -> u64 {
        self.found.as_ref().map_or(0, |found| found.generation)
    }
}

impl CheckpointFile {
    /// Writes a new file, which holds `first`, all of it, so that no later write needs space.
    pub(super) fn create(directory: &Directory, first: &Checkpoint) -> Result<Self, OpenError> {
        let (large, beside) = Large::open(directory, Some(first.channel))?;
        let generation = beside.map_or(0, |beside| beside.generation) + 1;
        let mut bytes = encode_slot(first, generation, &Details::all(&first.ledger));
        bytes.resize(FILE_LEN, 0);
        fs::replace(
            directory.disk(),
            &directory.checkpoint(),
            &directory.checkpoint_temporary(),
            &bytes,
        )?;
        let file = Self::open_at(directory, large, Newest::default())?;
        Ok(Self { generation, ..file })
    }

    /// `None` when there is no such file. The checkpoint is `None` when no slot can be read. A large file of another
    /// channel isn't believed.
    pub(super) fn open(
        directory: &Directory,
        channel: Option<ChannelId>,
    ) -> Result<Option<(Self, Option<Checkpoint>)>, OpenError> {
        let Some(bytes) = fs::read(directory.disk(), &directory.checkpoint())? else {
            return Ok(None);
        };
        let newest = newest(directory, &bytes)?;
        let slot = newest.found.clone();
        let channel = channel.or(slot.as_ref().map(|slot| slot.channel));
        let (large, beside) = Large::open(directory, channel)?;
        let mut file = Self::open_at(directory, large, newest)?;
        if let Some(beside) = &beside {
            file.generation = file.generation.max(beside.generation);
        }
        file.complete(bytes.len())?;
        // Nobody knows which slot was synced by an earlier process: now the newest one is.
        file.file
            .sync()
            .map_err(|error| StoreError::io("sync", &directory.checkpoint(), error))?;
        let found = slot.map(|slot| unite(slot, beside));
        Ok(Some((file, found.map(Found::into_checkpoint))))
    }

    fn open_at(directory: &Directory, large: Large, newest: Newest) -> Result<Self, StoreError> {
        let path = directory.checkpoint();
        let file = directory
            .disk()
            .open(&path, How::Write)
            .map_err(|error| StoreError::io("open", &path, error))?;
        Ok(Self {
            directory: directory.clone(),
            file,
            large,
            newest: newest.slot,
            durable: newest.slot,
            generation: newest.generation(),
            promised: newest.found.map(|found| found.above).unwrap_or_default(),
            capacity: Capacity {
                ranges: SLOT_RANGES,
                failures: SLOT_FAILURES,
            },
        })
    }

    /// Gives a file that was cut its length back, as far as there is room: the slots work without.
    fn complete(&mut self, len: usize) -> Result<(), StoreError> {
        if len >= FILE_LEN {
            return Ok(());
        }
        let written = self
            .put(len as u64, &vec![0; FILE_LEN - len])
            .map_err(|error| StoreError::io("write", &self.directory.checkpoint(), error));
        match written {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets a slot take fewer ranges and failures from now on.
    #[cfg(test)]
    pub(crate) fn shrink(&mut self, ranges: usize, failures: usize) {
        self.capacity = Capacity { ranges, failures };
    }

    /// A ledger that was put together without any slot, with what the file beside them tells.
    pub(crate) fn with_large(&self, ledger: &Ledger) -> Ledger {
        self.large.with(ledger, &Details::default())
    }

    /// Bytes of the file beside this one.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.large.len
    }

    /// Whether a checkpoint on the device would give back the file beside this one, with little to tell before that grows
    /// again.
    pub(crate) fn can_shrink(&self, ledger: &Ledger) -> bool {
        self.large.len > 0 && ledger.above().is_empty()
    }

    /// Writes a checkpoint down. On the device it is whole; the operating system gets what has room, and no less than the
    /// device has.
    pub(crate) fn write(
        &mut self,
        checkpoint: &Checkpoint,
        persist: Persist,
    ) -> Result<(), StoreError> {
        let ledger = &checkpoint.ledger;
        if self.fits(ledger) {
            self.write_slot(checkpoint, Details::all(ledger), persist)?;
            if persist == Persist::Device {
                self.large.remove(&self.directory);
            }
            return Ok(());
        }
        let mut details = self.large.beyond(ledger);
        if persist == Persist::Device && !self.capacity.takes(&details) {
            // A crash after this leaves the file as the newest checkpoint, and it is a whole one.
            let generation = self.generation + 1;
            self.large
                .replace(&self.directory, checkpoint, generation)?;
            self.generation = generation;
            details = self.large.beyond(ledger);
        }
        self.cut(&mut details);
        self.write_slot(checkpoint, details, persist)
    }

    /// As [`write`](Self::write) to the device, for what must go on when the disk is full: what has no room is then left
    /// out, but nothing that was promised. Returns the ledger that the device has, where it isn't the whole one.
    pub(crate) fn write_what_fits(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Ledger>, StoreError> {
        match self.write(checkpoint, Persist::Device) {
            Err(error) if error.is_full() && !self.fits(&checkpoint.ledger) => {
                let mut details = self.large.beyond(&checkpoint.ledger);
                self.cut(&mut details);
                let on_device = self.large.with(&checkpoint.ledger, &details);
                self.write_slot(checkpoint, details, Persist::Device)?;
                Ok(Some(on_device))
            }
            outcome => outcome.map(|()| None),
        }
    }

    /// Whether the slots have room for all that isn't told yet.
    pub(crate) fn has_room(&self, ledger: &Ledger) -> bool {
        self.fits(ledger) || self.capacity.takes(&self.large.beyond(ledger))
    }

    fn fits(&self, ledger: &Ledger) -> bool {
        ledger.above().ranges().len() <= self.capacity.ranges
            && ledger.all_failures().len() <= self.capacity.failures
    }

    /// Leaves out what has no room: of the ranges the shortest, and of equal ones the highest. What was promised stays,
    /// and it has room, because it had: each of these ranges has grown into one, perhaps together with others.
    fn cut(&self, details: &mut Details) {
        if details.ranges.len() > self.capacity.ranges {
            let ranges = std::mem::take(&mut details.ranges);
            let (mut kept, mut others): (Vec<_>, Vec<_>) = ranges
                .into_iter()
                .partition(|range| self.promised.touches(range));
            let room = self.capacity.ranges.saturating_sub(kept.len());
            if room < others.len() {
                others.select_nth_unstable_by_key(room, |range| {
                    (Reverse(range.end - range.start), range.start)
                });
                others.truncate(room);
            }
            kept.append(&mut others);
            kept.sort_unstable_by_key(|range| range.start);
            details.ranges = kept;
        }
        details.cut_failures(self.capacity.failures);
    }

    /// Overwrites a slot that no crash needs. One in the middle leaves the others, and so does an error: the next write
    /// then takes the same slot again.
    fn write_slot(
        &mut self,
        checkpoint: &Checkpoint,
        details: Details,
        persist: Persist,
    ) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let slot = self.free_slot();
        let bytes = encode_slot(checkpoint, generation, &details);
        self.put((slot * SLOT_LEN) as u64, &bytes)
            .and_then(|()| match persist {
                Persist::Os => Ok(()),
                Persist::Device => self.file.sync(),
            })
            .map_err(|error| StoreError::io("write", &self.directory.checkpoint(), error))?;
        self.generation = generation;
        self.newest = slot;
        if persist == Persist::Device {
            self.durable = slot;
            self.promised = SeqSet::from_ranges(details.ranges);
        }
        Ok(())
    }

    fn free_slot(&self) -> usize {
        let mut slots = (1..=SLOTS).map(|step| (self.newest + step) % SLOTS);
        // Of three slots, two are taken at most.
        slots
            .find(|slot| *slot != self.newest && *slot != self.durable)
            .unwrap_or_default()
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(&mut [IoSlice::new(bytes)], offset)
    }
}

/// The newest checkpoint, with all that the other one tells. Of the same generation the slot is the younger one: a file
/// has its number to itself unless it was an error to write it.
fn unite(slot: Found, beside: Option<Found>) -> Found {
    match beside {
        Some(beside) if slot.generation < beside.generation => beside.united(&slot),
        Some(beside) => slot.united(&beside),
        None => slot,
    }
}

/// Whether a file of ours is there; looks, and changes nothing.
pub(super) fn is_present(directory: &Directory) -> Result<bool, OpenError> {
    let beside = large::is_present(directory)?;
    let Some(bytes) = fs::read(directory.disk(), &directory.checkpoint())? else {
        return Ok(beside);
    };
    newest(directory, &bytes)?;
    let mut slots = bytes.chunks(SLOT_LEN);
    Ok(beside || slots.any(|slot| slot.starts_with(&SLOT_MAGIC)))
}

fn newest(directory: &Directory, bytes: &[u8]) -> Result<Newest, OpenError> {
    let mut newest = Newest::default();
    for (slot, bytes) in bytes.chunks_exact(SLOT_LEN).take(SLOTS).enumerate() {
        match decode(bytes, SLOT_MAGIC) {
            Ok(found) if found.generation > newest.generation() => {
                newest = Newest {
                    found: Some(found),
                    slot,
                };
            }
            Err(Unreadable::Version(found)) => return Err(directory.wrong_format(Some(found))),
            Ok(_) | Err(Unreadable::Damaged) => {}
        }
    }
    Ok(newest)
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
