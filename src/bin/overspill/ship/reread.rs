//! Reads once more what a followed file held between two places.

use crate::ship::position::{Followed, Identity};
use crate::ship::record::{LogRecord, Rest, SourceId, take_lines};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much is read at a time.
const CHUNK: usize = 256 << 10;

/// Where the last of them ends.
pub(crate) fn end_of(records: &[LogRecord]) -> Option<u64> {
    records.last()?.place.map(|place| place.end)
}

/// A file, cut into lines from some place on.
#[derive(Debug)]
pub(crate) struct Lines {
    file: File,
    /// Where `buffer` begins in the file: the end of the last line that was taken.
    offset: u64,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(file: File, offset: u64) -> Self {
        Self {
            file,
            offset,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads on at the same place of another file.
    pub(crate) fn go_on_in(&mut self, file: File) {
        self.file = file;
    }

    /// How far the file has been read.
    pub(crate) fn read_to(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Reads on, to `limit` at most; 0 at the end of the file.
    pub(crate) fn read(&mut self, limit: u64) -> io::Result<usize> {
        let room = usize::try_from(limit.saturating_sub(self.read_to()))
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let at = self.read_to();
        let filled = self.buffer.len();
        self.buffer.resize(filled + room, 0);
        let read = loop {
            match self
                .file
                .read_at(self.buffer.get_mut(filled..).unwrap_or_default(), at)
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        read
    }

    /// The lines read so far, as records of `source` in a file that begins at `base`.
    pub(crate) fn take(&mut self, source: SourceId, base: u64, rest: Rest) -> Vec<LogRecord> {
        let lines = take_lines(&mut self.buffer, rest);
        let record = |line: Vec<u8>| {
            self.offset += line.len() as u64;
            LogRecord::read(source, base + self.offset, line)
        };
        lines.into_iter().map(record).collect()
    }
}

/// The file with that identity and at least `least` bytes, wherever a rotation has put it: under its own name,
/// or beside it under a name that begins with it. Compressed files are not looked into.
pub(crate) fn locate(path: &Path, identity: &Identity, least: u64) -> io::Result<Option<File>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let name = name.as_encoded_bytes();
    let mut copy = None;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_sibling = entry.file_name().as_encoded_bytes().starts_with(name);
        // Opening a pipe would wait for its other end; a link may be what the path itself is.
        if !is_sibling || !(entry.file_type()?.is_file() || entry.path() == path) {
            continue;
        }
        // Another rotation may be under way, and a sibling may be nobody's business.
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        let meta = file.metadata()?;
        if meta.len() < least || !identity.begins(&file)? {
            continue;
        }
        if identity.has_inode_of(&meta) {
            return Ok(Some(file));
        }
        // Files may share their first lines, so only the file itself counts under its own name.
        if identity.is_telling() && entry.path() != path {
            copy = Some(file);
        }
    }
    Ok(copy)
}

/// The lines between two places of a followed file, through all the files that its path has named.
#[derive(Debug)]
pub(crate) struct Reread {
    followed: Followed,
    at: u64,
    to: u64,
    open: Option<(Lines, u64, u64)>,
    /// Bytes that are no longer in any file.
    pub(crate) missing: u64,
}

impl Reread {
    pub(crate) fn new(followed: Followed, from: u64, to: u64) -> Self {
        Self {
            followed,
            at: from,
            to,
            open: None,
            missing: 0,
        }
    }

    /// The next lines; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Vec<LogRecord>> {
        while self.at < self.to {
            if self.open.is_none() && !self.open_file()? {
                continue;
            }
            let Some((lines, base, end)) = &mut self.open else {
                continue;
            };
            let read = lines.read(*end - *base)?;
            let rest = if read == 0 {
                Rest::IsALine
            } else {
                Rest::Waits
            };
            let records = lines.take(self.followed.source, *base, rest);
            self.at = end_of(&records).unwrap_or(self.at);
            if read == 0 {
                // Shorter than it was: truncated, or not the copy that it seemed.
                self.missing += *end - self.at;
                self.at = *end;
                self.open = None;
            }
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    /// Opens the file that holds `at`. Passes over what is gone.
    fn open_file(&mut self) -> io::Result<bool> {
        let files = &self.followed.files;
        let after = files
            .iter()
            .position(|file| file.base > self.at)
            .unwrap_or(files.len());
        let end = files
            .get(after)
            .map_or(self.to, |next| next.base.min(self.to));
        if let Some(file) = after.checked_sub(1).and_then(|index| files.get(index))
            && let Some(found) = locate(&self.followed.path, &file.identity, self.at - file.base)?
        {
            self.open = Some((Lines::new(found, self.at - file.base), file.base, end));
            return Ok(true);
        }
        self.missing += end - self.at;
        self.at = end;
        Ok(false)
    }
}
