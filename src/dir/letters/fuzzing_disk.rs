//! The disk of the machine without its syncs: a fuzzer has no power to lose, and much to try.

use crate::disk::{Disk, DiskFile, Entry, How, RealDisk, Space};
use std::io::{self, IoSlice};
use std::path::Path;

#[derive(Debug)]
pub(super) struct HastyDisk;

#[derive(Debug)]
struct HastyFile(Box<dyn DiskFile>);

impl Disk for HastyDisk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HastyFile(RealDisk.open(path, how)?)))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        RealDisk.entry(path)
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.entries(dir)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealDisk.space(dir)
    }
}

impl DiskFile for HastyFile {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }

    fn write_at(&mut self, parts: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        self.0.write_at(parts, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&mut self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        self.0.try_lock()
    }

    fn unlock(&mut self) -> io::Result<()> {
        self.0.unlock()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.0.is_at(path)
    }

    fn has_name(&self) -> io::Result<bool> {
        self.0.has_name()
    }
}
