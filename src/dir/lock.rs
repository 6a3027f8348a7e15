//! One owner per directory.

use super::{Directory, clock};
use crate::disk::{DiskFile, How};
use crate::error::{OpenError, StoreError};
use std::io::{self, IoSlice};
use std::path::PathBuf;

/// The operating system's lock on a directory, held as long as this value lives and no longer than its process.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

impl DirLock {
    /// Takes the lock or says at once who has it. The lock file stays for ever: deleting it would let two
    /// processes hold locks on two files of the same name.
    pub(crate) fn acquire(directory: &Directory) -> Result<Self, OpenError> {
        let path = directory.lock();
        let mut file = directory
            .disk()
            .open(&path, How::OpenOrCreate)
            .map_err(|error| StoreError::io("open", &path, error))?;
        match file.try_lock() {
            Ok(true) => {}
            Ok(false) => {
                let pid = owner(file.as_mut());
                return Err(OpenError::Locked {
                    path: directory.path().to_owned(),
                    pid,
                });
            }
            Err(error) => return Err(StoreError::io("lock", &path, error).into()),
        }
        // The text only informs: a disk without room for it must not keep anybody from draining.
        let _ = sign(file.as_mut());
        Ok(Self { file, path })
    }

    /// Checks that the lock file is still in its place: what is written into a directory that was removed, or put
    /// back from somewhere, looks written and nobody will ever find it.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.expect(self.file.is_at(&self.path))
    }

    /// As [`check`](Self::check), for what is done with every item: it tells that the lock file was removed, not that
    /// it went elsewhere together with all that is beside it.
    pub(crate) fn check_name(&self) -> Result<(), StoreError> {
        self.expect(self.file.has_name())
    }

    fn expect(&self, is_there: io::Result<bool>) -> Result<(), StoreError> {
        let held = match is_there {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        };
        held.map_err(|error| StoreError::io("find the held lock at", &self.path, error))
    }

    /// Gives the lock back; dropping the value does the same, without saying whether it worked.
    pub(crate) fn release(mut self) -> Result<(), StoreError> {
        self.file
            .unlock()
            .map_err(|error| StoreError::io("unlock", &self.path, error))
    }
}

/// Overwrites before it truncates, so that a text that is there already gives its space to the new one.
fn sign(file: &mut dyn DiskFile) -> io::Result<()> {
    let text = format!("{}\n{}\n", std::process::id(), clock::utc(clock::now_ms()));
    file.write_at(&mut [IoSlice::new(text.as_bytes())], 0)?;
    file.set_len(text.len() as u64)
}

/// The owner's process id, unless it has the lock and has not signed yet.
fn owner(file: &mut dyn DiskFile) -> Option<u32> {
    let mut bytes = [0; 256];
    let len = file.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(bytes.get(..len)?).ok()?;
    let (pid, _since) = text.strip_suffix('\n')?.split_once('\n')?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn directory() -> (tempfile::TempDir, Directory) {
        let root = tempfile::tempdir().unwrap();
        let (directory, _) = Directory::prepare(&crate::disk::real(), root.path()).unwrap();
        (root, directory)
    }

    #[test]
    fn a_second_lock_in_the_same_process_names_the_owner() {
        let (_root, directory) = directory();
        let lock = DirLock::acquire(&directory).unwrap();
        match DirLock::acquire(&directory) {
            Err(OpenError::Locked { path, pid }) => {
                assert_eq!(path, directory.path());
                assert_eq!(pid, Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        lock.release().unwrap();
        let again = DirLock::acquire(&directory).unwrap();
        drop(again);
        assert!(directory.lock().exists());
        DirLock::acquire(&directory).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn a_lock_file_that_was_removed_or_replaced_is_noticed() {
        let (_root, directory) = directory();
        let lock = DirLock::acquire(&directory).unwrap();
        lock.check().unwrap();
        lock.check_name().unwrap();
        std::fs::remove_file(directory.lock()).unwrap();
        assert!(lock.check().is_err());
        assert!(lock.check_name().is_err());
        std::fs::write(directory.lock(), "").unwrap();
        assert!(lock.check().is_err());
        assert!(lock.check_name().is_err());
    }

    #[test]
    fn an_owner_that_has_not_signed_yet_has_no_pid() {
        let (_root, directory) = directory();
        for text in ["", "12", "12\n", "twelve\n2026-01-01T00:00:00Z\n"] {
            std::fs::write(directory.lock(), text).unwrap();
            let owner = File::open(directory.lock()).unwrap();
            owner.try_lock().unwrap();
            match DirLock::acquire(&directory) {
                Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, None, "{text:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_longer_text_of_an_earlier_owner_leaves_nothing_behind() {
        let (_root, directory) = directory();
        std::fs::write(directory.lock(), "x".repeat(200)).unwrap();
        let lock = DirLock::acquire(&directory).unwrap();
        drop(lock);
        let text = std::fs::read_to_string(directory.lock()).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('x'));
    }
}
