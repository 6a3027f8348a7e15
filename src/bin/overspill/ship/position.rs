//! What a shipper remembers beside its channel: `DIR.position`.
//!
//! It stands beside the channel's directory, not in it: the directory belongs to the channel, which reports
//! files it doesn't know, and a user who removes a spool to get rid of its backlog expects the log to be
//! read on from where it was, not from the start.

use crate::failure::Failure;
use crate::ship::ends::Ends;
use crate::ship::record::{Line, SourceId, new_source};
use crate::ship::slots::Slots;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The same position for the thread that reads and the thread that delivers.
pub(crate) type Shared = Arc<Mutex<Position>>;

const ENCODING: bincode::config::Configuration = bincode::config::standard();

/// `DIR.position` for `position`; a trailing slash of `DIR` doesn't count.
pub(crate) fn beside(dir: &Path, extension: &str) -> PathBuf {
    let mut name = dir.components().collect::<PathBuf>().into_os_string();
    name.push(OsString::from(format!(".{extension}")));
    PathBuf::from(name)
}

#[derive(Debug)]
pub(crate) struct Position {
    slots: Slots,
    path: PathBuf,
    state: State,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    followed: Option<Followed>,
    delivered: Ends,
    output: Option<Append>,
}

/// A `file:` source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Followed {
    pub(crate) path: PathBuf,
    pub(crate) source: SourceId,
    /// The channel has accepted everything up to here at some time. A hint: what a crash took from the
    /// channel again is found by the gap that it leaves.
    pub(crate) accepted: u64,
    /// The files that have been read under this path and are not wholly delivered, oldest first.
    pub(crate) files: Vec<Generation>,
    /// Files that have taken the path since, and were not begun yet, oldest first.
    pub(crate) successors: Vec<Identity>,
}

/// One of the files that a path has named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// Where its first byte stands among all that the source has read.
    pub(crate) base: u64,
    pub(crate) identity: Identity,
}

/// What a file is recognised by, whatever it is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    dev: u64,
    ino: u64,
    head_len: u64,
    head_crc: u32,
}

impl Identity {
    /// Log lines begin with a time, so the first ones tell files apart that share an inode number.
    const HEAD: u64 = 256;
    /// So many equal first bytes are no coincidence, even with another inode: the file was copied.
    const TELLING: u64 = 64;

    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let (head_len, head_crc) = head(file, Self::HEAD)?;
        let meta = file.metadata()?;
        Ok(Self {
            dev: meta.dev(),
            ino: meta.ino(),
            head_len,
            head_crc,
        })
    }

    pub(crate) fn has_inode_of(&self, meta: &std::fs::Metadata) -> bool {
        (self.dev, self.ino) == (meta.dev(), meta.ino())
    }

    /// True if `file` still begins with what this file began with.
    pub(crate) fn begins(&self, file: &File) -> io::Result<bool> {
        Ok(head(file, self.head_len)? == (self.head_len, self.head_crc))
    }

    /// True if a file with the same beginning is this file, or a copy of it.
    pub(crate) fn is_telling(&self) -> bool {
        self.head_len >= Self::TELLING
    }

    /// False while the file was too short for a full fingerprint.
    pub(crate) fn is_complete(&self) -> bool {
        self.head_len == Self::HEAD
    }
}

fn head(file: &File, len: u64) -> io::Result<(u64, u32)> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = bytes.get_mut(filled..) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((filled as u64, crc32c::crc32c(&bytes)))
}

/// An append to a `file:` destination that may or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// The file's length before.
    pub(crate) len: u64,
    /// How many bytes are appended.
    pub(crate) bytes: u64,
    /// What is delivered once they are there.
    pub(crate) then: Ends,
}

impl Position {
    const FILES_MAX: usize = 200;

