//! Follows a file through rotations: a rename with a new file in its place, and a truncation after a copy.
//!
//! The file is looked at whenever [`Tail::poll`] is called; nothing is watched, so it works on every file system.

use crate::failure::Failure;
use crate::ship::position::{Followed, Generation, Identity, Shared};
use crate::ship::record::{LogRecord, Rest, SourceId};
use crate::ship::reread::{Lines, Reread, end_of, locate};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How many looks in a row must find nothing new in a file that was rotated away, while its successor grows,
/// before it is given up: writers keep writing to the old one until they reopen.
const QUIET_LOOKS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    source: SourceId,
    position: Shared,
    /// What lies between the remembered place and the file that was read last.
    before: Option<Reread>,
    current: Option<Current>,
    /// Files that have taken the path since, oldest first.
    successors: VecDeque<(File, Identity)>,
    quiet_looks: u32,
    /// The end of the last line, among all that the source has read.
    at: u64,
    began_at: u64,
}

#[derive(Debug)]
struct Current {
    lines: Lines,
    base: u64,
    identity: Identity,
}

impl Tail {
    /// Goes on where the position says; at the start of the file when it says nothing.
    pub(crate) fn open(path: &Path, position: Shared) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
        let followed = position.lock().follow(&path)?;
        let mut tail = Self {
            path,
            source: followed.source,
            position,
            before: None,
            current: None,
            successors: VecDeque::new(),
            quiet_looks: 0,
            at: followed.accepted,
            began_at: followed.accepted,
        };
        for identity in &followed.successors {
            let found = locate(&tail.path, identity, 0);
            let found = found.map_err(|error| unreadable(&tail.path, &error))?;
            tail.successors.extend(found.map(|file| (file, *identity)));
        }
        if let Some(last) = followed.files.last().cloned() {
            tail.resume(followed, &last)
                .map_err(|error| unreadable(&tail.path, &error))?;
        }
        Ok(tail)
    }

    pub(crate) fn source(&self) -> SourceId {
        self.source
    }

    /// Where reading goes on in this run.
    pub(crate) fn began_at(&self) -> u64 {
        self.began_at
    }

    fn resume(&mut self, followed: Followed, last: &Generation) -> io::Result<()> {
        let from = self.at;
        self.at = from.max(last.base);
        let offset = self.at - last.base;
        if let Some(file) = locate(&self.path, &last.identity, offset)? {
            let lines = Lines::new(file, offset);
            self.current = Some(Current {
                lines,
                base: last.base,
                identity: last.identity,
            });
        }
        if from < last.base {
            self.before = Some(Reread::new(followed, from, last.base));
        }
        Ok(())
    }

    /// The next lines; none when nothing is new.
    pub(crate) fn poll(&mut self) -> Result<Vec<LogRecord>, Failure> {
        // First of all: who is killed before the end of this file must know what came after it.
        if self
            .look_at_path()
            .map_err(|error| unreadable(&self.path, &error))?
        {
            self.note_successors()?;
        }
        if let Some(before) = &mut self.before {
            let records = before
                .next()
                .map_err(|error| unreadable(&self.path, &error))?;
            if !records.is_empty() {
                return Ok(records);
            }
            self.before = None;
        }
        loop {
            if self.current.is_none() && !self.begin()? {
                return Ok(Vec::new());
            }
            let look = self
                .look()
                .map_err(|error| unreadable(&self.path, &error))?;
            if let Look::Grew(generation) = &look {
                self.position.lock().began(generation.clone())?;
            }
            let records = match look {
                Look::Grew(_) | Look::Read => self.take(Rest::Waits),
                Look::Nothing => return Ok(Vec::new()),
                Look::Truncated if self.go_on_in_copy()? => continue,
                Look::Over | Look::Truncated => {
                    let records = self.take(Rest::IsALine);
                    self.current = None;
                    records
                }
            };
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    fn take(&mut self, rest: Rest) -> Vec<LogRecord> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        let records = current.lines.take(self.source, current.base, rest);
        self.at = end_of(&records).unwrap_or(self.at);
        records
    }

    /// Begins with the next file that has taken the path; false while there is none.
    fn begin(&mut self) -> Result<bool, Failure> {
        if self.successors.is_empty() {
            self.look_at_path()
                .map_err(|error| unreadable(&self.path, &error))?;
        }
        let Some((file, _)) = self.successors.front() else {
            return Ok(false);
        };
        let file = file
            .try_clone()
            .map_err(|error| unreadable(&self.path, &error))?;
        let identity = Identity::of(&file).map_err(|error| unreadable(&self.path, &error))?;
        // Remembered before the first line is sent, so that the same bytes get the same places after a crash.
        self.position.lock().began(Generation {
            base: self.at,
            identity,
        })?;
        self.current = Some(Current {
            lines: Lines::new(file, 0),
            base: self.at,
            identity,
        });
        self.quiet_looks = 0;
        self.successors.pop_front();
        self.note_successors()?;
        Ok(true)
    }

    /// Opens the file that has the path now, if it is another one than the last.
    fn look_at_path(&mut self) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let newest = self.successors.back().map(|(file, _)| file);
        let newest = newest.or(self.current.as_ref().map(|current| current.lines.file()));
        if newest.is_some_and(|newest| is_same(newest, &file).unwrap_or(false)) {
            return Ok(false);
        }
        let identity = Identity::of(&file)?;
        self.successors.push_back((file, identity));
        Ok(true)
    }

    fn note_successors(&self) -> Result<(), Failure> {
        let identities = self
            .successors
            .iter()
            .map(|(_, identity)| *identity)
            .collect();
        self.position.lock().succeeded(identities)
    }

    fn look(&mut self) -> io::Result<Look> {
        let Some(current) = &mut self.current else {
            return Ok(Look::Nothing);
        };
        let len = current.lines.file().metadata()?.len();
        // Truncated: shorter than what was read, or grown again with another beginning.
        if len < current.lines.read_to() || !current.identity.begins(current.lines.file())? {
            return Ok(Look::Truncated);
        }
        if current.lines.read(u64::MAX)? > 0 {
            self.quiet_looks = 0;
            if current.identity.is_complete() {
                return Ok(Look::Read);
            }
            current.identity = Identity::of(current.lines.file())?;
            return Ok(Look::Grew(Generation {
                base: current.base,
                identity: current.identity,
            }));
        }
        self.look_for_successor()
    }

    /// A file that is truncated was copied before: what was appended last stands only in the copy.
    fn go_on_in_copy(&mut self) -> Result<bool, Failure> {
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        let copy = locate(&self.path, &current.identity, current.lines.read_to())
            .map_err(|error| unreadable(&self.path, &error))?;
        let found = copy.is_some();
        if let Some(copy) = copy {
            current.lines.go_on_in(copy);
        }
        Ok(found)
    }

    /// The file has nothing new: has another one taken its path?
    fn look_for_successor(&mut self) -> io::Result<Look> {
        let is_left = match self.successors.front() {
            // Two rotations ago: whoever wrote it writes elsewhere by now.
            Some(_) if self.successors.len() > 1 => return Ok(Look::Over),
            Some((next, _)) => next.metadata()?.len() > 0,
            None => false,
        };
        self.quiet_looks = if is_left { self.quiet_looks + 1 } else { 0 };
        Ok(if self.quiet_looks > QUIET_LOOKS {
            Look::Over
        } else {
            Look::Nothing
        })
    }
}

enum Look {
    /// More was read, and the file can be recognised better now.
    Grew(Generation),
    Read,
    Nothing,
    /// What was read is no longer in this file.
    Truncated,
    /// Nothing more will come from this file.
    Over,
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::of(
        "follow",
        path.display(),
        error,
        "make it readable: reading goes on where it was",
    )
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
