//! A channel's directory: who owns it, whose it is, where a restart begins, and what was set aside.
//!
//! This file builds every name in it but those of the store's own files.
//!
//! ```text
//! LOCK           the owner, and the operating system's lock
//! channel        identity: format, codec, schema tag, channel id
//! checkpoint     cursor, counters and tail, in three slots; checkpoint.large for what has no room in one
//! sled/, log/    the store
//! quarantine/    damaged units
//! dead-letters/  items that were given up
//! ```

mod bytes;
mod checkpoint;
mod checkpoint_format;
mod checkpoint_large;
mod clock;
pub(crate) mod fs;
mod identity;
mod letters;
mod lock;
mod quarantine;

pub(crate) use self::checkpoint::{Checkpoint, CheckpointFile, Persist};
pub(crate) use self::identity::{Era, Identity, StoreKind, Wanted};
pub use self::letters::{DeadLetter, DeadLetters};
pub(crate) use self::letters::{LetterId, LetterLimits, Letters, Piece};
pub(crate) use self::lock::DirLock;
pub(crate) use self::quarantine::Quarantine;
pub use self::quarantine::Quarantined;

use self::identity::Fit;
use crate::disk::{Disk, DiskRef};
use crate::error::{OpenError, StoreError};
use crate::seq::Seq;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The format of everything in the directory; a change of any part of it changes this.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// Random bytes that no two channels share.
pub(crate) type ChannelId = [u8; 16];

const LOCK: &str = "LOCK";
const CHANNEL: &str = "channel";
const CHECKPOINT: &str = "checkpoint";
const CHECKPOINT_LARGE: &str = "checkpoint.large";
const SLED: &str = "sled";
const LOG: &str = "log";
const QUARANTINE: &str = "quarantine";
const DEAD_LETTERS: &str = "dead-letters";
const UNIT_IDENTITY: &str = "identity";
const TEMPORARY: &str = ".new";
const DESCRIPTION: &str = ".txt";
const LETTERS: &str = ".letters";
const DAMAGED: &str = ".damaged";
const POSITION: &str = "position";
/// What a freshly made file system has in its root, which people mount as a spool.
const LOST_AND_FOUND: &str = "lost+found";

/// The directory of one channel.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    disk: DiskRef,
    path: PathBuf,
}

/// How the identity came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The directory was new.
    Created,
    /// It was there.
    Kept,
    /// It was there, and has adopted the builder's schema tag.
    Adopted,
    /// The `channel` file was damaged or gone, and was written again.
    Rebuilt,
}

