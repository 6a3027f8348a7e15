//! Marks: how a database was left, written beside it when it is closed.
//!
//! sled trusts what it opens. Where bytes have changed meanwhile it drops, without a word, everything behind them,
//! and overwrites it. So the log is compared with its mark before sled may open it. A database without a mark was
//! left by a crash, and sled has to see what is in it. All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPMARK"
//!      8    2  format version (1)
//!     10    2  1: closed as described here; 2: damaged, not to be opened any more
//!     12    4  CRC-32C of `conf`
//!     16    8  length of `db`
//!     24    4  CRC-32C of `db`
//!     28    8  one past the highest number in the database
//!     36    4  CRC-32C of bytes 0..36
//! ```

use super::chain::{sync_names, write_file};
use super::database::{LOG_FILE, SETTINGS_FILE};
use super::guard::Fault;
use crate::error::StoreError;
use crate::seq::Seq;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const MARK_FILE: &str = "mark";
const NEW_FILE: &str = "mark.new";
const MAGIC: [u8; 8] = *b"OVSPMARK";
const VERSION: u16 = 1;
const MARK_LEN: usize = 40;
const PIECE_BYTES: usize = 64 << 10;

/// How a database was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    left: Left,
    /// One past the highest number in it, as far as it was known.
    pub(super) end: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Closed(Contents),
    Damaged,
}

/// What must be as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Contents {
    settings_crc: u32,
    log_bytes: u64,
    log_crc: u32,
}

impl Mark {
    /// Describes the closed database in `dir`.
    pub(super) fn of_closed(dir: &Path, end: Seq) -> io::Result<Self> {
        let left = Left::Closed(Contents::of(dir)?);
        Ok(Self { left, end })
    }

    /// Says that sled must not open the database again.
    pub(super) fn of_damaged(end: Seq) -> Self {
        let left = Left::Damaged;
        Self { left, end }
    }

