//! The directory of databases: names, creation, removal, sizes. The one file that builds names here.
//!
//! Each database is a directory named by its first number as twenty decimal digits, so that
//! names sort as numbers do. A name that begins with a dot is one in the making or one on its way out.

use super::database::LOG_FILE;
use crate::error::StoreError;
use crate::seq::Seq;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME_DIGITS: usize = 20;
const NEW_PREFIX: &str = ".new-";
const OLD_PREFIX: &str = ".old-";
const KEPT_PREFIX: &str = ".kept-";
const IDENTITY_FILE: &str = "identity";

/// A database on disk, open or not.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: Seq,
    pub(super) size: Size,
    /// One past its highest number, once it has been open.
    pub(super) end: Option<Seq>,
}

/// What a database occupies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Bytes of all its files.
    pub(super) bytes: u64,
    /// Those of sled's log.
    pub(super) log_bytes: u64,
}

/// The databases in the store's directory, oldest first.
#[derive(Debug)]
pub(super) struct Chain {
    dir: PathBuf,
    units: Vec<Unit>,
    /// Excluded databases, whose files still occupy their place.
    excluded: Vec<Unit>,
    /// Bytes of databases that earlier processes excluded and then needed the names of.
    kept_bytes: u64,
}

impl Chain {
    /// Lists the databases in `dir` after removing what a crash left half-made or half-removed.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let (units, excluded) = (Vec::new(), Vec::new());
        let mut chain = Self {
            dir: dir.to_owned(),
            units,
            excluded,
            kept_bytes: 0,
        };
        for name in names(dir)? {
            let path = dir.join(&name);
            if name.starts_with(NEW_PREFIX) || name.starts_with(OLD_PREFIX) {
                delete(&path)?;
            } else if let Some(name) = parse_name(&name) {
                chain.units.push(Unit {
                    name,
                    size: measure(&path)?,
                    end: None,
                });
            } else if name.starts_with(KEPT_PREFIX) {
                chain.kept_bytes += measure(&path)?.bytes;
            }
        }
        chain.units.sort_unstable_by_key(|unit| unit.name);
        Ok(chain)
    }

    pub(super) fn path(&self, name: Seq) -> PathBuf {
        self.dir.join(unit_name(name))
    }

    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    pub(super) fn unit_mut(&mut self, name: Seq) -> Option<&mut Unit> {
        self.units.iter_mut().find(|unit| unit.name == name)
    }

    /// The unit with the greatest name at or below `seq`.
    pub(super) fn at_or_below(&self, seq: Seq) -> Option<&Unit> {
        let after = self.units.partition_point(|unit| unit.name <= seq);
        self.units.get(after.checked_sub(1)?)
    }

    /// The name of the first unit above `seq`.
    pub(super) fn name_above(&self, seq: Seq) -> Option<Seq> {
        let after = self.units.partition_point(|unit| unit.name <= seq);
        self.units.get(after).map(|unit| unit.name)
    }

    /// Where the numbers of `unit` end: exactly where that is known, else at the next unit's name.
    pub(super) fn end_of(&self, unit: &Unit) -> Option<Seq> {
        unit.end.or_else(|| self.name_above(unit.name))
    }

    /// The identity under which the database `name` was made.
    pub(super) fn identity(&self, name: Seq) -> Option<Vec<u8>> {
        fs::read(self.path(name).join(IDENTITY_FILE)).ok()
    }

    /// Measures the database `name` again, after it was written to.
    pub(super) fn refresh(&mut self, name: Seq, end: Seq) -> Result<(), StoreError> {
        let measured = measure(&self.path(name));
        if let Some(unit) = self.unit_mut(name) {
            unit.end = Some(end);
            if let Ok(size) = measured {
                unit.size = size;
            }
        }
        measured.map(|_| ())
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        let units = self.units.iter().chain(&self.excluded);
        units.map(|unit| unit.size.bytes).sum::<u64>() + self.kept_bytes
    }

    /// Makes the store's own directory, where there is none yet.
    pub(super) fn make_dir(&self) -> Result<(), StoreError> {
        make_dir(&self.dir)
    }

    /// Makes the database `name` as `fill` says. It appears under its name only when everything in it
    /// is on the device: a crash before leaves something that the next open removes.
    pub(super) fn create(
        &mut self,
        name: Seq,
        identity: &[u8],
        fill: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.make_way(name)?;
        let path = self.path(name);
        let new = self.dir.join(format!("{NEW_PREFIX}{}", unit_name(name)));
        delete(&new)?;
        let made = fill_new(&new, identity, fill).and_then(|()| rename(&new, &path));
        if made.is_err() {
            // On a full disk every byte of a failed attempt is in the way.
            let _ = delete(&new);
        }
        made?;
        sync_dir(&self.dir)?;
        let size = measure(&path)?;
        let at = self.units.partition_point(|unit| unit.name < name);
        self.units.insert(
            at,
            Unit {
                name,
                size,
                end: Some(name),
            },
        );
        Ok(())
    }

    /// Removes the database `name`. A crash before the rename is on the device leaves it whole; one
    /// after it, something that the next open removes.
    pub(super) fn remove(&mut self, name: Seq) -> Result<(), StoreError> {
        if self.unit_mut(name).is_some() {
            rename(
                &self.path(name),
                &self.dir.join(format!("{OLD_PREFIX}{}", unit_name(name))),
            )?;
            self.units.retain(|unit| unit.name != name);
            sync_dir(&self.dir)?;
        }
        for name in names(&self.dir)? {
            if name.starts_with(OLD_PREFIX) {
                delete(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Moves the files of the database `name` to `dest`.
    pub(super) fn move_out(&mut self, name: Seq, dest: &Path) -> Result<(), StoreError> {
        rename(&self.path(name), dest)?;
        self.units.retain(|unit| unit.name != name);
        sync_dir(&self.dir)?;
        dest.parent().map_or(Ok(()), sync_dir)
    }

    /// Forgets the database `name`; its files stay.
    pub(super) fn exclude(&mut self, name: Seq) {
        let at = self.units.iter().position(|unit| unit.name == name);
        self.excluded.extend(at.map(|at| self.units.remove(at)));
    }

    /// Moves an excluded database out of the way of a new one with its name.
    fn make_way(&mut self, name: Seq) -> Result<(), StoreError> {
        let path = self.path(name);
        if self.excluded.iter().any(|unit| unit.name == name) {
            let free = (0..).map(|n: u32| {
                self.dir
                    .join(format!("{KEPT_PREFIX}{n}-{}", unit_name(name)))
            });
            let kept = free.into_iter().find(|kept| !kept.exists());
            kept.map_or(Ok(()), |kept| rename(&path, &kept))?;
        }
        Ok(())
    }
}

fn fill_new(
    new: &Path,
    identity: &[u8],
    fill: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    make_dir(new)?;
    write_file(&new.join(IDENTITY_FILE), identity)?;
    fill(new)?;
    sync_dir(new)
}

/// Measures the files in `dir`, without looking deeper.
fn measure(dir: &Path) -> Result<Size, StoreError> {
    let measure = || {
        let mut size = Size::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                size.bytes += metadata.len();
            }
            if entry.file_name() == LOG_FILE {
                size.log_bytes = metadata.len();
            }
        }
        Ok(size)
    };
    measure().map_err(|error| StoreError::io("measure", dir, error))
}

fn unit_name(name: Seq) -> String {
    format!("{name:0NAME_DIGITS$}")
}

fn parse_name(name: &str) -> Option<Seq> {
    let digits = name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

/// The names in `dir` that are valid UTF-8, as all of ours are. No directory: no names.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let list = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().into_string().ok()))
            .filter_map(Result::transpose)
            .collect::<io::Result<Vec<_>>>()
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|error| StoreError::io("list", dir, error)),
    }
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| StoreError::io("create", path, error))
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| StoreError::io("write", path, error))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| StoreError::io("rename", from, error))
}

/// Deletes a directory with everything in it; a symbolic link is deleted itself, not what it names.
fn delete(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    sync_names(dir).map_err(|error| StoreError::io("sync", dir, error))
}

/// Makes renames, creations and removals in `dir` survive a power cut, where the system can.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
