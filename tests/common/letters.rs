//! Dead letters: looked at, put back, removed, and found again by the next process.

use super::machine::Machine;
use super::model::Model;
use super::ops::End;
use super::slot::{Letter, Slot};
use super::{Item, poll_and_drop, wait_until};
use overspill::{Bincode, Codec, DeadLetter};

impl Machine {
    /// The letters that are there, each compared with what is known of it.
    pub(super) fn check_letters(&mut self) -> Vec<DeadLetter> {
        let letters = self.read_letters();
        assert_eq!(letters.len(), self.model.letters.len());
        self.model.check_letters(&letters);
        letters
    }

    /// The letters at a moment at which none is being written; the model knows of all that were.
    fn read_letters(&mut self) -> Vec<DeadLetter> {
        loop {
            let before = self.note_gone().dead_lettered;
            let mut iter = self.now().channel.dead_letters();
            let letters: Vec<_> = iter.by_ref().collect();
            assert_eq!((iter.error(), iter.damaged_bytes()), (None, 0));
            if self.note_gone().dead_lettered == before {
                return letters;
            }
        }
    }

    pub(super) fn requeue(&mut self) {
        if !self.setup.takes_letters() {
            return;
        }
        let mut result = self.now().channel.requeue_dead_letters();
        let expected = result.clone();
        while result.is_err() {
            // One fault fails one call; the worker goes on with what that one began.
            assert!(self.now().faulty, "{result:?}");
            result = self.now().channel.requeue_dead_letters();
        }
        let left = self.read_letters();
        let moved = self.model.letters.len() - left.len();
        if let Ok(count) = expected {
            assert_eq!(count, moved as u64);
        }
        self.model.requeue(moved);
        self.model.check_letters(&left);
    }

    pub(super) fn requeue_and_crash(&mut self, polls: u8) {
        if !self.setup.takes_letters() {
            return;
        }
        let channel = self.now().channel.clone();
        poll_and_drop(channel.requeue_dead_letters_async(), usize::from(polls));
        drop(channel);
        self.may_requeue = true;
        self.reopen(End::Crash);
        self.may_requeue = false;
    }

    pub(super) fn purge(&mut self) {
        let count = self.now().channel.purge_dead_letters();
        let left = self.read_letters();
        let gone = self.model.letters.len() - left.len();
        assert_eq!(count, Ok(gone as u64));
        self.model.letters.drain(..gone);
        self.model.check_letters(&left);
    }

    /// What an end has made of those that were on their way to the letters, and on their way back.
    pub(super) fn note_letters_found(&mut self) {
        let found = self.read_letters();
        self.model.revive_doomed();
        self.requeued = self.model.letters.len() - found.len();
        assert!(self.requeued == 0 || self.may_requeue, "letters are gone");
        let left = self.model.letters.split_off(self.requeued);
        let gone = std::mem::replace(&mut self.model.letters, left);
        self.model.check_letters(&found);
        // They come behind everything else, which is still to be looked at.
        self.model.letters = gone
            .into_iter()
            .chain(std::mem::take(&mut self.model.letters))
            .collect();
    }

    pub(super) fn note_requeued(&mut self) {
        let count = std::mem::take(&mut self.requeued);
        self.model.requeue(count);
    }

    /// Makes room for every letter that waits for some.
    pub(super) fn settle(&mut self) {
        wait_until("no letter waits", || {
            self.note_gone();
            if !self.model.doomed.is_empty() {
                self.purge();
            }
            self.model.doomed.is_empty()
        });
    }
}

impl Model {
    /// So many more became letters.
    pub(super) fn bury(&mut self, count: u64) {
        self.dead_lettered += count;
        for _ in 0..count {
            let key = self.doomed.pop_front().expect("nobody else was given up");
            let slot = self.slots.remove(&key).expect("it was there until now");
            let name = slot.name.expect("it was seen before");
            self.letters.push_back(Letter {
                id: slot.id,
                name,
                failures: slot.failures,
            });
        }
    }

    /// The oldest letters are new items.
    pub(super) fn requeue(&mut self, count: usize) {
        let now = self.now;
        for letter in self.letters.drain(..count).collect::<Vec<_>>() {
            let mut slot = Slot::new(letter.id, now);
            slot.was = Some(letter.name);
            self.insert(slot);
        }
    }

    /// Those that did not become letters before the end come again.
    fn revive_doomed(&mut self) {
        for key in std::mem::take(&mut self.doomed) {
            self.slot(key).revive();
        }
    }

    fn check_letters(&self, found: &[DeadLetter]) {
        assert_eq!(found.len(), self.letters.len(), "{found:?}");
        for (letter, found) in self.letters.iter().zip(found) {
            let item: Item = Bincode.decode(&found.bytes).expect("an item");
            let seen = (item.intact(), found.seq, found.incarnation, found.attempts);
            let name = letter.name;
            let expected = (letter.id, name.seq, name.incarnation, letter.failures);
            assert_eq!(seen, expected, "{found:?}");
        }
    }

    /// True when it is certain how often each of them failed.
    pub(super) fn knows_failures(&self, keys: &[super::model::Key]) -> bool {
        let mut slots = keys.iter().filter_map(|key| self.slots.get(key));
        slots.all(|slot| slot.name.is_some() && slot.failures().is_some())
    }
}
