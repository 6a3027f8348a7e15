//! The file of letters that is written to.

use super::DeadLetter;
use super::frame::{Home, frame_len, reason};
use crate::dir::{fs, temporary};
use crate::disk::{Disk, DiskFile, How};
use crate::error::StoreError;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// How much is copied at once.
const COPY_BYTES: usize = 256 << 10;

/// An open file and how far it has come.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    home: Home,
    /// All before is on the device, and what is behind counts for nothing.
    pub(super) position: u64,
    /// Its name is on the device.
    is_named: bool,
    /// What is behind `position` may get to the device or come back: the file is replaced before it is written to.
    pub(super) is_suspect: bool,
}

impl Tail {
    pub(super) fn new(
        number: u64,
        path: PathBuf,
        file: Box<dyn DiskFile>,
        home: Home,
        position: u64,
    ) -> Self {
        Self {
            number,
            path,
            file,
            home,
            position,
            is_named: false,
            is_suspect: false,
        }
    }

    /// Appends `letters` in one write and puts them on the device. After an error the file ends where it did.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        letters: &[DeadLetter],
    ) -> Result<(), StoreError> {
        let mut end = self.position;
        let headers: Vec<_> = letters
            .iter()
            .map(|letter| {
                let header = self.home.seal(letter, end);
                end += frame_len(letter);
                header
            })
            .collect();
        let mut parts: Vec<IoSlice<'_>> = headers
            .iter()
            .zip(letters)
            .flat_map(|(header, letter)| [&header[..], reason(letter), &letter.bytes])
            .map(IoSlice::new)
            .collect();
        if let Err(error) = self.file.write_at(&mut parts, self.position) {
            // Where the space can't be given back, whole letters of this write may stand behind a shorter one.
            self.is_suspect = self.file.set_len(self.position).is_err();
            return Err(StoreError::io("write", &self.path, error));
        }
        if let Err(error) = self.put_on_device(disk) {
            // The device may have what nobody was promised, and the caller will append it again.
            self.is_suspect = true;
            let _ = self.file.set_len(self.position);
            return Err(error);
        }
        self.position = end;
        Ok(())
    }

    fn put_on_device(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("sync", &self.path, error);
        self.file.sync().map_err(failed)?;
        if !self.is_named {
            fs::sync_dir(disk, fs::parent(&self.path))?;
            self.is_named = true;
        }
        // Somebody may have removed it, and would never find what is written there.
        if self.file.is_at(&self.path).map_err(failed)? {
            Ok(())
        } else {
            Err(failed(io::ErrorKind::NotFound.into()))
        }
    }

    /// Puts a file in its place that ends where this one should.
    pub(super) fn repair(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.file = replace(disk, &self.path, self.file.as_mut(), self.position)?;
        self.is_suspect = false;
        self.is_named = true;
        Ok(())
    }

    /// What the file occupies.
    pub(super) fn len(&mut self) -> u64 {
        self.file.len().unwrap_or(self.position)
    }
}

/// Replaces the file at `path` by one with its first `len` bytes, all of it on the device: after a sync that failed
/// no later one on the same file proves anything. A crash leaves the one or the other.
pub(super) fn replace(
    disk: &dyn Disk,
    path: &Path,
    file: &mut dyn DiskFile,
    len: u64,
) -> Result<Box<dyn DiskFile>, StoreError> {
    let temporary = temporary(path);
    let failed = |error| StoreError::io("write", &temporary, error);
    let mut copy = disk.open(&temporary, How::Create).map_err(failed)?;
    let mut piece = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < len {
        let rest = usize::try_from(len - at).unwrap_or(usize::MAX);
        let piece = piece.get_mut(..rest.min(COPY_BYTES)).unwrap_or_default();
        let read = file
            .read_at(piece, at)
            .map_err(|error| StoreError::io("read", path, error))?;
        if read == 0 {
            break;
        }
        let seen = piece.get(..read).unwrap_or_default();
        copy.write_at(&mut [IoSlice::new(seen)], at)
            .map_err(failed)?;
        at += read as u64;
    }
    copy.sync().map_err(failed)?;
    disk.rename(&temporary, path)
        .map_err(|error| StoreError::io("rename", &temporary, error))?;
    fs::sync_dir(disk, fs::parent(path))?;
    Ok(copy)
}
