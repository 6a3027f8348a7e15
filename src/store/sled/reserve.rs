//! Space kept back on the disk, so that draining needs none.
//!
//! sled writes when it opens a database, even one that is only read: it fills up the last segment and
//! stores a snapshot. On a full disk the backlog could not be reached any more. So a file of zeros
//! stands by; it is given up for an open that finds no room, and nothing is appended until it stands
//! again.

use crate::error::StoreError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "reserve";

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    wanted_bytes: u64,
    bytes: u64,
}

impl Reserve {
    /// The reserve in `dir`, as large as it was found there.
    pub(super) fn open(dir: &Path, wanted_bytes: u64) -> Self {
        let path = dir.join(FILE);
        let bytes = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        Self {
            path,
            wanted_bytes,
            bytes,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it will take up beyond what it does now.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.wanted_bytes.saturating_sub(self.bytes)
    }

    /// Makes sure that it stands.
    pub(super) fn hold(&mut self) -> Result<(), StoreError> {
        if self.missing_bytes() == 0 {
            return Ok(());
        }
        let filled = self.fill();
        if filled.is_err() {
            // A part of it would only keep space from the other users of the disk.
            let _ = fs::remove_file(&self.path);
            self.bytes = 0;
        }
        filled.map_err(|error| StoreError::io("reserve space in", &self.path, error))
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut options = File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        // Zeros that are written take up space; a file that is merely made long doesn't.
        let zeros = [0; 16 << 10];
        while self.missing_bytes() > 0 {
            let len = zeros
                .len()
                .min(usize::try_from(self.missing_bytes()).unwrap_or(usize::MAX));
            file.write_all(zeros.get(..len).unwrap_or_default())?;
            self.bytes += len as u64;
        }
        Ok(())
    }

    /// Gives the space up. True when there was some.
    pub(super) fn release(&mut self) -> bool {
        let held = self.bytes > 0 && fs::remove_file(&self.path).is_ok();
        self.bytes = 0;
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_completed_given_up_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"what a crash left of it").unwrap();
        let mut reserve = Reserve::open(dir.path(), 100_000);
        reserve.hold().unwrap();
        assert_eq!(fs::metadata(&reserve.path).unwrap().len(), 100_000);
        assert_eq!((reserve.bytes(), reserve.missing_bytes()), (100_000, 0));
        assert!(reserve.release());
        assert!(!reserve.path.exists());
        assert!(!reserve.release(), "there is nothing left to give up");
        reserve.hold().unwrap();
        assert_eq!(Reserve::open(dir.path(), 100_000).missing_bytes(), 0);
    }
}
