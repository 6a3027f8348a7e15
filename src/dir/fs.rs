//! The few things that a disk leaves to its users: durable names, whole files, sizes of trees.

use crate::disk::{Disk, Entry, How, Kind, found};
use crate::error::StoreError;
use std::io::{self, IoSlice};
use std::path::Path;

/// More than any file that is read as a whole: a foreign file of the same name must not fill the memory.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Creates `path` and whatever is missing above it, and makes each new name durable, and the one that was there, too:
/// a process may have died between making it and syncing its name. What exists is left as it is.
pub(crate) fn create_dir(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for dir in path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty())
    {
        if leads_to_dir(disk, dir)? {
            match disk.sync_dir(parent(dir)) {
                // Then somebody else made it.
                Err(error) if is_out_of_reach(&error) => {}
                outcome => outcome.map_err(|error| StoreError::io("sync", parent(dir), error))?,
            }
            break;
        }
        missing.push(dir);
    }
    for dir in missing.into_iter().rev() {
        match disk.create_dir(dir) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && leads_to_dir(disk, dir)? => {}
            outcome => outcome.map_err(|error| StoreError::io("create", dir, error))?,
        }
        sync_dir(disk, parent(dir))?;
    }
    Ok(())
}

fn is_out_of_reach(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Whether there is a directory, or a link to one: people put spools behind links.
fn leads_to_dir(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let entry = disk
        .entry(path)
        .map_err(|error| StoreError::io("look at", path, error))?;
    Ok(match entry.map(|entry| entry.kind) {
        Some(Kind::Dir) => true,
        Some(Kind::Other) => path.is_dir(),
        _ => false,
    })
}

/// Puts the names in a directory on the device: a file whose name isn't there is gone after a power cut.
pub(crate) fn sync_dir(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    disk.sync_dir(path)
        .map_err(|error| StoreError::io("sync", path, error))
}

/// Puts a file of `bytes` at `path`. A crash at any point leaves the old file or the new one: the bytes are on
/// the device before the name is theirs, and the name is on the device when this returns.
pub(crate) fn replace(
    disk: &dyn Disk,
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let mut file = disk
        .open(temporary, How::Create)
        .map_err(|error| StoreError::io("create", temporary, error))?;
    file.write_at(&mut [IoSlice::new(bytes)], 0)
        .and_then(|()| file.sync())
        .map_err(|error| StoreError::io("write", temporary, error))?;
    drop(file);
    disk.rename(temporary, path)
        .map_err(|error| StoreError::io("rename", temporary, error))?;
    sync_dir(disk, parent(path))
}

/// The entries of a directory, by name; none when it doesn't exist.
pub(crate) fn entries(disk: &dyn Disk, path: &Path) -> Result<Vec<Entry>, StoreError> {
    found(disk.entries(path))
        .map(Option::unwrap_or_default)
        .map_err(|error| StoreError::io("list", path, error))
}

/// The bytes of a regular file, at most [`READ_BYTES_MAX`] of them; `None` when there is no such file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    read_at_most(disk, path, READ_BYTES_MAX)
}

/// The bytes of a regular file, at most so many of them; `None` when there is no such file.
pub(crate) fn read_at_most(
    disk: &dyn Disk,
    path: &Path,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    // Opening a pipe would wait for its other end.
    let len = match disk.entry(path).map_err(failed)? {
        Some(entry) if entry.kind == Kind::File => entry.len.min(bytes_max),
        _ => return Ok(None),
    };
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = disk
        .open(path, How::Read)
        .and_then(|mut file| file.read_at(&mut bytes, 0));
    Ok(found(read).map_err(failed)?.map(|count| {
        bytes.truncate(count);
        bytes
    }))
}

/// True when something has that name, a broken symbolic link included.
pub(crate) fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    disk.entry(path)
        .map(|entry| entry.is_some())
        .map_err(|error| StoreError::io("look at", path, error))
}

/// The bytes of all files at and below `path`. Symbolic links are not followed, and what vanishes meanwhile
/// counts for nothing.
pub(crate) fn tree_bytes(disk: &dyn Disk, path: &Path) -> Result<u64, StoreError> {
    let entry = disk
        .entry(path)
        .map_err(|error| StoreError::io("look at", path, error))?;
    entry.map_or(Ok(0), |entry| bytes_at(disk, &entry))
}

fn bytes_at(disk: &dyn Disk, entry: &Entry) -> Result<u64, StoreError> {
    match entry.kind {
        Kind::File => Ok(entry.len),
        Kind::Other => Ok(0),
        Kind::Dir => entries(disk, &entry.path)?
            .iter()
            .try_fold(0, |sum, entry| Ok(sum + bytes_at(disk, entry)?)),
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    #[test]
    fn missing_parents_are_created_and_private() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("var").join("spool");
        create_dir(&RealDisk, &deep).unwrap();
        create_dir(&RealDisk, &deep).unwrap();
        assert!(deep.is_dir());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&deep), 0o700);
            replace(&RealDisk, &deep.join("file"), &deep.join("file.new"), b"x").unwrap();
            assert_eq!(mode(&deep.join("file")), 0o600);
        }
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(create_dir(&RealDisk, &file).is_err());
        assert!(create_dir(&RealDisk, &file.join("below")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn sizes_do_not_follow_symbolic_links() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        let inside = root.path().join("inside");
        fs::create_dir_all(inside.join("deeper")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), vec![0; 5000]).unwrap();
        fs::write(inside.join("small"), b"123").unwrap();
        fs::write(inside.join("deeper").join("small"), b"45").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("large"), inside.join("file")).unwrap();
        assert_eq!(tree_bytes(&RealDisk, &inside).unwrap(), 5);
        assert_eq!(
            tree_bytes(&RealDisk, &root.path().join("absent")).unwrap(),
            0
        );
    }
}
