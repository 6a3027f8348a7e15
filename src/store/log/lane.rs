//! A chain of segments in which numbers ascend.

use super::format::{self, Home, Lane as Kind};
use super::tail::Tail;
use super::walk::{Ending, Found, Rest, Walk, find_ending};
use super::{LogOptions, read_header};
use crate::block::Block;
use crate::disk::How;
use crate::error::StoreError;
use crate::seq::Seq;
use crate::store::ReadError;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A segment on disk, open or not.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Bytes of the file.
    pub(super) len: u64,
    /// One past its highest number, once that is known.
    pub(super) end: Option<Seq>,
    /// Where damage was met: it is reported once.
    pub(super) reported: BTreeSet<u64>,
    /// It ends in bytes that are no block.
    pub(super) has_unread_tail: bool,
    /// It has no block: it hides nothing of the one before it.
    pub(super) is_blank: bool,
    /// There is nothing in it: its name may be taken again.
    pub(super) is_empty: bool,
}

impl Segment {
    pub(super) fn of_len(len: u64) -> Self {
        Self {
            len,
            ..Self::default()
        }
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) options: Arc<LogOptions>,
    pub(super) kind: Kind,
    pub(super) segments: BTreeMap<Seq, Segment>,
    /// The newest segment, while it is written to.
    pub(super) tail: Option<Tail>,
    /// Where a process before this one stopped in the newest segment, when it may be gone on with.
    pub(super) resume_at: Option<u64>,
    /// The segment that was read last.
    pub(super) reader: Option<(Seq, Walk)>,
    /// One past the highest number that was ever here.
    pub(super) end: Seq,
    /// What an earlier process left may not be on the device yet.
    pub(super) is_inherited: bool,
    /// Names were given that may not be on the device yet.
    pub(super) has_new_names: bool,
}

impl Lane {
    /// Looks at the end of the newest segment, and at nothing else.
    pub(super) fn open(
        options: &Arc<LogOptions>,
        kind: Kind,
        segments: BTreeMap<Seq, Segment>,
    ) -> Result<Self, StoreError> {
        let mut lane = Self {
            options: Arc::clone(options),
            kind,
            is_inherited: !segments.is_empty(),
            segments,
            tail: None,
            resume_at: None,
            reader: None,
            end: 0,
            has_new_names: false,
        };
        lane.find_end()?;
        Ok(lane)
    }

    fn find_end(&mut self) -> Result<(), StoreError> {
        let Some((&name, segment)) = self.segments.last_key_value() else {
            return Ok(());
        };
        let len = segment.len;
        let Ending {
            position,
            end,
            rest,
        } = self.ending(name)?;
        self.end = match (end, rest) {
            (Some(end), _) => end,
            // Somebody had stored its first number; reading there reports the damage. Were that number given out
            // again, its block would go here.
            (None, Rest::Unreadable) => name.saturating_add(1),
            (None, _) => name,
        };
        if let Some(segment) = self.segments.get_mut(&name) {
            segment.end = end;
            segment.has_unread_tail = rest != Rest::Nothing;
            segment.is_blank = end.is_none();
            segment.is_empty = end.is_none() && rest != Rest::Unreadable;
        }
        // Nothing is written behind bytes that nobody can read: they are kept, and a new segment begins. So it does when
        // the channel's identity has changed: where its own file is damaged, the newest segment's copy is believed.
        let is_whole = rest == Rest::Nothing && position == len;
        let continues = is_whole && self.has_our_identity(name)?;
        self.resume_at = continues.then_some(position);
        Ok(())
    }

    fn has_our_identity(&self, name: Seq) -> Result<bool, StoreError> {
        let header = read_header(&self.options, &self.path(name))?;
        Ok(format::identity_in(&header) == Some(&self.options.identity))
    }

    fn ending(&self, name: Seq) -> Result<Ending, StoreError> {
        let path = self.path(name);
        self.options
            .disk
            .open(&path, How::Read)
            .and_then(|mut file| find_ending(file.as_mut(), self.home(name)))
            .map_err(|error| StoreError::io("read", &path, error))
    }