/// What the directory says about its channel.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    /// The builder asks for another schema, and can read the directory's.
    pub(crate) changes_schema: bool,
    pub(crate) checkpoint_file: CheckpointFile,
    /// `None` when it was damaged or gone: what the store holds must say where to begin.
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Directory {
    /// Creates the directory, or makes sure that it is a channel's or empty. Returns the entries that aren't ours.
    ///
    /// Writes nothing into a directory that exists: it may be somebody else's, or of a newer format.
    pub(crate) fn prepare(disk: &DiskRef, path: &Path) -> Result<(Self, Vec<PathBuf>), OpenError> {
        fs::create_dir(disk.as_ref(), path)?;
        let directory = Self {
            disk: Arc::clone(disk),
            path: path.to_owned(),
        };
        let entries = fs::entries(disk.as_ref(), path)?;
        let mut unknown: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path).collect();
        unknown.retain(|entry| !entry.file_name().is_some_and(is_known));
        let ours = identity::find(&directory)?.is_some() | checkpoint::is_present(&directory)?;
        // A name of ours proves nothing beside foreign files: other programs have a `LOCK`, too.
        if ours || unknown.is_empty() {
            Ok((directory, unknown))
        } else {
            Err(directory.wrong_format(None))
        }
    }

    /// Reads identity and checkpoint; creates or mends them where they are missing or damaged.
    ///
    /// Nothing is written before codec and schema are known to fit.
    pub(crate) fn load(
        &self,
        _owner: &DirLock,
        store: StoreKind,
        wanted: &Wanted,
    ) -> Result<Contents, OpenError> {
        let found = identity::find(self)?;
        let fit = match &found {
            Some((identity, _)) => identity.fit(self, wanted)?,
            None => Fit::Same,
        };
        let channel = found.as_ref().map(|(identity, _)| identity.channel);
        let opened = CheckpointFile::open(self, channel)?;
        let known = opened.as_ref().and_then(|(_, known)| known.as_ref());
        if let Some((identity, _)) = &found {
            let cursor = known.map_or(0, |known| known.ledger.cursor());
            identity.check_backlog(self, wanted, cursor)?;
        }
        let fresh = found.is_none()
            && opened.is_none()
            && !fs::exists(self.disk(), &self.channel())?
            && !fs::exists(self.disk(), &self.store(StoreKind::Sled))?
            && !fs::exists(self.disk(), &self.store(StoreKind::Log))?
            && !fs::exists(self.disk(), &self.dead_letters())?;
        let origin = match &found {
            _ if fresh => Origin::Created,
            Some((_, true)) if fit == Fit::Adopts => Origin::Adopted,
            Some((_, true)) => Origin::Kept,
            _ => Origin::Rebuilt,
        };
        let moves = matches!(&found, Some((identity, _)) if identity.store != store);
        let mut identity = if let Some((identity, _)) = found {
            identity
        } else {
            let channel = match known {
                Some(known) => Some(known.channel),
                None => letters::channel(self)?,
            };
            Identity::new(self, store, wanted.schema.clone(), channel)?
        };
        if fit == Fit::Adopts {
            identity.schema.clone_from(&wanted.schema);
        }
        identity.store = store;
        // The checkpoint comes before the identity: where a crash leaves only the first, the next open finds its
        // channel id there, and where there is an identity, a missing checkpoint is damage.
        let (checkpoint_file, checkpoint) = if let Some(opened) = opened {
            opened
        } else {
            let channel = identity.channel;
            let first = Checkpoint {
                channel,
                clean: fresh,
                ..Checkpoint::default()
            };
            (
                CheckpointFile::create(self, &first)?,
                fresh.then_some(first),
            )
        };
        if origin != Origin::Kept || moves {
            identity.write(self)?;
        }
        Ok(Contents {
            identity,
            origin,
            changes_schema: fit == Fit::Changes,
            checkpoint_file,
            checkpoint,
        })
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    fn channel(&self) -> PathBuf {
        self.path.join(CHANNEL)
    }

    fn channel_temporary(&self) -> PathBuf {
        temporary(&self.channel())
    }

    fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    fn checkpoint_temporary(&self) -> PathBuf {
        temporary(&self.checkpoint())
    }

    fn checkpoint_large(&self) -> PathBuf {
        self.path.join(CHECKPOINT_LARGE)
    }

    fn checkpoint_large_temporary(&self) -> PathBuf {
        temporary(&self.checkpoint_large())
    }

    /// The own directory of a store.
    pub(crate) fn store(&self, kind: StoreKind) -> PathBuf {
        self.path.join(match kind {
            StoreKind::Sled => SLED,
            StoreKind::Log => LOG,
        })
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.path.join(QUARANTINE)
    }

    pub(crate) fn dead_letters(&self) -> PathBuf {
        self.path.join(DEAD_LETTERS)
    }

    /// Where the copies of the identity are: in the units of the stores, the newest unit's first.
    fn identity_copies(&self) -> Result<Vec<PathBuf>, StoreError> {
        let segments = fs::entries(self.disk(), &self.store(StoreKind::Log))?;
        let units = fs::entries(self.disk(), &self.store(StoreKind::Sled))?;
        let units = units.into_iter().filter(|unit| {
            let name = unit.path.file_name().and_then(OsStr::to_str);
            name.is_some_and(is_unit)
        });
        let segments = segments.into_iter().map(|segment| segment.path);
        let mut copies: Vec<_> = segments
            .map(|path| (path.clone(), path))
            .chain(units.map(|unit| (unit.path.clone(), unit.path.join(UNIT_IDENTITY))))
            .collect();
        // Both name units by their first numbers.
        copies.sort_by(|(a, _), (b, _)| b.file_name().cmp(&a.file_name()));
        Ok(copies.into_iter().map(|(_, copy)| copy).collect())
    }

    fn wrong_format(&self, found: Option<u32>) -> OpenError {
        OpenError::Format {
            path: self.path.clone(),
            found,
            supported: FORMAT_VERSION.into(),
        }
    }
}

