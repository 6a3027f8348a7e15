//! Where a restart begins: three slots in one file. A write takes neither the newest one, which the end of the process
//! leaves, nor the last one that was synced, which is all that a power cut may leave: of what was written since, the
//! device has any part.
//!
//! All integers are little-endian. A slot is 16 KiB; the next one starts right behind it.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPCKPT"
//!      8    2  format version (1)
//!     10    1  1 after a clean stop, otherwise 0
//!     11    1  reserved (0)
//!     12    4  number of finished ranges below
//!     16    8  generation: the slot with the higher one counts
//!     24   16  channel id
//!     40    8  incarnation
//!     48    8  tail
//!     56    8  tail at the last clean stop
//!     64    8  cursor
//!     72   64  the eight counters of the conservation law
//!    136    …  finished ranges above the cursor, ascending: first number and end (one past the last), 8 bytes each
//!      …    …  zeros
//!  16380    4  CRC-32C of the 16380 bytes before
//! ```

use super::bytes::{Fields, Unreadable, seal, unseal};
use super::{ChannelId, Directory, FORMAT_VERSION, fs};
use crate::disk::{DiskFile, How};
use crate::error::{OpenError, StoreError};
use crate::ledger::{Counters, Ledger};
use crate::seq::{Seq, SeqSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;

pub(super) const MAGIC: [u8; 8] = *b"OVSPCKPT";
pub(super) const SLOT_LEN: usize = 16 << 10;
/// Magic and version in front, checksum behind.
#[cfg(feature = "test-util")]
pub(super) const FRAME_LEN: usize = 14;
const SLOTS: usize = 3;
const FILE_LEN: usize = SLOTS * SLOT_LEN;
const CRC_AT: usize = SLOT_LEN - 4;
const RANGES_AT: usize = 136;
const RANGE_LEN: usize = 16;
/// Ranges beyond these are left out: their items may come again, they never vanish.
const RANGES_MAX: usize = (CRC_AT - RANGES_AT) / RANGE_LEN;

/// More than anybody has ever counted to: what is higher would overflow soon, and makes no sense.
const NUMBER_MAX: u64 = u64::MAX / 4;

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

/// The open `checkpoint` file.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// The slot of the newest checkpoint.
    newest: usize,
    /// The slot of the newest one that is on the device.
    durable: usize,
    /// Of the newest checkpoint.
    generation: u64,
}

/// The newest checkpoint that can be read, its generation and its slot.
#[derive(Debug, Default)]
struct Newest {
    checkpoint: Option<Checkpoint>,
    generation: u64,
    slot: usize,
}

impl CheckpointFile {
    /// Writes a new file, which holds `first`, all of it, so that no later write needs space.
    pub(super) fn create(directory: &Directory, first: &Checkpoint) -> Result<Self, StoreError> {
        let mut bytes = encode(first, 1);
        bytes.resize(FILE_LEN, 0);
        fs::replace(
            directory.disk(),
            &directory.checkpoint(),
            &directory.checkpoint_temporary(),
            &bytes,
        )?;
        Self::open_at(directory, 0, 1)
    }

    /// `None` when there is no such file. The checkpoint is `None` when no slot can be read.
    pub(super) fn open(
        directory: &Directory,
    ) -> Result<Option<(Self, Option<Checkpoint>)>, OpenError> {
        let Some(bytes) = fs::read(directory.disk(), &directory.checkpoint())? else {
            return Ok(None);
        };
        let newest = newest(directory, &bytes)?;
        let mut file = Self::open_at(directory, newest.slot, newest.generation)?;
        file.complete(bytes.len())?;
        // Nobody knows which slot was synced by an earlier process: now the newest one is.
        file.file
            .sync()
            .map_err(|error| StoreError::io("sync", &file.path, error))?;
        Ok(Some((file, newest.checkpoint)))
    }

    fn open_at(directory: &Directory, slot: usize, generation: u64) -> Result<Self, StoreError> {
        let path = directory.checkpoint();
        let file = directory
            .disk()
            .open(&path, How::Write)
            .map_err(|error| StoreError::io("open", &path, error))?;
        Ok(Self {
            file,
            path,
            newest: slot,
            durable: slot,
            generation,
        })
    }