    pub(super) fn path(&self, name: Seq) -> PathBuf {
        self.options.dir.join(format::file_name(self.kind, name))
    }

    pub(super) fn home(&self, name: Seq) -> Home {
        Home::new(&self.options.channel, self.kind, name)
    }

    pub(super) fn end(&self) -> Seq {
        self.end
    }

    pub(super) fn names(&self) -> impl DoubleEndedIterator<Item = Seq> {
        self.segments.keys().copied()
    }

    pub(super) fn contains(&self, name: Seq) -> bool {
        self.segments.contains_key(&name)
    }

    pub(super) fn newest(&self) -> Option<Seq> {
        self.segments.last_key_value().map(|(name, _)| *name)
    }

    pub(super) fn name_above(&self, name: Seq) -> Option<Seq> {
        let above = name.checked_add(1)?;
        self.segments.range(above..).next().map(|(name, _)| *name)
    }

    pub(super) fn name_at_or_below(&self, seq: Seq) -> Option<Seq> {
        self.segments
            .range(..=seq)
            .next_back()
            .map(|(name, _)| *name)
    }

    /// Where the numbers of a segment end: exactly where that is known, else at the next name.
    pub(super) fn end_of(&self, name: Seq) -> Seq {
        let known = self.segments.get(&name).and_then(|segment| segment.end);
        known
            .or_else(|| self.name_above(name))
            .unwrap_or(self.end)
            .max(name)
    }

    pub(super) fn len_of(&self, name: Seq) -> u64 {
        self.segments.get(&name).map_or(0, |segment| segment.len)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    // ---- reading ----------------------------------------------------------------------------

    /// The first block that holds `at` or a number above it.
    pub(super) fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError> {
        let mut name = self
            .name_at_or_below(at)
            .or_else(|| self.segments.keys().next().copied());
        while let Some(here) = name {
            if let Some(block) = self.find(here, at)? {
                return self.nearer(here, at, block).map(Some);
            }
            name = self.name_above(here);
        }
        match self.before(None, at) {
            Some(before) => self.find(before, at),
            None => Ok(None),
        }
    }

    /// A name ends the segment before it. But one without a block, with a wrong name perhaps, hides nothing.
    fn nearer(&mut self, name: Seq, at: Seq, block: Block) -> Result<Block, ReadError> {
        if block.first() > at
            && let Some(before) = self.before(Some(name), at)
            && let Some(other) = self.find(before, at)?
            && other.first() < block.first()
        {
            return Ok(other);
        }
        Ok(block)
    }

    /// The last segment with blocks, before `name` if there is one, if it may reach beyond `at`.
    fn before(&self, name: Option<Seq>, at: Seq) -> Option<Seq> {
        let below = self.segments.iter().rev();
        let mut below = below.filter(|(other, _)| name.is_none_or(|name| **other < name));
        let (before, segment) = below.find(|(_, segment)| !segment.is_blank)?;
        segment.end.is_none_or(|end| end > at).then_some(*before)
    }

    fn find(&mut self, name: Seq, at: Seq) -> Result<Option<Block>, ReadError> {
        let limit = self.limit(name);
        loop {
            let (found, passed, has_unread_tail) = self
                .walk_to(name, at, limit)
                .map_err(|error| StoreError::io("read", &self.path(name), error))?;
            let is_tail = self.tail.as_ref().is_some_and(|tail| tail.name == name);
            let Some(segment) = self.segments.get_mut(&name) else {
                return Ok(None);
            };
            match found {
                Found::Block(block) => return Ok(Some(block)),
                Found::End => {
                    if !is_tail {
                        segment.end = segment.end.max(Some(passed.max(name)));
                        segment.has_unread_tail |= has_unread_tail;
                        segment.is_blank = passed == 0;
                    }
                    return Ok(None);
                }
                Found::Damage { position, reason } => {
                    if segment.reported.insert(position) {
                        return Err(ReadError::Damaged {
                            unit: name,
                            path: self.path(name),
                            reason: format!("at byte {position}: {reason}"),
                            resume: Some(at),
                        });
                    }
                }
            }
        }
    }

    /// The end of what counts in a segment.
    pub(super) fn limit(&self, name: Seq) -> u64 {
        match &self.tail {
            Some(tail) if tail.name == name => tail.position,
            _ => self.segments.get(&name).map_or(0, |segment| segment.len),
        }
    }

    /// What a segment has for `at`, and what is known of it then.
    fn walk_to(&mut self, name: Seq, at: Seq, limit: u64) -> io::Result<(Found, Seq, bool)> {
        let walk = self.walk(name)?;
        let found = walk.find(at, limit)?;
        Ok((found, walk.passed(), walk.has_unread_tail()))
    }

    fn walk(&mut self, name: Seq) -> io::Result<&mut Walk> {
        let reader = match self.reader.take() {
            Some(reader) if reader.0 == name => reader,
            _ => {
                let file = self.options.disk.open(&self.path(name), How::Read)?;
                (name, Walk::new(file, self.home(name))?)
            }
        };
        Ok(&mut self.reader.insert(reader).1)
    }

    /// The segment where the numbers from `at` on should be, if there is something in it that can't be read.
    pub(super) fn suspect(&mut self, at: Seq) -> Option<(Seq, PathBuf)> {
        let name = self.name_at_or_below(at)?;
        let segment = self.segments.get(&name)?;
        segment.has_unread_tail.then(|| (name, self.path(name)))
    }

    // ---- writing ----------------------------------------------------------------------------

    /// Appends all of `blocks` or, as far as anybody can tell, none.
    pub(super) fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        self.settle_suspect()?;
        let was = self.tail.as_ref().map(|tail| (tail.name, tail.position));
        let (end, newest) = (self.end, self.newest());
        let appended = self.append_pieces(blocks);
        if appended.is_err() {
            self.take_back(was, newest);
            self.end = end;
        }
        appended
    }

