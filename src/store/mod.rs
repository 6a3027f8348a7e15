//! The seam between the durable queue and the bytes on disk.
//!
//! A store keeps blocks in *units* (a sled database, a segment file), each named by a sequence number.
//! Units are ordered by name, and a unit named `n` holds only blocks whose first number lies in
//! `[n, name of the next unit)`. It knows nothing of items, locks or threads: one worker owns it.

#[cfg(any(test, feature = "test-util"))]
pub(crate) mod faulty;
pub(crate) mod log;
pub(crate) mod moving;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(feature = "sled")]
pub(crate) mod sled;

use crate::block::Block;
use crate::error::StoreError;
use crate::ledger::Ledger;
use crate::seq::Seq;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk-backed queue of blocks.
pub(crate) trait Store: Send {
    /// Hands `blocks` to the operating system: after `Ok` a crash of this process loses none of them.
    /// Each block goes to the unit with the highest name at or below its first number, a new unit
    /// where there is none, where that one is full, or where it was set aside. Blocks that continue the tail arrive in ascending
    /// order; `halt` also appends blocks that are older than everything stored.
    ///
    /// After an error none, some or all of them may be stored; appending the same blocks again is
    /// right and stores each once. `StoreError::is_full` tells a full disk apart.
    fn append(&mut self, blocks: &[Arc<Block>]) -> Result<(), StoreError>;

    /// The block that holds number `at`, or the first one after it. `Ok(None)`: nothing at or after it.
    fn read(&mut self, at: Seq) -> Result<Option<Block>, ReadError>;

    /// Puts everything appended so far on the device, as far as this store can.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// One past the highest number that is stored (0 when nothing is).
    fn end(&self) -> Seq;

    /// The names of all units, ascending.
    fn units(&self) -> Vec<Seq>;

    /// The name of the unit after `unit`.
    fn unit_after(&self, unit: Seq) -> Option<Seq>;

    /// The units that hold only finished numbers, oldest first. The newest unit is among them only
    /// when nothing unfinished is stored at all.
    fn reclaimable(&self, finished: &Ledger) -> Vec<Seq>;

    /// The oldest unit that holds numbers `>= from` only, and the numbers in it: what `DropOldest` gives up. Never the
    /// newest unit: its space would not come back, and the newest items are the ones to keep.
    fn oldest_unit(&mut self, from: Seq) -> Option<(Seq, Range<Seq>)>;

    /// Gives the unit's space back, though it may still take a moment: see [`settle`](Self::settle). A crash in between
    /// leaves it whole or gone.
    fn remove(&mut self, unit: Seq) -> Result<(), StoreError>;

    /// Returns when the file system has the space of everything that was removed; false if it had it already.
    fn settle(&mut self) -> bool;

    /// Closes the unit and moves its files to `dest` (which doesn't exist yet), never to be read from here again.
    fn set_aside(&mut self, unit: Seq, dest: &Path) -> Result<(), StoreError>;

    /// Leaves the unit's files where they are and treats it as gone from now on.
    fn exclude(&mut self, unit: Seq);

    /// The unit in which number `at` should have been, and where it is, if it ends in bytes that nobody can read.
    fn suspect(&mut self, at: Seq) -> Option<(Seq, PathBuf)> {
        let _ = at;
        None
    }

    /// Bytes that the store's files occupy on disk now.
    fn disk_bytes(&self) -> u64;

    /// How many bytes of blocks can surely be appended at once with the store's files staying within `limit` bytes.
    fn headroom(&self, limit: u64) -> u64;

    /// What several appends may take beyond one of the same blocks: the headroom of a limit that is lower by
    /// this is enough for as many bytes in any number of appends.
    fn slack(&self) -> u64;

    /// Whether these blocks go to files that are open, and nothing is looked up by its name.
    fn uses_open_files(&self, _blocks: &[Arc<Block>]) -> bool {
        false
    }

    /// Closes everything; returns when a reopen works.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// Why a block could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The device or the store failed: nothing is known about the data.
    Store(StoreError),
    /// The bytes are there and wrong, or gone. With `resume`, reading goes on from that number, which is the one
    /// asked for where only that there is damage has to be told, and the same bytes are not reported again;
    /// without it, nothing more can be read from this unit.
    Damaged {
        unit: Seq,
        path: PathBuf,
        reason: String,
        resume: Option<Seq>,
    },
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