    /// Gives a file that was cut its length back, as far as there is room: the slots work without.
    fn complete(&mut self, len: usize) -> Result<(), StoreError> {
        if len >= FILE_LEN {
            return Ok(());
        }
        let written = self
            .put(len as u64, &vec![0; FILE_LEN - len])
            .map_err(|error| StoreError::io("write", &self.path, error));
        match written {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// Overwrites a slot that no crash needs. One in the middle leaves the others, and so does an error: the next write
    /// then takes the same slot again.
    pub(crate) fn write(
        &mut self,
        checkpoint: &Checkpoint,
        persist: Persist,
    ) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let slot = self.free_slot();
        self.put((slot * SLOT_LEN) as u64, &encode(checkpoint, generation))
            .and_then(|()| match persist {
                Persist::Os => Ok(()),
                Persist::Device => self.file.sync(),
            })
            .map_err(|error| StoreError::io("write", &self.path, error))?;
        self.generation = generation;
        self.newest = slot;
        if persist == Persist::Device {
            self.durable = slot;
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

/// Whether a file of ours is there; looks, and changes nothing.
pub(super) fn is_present(directory: &Directory) -> Result<bool, OpenError> {
    let Some(bytes) = fs::read(directory.disk(), &directory.checkpoint())? else {
        return Ok(false);
    };
    newest(directory, &bytes)?;
    Ok(bytes.chunks(SLOT_LEN).any(|slot| slot.starts_with(&MAGIC)))
}

fn newest(directory: &Directory, bytes: &[u8]) -> Result<Newest, OpenError> {
    let mut newest = Newest::default();
    for (slot, bytes) in bytes.chunks_exact(SLOT_LEN).take(SLOTS).enumerate() {
        match decode(bytes) {
            Ok((generation, checkpoint)) if generation > newest.generation => {
                newest = Newest {
                    checkpoint: Some(checkpoint),
                    generation,
                    slot,
                };
            }
            Err(Unreadable::Version(found)) => return Err(directory.wrong_format(Some(found))),
            Ok(_) | Err(Unreadable::Damaged) => {}
        }
    }
    Ok(newest)
}

fn encode(checkpoint: &Checkpoint, generation: u64) -> Vec<u8> {
    let ledger = &checkpoint.ledger;
    let ranges = ledger.above().ranges().take(RANGES_MAX);
    let mut out = Vec::with_capacity(SLOT_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&[checkpoint.clean.into(), 0]);
    // `RANGES_MAX` is far below 2³².
    out.extend_from_slice(
        &u32::try_from(ranges.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&checkpoint.channel);
    let counters = ledger.counters();
    for field in [
        checkpoint.incarnation,
        checkpoint.tail,
        checkpoint.clean_tail,
        ledger.cursor(),
        counters.accepted_unnumbered,
        counters.acknowledged,
        counters.dropped_full,
        counters.dropped_expired,
        counters.dropped_unencodable,
        counters.dead_lettered,
        counters.lost,
        counters.unaccounted,
    ]
    .into_iter()
    .chain(ranges.flat_map(|range| [range.start, range.end]))
    {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(CRC_AT, 0);
    seal(&mut out);
    out
}

pub(super) fn decode(slot: &[u8]) -> Result<(u64, Checkpoint), Unreadable> {
    let mut fields = unseal(slot, MAGIC, FORMAT_VERSION)?;
    decode_fields(&mut fields).ok_or(Unreadable::Damaged)
}

fn decode_fields(fields: &mut Fields<'_>) -> Option<(u64, Checkpoint)> {
    let [clean, _reserved] = fields.take()?;
    let count = fields.u32()?;
    let generation = fields.u64()?;
    let channel = fields.take()?;
    let (incarnation, tail, clean_tail) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let cursor = fields.u64()?;
    let counters = Counters {
        accepted_unnumbered: fields.u64()?,
        acknowledged: fields.u64()?,
        dropped_full: fields.u64()?,
        dropped_expired: fields.u64()?,
        dropped_unencodable: fields.u64()?,
        dead_lettered: fields.u64()?,
        lost: fields.u64()?,
        unaccounted: fields.u64()?,
    };
    let above = decode_ranges(fields, count, cursor)?;
    let end = above.end().max(cursor);
    if [generation, incarnation, tail, clean_tail, end]
        .into_iter()
        .any(|number| number > NUMBER_MAX)
    {
        return None;
    }
    let ledger = Ledger::restore(cursor, above, sane(counters)?);
    let clean = clean == 1;
    Some((
        generation,
        Checkpoint {
            channel,
            incarnation,
            tail,
            clean_tail,
            clean,
            ledger,
        },
    ))
}

fn decode_ranges(fields: &mut Fields<'_>, count: u32, cursor: Seq) -> Option<SeqSet> {
    let mut ranges: Vec<Range<Seq>> = Vec::new();
    let mut least = cursor;
    for _ in 0..count {
        let range = fields.u64()?..fields.u64()?;
        if range.start <= least || range.is_empty() {
            return None;
        }
        least = range.end;
        ranges.push(range);
    }
    Some(SeqSet::from_ranges(ranges))
}

/// Counters whose sums can't overflow and which add up to no negative number.
fn sane(counters: Counters) -> Option<Counters> {
    [
        counters.acknowledged,
        counters
            .dropped_full
            .checked_sub(counters.accepted_unnumbered)?,
        counters.accepted_unnumbered,
        counters.dropped_expired,
        counters.dropped_unencodable,
        counters.dead_lettered,
        counters.lost,
        counters.unaccounted,
    ]
    .into_iter()
    .try_fold(0_u64, u64::checked_add)
    .filter(|sum| *sum <= NUMBER_MAX)
    .map(|_| counters)
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