    fn append_pieces(&mut self, mut blocks: &[Arc<Block>]) -> Result<(), StoreError> {
        while let Some(first) = blocks.first() {
            let room = self.prepare_tail(first.first())?;
            let mut bytes = 0;
            // The block that fills a segment still goes to it.
            let count = blocks
                .iter()
                .take_while(|block| {
                    let fits = bytes < room;
                    bytes += block.len() as u64;
                    fits
                })
                .count();
            let (piece, rest) = blocks.split_at(count.max(1));
            self.write(piece)?;
            blocks = rest;
        }
        Ok(())
    }

    fn write(&mut self, piece: &[Arc<Block>]) -> Result<(), StoreError> {
        let Some(tail) = self.tail.as_mut() else {
            return Ok(());
        };
        let name = tail.name;
        let written = tail.write(piece);
        let position = tail.position;
        if written.is_ok() && self.options.keep_unsynced {
            tail.unsynced.extend(piece.iter().cloned());
        }
        let end = piece.last().map_or(self.end, |last| last.end());
        if let Some(segment) = self.segments.get_mut(&name) {
            segment.len = position;
            if written.is_ok() {
                segment.end = Some(end);
                segment.is_empty = false;
                segment.is_blank = false;
            }
        }
        written.map_err(|error| StoreError::io("write", &self.path(name), error))?;
        self.end = self.end.max(end);
        Ok(())
    }

    /// Whether so many bytes fit into the segment that is written to.
    pub(super) fn goes_on_for(&self, bytes: u64) -> bool {
        let end = |tail: &Tail| tail.position.saturating_add(bytes);
        self.tail
            .as_ref()
            .is_some_and(|tail| end(tail) <= self.options.segment_bytes)
    }

    /// Sees to it that there is a segment to write to; how many bytes are left in it.
    fn prepare_tail(&mut self, first: Seq) -> Result<u64, StoreError> {
        if let Some(position) = self.resume_at.take()
            && position < self.options.segment_bytes
        {
            self.reopen(position)?;
        }
        let left = |tail: &Tail| self.options.segment_bytes.saturating_sub(tail.position);
        match self.tail.as_ref().map(left) {
            Some(left) if left > 0 => Ok(left),
            _ => {
                self.roll(first)?;
                Ok(self.options.segment_bytes)
            }
        }
    }