fn is_known(name: &OsStr) -> bool {
    let known = [
        LOCK,
        CHANNEL,
        CHECKPOINT,
        CHECKPOINT_LARGE,
        SLED,
        LOG,
        QUARANTINE,
        DEAD_LETTERS,
        LOST_AND_FOUND,
    ];
    name.to_str().is_some_and(|name| {
        let name = match name.strip_suffix(TEMPORARY) {
            Some(file @ (CHANNEL | CHECKPOINT | CHECKPOINT_LARGE)) => file,
            _ => name,
        };
        known.contains(&name)
    })
}

/// Where a file is written before it gets its name. What a crash leaves there is overwritten by the next one.
fn temporary(path: &Path) -> PathBuf {
    with_suffix(path, TEMPORARY)
}

/// The place in quarantine of the `number`-th unit of that name.
fn quarantined(unit: Seq, number: u32) -> String {
    format!("{unit:020}-{number}")
}

/// The text that describes what lies at a place in quarantine.
fn description(place: &Path) -> PathBuf {
    with_suffix(place, DESCRIPTION)
}

fn is_quarantined(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.and_then(|name| name.split_once('-'))
        .is_some_and(|(unit, number)| is_unit(unit) && number.parse::<u32>().is_ok())
}

/// The file of dead letters with that number.
fn letters_file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{LETTERS}"))
}

/// Where it is kept when it held damage and nothing in it counts any more.
fn damaged_letters(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{DAMAGED}"))
}

/// How far dead letters have been requeued.
fn letters_position(dir: &Path) -> PathBuf {
    dir.join(POSITION)
}

fn letters_number(path: &Path) -> Option<u64> {
    number_before(path, LETTERS)
}

fn is_damaged_letters(path: &Path) -> bool {
    number_before(path, DAMAGED).is_some()
}

fn number_before(path: &Path, suffix: &str) -> Option<u64> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    let number = name.strip_suffix(suffix).filter(|name| is_unit(name))?;
    // Nobody has come to a number that leaves no room for the next one.
    number.parse().ok().filter(|number| *number < u64::MAX / 2)
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.ends_with(TEMPORARY))
}

/// Units are named by a sequence number in 20 decimal digits.
fn is_unit(name: &str) -> bool {
    name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

/// Takes bytes as a slot of the checkpoint and as its large form, as they are and sealed.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz_checkpoint(bytes: &[u8]) {
    for magic in [
        checkpoint_format::SLOT_MAGIC,
        checkpoint_format::LARGE_MAGIC,
    ] {
        for bytes in [bytes, &bytes::resealed(bytes, magic)] {
            if let Ok(found) = checkpoint_format::decode(bytes, magic) {
                let ledger = found.into_checkpoint().ledger;
                let finished = ledger.cursor() + ledger.above().len();
                assert_eq!(ledger.counters().finished_numbers(), finished);
            }
        }
    }
}

/// The slots of a checkpoint whose checksums fit: each is `slots`' bytes behind the magic and the version.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz_slots(slots: &[&[u8]]) -> Vec<u8> {
    use checkpoint_format::{FRAME_LEN, SLOT_LEN, SLOT_MAGIC};
    let sealed = slots.iter().map(|slot| {
        let mut bytes = slot.to_vec();
        bytes.resize(SLOT_LEN - FRAME_LEN, 0);
        bytes::resealed(&bytes, SLOT_MAGIC)
    });
    sealed.flatten().collect()
}

/// The large form of a checkpoint whose checksum fits.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz_large(bytes: &[u8]) -> Vec<u8> {
    bytes::resealed(bytes, checkpoint_format::LARGE_MAGIC)
}

/// Takes bytes as files of dead letters, as they are and as a program that writes them.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz_letters(bytes: &[u8]) {
    letters::fuzzing::letters(bytes);
}

/// Takes bytes as the `channel` file, as they are and sealed.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz_identity(bytes: &[u8]) {
    for bytes in [bytes, &bytes::resealed(bytes, identity::MAGIC)] {
        if let Ok(identity) = Identity::decode(bytes) {
            debug_assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod checkpoint_crash_tests;

#[cfg(test)]
mod crash_tests;
