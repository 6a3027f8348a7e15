//! The file beside the slots, for what they have no room for: a whole checkpoint in its large form.
//!
//! It is always replaced as a whole, and on the device before anything relies on it. From then on slots leave out what it
//! tells, so it is written anew only when they are full of what it doesn't tell yet. It may stay behind, or come back
//! after a power cut, when nobody needs it any more: what it tells stays true, because numbers stay finished.

use super::bytes::Unreadable;
use super::checkpoint::Checkpoint;
use super::checkpoint_format::{
    Details, Found, LARGE_ENTRIES, LARGE_LEN_MAX, LARGE_MAGIC, decode, encode_large, finished,
};
use super::{ChannelId, Directory, fs};
use crate::error::{OpenError, StoreError};
use crate::ledger::Ledger;
use crate::seq::{Seq, SeqSet};
use std::collections::BTreeMap;

/// What is known of the file.
#[derive(Debug, Default)]
pub(super) struct Large {
    /// Its length; 0 when there is none.
    pub(super) len: u64,
    /// The numbers that it says are finished; none when it can't be read.
    finished: SeqSet,
    failures: BTreeMap<Seq, u32>,
}

impl Large {
    /// Reads the file of that channel. One that is damaged or another channel's tells nothing, and is replaced or
    /// removed like any other.
    pub(super) fn open(
        directory: &Directory,
        channel: Option<ChannelId>,
    ) -> Result<(Self, Option<Found>), OpenError> {
        // What a crash left of one in the making may be large, and nobody will overwrite it soon.
        let _ = directory
            .disk()
            .remove_file(&directory.checkpoint_large_temporary());
        let Some((len, found)) = look(directory)? else {
            return Ok(Default::default());
        };
        // A process may have died between giving the file its name and syncing that.
        fs::sync_dir(directory.disk(), directory.path())?;
        let found = found.filter(|found| channel == Some(found.channel));
        let large = Self {
            len,
            finished: found.as_ref().map(Found::finished).unwrap_or_default(),
            failures: found
                .as_ref()
                .map(|found| found.failures.clone())
                .unwrap_or_default(),
        };
        Ok((large, found))
    }

    /// Puts a file with all of the checkpoint on the device. When that fails, the one that was there tells what it told.
    pub(super) fn replace(
        &mut self,
        directory: &Directory,
        checkpoint: &Checkpoint,
        generation: u64,
    ) -> Result<(), StoreError> {
        let ledger = &checkpoint.ledger;
        let mut details = Details::all(ledger);
        details.ranges.truncate(LARGE_ENTRIES);
        details.failures.truncate(LARGE_ENTRIES);
        let bytes = encode_large(checkpoint, generation, &details);
        let temporary = directory.checkpoint_large_temporary();
        let (disk, path) = (directory.disk(), directory.checkpoint_large());
        fs::replace(disk, &path, &temporary, &bytes).inspect_err(|_| {
            // It takes space that somebody may be short of.
            let _ = disk.remove_file(&temporary);
        })?;
        *self = Self {
            len: bytes.len() as u64,
            finished: finished(SeqSet::default(), ledger.cursor(), &details.ranges),
            failures: details.failures.into_iter().collect(),
        };
        Ok(())
    }

    /// Removes the file. Failing that it stays for another time, which does no harm.
    pub(super) fn remove(&mut self, directory: &Directory) {
        if self.len > 0
            && directory
                .disk()
                .remove_file(&directory.checkpoint_large())
                .is_ok()
        {
            *self = Self::default();
        }
    }

    /// What the file doesn't tell.
    pub(super) fn beyond(&self, ledger: &Ledger) -> Details {
        let failures = ledger.all_failures().iter();
        Details {
            ranges: ledger.above().beyond(&self.finished).cloned().collect(),
            failures: failures
                .filter(|(seq, count)| self.failures.get(seq) != Some(count))
                .map(|(seq, count)| (*seq, *count))
                .collect(),
        }
    }

    /// The ledger that the file and a slot with these details tell together.
    pub(super) fn with(&self, ledger: &Ledger, details: &Details) -> Ledger {
        let mut above = finished(self.finished.clone(), ledger.cursor(), &details.ranges);
        let cursor = above.take_first_at(0).unwrap_or(0);
        Ledger::restore(cursor, above, *ledger.counters())
            .with_failures(self.failures.clone())
            .with_memory_end(ledger.memory_end())
    }
}

/// Whether a file of ours is there; looks, and changes nothing.
pub(super) fn is_present(directory: &Directory) -> Result<bool, OpenError> {
    Ok(look(directory)?.is_some_and(|(_, found)| found.is_some()))
}

/// The length of the file, and its checkpoint unless it is damaged.
fn look(directory: &Directory) -> Result<Option<(u64, Option<Found>)>, OpenError> {
    let path = directory.checkpoint_large();
    let Some(bytes) = fs::read_at_most(directory.disk(), &path, LARGE_LEN_MAX as u64)? else {
        return Ok(None);
    };
    let found = match decode(&bytes, LARGE_MAGIC) {
        Ok(found) => Some(found),
        Err(Unreadable::Version(found)) => return Err(directory.wrong_format(Some(found))),
        Err(Unreadable::Damaged) => None,
    };
    Ok(Some((bytes.len() as u64, found)))
}

#[cfg(test)]
#[path = "checkpoint_large_tests.rs"]
mod tests;
