//! Our own store: a log in segments.
//!
//! Blocks are appended to files of bounded size, each named by its first number. Nothing in a file is changed
//! once it is written; a file goes when everything in it is finished. There are two chains of them, because
//! a halt and a sync write what only memory had, which is older than what is on disk already.
//!
//! What a crash leaves is in the table of ARCHITECTURE.md, the bytes are in docs/format.md.

#[cfg(test)]
mod crash_tests;
mod device;
pub(crate) mod format;
#[cfg(feature = "test-util")]
pub(crate) mod fuzzing;
mod lane;
mod tail;
#[cfg(test)]
mod tests;
mod walk;

use self::format::{FIXED_LEN, Lane as Kind, Named, parse_name};
use self::lane::{Lane, Segment};
use crate::block::Block;
use crate::dir::fs;
use crate::disk::{DiskRef, How, Kind as EntryKind, Leaving};
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a segment, unless the quota asks for less.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A quota is shared by about as many segments.
const SEGMENTS_PER_QUOTA: u64 = 16;
/// The smallest quota that leaves room for anything beside the directory's own files.
pub(crate) const QUOTA_BYTES_LEAST: u64 = 256 << 10;
/// Bytes that are kept in memory until they are synced: then they are synced before more is written.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// How the log is laid out, and where.
#[derive(Debug)]
pub(crate) struct LogOptions {
    pub(crate) disk: DiskRef,
    /// The store's own directory; made at the first append.
    pub(crate) dir: PathBuf,
    pub(crate) channel: [u8; 16],
    /// Written into every segment, for the day when the channel's own identity file is gone.
    pub(crate) identity: Vec<u8>,
    /// Bytes in a segment before the next one is begun.
    pub(crate) segment_bytes: u64,
    /// Blocks stay in memory until they are on the device, for the case that a sync fails: after that the file may not
    /// have them any more.
    pub(crate) keep_unsynced: bool,
}

/// The bytes of a segment that suit what the builder says.
pub(crate) fn segment_bytes(wanted: Option<u64>, disk_bytes_max: Option<u64>) -> u64 {
    let by_quota = disk_bytes_max.map_or(u64::MAX, |max| (max / SEGMENTS_PER_QUOTA).max(1));
    wanted.unwrap_or(SEGMENT_BYTES).min(by_quota)
}

/// A log in segments.
#[derive(Debug)]
pub(crate) struct LogStore {
    options: Arc<LogOptions>,
    tail: Lane,
    older: Lane,
    /// Segments that were given up, and files that are none of ours: they stay where they are.
    excluded: BTreeMap<(Kind, Seq), Segment>,
    /// Bytes of those that earlier processes gave up.
    kept_bytes: u64,
    /// The directory is there, and its name on the device.
    has_dir: bool,
    leaving: Leaving,
}

impl LogStore {
    /// Opens the log, which takes as long whatever it holds: names, and the end of the newest segment.
    pub(crate) fn open(options: LogOptions) -> Result<Self, StoreError> {
        let options = Arc::new(options);
        let mut lanes = [BTreeMap::new(), BTreeMap::new()];
        let mut kept_bytes = 0;
        for entry in fs::entries(options.disk.as_ref(), &options.dir)? {
            match parse_name(&entry.path) {
                Named::Segment(kind, name) if entry.kind == EntryKind::File => {
                    let [tail, older] = &mut lanes;
                    let lane = if kind == Kind::Tail { tail } else { older };
                    lane.insert(name, Segment::of_len(entry.len));
                }
                // It has no name yet that anything relies on.
                Named::New => options
                    .disk
                    .remove_file(&entry.path)
                    .map_err(|error| StoreError::io("remove", &entry.path, error))?,
                Named::Kept => kept_bytes += entry.len,
                Named::Segment(..) | Named::Unknown => {}
            }
        }
        let [mut tail, mut older] = lanes;
        let mut excluded = BTreeMap::new();
        for (kind, lane) in [(Kind::Tail, &mut tail), (Kind::Older, &mut older)] {
            // The newest segment says how far things went: a file of somebody else's must not.
            while let Some(newest) = lane.last_entry()
                && is_stranger(&options, kind, *newest.key())?
            {
                let (name, segment) = newest.remove_entry();
                excluded.insert((kind, name), segment);
            }
        }
        Ok(Self {
            tail: Lane::open(&options, Kind::Tail, tail)?,
            older: Lane::open(&options, Kind::Older, older)?,
            options,
            excluded,
            kept_bytes,
            has_dir: false,
            leaving: Leaving::default(),
        })
    }

