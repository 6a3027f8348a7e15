//! How letters leave: as new items, or for good.
//!
//! A piece of letters becomes a block of the store. Which numbers it gets is on the device before the block is, and
//! the block before the position passes the letters. So whoever finds an *intent* after a crash asks the store for a
//! block with these numbers, and knows whether the letters have become items.

use super::{DeadLetter, Intent, Letters, Place, Position};
use crate::error::StoreError;
use crate::seq::Seq;

/// The oldest letters, on their way to become items.
#[derive(Debug)]
pub(crate) struct Piece {
    letters: Vec<DeadLetter>,
    end: Place,
    damaged_bytes: u64,
}

impl Piece {
    /// In their order; never none.
    pub(crate) fn letters(&self) -> &[DeadLetter] {
        &self.letters
    }

    /// Bytes among them that nobody can read, and that leave with them.
    pub(crate) fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }
}

impl Letters {
    /// The oldest letters, as many as fit in `bytes_max` on disk, but at least one; `None` when there are none.
    pub(crate) fn next_piece(&mut self, bytes_max: u64) -> Result<Option<Piece>, StoreError> {
        let start = self.position.now().place;
        let mut piece = Piece {
            letters: Vec::new(),
            end: start,
            damaged_bytes: 0,
        };
        let mut room = bytes_max;
        for part in self.parts() {
            let Some(mut walk) = self.walk(&part)? else {
                continue;
            };
            let mut is_full = false;
            while let Some(header) = walk.seek()? {
                let len = header.frame_len();
                is_full = !piece.letters.is_empty() && len > room;
                if is_full {
                    break;
                }
                if let Some(letter) = walk.take(&header)? {
                    room = room.saturating_sub(len);
                    piece.letters.push(letter);
                }
            }
            if walk.damaged() > 0 {
                self.damaged.insert(part.number);
                piece.damaged_bytes += walk.damaged();
            }
            piece.end = Place {
                file: part.number,
                offset: if is_full { walk.position() } else { part.to },
            };
            if is_full {
                break;
            }
        }
        if !piece.letters.is_empty() {
            return Ok(Some(piece));
        }
        if piece.end > start {
            self.pass(piece.end)?;
        }
        Ok(None)
    }

    /// Puts on the device that `piece` gets the numbers from `first_seq` on. Only then the block with them is appended.
    ///
    /// # Errors
    ///
    /// The intent may be on the device all the same. So it is [pending](Self::pending_intent), and its numbers must go to
    /// nothing else before the same call has worked or [`resolve`](Self::resolve) has.
    pub(crate) fn begin_requeue(
        &mut self,
        piece: &Piece,
        first_seq: Seq,
        incarnation: u64,
    ) -> Result<(), StoreError> {
        let intent = Intent {
            first_seq,
            incarnation,
            count: u32::try_from(piece.letters.len()).unwrap_or(u32::MAX),
            end: piece.end,
        };
        debug_assert!(
            self.intent
                .as_ref()
                .is_none_or(|pending| *pending == intent),
            "one requeue at a time"
        );
        self.intent = Some(intent.clone());
        let place = self.position.now().place;
        self.move_to(place, Some(intent))
    }

    /// A requeue that was begun and not finished, by an earlier process or because of an error.
    pub(crate) fn pending_intent(&self) -> Option<&Intent> {
        self.intent.as_ref()
    }

    /// Ends the pending requeue: the letters are gone when they were stored as items, otherwise they stay. The answer is
    /// for good, so after a crash the store is synced before it is asked.
    pub(crate) fn resolve(&mut self, was_stored: bool) -> Result<(), StoreError> {
        let Some(intent) = self.intent.clone() else {
            return Ok(());
        };
        if was_stored {
            self.pass(intent.end)?;
            let gone = u64::from(intent.count);
            self.count = self.count.map(|count| count.saturating_sub(gone));
        } else {
            let place = self.position.now().place;
            self.move_to(place, None)?;
        }
        self.intent = None;
        Ok(())
    }

    /// Removes all letters, in one step, and says how many there were.
    pub(crate) fn purge(&mut self) -> Result<u64, StoreError> {
        let count = self.count()?;
        if !self.files.is_empty() {
            let file = self.next_number();
            self.move_to(Place { file, offset: 0 }, None)?;
            self.damaged.clear();
        }
        self.intent = None;
        self.count = Some(0);
        self.reclaim();
        let disk = &self.disk;
        self.kept.retain(|path, _| disk.remove_file(path).is_err());
        Ok(count)
    }

    /// Lets go of everything before `end`, which is no further than the letters that are there. At the end of a file the
    /// next one is the place: then the file can go.
    fn pass(&mut self, end: Place) -> Result<(), StoreError> {
        let is_all = self.end_of(end.file).is_none_or(|len| end.offset >= len);
        let place = if is_all {
            Place {
                file: end.file + 1,
                offset: 0,
            }
        } else {
            end
        };
        self.move_to(place, None)?;
        self.reclaim();
        Ok(())
    }

    fn move_to(&mut self, place: Place, intent: Option<Intent>) -> Result<(), StoreError> {
        let end = intent.as_ref().map_or(place, |intent| intent.end);
        self.floor = self.floor.max(place).max(end);
        self.position
            .write(self.disk.as_ref(), Position { place, intent })
    }

    /// Gives the space of files back that nothing counts in. What can't be removed now is tried again with the next.
    pub(super) fn reclaim(&mut self) {
        let first = self.position.now().place.file;
        let gone: Vec<u64> = self
            .files
            .range(..first)
            .map(|(number, _)| *number)
            .collect();
        // A power cut must not bring back a position that needs the files.
        if gone.is_empty() || self.position.settle(self.disk.as_ref()).is_err() {
            return;
        }
        self.tail.take_if(|tail| tail.number < first);
        for number in gone {
            let path = crate::dir::letters_file(&self.dir, number);
            if self.damaged.contains(&number) {
                let kept = crate::dir::damaged_letters(&self.dir, number);
                if self.disk.rename(&path, &kept).is_ok() {
                    let len = self.files.remove(&number).unwrap_or_default();
                    self.kept.insert(kept, len);
                    let _ = self.disk.sync_dir(&self.dir);
                }
            } else if crate::disk::found(self.disk.remove_file(&path)).is_ok() {
                self.files.remove(&number);
            }
        }
    }
}
