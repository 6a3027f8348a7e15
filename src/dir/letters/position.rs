//! How far letters have been requeued, in two slots of one file. Every write goes to the slot that doesn't count and is
//! on the device when it returns, so a crash leaves the state before it or the one after. Nothing in it needs space,
//! so that letters can leave a full disk.
//!
//! All integers are little-endian. A slot is 4 KiB, which a device never writes along with the other one.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPLPOS"
//!      8    2  format version (1)
//!     10    1  1 when there is an intent, otherwise 0
//!     11    1  reserved (0)
//!     12    4  intent: how many letters
//!     16    8  generation: the slot with the higher one counts
//!     24   16  channel id
//!     40    8  number of the first file that counts
//!     48    8  offset in that file: what is before is gone
//!     56    8  intent: first sequence number that they get
//!     64    8  intent: incarnation that gives the numbers out
//!     72    8  intent: number of the file in which they end
//!     80    8  intent: offset in that file
//!      …    …  zeros
//!   4092    4  CRC-32C of the 4092 bytes before
//! ```

use crate::dir::bytes::{Fields, Unreadable, seal, unseal};
use crate::dir::{ChannelId, Directory, FORMAT_VERSION, fs, temporary};
use crate::disk::{Disk, DiskFile, How, found};
use crate::error::{OpenError, StoreError};
use crate::seq::Seq;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

pub(super) const MAGIC: [u8; 8] = *b"OVSPLPOS";
pub(super) const SLOT_LEN: usize = 4 << 10;
const SLOTS: usize = 2;
pub(super) const FILE_LEN: usize = SLOTS * SLOT_LEN;
const CRC_AT: usize = SLOT_LEN - 4;
/// More than anybody has ever counted to: what is higher would overflow soon, and makes no sense.
pub(super) const NUMBER_MAX: u64 = u64::MAX / 4;

/// A place in the files of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) offset: u64,
}

/// Letters that were about to become new items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// The first of the numbers that they get, one after the other.
    pub(crate) first_seq: Seq,
    /// The incarnation that gives the numbers out.
    pub(crate) incarnation: u64,
    pub(crate) count: u32,
    /// Where the letters end.
    pub(super) end: Place,
}

/// What counts of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Every letter before is gone.
    pub(super) place: Place,
    pub(super) intent: Option<Intent>,
}

/// The `position` file.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
    channel: ChannelId,
    /// The one in the slot that counts, as far as anybody knows.
    now: Position,
    slot: usize,
    generation: u64,
    /// The slot is on the device: an earlier process may have died before it was.
    is_durable: bool,
    pub(super) exists: bool,
}

impl PositionFile {
    /// Reads it. With it comes whether there is a file of which nothing can be read.
    pub(super) fn open(
        directory: &Directory,
        path: PathBuf,
        channel: ChannelId,
    ) -> Result<(Self, bool), OpenError> {
        let bytes = fs::read(directory.disk(), &path)?;
        let mut file = Self {
            path,
            channel,
            now: Position::default(),
            slot: SLOTS - 1,
            generation: 0,
            is_durable: true,
            exists: bytes.is_some(),
        };
        let slots = bytes.as_deref().unwrap_or_default().chunks_exact(SLOT_LEN);
        for (slot, bytes) in slots.take(SLOTS).enumerate() {
            match decode(bytes, channel) {
                Ok((generation, now)) if generation > file.generation => {
                    (file.now, file.slot, file.generation) = (now, slot, generation);
                    file.is_durable = false;
                }
                Err(Unreadable::Version(found)) => return Err(directory.wrong_format(Some(found))),
                Ok(_) | Err(Unreadable::Damaged) => {}
            }
        }
        let is_lost = file.exists && file.generation == 0;
        Ok((file, is_lost))
    }

    pub(super) fn now(&self) -> &Position {
        &self.now
    }