    /// The channel must be open: its lock is what keeps a second shipper from these files.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let path = beside(dir, "position");
        let refused = |error: &dyn std::fmt::Display| {
            Failure::of(
                "open",
                path.display(),
                error,
                "check its permissions, or remove it to read the source from its start",
            )
        };
        let (slots, saved) = Slots::open(&path).map_err(|error| refused(&error))?;
        let state = match saved {
            Some(bytes) => {
                let decoded = bincode::serde::decode_from_slice(&bytes, ENCODING);
                decoded.map_err(|error| refused(&error))?.0
            }
            None => State::default(),
        };
        Ok(Self { slots, path, state })
    }

    pub(crate) fn share(self) -> Shared {
        Arc::new(Mutex::new(self))
    }

    fn save(&mut self) -> Result<(), Failure> {
        let refused = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::of(
                "save the position to",
                path.display(),
                error,
                "make it writable and start again: nothing is lost",
            )
        };
        let bytes = bincode::serde::encode_to_vec(&self.state, ENCODING)
            .map_err(|error| refused(&self.path, &error))?;
        self.slots
            .save(&bytes)
            .map_err(|error| refused(&self.path, &error))
    }

    /// To the device: for a clean stop.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        self.save()?;
        self.slots.sync().map_err(|error| {
            Failure::of(
                "sync",
                self.path.display(),
                error,
                "check the device; nothing is lost while it keeps running",
            )
        })
    }

    /// The followed file, as it was left. One file per directory: another path begins at its start.
    pub(crate) fn follow(&mut self, path: &Path) -> Result<Followed, Failure> {
        if let Some(followed) = self.state.followed.as_ref().filter(|old| old.path == path) {
            return Ok(followed.clone());
        }
        let fresh = Followed {
            path: path.to_owned(),
            source: new_source(),
            accepted: 0,
            files: Vec::new(),
            successors: Vec::new(),
        };
        self.state.followed = Some(fresh.clone());
        self.save()?;
        Ok(fresh)
    }

    pub(crate) fn followed(&self) -> Option<&Followed> {
        self.state.followed.as_ref()
    }

    /// Must return before any line of the file is sent: a crash later finds the file by it.
    pub(crate) fn began(&mut self, generation: Generation) -> Result<(), Failure> {
        if let Some(followed) = &mut self.state.followed {
            match followed.files.last_mut() {
                Some(last) if last.base == generation.base => *last = generation,
                _ => followed.files.push(generation),
            }
            // The file has a fixed size, and an outage may outlast any number of rotations: the oldest
            // files are needed only if a crash took their lines from the channel.
            let excess = followed.files.len().saturating_sub(Self::FILES_MAX);
            followed.files.drain(..excess);
        }
        self.save()
    }

    /// A crash later finds them, whatever they are called by then.
    pub(crate) fn succeeded(&mut self, successors: Vec<Identity>) -> Result<(), Failure> {
        if let Some(followed) = &mut self.state.followed {
            followed.successors = successors;
            followed.successors.truncate(Self::FILES_MAX);
        }
        self.save()
    }

    /// Must be called after the channel has accepted everything up to `end`.
    pub(crate) fn accepted(&mut self, end: u64) -> Result<(), Failure> {
        if let Some(followed) = &mut self.state.followed {
            followed.accepted = end.max(followed.accepted);
        }
        self.save()
    }

    pub(crate) fn delivered(&self) -> &Ends {
        &self.state.delivered
    }

    /// Must be called after the destination has taken `batch`.
    pub(crate) fn confirm(&mut self, batch: &[Line<'_>]) -> Result<(), Failure> {
        self.pass(&Ends::after(batch))
    }

    /// Nothing up to these marks is delivered any more.
    pub(crate) fn pass(&mut self, ends: &Ends) -> Result<(), Failure> {
        self.state.delivered.advance_all(ends);
        self.state.output = None;
        if let Some(followed) = &mut self.state.followed {
            let delivered = self.state.delivered.of(followed.source);
            let finished = followed
                .files
                .iter()
                .rposition(|file| file.base <= delivered)
                .unwrap_or(0);
            followed.files.drain(..finished);
        }
        self.save()
    }

    /// Must return before the first byte is appended.
    pub(crate) fn appending(&mut self, append: Append) -> Result<(), Failure> {
        self.state.output = Some(append);
        self.save()
    }

    /// What was being appended when the process ended, until it is settled.
    pub(crate) fn unsettled(&self) -> Option<Append> {
        self.state.output.clone()
    }

    /// Whether that append is there is known now.
    pub(crate) fn settle(&mut self, outcome: Settled) -> Result<(), Failure> {
        match (outcome, self.state.output.take()) {
            (Settled::Whole, Some(append)) => self.pass(&append.then),
            _ => self.save(),
        }
    }
}

