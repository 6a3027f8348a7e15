//! The one file that names sled: an ordered map from [`Key`] to values in one database directory.
//!
//! The keys are spread over many small trees, each named by its first key and holding the keys up to
//! the next tree's name. sled writes a page anew whenever it splits or has ten changes, so in a single
//! growing tree each value is written three times over; a tree that is left alone after nine values
//! never does either, and a value is written once.

use super::guard::{Fault, guarded};
use crate::seq::Seq;
use sled::{Config, Db, Error, Mode, Tree};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;

/// Values in a tree before the next one is begun: with the tenth, sled would write all of them again.
const TREE_VALUES: usize = 9;
/// What sled may keep of pages; its bookkeeping is too coarse to keep to it in a small database.
const CACHE_BYTES: u64 = 4 << 20;
const KEY_LEN: usize = 12;
/// Where a value stands: its block's first number and its part of the block, ordered as the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) first: Seq,
    pub(super) part: u32,
}

impl Key {
    pub(super) fn of_block(first: Seq) -> Self {
        Self { first, part: 0 }
    }

    fn to_bytes(self) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        let (first, part) = bytes.split_at_mut(size_of::<Seq>());
        first.copy_from_slice(&self.first.to_be_bytes());
        part.copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, part) = bytes.split_first_chunk()?;
        let part = part.try_into().ok()?;
        Some(Self {
            first: Seq::from_be_bytes(*first),
            part: u32::from_be_bytes(part),
        })
    }
}

/// The tree that new values go to.
struct Filling {
    name: Key,
    values: usize,
    bytes: usize,
}

/// What an insert does to sled's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// The value is added to it.
    Once,
    /// Values beside it may be written again too, and the places where they stood may be reused.
    Anew,
}

/// An open sled database.
pub(super) struct Engine {
    db: Db,
    trees: BTreeMap<Key, Tree>,
    filling: Option<Filling>,
    /// A tree of small values goes on beyond [`TREE_VALUES`] until it holds this many bytes, so
    /// that the list of trees, which sled writes anew with each tree, stays short.
    tree_bytes: usize,
}

impl Engine {
    /// Opens the database in `dir`, or makes it. A panic in here is what a flipped bit looks like.
    pub(super) fn open(dir: &Path, segment_bytes: usize) -> Result<Self, Fault> {
        let config = Config::new()
            .path(dir)
            .segment_size(segment_bytes)
            .cache_capacity(CACHE_BYTES)
            .mode(Mode::HighThroughput)
            .flush_every_ms(None);
        let open = || {
            let db = config.open()?;
            let mut trees = BTreeMap::new();
            for name in db.tree_names() {
                if let Some(key) = Key::parse(&name) {
                    trees.insert(key, db.open_tree(name)?);
                }
            }
            Ok((db, trees))
        };
        let (db, trees) = match guarded(open) {
            Ok(Ok(opened)) => opened,
            Ok(Err(Error::ReportableBug(message))) => return Err(Fault::Poisoned(message)),
            Ok(Err(error)) => return Err(fault("open", error)),
            Err(message) => return Err(Fault::Damaged(format!("sled panicked: {message}"))),
        };
        Ok(Self {
            db,
            trees,
            filling: None,
            tree_bytes: segment_bytes / 64,
        })
    }

    pub(super) fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Fault> {
        let Some((_, tree)) = self.trees.range(..=key).next_back() else {
            return Ok(None);
        };
        reading(|| tree.get(key.to_bytes())).map(|value| value.map(|value| value.to_vec()))
    }

    /// The greatest key below `key`.
    pub(super) fn before(&self, key: Key) -> Result<Option<Key>, Fault> {
        for tree in self.trees.range(..key).map(|(_, tree)| tree).rev() {
            if let Some((found, _)) = reading(|| tree.get_lt(key.to_bytes()))? {
                return Ok(Key::parse(&found));
            }
        }
        Ok(None)
    }