    /// The mark of the database in `dir`. One that is damaged itself says nothing.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, Fault> {
        let file = match File::open(dir.join(MARK_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Fault::io("open"))?,
        };
        let mut bytes = Vec::with_capacity(MARK_LEN);
        // What is longer isn't ours, however long it may be.
        let mut file = file.take(MARK_LEN as u64 + 1);
        file.read_to_end(&mut bytes).map_err(Fault::io("read"))?;
        Ok(Self::parse(&bytes))
    }

    /// Puts the mark beside the database. A crash before the rename leaves it without one.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let (new, mark) = (dir.join(NEW_FILE), dir.join(MARK_FILE));
        let failed = |error| StoreError::io("mark", dir, error);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        write_file(&new, &self.to_bytes())
            .and_then(|()| fs::rename(&new, &mark).map_err(failed))
            .inspect_err(|_| {
                // On a full disk it would only be in the way.
                let _ = fs::remove_file(&new);
            })
    }

    /// Checks that the database in `dir` is what it was, byte for byte.
    pub(super) fn check(&self, dir: &Path) -> Result<(), Fault> {
        let Left::Closed(expected) = self.left else {
            return Err(Fault::Damaged(
                "it was found damaged before, and not touched since".to_owned(),
            ));
        };
        let found = Contents::of(dir).map_err(Fault::io("read"))?;
        let difference = if found.log_bytes != expected.log_bytes {
            format!(
                "`{LOG_FILE}` has {} bytes, and had {} when it was closed",
                found.log_bytes, expected.log_bytes
            )
        } else if found.log_crc != expected.log_crc {
            format!(
                "`{LOG_FILE}` has checksum {:08x}, and had {:08x} when it was closed",
                found.log_crc, expected.log_crc
            )
        } else if found.settings_crc != expected.settings_crc {
            format!("`{SETTINGS_FILE}` is not what it was")
        } else {
            return Ok(());
        };
        Err(Fault::Damaged(difference))
    }

    /// Takes the mark away, on the device, before the database may change: an old mark beside new bytes would
    /// look like damage.
    pub(super) fn remove(dir: &Path) -> Result<(), Fault> {
        match fs::remove_file(dir.join(MARK_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| sync_names(dir))
                .map_err(Fault::io("remove")),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let (left, contents) = match self.left {
            Left::Closed(contents) => (1u16, contents),
            Left::Damaged => (2, Contents::default()),
        };
        let mut bytes = Vec::with_capacity(MARK_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&left.to_le_bytes());
        bytes.extend_from_slice(&contents.settings_crc.to_le_bytes());
        bytes.extend_from_slice(&contents.log_bytes.to_le_bytes());
        bytes.extend_from_slice(&contents.log_crc.to_le_bytes());
        bytes.extend_from_slice(&self.end.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk()?;
        if bytes.len() != MARK_LEN || crc32c::crc32c(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (magic, rest) = covered.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        if *magic != MAGIC || u16::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (left, rest) = rest.split_first_chunk()?;
        let (settings_crc, rest) = rest.split_first_chunk()?;
        let (log_bytes, rest) = rest.split_first_chunk()?;
        let (log_crc, rest) = rest.split_first_chunk()?;
        let (end, _) = rest.split_first_chunk()?;
        let left = match u16::from_le_bytes(*left) {
            1 => Left::Closed(Contents {
                settings_crc: u32::from_le_bytes(*settings_crc),
                log_bytes: u64::from_le_bytes(*log_bytes),
                log_crc: u32::from_le_bytes(*log_crc),
            }),
            2 => Left::Damaged,
            _ => return None,
        };
        let end = u64::from_le_bytes(*end);
        Some(Self { left, end })
    }
}

impl Contents {
    fn of(dir: &Path) -> io::Result<Self> {
        let (_, settings_crc) = checksum(&dir.join(SETTINGS_FILE))?;
        let (log_bytes, log_crc) = checksum(&dir.join(LOG_FILE))?;
        Ok(Self {
            settings_crc,
            log_bytes,
            log_crc,
        })
    }
}

/// Length and CRC-32C of a file of any size.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, crc));
        }
        crc = crc32c::crc32c_append(crc, piece.get(..read).unwrap_or_default());
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> (tempfile::TempDir, Mark) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOG_FILE), vec![7; 3 * PIECE_BYTES + 5]).unwrap();
        fs::write(dir.path().join(SETTINGS_FILE), b"segment_size: 4").unwrap();
        let mark = Mark::of_closed(dir.path(), 42).unwrap();
        mark.write(dir.path()).unwrap();
        (dir, mark)
    }

    #[test]
    fn a_mark_reads_back_as_it_was_written_until_it_is_removed() {
        let (dir, mark) = closed();
        assert_eq!(Mark::read(dir.path()).unwrap(), Some(mark));
        mark.check(dir.path()).unwrap();
        Mark::remove(dir.path()).unwrap();
        Mark::remove(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()).unwrap(), None);
        let damaged = Mark::of_damaged(9);
        damaged.write(dir.path()).unwrap();
        assert_eq!(Mark::read(dir.path()).unwrap(), Some(damaged));
        assert!(matches!(damaged.check(dir.path()), Err(Fault::Damaged(_))));
    }

    #[test]
    fn every_change_of_a_marked_database_is_noticed() {
        for file in [LOG_FILE, SETTINGS_FILE] {
            let (dir, mark) = closed();
            let path = dir.path().join(file);
            let bytes = fs::read(&path).unwrap();
            let flipped = |at: usize| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                bytes
            };
            let (last, more) = (bytes.len() - 1, [&bytes[..], b"\0"].concat());
            for changed in [flipped(0), flipped(last), bytes[..last].to_vec(), more] {
                fs::write(&path, changed).unwrap();
                assert!(matches!(mark.check(dir.path()), Err(Fault::Damaged(_))));
            }
            fs::write(&path, &bytes).unwrap();
            mark.check(dir.path()).unwrap();
        }
    }

    #[test]
    fn a_damaged_mark_says_nothing() {
        let (dir, mark) = closed();
        let bytes = mark.to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(dir.path().join(MARK_FILE), damaged).unwrap();
            assert_eq!(Mark::read(dir.path()).unwrap(), None, "byte {at}");
            fs::write(dir.path().join(MARK_FILE), &bytes[..at]).unwrap();
            assert_eq!(Mark::read(dir.path()).unwrap(), None, "cut at {at}");
        }
    }
}
