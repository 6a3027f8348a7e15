//! Going through a file of letters frame by frame, past what is damaged.

use super::DeadLetter;
use super::frame::{HEADER_LEN, Header, Home, MAGIC, begins_like_a_frame};
use crate::disk::{Disk, DiskFile, How, found};
use crate::error::StoreError;
use std::path::{Path, PathBuf};

/// How much is searched at once for the next frame.
const SEARCH_BYTES: usize = 64 << 10;
/// Room for a magic across two pieces of a search.
const OVERLAP: usize = MAGIC.len() - 1;

/// A file and the place in it up to which its letters have been seen. Only the bytes before `limit` count.
#[derive(Debug)]
pub(super) struct Walk {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    home: Home,
    position: u64,
    limit: u64,
    /// Bytes that were no letter, and not the rest of a write that was cut off.
    damaged: u64,
    /// Where the last frame ended.
    sound_end: u64,
}

impl Walk {
    /// `None` when there is no such file.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        home: Home,
        position: u64,
        limit: u64,
    ) -> Result<Option<Self>, StoreError> {
        let failed = |error| StoreError::io("open", path, error);
        let Some(mut file) = found(disk.open(path, How::Read)).map_err(failed)? else {
            return Ok(None);
        };
        // A file that was shortened has nothing where it should have.
        let limit = limit.min(file.len().map_err(failed)?);
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            home,
            position,
            limit,
            damaged: 0,
            sound_end: position,
        }))
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    pub(super) fn sound_end(&self) -> u64 {
        self.sound_end
    }

    /// Goes on to the next frame whose header is intact; `None` at the end.
    pub(super) fn seek(&mut self) -> Result<Option<Header>, StoreError> {
        let start = self.position;
        if start >= self.limit {
            return Ok(None);
        }
        if let Some(header) = self.header_at(start)? {
            return Ok(Some(header));
        }
        let found = self.search(start + 1)?;
        if found.is_some() || !self.is_cut_off(start)? {
            self.damaged += self.position - start;
        }
        Ok(found)
    }

    /// The letter whose header `seek` has found; `None` when the rest of it is damaged.
    pub(super) fn take(&mut self, header: &Header) -> Result<Option<DeadLetter>, StoreError> {
        // The header is intact and the file is long enough for what it says.
        let mut content = vec![0; usize::try_from(header.content_len()).unwrap_or(usize::MAX)];
        let read = self.read(&mut content, self.position + HEADER_LEN as u64)?;
        content.truncate(read);
        let letter = header.letter(content);
        if letter.is_none() {
            self.damaged += header.frame_len();
        }
        self.skip(header);
        Ok(letter)
    }

    /// Moves behind the frame whose header `seek` has found.
    pub(super) fn skip(&mut self, header: &Header) {
        self.position += header.frame_len();
        self.sound_end = self.position;
    }

    fn header_at(&mut self, offset: u64) -> Result<Option<Header>, StoreError> {
        let mut bytes = [0; HEADER_LEN];
        let read = self.read(&mut bytes, offset)?;
        let bytes = bytes.get(..read).unwrap_or_default();
        let header = self.home.header(bytes, offset);
        Ok(header.filter(|header| header.frame_len() <= self.limit - offset))
    }

    /// Moves to the next frame at or behind `from`, or to the end.
    fn search(&mut self, mut from: u64) -> Result<Option<Header>, StoreError> {
        let mut piece = vec![0; SEARCH_BYTES];
        while from < self.limit {
            let read = self.read(&mut piece, from)?;
            let seen = piece.get(..read).unwrap_or_default();
            let magics = seen
                .windows(MAGIC.len())
                .enumerate()
                .filter(|(_, window)| *window == MAGIC);
            for (at, _) in magics {
                let offset = from + at as u64;
                if let Some(header) = self.header_at(offset)? {
                    self.position = offset;
                    return Ok(Some(header));
                }
            }
            if read < SEARCH_BYTES {
                break;
            }
            from += (read - OVERLAP) as u64;
        }
        self.position = self.limit;
        Ok(None)
    }

    /// Whether the file ends from `start` in what the death of a process leaves of a write: zeros, or the beginning of
    /// a frame. It was confirmed to nobody.
    fn is_cut_off(&mut self, start: u64) -> Result<bool, StoreError> {
        let mut piece = vec![0; SEARCH_BYTES];
        let read = self.read(&mut piece, start)?;
        let seen = piece.get(..read).unwrap_or_default();
        if self.home.header(seen, start).is_some() {
            return Ok(true);
        }
        if read < HEADER_LEN && begins_like_a_frame(seen) {
            return Ok(true);
        }
        let mut at = start;
        while at < self.limit {
            let read = self.read(&mut piece, at)?;
            if read == 0 || piece.iter().take(read).any(|byte| *byte != 0) {
                return Ok(read == 0);
            }
            at += read as u64;
        }
        Ok(true)
    }

    fn read(&mut self, buffer: &mut [u8], at: u64) -> Result<usize, StoreError> {
        let rest = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(rest);
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        self.file
            .read_at(buffer, at)
            .map_err(|error| StoreError::io("read", &self.path, error))
    }
}
