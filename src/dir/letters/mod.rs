//! Dead letters: items that were given up, each in exactly one place. Nobody's memory of them counts but these files.
//!
//! ```text
//! <20 digits>.letters   letters in their order, one behind the other; the numbers of the files ascend
//! <20 digits>.damaged   a file that held damage, when all that is intact in it is gone
//! position              where the letters begin that weren't requeued or purged, and what a requeue was about to do
//! *.new                 a file in the making
//! ```
//!
//! An item's number is finished after its letter was appended. After an unclean stop [`Letters::scan`] tells of
//! the letters, whose numbers the checkpoint may not know as finished yet. The other way round, a checkpoint that knows
//! them must be on the device before letters leave (`begin_requeue`, `purge`), or their items would come again.

mod frame;
#[cfg(feature = "test-util")]
pub(crate) mod fuzzing;
#[cfg(feature = "test-util")]
mod fuzzing_disk;
mod position;
mod read;
mod requeue;
mod tail;
mod walk;

pub(crate) use self::position::Intent;
pub use self::read::DeadLetters;
pub(crate) use self::requeue::Piece;

use self::frame::{HEADER_LEN, Header, Home, frame_len};
use self::position::{FILE_LEN, Place, Position, PositionFile};
use self::read::Part;
use self::tail::Tail;
use self::walk::Walk;
use super::bytes::Unreadable;
use super::{ChannelId, Directory, fs};
use crate::disk::{DiskFile, DiskRef, How, Kind, found};
use crate::error::{OpenError, StoreError};
use crate::seq::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An item that was given up, as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The item's sequence number.
    pub seq: u64,
    /// The incarnation of the channel that gave the number out: after a crash a number may be given out again.
    pub incarnation: u64,
    /// The incarnation whose codec wrote `bytes`: a later one than `incarnation` where the item had to be encoded again, an
    /// earlier one where it had been a dead letter before and could not be decoded.
    pub encoded_in: u64,
    /// How many deliveries of it had failed.
    pub attempts: u32,
    /// Why it was given up; the first 4 KiB of it are kept.
    pub reason: String,
    /// The item as the codec wrote it.
    pub bytes: Vec<u8>,
    /// When it was given up, to the millisecond.
    pub at: SystemTime,
}

impl DeadLetter {
    pub(crate) fn id(&self) -> LetterId {
        LetterId {
            incarnation: self.incarnation,
            seq: self.seq,
        }
    }
}

/// Which item of the channel a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LetterId {
    pub(crate) incarnation: u64,
    pub(crate) seq: Seq,
}

/// How much room letters take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetterLimits {
    /// Bytes that their files may occupy together.
    pub(crate) bytes_max: u64,
    /// Bytes after which a file is full: space comes back a file at a time.
    pub(crate) file_bytes: u64,
}

/// What reading all letters found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) letters: u64,
    pub(crate) damaged_bytes: u64,
}

/// The `dead-letters/` directory.
#[derive(Debug)]
pub(crate) struct Letters {
    disk: DiskRef,
    dir: PathBuf,
    channel: ChannelId,
    limits: LetterLimits,
    /// What each file occupies, those included that are still to be removed.
    files: BTreeMap<u64, u64>,
    /// Files in which damage was met, and which are kept when they are done with.
    damaged: BTreeSet<u64>,
    /// What those that are done with occupy.
    kept: BTreeMap<PathBuf, u64>,
    tail: Option<Tail>,
    position: PositionFile,
    is_position_lost: bool,
    /// Letters are appended at or behind this: a write of the position that failed may count after all, and what it
    /// passes over must not be anything new.
    floor: Place,
    /// A requeue that is not finished.
    intent: Option<Intent>,
    /// The newest file is on the device, whatever an earlier process left.
    is_secure: bool,
    /// A sync of that file failed.
    is_in_doubt: bool,
    /// How many letters there are, once somebody asked.
    count: Option<u64>,
}

impl Letters {
    /// Looks at names, sizes and versions; the cost doesn't depend on how many letters there are.
    ///
    /// # Errors
    ///
    /// `OpenError::Format` when a file has a newer version: then nothing was changed. Damage is no error.
    pub(crate) fn open(
        directory: &Directory,
        channel: ChannelId,
        limits: LetterLimits,
    ) -> Result<Self, OpenError> {
        let dir = directory.dead_letters();
        let disk = directory.disk.clone();
        let mut files = BTreeMap::new();
        let mut kept = BTreeMap::new();
        let mut unfinished = Vec::new();
        for entry in fs::entries(disk.as_ref(), &dir)? {
            if entry.kind != Kind::File {
            } else if let Some(number) = super::letters_number(&entry.path) {
                check_version(directory, &entry.path)?;
                files.insert(number, entry.len);
            } else if super::is_damaged_letters(&entry.path) {
                kept.insert(entry.path, entry.len);
            } else if super::is_temporary(&entry.path) {
                unfinished.push(entry.path);
            }
        }
        let path = super::letters_position(&dir);
        let (position, is_position_lost) = PositionFile::open(directory, path, channel)?;
        // They take room until somebody makes them again.
        for path in unfinished {
            let _ = disk.remove_file(&path);
        }
        let Position { place, intent } = position.now().clone();
        let floor = intent.as_ref().map_or(place, |intent| intent.end);
        let mut letters = Self {
            is_secure: files.is_empty(),
            count: files.is_empty().then_some(0),
            disk,
            dir,
            channel,
            limits,
            files,
            damaged: BTreeSet::new(),
            kept,
            tail: None,
            position,
            is_position_lost,
            floor,
            intent,
            is_in_doubt: false,
        };
        letters.reclaim();
        Ok(letters)
    }