    /// Puts `position` on the device. After an error it may be there or not, and nothing else counts on it: it stands
    /// in the slot that the next write takes.
    pub(super) fn write(&mut self, disk: &dyn Disk, position: Position) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let Some(mut file) = self.open_slots(disk)? else {
            let mut bytes = encode(&position, generation, self.channel);
            bytes.resize(FILE_LEN, 0);
            fs::replace(disk, &self.path, &temporary(&self.path), &bytes)?;
            (self.now, self.slot, self.generation) = (position, 0, generation);
            (self.exists, self.is_durable) = (true, true);
            return Ok(());
        };
        self.settle_in(file.as_mut())?;
        let slot = (self.slot + 1) % SLOTS;
        let bytes = encode(&position, generation, self.channel);
        self.put(file.as_mut(), slot, &bytes)?;
        (self.now, self.slot, self.generation) = (position, slot, generation);
        Ok(())
    }

    /// Makes sure that a power cut leaves what was found here.
    pub(super) fn settle(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.is_durable {
            return Ok(());
        }
        match self.open_slots(disk)? {
            Some(mut file) => self.settle_in(file.as_mut()),
            None => self.write(disk, self.now.clone()),
        }
    }

    /// Writes the slot again rather than syncing it as it was found: a second sync after one that failed proves nothing.
    /// Torn, it leaves the other slot, which was durable before anybody wrote to this one.
    fn settle_in(&mut self, file: &mut dyn DiskFile) -> Result<(), StoreError> {
        if !self.is_durable {
            let bytes = encode(&self.now, self.generation, self.channel);
            self.put(file, self.slot, &bytes)?;
            self.is_durable = true;
        }
        Ok(())
    }

    fn open_slots(&self, disk: &dyn Disk) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        found(disk.open(&self.path, How::Write))
            .map_err(|error| StoreError::io("open", &self.path, error))
    }

    fn put(&self, file: &mut dyn DiskFile, slot: usize, bytes: &[u8]) -> Result<(), StoreError> {
        file.write_at(&mut [IoSlice::new(bytes)], (slot * SLOT_LEN) as u64)
            .and_then(|()| file.sync())
            .map_err(|error| StoreError::io("write", &self.path, error))
    }
}

/// Whose letters they are, as far as a slot tells.
pub(super) fn channel(directory: &Directory, path: &Path) -> Result<Option<ChannelId>, StoreError> {
    let bytes = fs::read(directory.disk(), path)?.unwrap_or_default();
    let ids = bytes.chunks_exact(SLOT_LEN).map(|slot| {
        let mut fields = unseal(slot, MAGIC, FORMAT_VERSION).ok()?;
        let _before = fields.take::<14>()?;
        fields.take()
    });
    Ok(ids.flatten().next())
}

fn encode(position: &Position, generation: u64, channel: ChannelId) -> Vec<u8> {
    let intent = position.intent.as_ref();
    let mut out = Vec::with_capacity(SLOT_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&[intent.is_some().into(), 0]);
    let count = intent.map_or(0, |intent| intent.count);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&channel);
    let end = intent.map_or(Place::default(), |intent| intent.end);
    for field in [
        position.place.file,
        position.place.offset,
        intent.map_or(0, |intent| intent.first_seq),
        intent.map_or(0, |intent| intent.incarnation),
        end.file,
        end.offset,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(CRC_AT, 0);
    seal(&mut out);
    out
}

fn decode(slot: &[u8], channel: ChannelId) -> Result<(u64, Position), Unreadable> {
    let mut fields = unseal(slot, MAGIC, FORMAT_VERSION)?;
    decode_fields(&mut fields, channel).ok_or(Unreadable::Damaged)
}

fn decode_fields(fields: &mut Fields<'_>, channel: ChannelId) -> Option<(u64, Position)> {
    let [has_intent, _reserved] = fields.take()?;
    let count = fields.u32()?;
    let generation = fields.u64()?;
    let is_ours = fields.take() == Some(channel);
    let place = decode_place(fields)?;
    let intent = Intent {
        first_seq: fields.u64()?,
        incarnation: fields.u64()?,
        count,
        end: decode_place(fields)?,
    };
    let numbers = [generation, intent.first_seq, intent.incarnation];
    let makes_sense = numbers.into_iter().all(|number| number <= NUMBER_MAX)
        && (has_intent == 0 || intent.end >= place);
    (is_ours && makes_sense).then(|| {
        let intent = (has_intent == 1).then_some(intent);
        (generation, Position { place, intent })
    })
}

fn decode_place(fields: &mut Fields<'_>) -> Option<Place> {
    let (file, offset) = (fields.u64()?, fields.u64()?);
    (file.max(offset) <= NUMBER_MAX).then_some(Place { file, offset })
}