    /// The least key above `key`.
    pub(super) fn after(&self, key: Key) -> Result<Option<Key>, Fault> {
        let own = self.trees.range(..=key).next_back();
        let later = self.trees.range((Bound::Excluded(key), Bound::Unbounded));
        for tree in own.into_iter().chain(later).map(|(_, tree)| tree) {
            if let Some((found, _)) = reading(|| tree.get_gt(key.to_bytes()))? {
                return Ok(Key::parse(&found));
            }
        }
        Ok(None)
    }

    pub(super) fn last(&self) -> Result<Option<Key>, Fault> {
        self.before(Key {
            first: Seq::MAX,
            part: u32::MAX,
        })
    }

    /// The first key of the last page, known without reading it.
    pub(super) fn last_page(&self) -> Option<Key> {
        self.trees.keys().next_back().copied()
    }

    /// Stores `value` at `key`, and says how that was logged.
    pub(super) fn insert(&mut self, key: Key, value: &[u8]) -> Result<Logged, Fault> {
        let name = self.tree_for(key)?;
        if !self.trees.contains_key(&name) {
            self.trees
                .insert(name, writing(|| self.db.open_tree(name.to_bytes()))?);
        }
        if let Some(tree) = self.trees.get(&name) {
            writing(|| tree.insert(key.to_bytes(), value))?;
        }
        let filling = self.filling.as_mut().filter(|filling| filling.name == name);
        Ok(filling.map_or(Logged::Anew, |filling| {
            filling.values += 1;
            filling.bytes += value.len();
            if filling.values > TREE_VALUES {
                Logged::Anew
            } else {
                Logged::Once
            }
        }))
    }

    /// Hands everything inserted to the operating system.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        writing(|| self.db.flush()).map(|_| ())
    }

    /// Closes the database; its lock may outlive the call by a moment.
    pub(super) fn close(self) -> Result<(), Fault> {
        // sled's drop syncs, on this thread, and panics where the device refuses.
        guarded(move || drop(self)).map_err(|message| {
            let source = std::io::Error::other(message);
            Fault::Io {
                operation: "close",
                source,
            }
        })
    }

    /// The name of the tree that `key` belongs in, which is `key` itself where a new one is due.
    fn tree_for(&mut self, key: Key) -> Result<Key, Fault> {
        if let Some((name, tree)) = self.trees.range(..=key).next_back() {
            let has_room = self.filling.as_ref().is_some_and(|filling| {
                filling.name == *name
                    && (filling.values < TREE_VALUES || filling.bytes < self.tree_bytes)
            });
            // A tree named `key` would hide the later keys of the tree before it.
            let has_later = || {
                let last = writing(|| tree.last())?;
                Ok(last.is_some_and(|(last, _)| *last >= key.to_bytes()[..]))
            };
            if has_room || has_later()? {
                return Ok(*name);
            }
        }
        self.filling = Some(Filling {
            name: key,
            values: 0,
            bytes: 0,
        });
        Ok(key)
    }
}

/// A read that panics has met damaged bytes.
fn reading<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match guarded(call) {
        Ok(result) => result.map_err(|error| match error {
            Error::ReportableBug(message) => Fault::Damaged(message),
            error => fault("read", error),
        }),
        Err(message) => Err(Fault::Damaged(format!("sled panicked: {message}"))),
    }
}

/// A write that panics may have taken one of sled's own threads with it, and then no sled database
/// in this process works any more.
fn writing<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    guarded(call)
        .map_err(Fault::Poisoned)?
        .map_err(|error| fault("write", error))
}

fn fault(operation: &'static str, error: Error) -> Fault {
    match error {
        // A file that is shorter than its contents say.
        Error::Io(source) if source.kind() == ErrorKind::UnexpectedEof => {
            Fault::Damaged(format!("the database is cut short: {source}"))
        }
        Error::Io(source) => Fault::Io { operation, source },
        Error::ReportableBug(message) => Fault::Poisoned(message),
        damaged => Fault::Damaged(format!("sled: {damaged}")),
    }
}