    fn lanes(&self) -> [&Lane; 2] {
        [&self.tail, &self.older]
    }

    fn lane_of(&mut self, unit: Seq) -> &mut Lane {
        // A number is written to one of the two, so no name is in both.
        if self.tail.contains(unit) {
            &mut self.tail
        } else {
            &mut self.older
        }
    }

    fn header_len(&self) -> u64 {
        (FIXED_LEN + self.options.identity.len()) as u64
    }

    /// Moves a segment that was given up out of the way of a new one with its name.
    fn make_way(&mut self, kind: Kind, name: Seq) -> Result<(), StoreError> {
        let Some(segment) = self.excluded.remove(&(kind, name)) else {
            return Ok(());
        };
        let (disk, dir) = (self.options.disk.as_ref(), &self.options.dir);
        let from = dir.join(format::file_name(kind, name));
        let mut number = 0;
        let to = loop {
            let to = dir.join(format::kept_name(kind, name, number));
            if !fs::exists(disk, &to)? {
                break to;
            }
            number += 1;
        };
        disk.rename(&from, &to)
            .map_err(|error| StoreError::io("rename", &from, error))?;
        self.kept_bytes += segment.len;
        Ok(())
    }
}

/// Whether a file that has a segment's name is whole and another one.
fn is_stranger(options: &LogOptions, kind: Kind, name: Seq) -> Result<bool, StoreError> {
    let header = read_header(options, &options.dir.join(format::file_name(kind, name)))?;
    Ok(format::is_stranger(&header, &options.channel, kind, name))
}

/// The first bytes of a segment, up to the end of the identity.
fn read_header(options: &LogOptions, path: &Path) -> Result<Vec<u8>, StoreError> {
    let header = options.disk.open(path, How::Read).and_then(|mut file| {
        let mut bytes = vec![0; FIXED_LEN];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let identity_len = format::identity_len(&bytes).unwrap_or(0);
        bytes.resize(read + identity_len, 0);
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    });
    header.map_err(|error| StoreError::io("read", path, error))
}

