//! The disk of the machine.

use super::{Disk, DiskFile, Entry, How, Kind, Space, found};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
#[cfg(not(unix))]
use std::io::Read as _;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(how != How::Read)
            .create(matches!(how, How::OpenOrCreate | How::Create))
            .truncate(how == How::Create);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(RealFile {
            file: options.open(path)?,
            cursor: None,
        }))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let metadata = found(fs::symlink_metadata(path))?;
        Ok(metadata.map(|metadata| describe(path.to_owned(), &metadata)))
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // What vanishes meanwhile was somebody else's.
            if let Some(metadata) = found(entry.metadata())? {
                entries.push(describe(entry.path(), &metadata));
            }
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Elsewhere a directory can't be opened as a file, and its names need no sync.
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(dir).and_then(|dir| dir.sync_all()) {
            // Some network file systems have no such operation: their names are as durable as they get.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stats = fs4::statvfs(dir)?;
        Ok(Space {
            total: stats.total_space(),
            free: stats.available_space(),
        })
    }
}

fn describe(path: PathBuf, metadata: &Metadata) -> Entry {
    let kind = if metadata.is_file() {
        Kind::File
    } else if metadata.is_dir() {
        Kind::Dir
    } else {
        Kind::Other
    };
    Entry {
        path,
        kind,
        len: metadata.len(),
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Where the file's own position is, if that is known: appends go on there without saying so.
    cursor: Option<u64>,
}

impl DiskFile for RealFile {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        // Not every system reads without moving it.
        self.cursor = None;
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match read_once(&mut self.file, rest, at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, mut parts: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        let end = at + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.cursor.take() != Some(at) {
            self.file.seek(SeekFrom::Start(at))?;
        }
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.file.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut parts, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.cursor = Some(end);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&mut self) -> io::Result<()> {
        self.file.unlock()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let found = found(fs::metadata(path))?;
        let held = self.file.metadata()?;
        Ok(found.is_some_and(|found| is_same(&held, &found)))
    }

    fn has_name(&self) -> io::Result<bool> {
        #[cfg(unix)]
        return Ok(std::os::unix::fs::MetadataExt::nlink(&self.file.metadata()?) > 0);
        // Elsewhere a file that is held open can't be removed.
        #[cfg(not(unix))]
        Ok(true)
    }
}

#[cfg(unix)]
fn is_same(held: &Metadata, found: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

/// Elsewhere a file that is held open can't be replaced.
#[cfg(not(unix))]
fn is_same(_held: &Metadata, _found: &Metadata) -> bool {
    true
}

#[cfg(unix)]
fn read_once(file: &mut File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(not(unix))]
fn read_once(file: &mut File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek(SeekFrom::Start(at))?;
    file.read(buffer)
}