    /// True when nobody can read any more which letters were requeued before this process: those in the oldest file
    /// may be there although they were.
    pub(crate) fn is_position_lost(&self) -> bool {
        self.is_position_lost
    }

    /// Appends letters in this order. They are on the device when this returns: there are few, and each stands for an
    /// item that is nowhere else.
    ///
    /// # Errors
    ///
    /// `StoreError::DeadLettersFull` when they would exceed the limit; any other error of the disk. None of them
    /// is there then, unless a crash comes before the next append: what it leaves of them, [`scan`](Self::scan) tells.
    pub(crate) fn append(&mut self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let needed: u64 = letters.iter().map(frame_len).sum();
        // A letter by itself always finds room: it may be larger than the limit, and nothing would make it smaller.
        let is_first = letters.len() == 1 && self.occupied() == 0;
        if !is_first && self.occupied() + needed > self.limits.bytes_max {
            return Err(StoreError::DeadLettersFull {
                path: self.dir.clone(),
                needed,
                limit: self.limits.bytes_max,
            });
        }
        let mut tail = self.writable_tail()?;
        let written = tail.append(self.disk.as_ref(), letters);
        self.files.insert(tail.number, tail.len());
        self.tail = Some(tail);
        if let Err(error) = written {
            self.forget_removed_tail();
            return Err(error);
        }
        self.is_secure = true;
        let more = letters.len() as u64;
        self.count = self.count.map(|count| count + more);
        Ok(())
    }

    /// Bytes that a letter takes.
    pub(crate) fn frame_bytes(letter: &DeadLetter) -> u64 {
        frame_len(letter)
    }

