//! Our own reader of a damaged database: every intact block in the raw bytes of sled's log.
//!
//! sled keeps a value as it is and in one piece. So a block, or a part of one, can be found by its magic and
//! believed by its checksums, wherever it stands and whatever became of sled's own structures around it. sled
//! is never asked: it overwrites what it takes for torn.

use super::database::{self, LOG_FILE};
use super::frame::{self, Part};
use super::limits;
use crate::block::{self, Block, Header};
use crate::seq::Seq;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What is read at once, and kept in memory, of a log of any size.
const WINDOW_BYTES: usize = 256 << 10;
const MAGIC_LEN: usize = block::MAGIC.len();

/// The intact blocks of one database.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    log: Option<File>,
    blocks: BTreeMap<Seq, Found>,
    end: Seq,
}

/// An intact block, and where it stands.
#[derive(Clone, Debug)]
struct Found {
    first: Seq,
    end: Seq,
    incarnation: u64,
    prev_end: Seq,
    pieces: Vec<Piece>,
}

/// Some bytes of a block.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u64,
    len: usize,
}

impl Salvage {
    /// Searches the database in `dir` for blocks. Without a log there are none.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let log = match File::open(dir.join(LOG_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        // The settings may be what is damaged; then the largest segments that there are will do.
        let most = limits::segment_bytes(None);
        let segment_bytes = database::segment_bytes(dir).unwrap_or(most).min(most);
        let mut finds = Finds {
            value_bytes_max: limits::value_bytes_max(segment_bytes),
            ..Finds::default()
        };
        let mut raw = Raw::new(&log);
        let mut at = 0;
        while let Some(magic) = raw.find_magic(at)? {
            let bytes = raw.from(magic, finds.value_bytes_max)?;
            at = magic + finds.take(magic, bytes) as u64;
        }
        finds.join_parts(&log)?;
        Ok(Self {
            log: Some(log),
            blocks: settle(finds.whole),
            end: finds.end,
        })
    }

    /// One past the highest number that a trace was found of, be it of a block that isn't intact; 0 when none was.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// The first number of each intact block.
    pub(super) fn firsts(&self) -> impl Iterator<Item = Seq> {
        self.blocks.keys().copied()
    }

    /// The intact block that holds `at`, or the first after it, if it begins below `limit`.
    pub(super) fn read(&mut self, at: Seq, limit: Seq) -> io::Result<Option<Block>> {
        while let Some(found) = self.find(at).filter(|found| found.first < limit) {
            let (first, pieces) = (found.first, found.pieces.clone());
            let bytes = self
                .log
                .as_ref()
                .map_or(Ok(Vec::new()), |log| load(log, &pieces))?;
            if let Ok(block) = Block::parse(bytes) {
                return Ok(Some(block));
            }
            // A medium that goes on decaying: one block less.
            self.blocks.remove(&first);
        }
        Ok(None)
    }

    fn find(&self, at: Seq) -> Option<&Found> {
        let before = self.blocks.range(..=at).next_back();
        let holds = before.filter(|(_, found)| found.end > at);
        let found = holds.or_else(|| self.blocks.range(at..).next());
        found.map(|(_, found)| found)
    }
}

/// What a search has come across.
#[derive(Debug, Default)]
struct Finds {
    value_bytes_max: usize,
    whole: Vec<Found>,
    parts: BTreeMap<Cut, BTreeMap<u32, Piece>>,
    end: Seq,
}

/// What the parts of one block have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    first: Seq,
    block_crc: u32,
    parts: u32,
}

impl Finds {
    /// Looks at `bytes`, which begin with a magic at `at` in the log; returns how many of them are dealt with.
    fn take(&mut self, at: u64, bytes: &[u8]) -> usize {
        let value_len = if bytes.starts_with(&frame::MAGIC) {
            self.take_part(at, bytes)
        } else {
            self.take_block(at, bytes)
        };
        value_len.unwrap_or(MAGIC_LEN)
    }

    /// The length of the value, if that can be believed. Nothing inside it is looked at, even if its records are
    /// damaged: a user's item may have the bytes of a block in it.
    fn take_block(&mut self, at: u64, bytes: &[u8]) -> Option<usize> {
        let header = Header::parse(bytes).ok()?;
        let len = block::HEADER_LEN + header.payload_len as usize;
        if len > self.value_bytes_max {
            return None;
        }
        let end = header.first + u64::from(header.count);
        self.end = self.end.max(end);
        let value = bytes.get(..len).unwrap_or_default();
        if Block::parse(value.to_vec()).is_ok() {
            self.whole
                .push(Found::new(&header, vec![Piece { at, len }]));
        }
        Some(len)
    }