    /// Goes on with the newest segment of an earlier process.
    fn reopen(&mut self, position: u64) -> Result<(), StoreError> {
        let Some(name) = self.newest() else {
            return Ok(());
        };
        let path = self.path(name);
        let file = self
            .options
            .disk
            .open(&path, How::Write)
            .map_err(|error| StoreError::io("open", &path, error))?;
        // How much of it that process had synced is not known.
        self.tail = Some(Tail::new(name, file, self.home(name), position, 0));
        Ok(())
    }

    /// Ends the segment that is written to and begins the one named `name`. The old one is on the device before the
    /// new one has a name: only the newest segment ever holds anything that a power cut may take.
    fn roll(&mut self, name: Seq) -> Result<(), StoreError> {
        if self.is_inherited {
            self.sync_inherited()?;
        }
        self.sync_tail()?;
        self.tail = None;
        let path = self.path(name);
        let in_the_way = self
            .segments
            .get(&name)
            .is_some_and(|there| !there.is_empty);
        if in_the_way {
            let reason = format!("it holds something, and number {name} is to be stored anew");
            return Err(StoreError::Damaged { path, reason });
        }
        self.reader = None;
        let made = self.options.disk.open(&path, How::Create).and_then(|file| {
            let mut tail = Tail::new(name, file, self.home(name), 0, 0);
            tail.write_header(&self.header(name))?;
            Ok(tail)
        });
        let tail = match made {
            Ok(tail) => tail,
            Err(error) => {
                let _ = self.options.disk.remove_file(&path);
                return Err(StoreError::io("create", &path, error));
            }
        };
        self.has_new_names = true;
        let segment = Segment {
            len: tail.position,
            end: Some(name),
            is_empty: true,
            ..Segment::default()
        };
        self.segments.insert(name, segment);
        self.tail = Some(tail);
        Ok(())
    }

    pub(super) fn header(&self, name: Seq) -> Vec<u8> {
        format::encode_header(self.kind, name, &self.options.identity)
    }

    /// Undoes a failed append: segments that it began go, and the one before ends where it did.
    fn take_back(&mut self, was: Option<(Seq, u64)>, newest: Option<Seq>) {
        let begun: Vec<Seq> = match newest {
            Some(newest) => self.names().filter(|name| *name > newest).collect(),
            None => self.names().collect(),
        };
        if !begun.is_empty() {
            self.tail = None;
            self.reader = None;
        }
        for name in begun {
            // Where the file stays, the next attempt writes over it.
            let _ = self.options.disk.remove_file(&self.path(name));
            self.segments.remove(&name);
        }
        let Some((name, position)) = was else {
            // What was gone on with is gone on with again.
            self.tail = None;
            let _ = self.find_end();
            return;
        };
        if self.tail.is_none() {
            let file = self.options.disk.open(&self.path(name), How::Write);
            self.tail = file
                .ok()
                .map(|file| Tail::new(name, file, self.home(name), position, position));
        }
        if let Some(tail) = self.tail.as_mut() {
            tail.take_back(position);
            let len = tail.position;
            if let Some(segment) = self.segments.get_mut(&name) {
                segment.len = len;
            }
        }
    }

    // ---- giving space back ------------------------------------------------------------------

    /// Forgets a segment whose file is about to go.
    pub(super) fn release(&mut self, name: Seq) {
        self.tail.take_if(|tail| tail.name == name);
        self.reader.take_if(|(open, _)| *open == name);
        if self.newest() == Some(name) {
            self.resume_at = None;
        }
    }

    pub(super) fn forget(&mut self, name: Seq) -> Option<Segment> {
        self.segments.remove(&name)
    }

    pub(super) fn close(&mut self) {
        self.tail = None;
        self.reader = None;
    }
}
