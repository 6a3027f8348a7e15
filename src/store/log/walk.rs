//! Going through a segment block by block, past what is damaged.

use super::format::{
    FIXED_LEN, Home, begins_like_a_block, begins_like_a_segment, find_magic, identity_len,
    rfind_magic,
};
use crate::block::{Block, HEADER_LEN, Header};
use crate::disk::DiskFile;
use crate::seq::Seq;
use std::io;

/// How much is searched at once for the next or the last block.
const SEARCH_BYTES: usize = 256 << 10;
/// Room for a block's magic across two pieces of a search.
const OVERLAP: usize = 7;

/// What is found in a segment.
#[derive(Debug)]
pub(super) enum Found {
    Block(Block),
    /// Bytes that are no block of this segment, where the numbers asked for might have been.
    Damage {
        position: u64,
        reason: String,
    },
    /// No block any more.
    End,
}

/// An open segment and the place in it up to which its blocks have been seen.
#[derive(Debug)]
pub(super) struct Walk {
    file: Box<dyn DiskFile>,
    home: Home,
    start: u64,
    position: u64,
    /// Blocks before `position` hold no number at or above this.
    passed: Seq,
    /// The header at `position`, once it was read.
    here: Option<(u64, Header)>,
    /// The bytes of a header that came with the block before it, and where they stand.
    ahead: Option<(u64, [u8; HEADER_LEN])>,
    /// The last bytes before the end are no block.
    has_unread_tail: bool,
}

impl Walk {
    pub(super) fn new(mut file: Box<dyn DiskFile>, home: Home) -> io::Result<Self> {
        // Without a header that can be believed, the first block is found as any block behind damage is.
        let start = first_block_at(file.as_mut())?.unwrap_or(0);
        Ok(Self {
            file,
            home,
            start,
            position: start,
            passed: 0,
            here: None,
            ahead: None,
            has_unread_tail: false,
        })
    }

    /// Where the numbers of the blocks seen so far end.
    pub(super) fn passed(&self) -> Seq {
        self.passed
    }

    /// Whether the segment was found to end in bytes that are no block.
    pub(super) fn has_unread_tail(&self) -> bool {
        self.has_unread_tail
    }

    /// The first block that holds `at` or a number above it. Only the bytes before `limit` count.
    pub(super) fn find(&mut self, at: Seq, limit: u64) -> io::Result<Found> {
        if at < self.passed {
            self.position = self.start;
            self.passed = 0;
        }
        let mut damage: Option<(u64, String)> = None;
        loop {
            if self.position >= limit {
                return Ok(Found::End);
            }
            let header = match self.header(limit)? {
                Ok(header) => header,
                Err(reason) => {
                    let (position, reason) = damage.take().unwrap_or((self.position, reason));
                    if self.resync(limit)? {
                        damage = Some((position, reason));
                        continue;
                    }
                    self.has_unread_tail = true;
                    let rest = look_at_rest(self.file.as_mut(), self.home, position, limit)?;
                    return Ok(match rest {
                        Rest::Unreadable => Found::Damage { position, reason },
                        Rest::CutOff | Rest::Nothing => Found::End,
                    });
                }
            };
            let end = header.first + u64::from(header.count);
            if end <= at {
                self.position += block_len(&header);
                self.passed = self.passed.max(end);
                continue;
            }
            if let Some((position, reason)) = damage.filter(|_| header.first > at) {
                return Ok(Found::Damage { position, reason });
            }
            match self.load(&header, limit)? {
                Ok(block) => return Ok(Found::Block(block)),
                Err(reason) => {
                    // The header is intact, so its length is right.
                    let position = self.position;
                    self.position += block_len(&header);
                    return Ok(Found::Damage { position, reason });
                }
            }
        }
    }

    /// Goes on from a position where a block begins.
    pub(super) fn jump(&mut self, position: u64) {
        self.position = position.max(self.start);
        self.passed = 0;
    }

    fn header(&mut self, limit: u64) -> io::Result<Result<Header, String>> {
        if let Some((_, header)) = self.here.as_ref().filter(|(at, _)| *at == self.position) {
            return Ok(Ok(header.clone()));
        }
        let header = if let Some((_, bytes)) = self.ahead.filter(|(at, _)| *at == self.position) {
            self.home.header(&bytes, self.position)
        } else {
            let mut bytes = [0; HEADER_LEN];
            let len = self.file.read_at(&mut bytes, self.position)?;
            let read = bytes.get(..len).unwrap_or_default();
            self.home.header(read, self.position)
        };
        Ok(header.and_then(|header| {
            if self.position + block_len(&header) <= limit {
                self.here = Some((self.position, header.clone()));
                Ok(header)
            } else {
                Err("a block that is cut off".to_owned())
            }
        }))
    }