    /// What all files occupy, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let position = if self.position.exists { FILE_LEN } else { 0 };
        self.occupied() + position as u64
    }

    /// How many letters there are. Reads them all the first time.
    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        match self.count {
            Some(count) => Ok(count),
            None => self.scan(|_| {}).map(|scan| scan.letters),
        }
    }

    /// Tells of every intact letter, in order. After an unclean stop this comes before everything else: the
    /// numbers of these letters are finished, whatever the checkpoint knows, and they are on the device when this returns.
    pub(crate) fn scan(&mut self, mut visit: impl FnMut(LetterId)) -> Result<Scan, StoreError> {
        self.secure()?;
        let mut reader = self.iter();
        let mut letters = 0;
        while let Some(letter) = reader.read()? {
            visit(letter.id());
            letters += 1;
        }
        self.count = Some(letters);
        Ok(Scan {
            letters,
            damaged_bytes: reader.damaged_bytes(),
        })
    }

    /// The letters that are there now. What becomes of them meanwhile doesn't disturb it; a file that is gone before it
    /// was begun is passed over.
    pub(crate) fn iter(&self) -> DeadLetters {
        DeadLetters::new(self.disk.clone(), self.parts())
    }

    /// The parts of files that count, oldest first.
    fn parts(&self) -> Vec<Part> {
        let files = self.files.range(self.position.now().place.file..);
        files
            .map(|(number, _)| self.part(*number))
            .filter(|part| part.from < part.to)
            .collect()
    }

    /// What counts in a file.
    fn part(&self, number: u64) -> Part {
        let place = self.position.now().place;
        Part {
            number,
            path: super::letters_file(&self.dir, number),
            home: Home::new(self.channel, number),
            from: if number == place.file {
                place.offset
            } else {
                0
            },
            to: self.end_of(number).unwrap_or_default(),
        }
    }

    /// Where what counts in a file ends.
    fn end_of(&self, number: u64) -> Option<u64> {
        match &self.tail {
            Some(tail) if tail.number == number => Some(tail.position),
            _ => self.files.get(&number).copied(),
        }
    }

    fn occupied(&self) -> u64 {
        self.files.values().chain(self.kept.values()).sum()
    }

    /// The file that the next letters go to, taken out of its place until they are there.
    fn writable_tail(&mut self) -> Result<Tail, StoreError> {
        if let Some(mut tail) = self.tail.take() {
            let repaired = if tail.is_suspect {
                tail.repair(self.disk.as_ref())
            } else {
                Ok(())
            };
            if repaired.is_ok() && self.takes_more(tail.number, tail.position) {
                return Ok(tail);
            }
            // A full file ends where its letters do, and all of it is on the device.
            self.files.insert(tail.number, tail.position);
            if let Err(error) = repaired {
                self.tail = Some(tail);
                return Err(error);
            }
        }
        // All files but the newest are on the device.
        self.secure()?;
        match self.reopen_newest()? {
            Some(tail) => Ok(tail),
            None => self.begin_file(),
        }
    }

    fn takes_more(&self, file: u64, end: u64) -> bool {
        end < self.limits.file_bytes && Place { file, offset: end } >= self.floor
    }

    /// The newest file, if it ends in a letter: the rest of a torn write is one only as long as nothing follows it.
    fn reopen_newest(&mut self) -> Result<Option<Tail>, StoreError> {
        let Some((newest, _)) = self.files.last_key_value() else {
            return Ok(None);
        };
        let part = self.part(*newest);
        if !self.takes_more(part.number, part.to) {
            return Ok(None);
        }
        let Some(mut walk) = self.walk(&part)? else {
            return Ok(None);
        };
        while let Some(header) = walk.seek()? {
            walk.skip(&header);
        }
        let file = self.open_to_write(part.number)?;
        let (true, Some(file)) = (walk.sound_end() == part.to, file) else {
            return Ok(None);
        };
        Ok(Some(Tail::new(
            part.number,
            part.path,
            file,
            part.home,
            part.to,
        )))
    }

    fn begin_file(&mut self) -> Result<Tail, StoreError> {
        let disk = self.disk.as_ref();
        fs::create_dir(disk, &self.dir)?;
        // With the first letters, so that taking them away needs no space.
        if !self.position.exists {
            let position = self.position.now().clone();
            self.position.write(disk, position)?;
        }
        let number = self.next_number();
        let path = super::letters_file(&self.dir, number);
        let file = disk
            .open(&path, How::Create)
            .map_err(|error| StoreError::io("create", &path, error))?;
        self.files.insert(number, 0);
        let home = Home::new(self.channel, number);
        Ok(Tail::new(number, path, file, home, 0))
    }

    /// A number that no file has, and from which on everything counts whatever becomes of the position.
    fn next_number(&self) -> u64 {
        let newest = self.files.last_key_value();
        let floor = self.floor.file + u64::from(self.floor.offset > 0);
        newest.map_or(0, |(number, _)| number + 1).max(floor)
    }

    /// Puts the newest file on the device, as an earlier process left it.
    fn secure(&mut self) -> Result<(), StoreError> {
        if self.is_secure {
            return Ok(());
        }
        let disk = self.disk.clone();
        if let Some(number) = self.files.last_key_value().map(|(number, _)| *number)
            && let Some(mut file) = self.open_to_write(number)?
        {
            let path = super::letters_file(&self.dir, number);
            let failed = |error| StoreError::io("sync", &path, error);
            if self.is_in_doubt {
                let len = file.len().map_err(failed)?;
                tail::replace(disk.as_ref(), &path, file.as_mut(), len)?;
            } else {
                self.is_in_doubt = true;
                file.sync().map_err(failed)?;
            }
            self.is_in_doubt = false;
        }
        fs::create_dir(disk.as_ref(), &self.dir)?;
        fs::sync_dir(disk.as_ref(), &self.dir)?;
        self.is_secure = true;
        Ok(())
    }

    /// `None` when the file is gone.
    fn open_to_write(&self, number: u64) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        let path = super::letters_file(&self.dir, number);
        found(self.disk.open(&path, How::Write))
            .map_err(|error| StoreError::io("open", &path, error))
    }

    fn walk(&self, part: &Part) -> Result<Option<Walk>, StoreError> {
        Walk::open(
            self.disk.as_ref(),
            &part.path,
            part.home,
            part.from,
            part.to,
        )
    }

    /// After somebody has removed the file that is written to, the next letters begin another one.
    fn forget_removed_tail(&mut self) {
        if let Some(tail) = &self.tail
            && matches!(
                self.disk
                    .entry(&super::letters_file(&self.dir, tail.number)),
                Ok(None)
            )
        {
            self.files.remove(&tail.number);
            self.tail = None;
        }
    }
}

/// Whose letters there are in a directory, for want of any other witness: under another id nobody could read them.
pub(super) fn channel(directory: &Directory) -> Result<Option<ChannelId>, StoreError> {
    let path = super::letters_position(&directory.dead_letters());
    position::channel(directory, &path)
}

/// Refuses a file whose first header is intact and of the future: every file has letters of one version.
fn check_version(directory: &Directory, path: &Path) -> Result<(), OpenError> {
    let failed = |error| StoreError::io("read", path, error);
    let mut bytes = [0; HEADER_LEN];
    let mut file = directory.disk().open(path, How::Read).map_err(failed)?;
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    match Header::parse(bytes.get(..read).unwrap_or_default()) {
        Err(Unreadable::Version(found)) => Err(directory.wrong_format(Some(found))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod caller;

#[cfg(test)]
mod crash_tests;

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests;