    fn take_part(&mut self, at: u64, bytes: &[u8]) -> Option<usize> {
        let len = frame::part_len(bytes).ok()?;
        if len > self.value_bytes_max {
            return None;
        }
        if let Ok(part) = Part::parse(bytes.get(..len).unwrap_or_default()) {
            let cut = Cut {
                first: part.first,
                block_crc: part.block_crc,
                parts: part.parts,
            };
            let piece = Piece {
                at: at + frame::HEADER_LEN as u64,
                len: part.bytes.len(),
            };
            self.parts
                .entry(cut)
                .or_default()
                .insert(part.number, piece);
        }
        Some(len)
    }

    /// Puts those in parts together, if none of these is missing.
    fn join_parts(&mut self, log: &File) -> io::Result<()> {
        for (cut, pieces) in std::mem::take(&mut self.parts) {
            let Some(last) = cut.parts.checked_sub(1) else {
                continue;
            };
            // One whose last part is missing was never confirmed to anybody.
            if pieces.contains_key(&last) {
                self.end = self.end.max(cut.first.saturating_add(1));
            }
            if pieces.len() != cut.parts as usize {
                continue;
            }
            let pieces: Vec<Piece> = pieces.into_values().collect();
            let bytes = load(log, &pieces)?;
            let is_whole = crc32c::crc32c(&bytes) == cut.block_crc;
            if let Some(block) = Block::parse(bytes).ok().filter(|_| is_whole) {
                self.end = self.end.max(block.end());
                self.whole.push(Found::new(block.header(), pieces));
            }
        }
        Ok(())
    }
}

impl Found {
    fn new(header: &Header, pieces: Vec<Piece>) -> Self {
        Self {
            first: header.first,
            end: header.first + u64::from(header.count),
            incarnation: header.incarnation,
            prev_end: header.prev_end,
            pieces,
        }
    }
}

/// Chooses among copies and leftovers.
///
/// After a crash, numbers that sled had not kept are given out again, and their old blocks may still stand in
/// the raw bytes. A block says how far the store went before it: whatever reaches beyond that and is of an
/// older incarnation was not in the store any more.
fn settle(mut found: Vec<Found>) -> BTreeMap<Seq, Found> {
    found.sort_by_key(|block| (Reverse(block.incarnation), block.first, Reverse(block.end)));
    let mut kept: BTreeMap<Seq, Found> = BTreeMap::new();
    let mut older_end = Seq::MAX;
    for peers in found.chunk_by(|a, b| a.incarnation == b.incarnation) {
        for block in peers.iter().filter(|block| block.end <= older_end) {
            let before = kept.range(..block.end).next_back();
            if before.is_none_or(|(_, before)| before.end <= block.first) {
                kept.insert(block.first, block.clone());
            }
        }
        // 0 claims nothing.
        let ends = peers.iter().map(|block| block.prev_end);
        older_end = ends.filter(|end| *end > 0).fold(older_end, Seq::min);
    }
    kept
}

fn load(mut log: &File, pieces: &[Piece]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len).sum());
    for piece in pieces {
        log.seek(SeekFrom::Start(piece.at))?;
        log.take(piece.len as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A file seen through a window that moves forward.
struct Raw<'a> {
    file: &'a File,
    at: u64,
    window: Vec<u8>,
}

impl<'a> Raw<'a> {
    fn new(file: &'a File) -> Self {
        let window = Vec::with_capacity(WINDOW_BYTES);
        Self {
            file,
            at: 0,
            window,
        }
    }

    /// What the window holds from `at` on, which is `len` bytes and more, or all there are.
    fn from(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let seen = self.at..=self.at + self.window.len() as u64;
        if !(seen.contains(&at) && seen.contains(&(at + len as u64))) {
            self.window.clear();
            self.file.seek(SeekFrom::Start(at))?;
            let mut rest = self.file.take(WINDOW_BYTES as u64);
            rest.read_to_end(&mut self.window)?;
            self.at = at;
        }
        let skipped = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        Ok(self.window.get(skipped..).unwrap_or_default())
    }

    /// Where the first magic at or after `at` stands.
    fn find_magic(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        loop {
            let bytes = self.from(at, MAGIC_LEN)?;
            let mut windows = bytes.windows(MAGIC_LEN);
            if let Some(skipped) = windows.position(is_magic) {
                return Ok(Some(at + skipped as u64));
            }
            // One may stand across the border.
            match bytes.len().checked_sub(MAGIC_LEN) {
                Some(searched) => at += searched as u64 + 1,
                None => return Ok(None),
            }
        }
    }
}

fn is_magic(bytes: &[u8]) -> bool {
    // Nearly all bytes are told apart by the first one.
    bytes.first() == block::MAGIC.first() && (bytes == block::MAGIC || bytes == frame::MAGIC)
}