    /// Reads the block at `position`, and the header behind it along with it.
    fn load(&mut self, header: &Header, limit: u64) -> io::Result<Result<Block, String>> {
        let len = block_len(header);
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size + HEADER_LEN];
        let read = self.file.read_at(&mut bytes, self.position)?;
        let next = self.position + len;
        // What stands behind the limit may be of a write that failed: the next one goes over it.
        let counts = next + HEADER_LEN as u64 <= limit;
        let behind = bytes.get(size..read).and_then(|rest| rest.first_chunk());
        self.ahead = behind.filter(|_| counts).map(|ahead| (next, *ahead));
        bytes.truncate(size.min(read));
        Ok(Block::parse(bytes).map_err(|error| error.to_string()))
    }

    /// Moves on to the next bytes that are the header of a block of this segment; false when there are none.
    fn resync(&mut self, limit: u64) -> io::Result<bool> {
        let mut from = self.position + 1;
        let mut piece = vec![0; SEARCH_BYTES];
        while from < limit {
            let read = self.file.read_at(&mut piece, from)?;
            let seen = piece.get(..read).unwrap_or_default();
            let mut offset = 0;
            while let Some(at) = seen.get(offset..).and_then(find_magic) {
                self.position = from + (offset + at) as u64;
                if self.header(limit)?.is_ok() {
                    return Ok(true);
                }
                offset += at + 1;
            }
            if read < SEARCH_BYTES {
                break;
            }
            from += (read - OVERLAP) as u64;
        }
        self.position = limit;
        Ok(false)
    }
}

fn block_len(header: &Header) -> u64 {
    HEADER_LEN as u64 + u64::from(header.payload_len)
}

/// Where the first block of a segment begins; `None` when its header can't be believed.
fn first_block_at(file: &mut dyn DiskFile) -> io::Result<Option<u64>> {
    let mut fixed = [0; FIXED_LEN];
    let read = file.read_at(&mut fixed, 0)?;
    let fixed = fixed.get(..read).unwrap_or_default();
    Ok(identity_len(fixed).map(|len| (FIXED_LEN + len) as u64))
}

/// How the last segment of a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Where the last whole block ends, or the header, when there is no block.
    pub(super) position: u64,
    /// One past the last number; `None` when there is no block.
    pub(super) end: Option<Seq>,
    pub(super) rest: Rest,
}

/// What stands behind the last whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// Zeros, or the beginning of a block: what the death of a process leaves of a write, which was then confirmed to
    /// nobody.
    CutOff,
    /// Bytes that were something.
    Unreadable,
}

/// Finds the last whole block, from the end backwards: how long the segment is doesn't matter.
pub(super) fn find_ending(file: &mut dyn DiskFile, home: Home) -> io::Result<Ending> {
    let len = file.len()?;
    let last = find_last_block(file, home, len)?;
    let start = first_block_at(file)?;
    let (position, end) = match (&last, start) {
        (Some((position, header)), _) => (
            position + block_len(header),
            Some(header.first + u64::from(header.count)),
        ),
        (None, Some(start)) if start <= len => (start, None),
        (None, _) => (0, None),
    };
    let rest = if position == len && start.is_some() {
        Rest::Nothing
    } else {
        look_at_rest(file, home, position, len)?
    };
    Ok(Ending {
        position,
        end,
        rest,
    })
}

fn look_at_rest(file: &mut dyn DiskFile, home: Home, from: u64, len: u64) -> io::Result<Rest> {
    let mut bytes = vec![0; HEADER_LEN];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    let is_cut_off = match home.header(&bytes, from) {
        Ok(header) => from + block_len(&header) > len,
        Err(_) if from == 0 => begins_like_a_segment(&bytes, len),
        Err(_) => len - from < HEADER_LEN as u64 && begins_like_a_block(&bytes),
    };
    if is_cut_off || !has_content(file, from, len)? {
        Ok(Rest::CutOff)
    } else {
        Ok(Rest::Unreadable)
    }
}

fn find_last_block(
    file: &mut dyn DiskFile,
    home: Home,
    len: u64,
) -> io::Result<Option<(u64, Header)>> {
    let mut until = len;
    while until > 0 {
        let from = until.saturating_sub(SEARCH_BYTES as u64);
        let mut piece = vec![0; usize::try_from(until - from).unwrap_or(SEARCH_BYTES)];
        let read = file.read_at(&mut piece, from)?;
        let mut seen = piece.get(..read).unwrap_or_default();
        while let Some(at) = rfind_magic(seen) {
            let position = from + at as u64;
            if let Some(header) = whole_block_at(file, home, position, len)? {
                return Ok(Some((position, header)));
            }
            // What is left may still hold the beginning of an earlier one.
            seen = seen.get(..at + OVERLAP).unwrap_or_default();
        }
        if from == 0 {
            break;
        }
        until = from + OVERLAP as u64;
    }
    Ok(None)
}

fn whole_block_at(
    file: &mut dyn DiskFile,
    home: Home,
    position: u64,
    len: u64,
) -> io::Result<Option<Header>> {
    let mut bytes = vec![0; HEADER_LEN];
    let read = file.read_at(&mut bytes, position)?;
    bytes.truncate(read);
    let Ok(header) = home.header(&bytes, position) else {
        return Ok(None);
    };
    let size = block_len(&header);
    if position + size > len {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let read = file.read_at(&mut bytes, position)?;
    bytes.truncate(read);
    Ok(Block::parse(bytes).is_ok().then_some(header))
}

fn has_content(file: &mut dyn DiskFile, from: u64, len: u64) -> io::Result<bool> {
    let mut piece = vec![0; 64 << 10];
    let mut at = from;
    while at < len {
        let read = file.read_at(&mut piece, at)?;
        let seen = piece.get(..read).unwrap_or_default();
        if seen.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    Ok(false)
}