impl Store for LogStore {
    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        let Some(first) = blocks.first().map(|block| block.first()) else {
            return Ok(());
        };
        if !self.has_dir {
            fs::create_dir(self.options.disk.as_ref(), &self.options.dir)?;
            self.has_dir = true;
        }
        let kind = if first >= self.tail.end() {
            Kind::Tail
        } else {
            Kind::Older
        };
        for block in blocks {
            self.make_way(kind, block.first())?;
        }
        let lane = match kind {
            Kind::Tail => &mut self.tail,
            Kind::Older => &mut self.older,
        };
        if self.options.keep_unsynced && lane.unsynced_bytes() >= UNSYNCED_BYTES_MAX {
            lane.sync()?;
        }
        lane.append(blocks)
    }

    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        let older = self.older.read(at)?;
        if older.as_ref().is_some_and(|older| older.first() <= at) {
            return Ok(older);
        }
        let tail = self.tail.read(at)?;
        Ok(match (tail, older) {
            (Some(tail), Some(older)) if older.first() < tail.first() => Some(older),
            (tail, older) => tail.or(older),
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        // Older blocks come first out of a channel, and first to safety.
        self.older.sync()?;
        self.tail.sync()
    }

    fn end(&self) -> Seq {
        self.tail.end().max(self.older.end())
    }

    fn units(&self) -> Vec<Seq> {
        let mut units: Vec<Seq> = self.lanes().into_iter().flat_map(Lane::names).collect();
        units.sort_unstable();
        units
    }

    fn unit_after(&self, unit: Seq) -> Option<Seq> {
        let names = self.lanes().map(|lane| lane.name_above(unit));
        names.into_iter().flatten().min()
    }

    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq> {
        let mut names = Vec::new();
        let mut total = 0;
        for lane in self.lanes() {
            for name in lane.names() {
                total += 1;
                if finished.covers(&(name..lane.end_of(name))) {
                    names.push(name);
                }
            }
        }
        if names.len() < total {
            names.retain(|name| Some(*name) != self.tail.newest());
        }
        names.sort_unstable();
        names
    }

    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)> {
        let newest = self.tail.newest();
        let oldest = self.lanes().into_iter().filter_map(|lane| {
            let mut names = lane.names();
            let name = names.find(|name| *name >= from && Some(*name) != newest)?;
            Some((name, name..lane.end_of(name)))
        });
        oldest.min_by_key(|(name, _)| *name)
    }

    fn remove(&mut self, unit: Seq) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.options.disk);
        let lane = self.lane_of(unit);
        lane.release(unit);
        let (path, len) = (lane.path(unit), lane.len_of(unit));
        // A removal that a power cut undoes leaves finished numbers, which are removed again.
        self.leaving
            .remove(disk.as_ref(), &path, len)
            .map_err(|error| StoreError::io("remove", &path, error))?;
        self.lane_of(unit).forget(unit);
        Ok(())
    }

    fn settle(&mut self) -> bool {
        self.leaving.settle()
    }

    fn set_aside(&mut self, unit: Seq, dest: &Path) -> Result<(), StoreError> {
        let options = Arc::clone(&self.options);
        let lane = self.lane_of(unit);
        lane.release(unit);
        let path = lane.path(unit);
        options
            .disk
            .rename(&path, dest)
            .map_err(|error| StoreError::io("rename", &path, error))?;
        lane.forget(unit);
        fs::sync_dir(options.disk.as_ref(), &options.dir)?;
        fs::sync_dir(options.disk.as_ref(), fs::parent(dest))
    }

    fn exclude(&mut self, unit: Seq) {
        let kind = if self.tail.contains(unit) {
            Kind::Tail
        } else {
            Kind::Older
        };
        let lane = self.lane_of(unit);
        lane.release(unit);
        if let Some(segment) = lane.forget(unit) {
            self.excluded.insert((kind, unit), segment);
        }
    }

    fn suspect(&mut self, at: Seq) -> Option<(Seq, PathBuf)> {
        self.tail.suspect(at).or_else(|| self.older.suspect(at))
    }

    fn disk_bytes(&self) -> u64 {
        let lanes = self.lanes().map(Lane::disk_bytes);
        let excluded = self.excluded.values().map(|segment| segment.len);
        lanes.into_iter().sum::<u64>() + excluded.sum::<u64>() + self.kept_bytes
    }

    fn headroom(&self, limit: u64) -> u64 {
        let free = limit
            .saturating_sub(self.disk_bytes())
            .saturating_sub(self.header_len());
        let (segment, header) = (self.options.segment_bytes, self.header_len());
        // A segment that is full is followed by the header of the next.
        let headers = (free / (segment + header)).saturating_mul(header);
        free - headers.min(free)
    }

    fn slack(&self) -> u64 {
        self.header_len()
    }

    fn uses_open_files(&self, blocks: &[Arc<Block>]) -> bool {
        let bytes: usize = blocks.iter().map(|block| block.len()).sum();
        let is_next = |block: &Arc<Block>| block.first() >= self.tail.end();
        blocks.first().is_some_and(is_next) && self.tail.goes_on_for(bytes as u64)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.tail.close();
        self.older.close();
        self.leaving.settle();
        Ok(())
    }
}