/// What became of an append that a crash interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Whole,
    Undone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::record::Place;
    use overspill::ItemId;
    use std::fs;

    fn line(source: SourceId, end: u64) -> Line<'static> {
        Line {
            id: None,
            came_as: None,
            place: Some(Place { source, end }),
            text: b"x\n",
        }
    }

    #[test]
    fn the_files_stand_beside_the_directory() {
        assert_eq!(
            beside(Path::new("/var/spool/app/"), "position"),
            Path::new("/var/spool/app.position")
        );
        assert_eq!(
            beside(Path::new("spool"), "position"),
            Path::new("spool.position")
        );
    }

    #[test]
    fn a_position_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        fs::write(dir.path().join("log"), "hello").unwrap();
        let identity = Identity::of(&File::open(dir.path().join("log")).unwrap()).unwrap();
        let source = {
            let mut position = Position::open(&spool).unwrap();
            let source = position.follow(Path::new("/log")).unwrap().source;
            position.began(Generation { base: 0, identity }).unwrap();
            position.accepted(40).unwrap();
            position
                .confirm(&[line(source, 10), line(9, 4), line(source, 20)])
                .unwrap();
            source
        };
        let mut position = Position::open(&spool).unwrap();
        assert_eq!(
            (position.delivered().of(source), position.delivered().of(9)),
            (20, 4)
        );
        let followed = position.follow(Path::new("/log")).unwrap();
        assert_eq!(
            (followed.source, followed.accepted, followed.files.len()),
            (source, 40, 1)
        );
        assert_ne!(position.follow(Path::new("/other")).unwrap().source, source);
    }

    #[test]
    fn a_file_is_forgotten_when_all_of_it_is_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            dev: 1,
            ino: 1,
            head_len: 0,
            head_crc: 0,
        };
        let mut position = Position::open(&dir.path().join("spool")).unwrap();
        let source = position.follow(Path::new("/log")).unwrap().source;
        for base in [0, 100, 200] {
            position.began(Generation { base, identity }).unwrap();
        }
        let bases = |position: &Position| -> Vec<u64> {
            position
                .followed()
                .unwrap()
                .files
                .iter()
                .map(|file| file.base)
                .collect()
        };
        position.confirm(&[line(source, 99)]).unwrap();
        assert_eq!(bases(&position), [0, 100, 200]);
        position.confirm(&[line(source, 100)]).unwrap();
        assert_eq!(bases(&position), [100, 200]);
        position.confirm(&[line(source, 300)]).unwrap();
        assert_eq!(bases(&position), [200]);
    }

    #[test]
    fn the_fullest_position_fits_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let mut position = Position::open(&dir.path().join("spool")).unwrap();
        let identity = Identity {
            dev: u64::MAX,
            ino: u64::MAX,
            head_len: u64::MAX,
            head_crc: u32::MAX,
        };
        position
            .follow(&Path::new("/").join("long".repeat(1000)))
            .unwrap();
        position.succeeded(vec![identity; 300]).unwrap();
        for n in 0..300 {
            let base = u64::MAX - 300 + n;
            position.began(Generation { base, identity }).unwrap();
        }
        let channel = |n: u16| {
            let mut channel = [u8::MAX; 16];
            channel[..2].copy_from_slice(&n.to_le_bytes());
            Some(ItemId {
                channel,
                incarnation: u64::MAX,
                seq: u64::MAX,
            })
        };
        let fullest: Vec<_> = (0..300)
            .map(|n| Line {
                id: channel(n),
                came_as: None,
                ..line(u64::MAX - u64::from(n), u64::MAX)
            })
            .collect();
        position.confirm(&fullest).unwrap();
        let append = Append {
            dev: u64::MAX,
            ino: u64::MAX,
            len: u64::MAX,
            bytes: u64::MAX,
            then: Ends::after(&fullest),
        };
        position.appending(append).unwrap();
    }
}
