//! The few things that the standard library leaves to its users: private files, durable names, sizes of trees.

use crate::error::StoreError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// More than any file that is read as a whole: a foreign file of the same name must not fill the memory.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Options for a file that only its owner can read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates `path` and whatever is missing above it, and makes each new name durable. What exists is left as it is.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir())
        .collect();
    for dir in missing.into_iter().rev() {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            outcome => outcome.map_err(|error| StoreError::io("create", dir, error))?,
        }
        sync_dir(parent(dir))?;
    }
    Ok(())
}

/// Puts the names in a directory on the device: a file whose name isn't there is gone after a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    // Elsewhere a directory can't be opened as a file, and its names need no sync.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(path).and_then(|dir| dir.sync_all()) {
        // Some network file systems have no such operation: their names are as durable as they get.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        outcome => outcome.map_err(|error| StoreError::io("sync", path, error)),
    }
}

/// Puts a file of `bytes` at `path`. A crash at any point leaves the old file or the new one: the bytes are on
/// the device before the name is theirs, and the name is on the device when this returns.
pub(crate) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = private_file()
        .write(true)
        .create(true)
        .truncate(true)
        .open(temporary)
        .map_err(|error| StoreError::io("create", temporary, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| StoreError::io("write", temporary, error))?;
    drop(file);
    fs::rename(temporary, path).map_err(|error| StoreError::io("rename", temporary, error))?;
    sync_dir(parent(path))
}

/// The entries of a directory, by name; none when it doesn't exist.
pub(crate) fn entries(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = fs::read_dir(path).and_then(|dir| {
        dir.map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut paths = found(listed)
        .map_err(|error| StoreError::io("list", path, error))?
        .unwrap_or_default();
    paths.sort();
    Ok(paths)
}

/// The bytes of a regular file, at most [`READ_BYTES_MAX`] of them; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    // Opening a pipe would wait for its other end.
    match found(fs::symlink_metadata(path)).map_err(failed)? {
        Some(metadata) if metadata.is_file() => {}
        _ => return Ok(None),
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(READ_BYTES_MAX).read_to_end(&mut bytes));
    Ok(found(read).map_err(failed)?.map(|_| bytes))
}

/// True when something has that name, a broken symbolic link included.
pub(crate) fn exists(path: &Path) -> Result<bool, StoreError> {
    found(fs::symlink_metadata(path))
        .map(|metadata| metadata.is_some())
        .map_err(|error| StoreError::io("look at", path, error))
}

/// The bytes of all files at and below `path`. Symbolic links are not followed, and what vanishes meanwhile
/// counts for nothing.
pub(crate) fn tree_bytes(path: &Path) -> Result<u64, StoreError> {
    let metadata = found(fs::symlink_metadata(path))
        .map_err(|error| StoreError::io("look at", path, error))?;
    match metadata {
        Some(metadata) if metadata.is_dir() => entries(path)?
            .iter()
            .try_fold(0, |sum, entry| Ok(sum + tree_bytes(entry)?)),
        Some(metadata) if metadata.is_file() => Ok(metadata.len()),
        _ => Ok(0),
    }
}

/// Tells "it isn't there" from other errors.
pub(crate) fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parents_are_created_and_private() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("var").join("spool");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        assert!(deep.is_dir());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&deep), 0o700);
            replace(&deep.join("file"), &deep.join("file.new"), b"x").unwrap();
            assert_eq!(mode(&deep.join("file")), 0o600);
        }
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(create_dir(&file).is_err());
        assert!(create_dir(&file.join("below")).is_err());
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
        assert_eq!(tree_bytes(&inside).unwrap(), 5);
        assert_eq!(tree_bytes(&root.path().join("absent")).unwrap(), 0);
    }
}
