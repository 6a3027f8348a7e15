//! The file system, as far as the channel needs it: the seam below everything of ours that is on disk.
//!
//! A crash shows what a store's order of writes is worth, so tests put a recording disk here that fails at
//! will and hands out every state that a crash may leave. (sled does its own I/O, past this seam.)

mod leaving;
mod real;
#[cfg(test)]
pub(crate) mod sim;

pub(crate) use self::leaving::Leaving;
pub(crate) use self::real::RealDisk;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system.
pub(crate) trait Disk: Debug + Send + Sync {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>>;

    /// What has that name, a symbolic link not followed; `None` when nothing has.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;

    /// What is in a directory, by name. The directory must exist.
    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Makes one directory, private to its owner; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory another name, in one step; a file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Puts the names in a directory on the device: a file whose name isn't there is gone after a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How much the file system below `dir` holds and has left, in bytes.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file. Positions are given with each call; nothing depends on the call before.
pub(crate) trait DiskFile: Debug + Send {
    /// Fills `buffer` from position `at`, less of it only at the end of the file.
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `parts`, one after the other, from position `at`. After an error any part of it may be written.
    fn write_at(&mut self, parts: &mut [IoSlice<'_>], at: u64) -> io::Result<()>;

    /// Puts data and length on the device. After an error nobody knows what is there, and a second call that works
    /// proves nothing about the first.
    fn sync(&mut self) -> io::Result<()>;

    fn len(&mut self) -> io::Result<u64>;

    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Takes the operating system's lock on the file; false when another owner has it.
    fn try_lock(&mut self) -> io::Result<bool>;

    fn unlock(&mut self) -> io::Result<()>;

    /// Whether that name still leads to this file.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// Whether any name still leads to this file, as far as the system can tell: costs less than asking for one.
    fn has_name(&self) -> io::Result<bool>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// One that exists, to be read.
    Read,
    /// One that exists, to be read and written.
    Write,
    /// One that exists or is made, to be read and written.
    OpenOrCreate,
    /// Made, or emptied where it exists.
    Create,
}

/// Something that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    /// Links, pipes, devices.
    Other,
}

/// How much a file system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// Tells "it isn't there" from other errors.
pub(crate) fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) type DiskRef = Arc<dyn Disk>;

/// The disk of the machine.
pub(crate) fn real() -> DiskRef {
    Arc::new(RealDisk)
}
