//! Dead letters in these histories: written down, requeued and purged in the order that the worker keeps to, and what of
//! them a crash may leave.

use super::driver::Driver;
use super::model::{Item, Outcome, record};
use super::{HISTORIES, checker, run};
use crate::block::BlockBuilder;
use crate::dir::{DeadLetter, Piece};
use crate::ledger::Outcome as Finish;
use crate::queue::Queue;
use crate::seq::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What a caller of letters may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// Items are finished, for good, before their letters are written.
    FinishesFirst,
    /// Letters leave before it is on the device that their items are finished.
    ForgetsFinished,
    /// The block is written without an intent.
    SkipsIntent,
    /// Letters are gone before their block is on the device.
    RemovesFirst,
}

/// What is promised of letters.
#[derive(Clone, Debug, Default)]
pub(super) struct Letters {
    /// Those that the device has, in order.
    there: Vec<Item>,
    /// Those that are being written, behind them.
    pub(super) coming: Vec<Item>,
    /// Those of the first that are becoming items, with their new numbers.
    leaving: BTreeMap<Item, Seq>,
    /// All of them are to go.
    is_purging: bool,
}

impl Letters {
    /// Every item is a letter or an item, and never both and never neither.
    pub(super) fn check(&self, outcome: &Outcome) -> Result<(), String> {
        let mut found = outcome.letters.iter().peekable();
        let expected = self.there.iter().chain(&self.coming);
        let found_some = expected
            .filter(|item| found.next_if_eq(item).is_some())
            .count();
        if let Some(item) = found.next() {
            return Err(format!("{item:?} is a letter, after {found_some} others"));
        }
        let letters: BTreeSet<Item> = outcome.letters.iter().copied().collect();
        let mut items = BTreeSet::new();
        for (_, item) in &outcome.delivered {
            if !items.insert(*item) || letters.contains(item) {
                return Err(format!("{item:?} is there twice"));
            }
        }
        let may_be_gone = self.is_purging && self.there.iter().all(|item| !letters.contains(item));
        for item in &self.there {
            let is_item = items.contains(item) && self.leaving.contains_key(item);
            if !letters.contains(item) && !is_item && !may_be_gone {
                return Err(format!("letter {item:?} is gone"));
            }
        }
        Ok(())
    }

    /// What an opening has made of it. Returns the numbers of those that are items now, for good.
    pub(super) fn settle(&mut self, found: &Outcome) -> Vec<Seq> {
        let items = found.delivered.iter();
        let moved = items.filter(|(seq, item)| self.leaving.get(item) == Some(seq));
        let moved = moved.map(|(seq, _)| *seq).collect();
        *self = Self {
            there: found.letters.clone(),
            ..Self::default()
        };
        moved
    }
}

impl Driver {
    /// Writes some items down as letters, wherever they are.
    pub(super) fn bury(&mut self) -> Result<(), String> {
        let is_open = |seq: &&Seq| !self.now.finished.is_finished(**seq);
        let there = self.now.written.iter().chain(&self.memory);
        let mut seqs: BTreeSet<Seq> = there.filter(is_open).copied().collect();
        for _ in 3.min(seqs.len())..seqs.len() {
            let any = seqs.iter().nth(self.random.below(seqs.len())).copied();
            seqs.retain(|seq| Some(*seq) != any);
        }
        if seqs.is_empty() {
            return Ok(());
        }
        self.begin(format!("bury {seqs:?}"));
        let letters: Vec<_> = seqs.iter().map(|seq| self.letter(*seq)).collect();
        let items = seqs.iter().map(|seq| self.item(*seq));
        self.now.letters.coming = items.collect();
        if self.breach == Some(Breach::FinishesFirst) {
            self.finish_buried(&seqs);
            self.insist(Queue::checkpoint_durably)?;
        }
        self.note();
        self.insist(|queue, _| queue.append_letters(&letters))?;
        self.finish_buried(&seqs);
        let coming = std::mem::take(&mut self.now.letters.coming);
        self.now.letters.there.extend(coming);
        self.note();
        Ok(())
    }

    fn finish_buried(&mut self, seqs: &BTreeSet<Seq>) {
        for seq in seqs {
            self.memory.remove(seq);
            self.now
                .finished
                .finish(*seq..*seq + 1, Finish::DeadLettered);
        }
    }

    fn item(&self, seq: Seq) -> Item {
        let written = self.now.contents.get(&seq).copied();
        written.unwrap_or((seq, self.epoch))
    }

    fn letter(&self, seq: Seq) -> DeadLetter {
        DeadLetter {
            seq,
            incarnation: self.queue.incarnation(),
            encoded_in: self.queue.incarnation(),
            attempts: self.now.finished.failures(seq),
            reason: "no".to_owned(),
            bytes: record(self.item(seq)),
            at: UNIX_EPOCH,
        }
    }

    fn make_final(&mut self) -> Result<(), String> {
        if self.breach != Some(Breach::ForgetsFinished) {
            self.insist(Queue::checkpoint_durably)?;
            self.note_checkpoint_on_device();
            self.note();
        }
        Ok(())
    }

    /// Makes items of the oldest letters.
    pub(super) fn requeue(&mut self) -> Result<(), String> {
        self.begin("requeue".to_owned());
        self.make_final()?;
        let bytes = 1 + 1000 * self.random.below(2) as u64;
        let Some(piece) = self.insist(|queue, _| queue.letters()?.next_piece(bytes))? else {
            return Ok(());
        };
        let first = self.next_seq;
        let block = self.requeued_block(&piece);
        self.next_seq = block.end();
        let moved = self
            .now
            .letters
            .there
            .iter()
            .copied()
            .zip(first..block.end());
        self.now.letters.leaving = moved.collect();
        let leaving = self.now.letters.leaving.iter();
        self.now
            .contents
            .extend(leaving.map(|(item, seq)| (*seq, *item)));
        self.note();
        let incarnation = self.queue.incarnation();
        if self.breach != Some(Breach::SkipsIntent) {
            self.insist(|queue, _| queue.letters()?.begin_requeue(&piece, first, incarnation))?;
        }
        self.insist(|queue, _| queue.append(&[Arc::clone(&block)]))?;
        if self.breach != Some(Breach::RemovesFirst) {
            self.insist(|queue, _| queue.sync_data())?;
        }
        self.insist(|queue, _| queue.letters()?.resolve(true))?;
        self.now.written.extend(first..block.end());
        // Behind a sync, everything that was written is safe, this block included.
        self.now.safe = self.now.written.clone();
        let gone = std::mem::take(&mut self.now.letters.leaving);
        self.now
            .letters
            .there
            .retain(|item| !gone.contains_key(item));
        self.note();
        Ok(())
    }

    fn requeued_block(&self, piece: &Piece) -> Arc<crate::block::Block> {
        let mut builder = BlockBuilder::with_origins(self.next_seq, 0, 64);
        for letter in piece.letters() {
            let id = (letter.incarnation, letter.seq);
            builder.push_origin(id, letter.encoded_in, &letter.bytes);
        }
        self.seal(builder, self.queue.claimed_end())
    }

    pub(super) fn purge(&mut self) -> Result<(), String> {
        self.begin("purge".to_owned());
        self.make_final()?;
        self.now.letters.is_purging = true;
        self.note();
        self.insist(|queue, _| queue.letters()?.purge())?;
        self.now.letters = Letters::default();
        self.note();
        Ok(())
    }
}

fn is_found_out(breach: Breach, told: &str) {
    let found = (0..HISTORIES).find_map(|seed| {
        let mut checker = checker(seed);
        checker.setup.breach = Some(breach);
        run(&mut checker, seed, None).err()
    });
    let found = found.expect("it is found out");
    assert!(found.contains(told), "{found}");
}

#[test]
fn items_that_are_finished_before_their_letters_are_written_are_found_out() {
    is_found_out(Breach::FinishesFirst, "is gone");
}

#[test]
fn letters_that_leave_before_their_items_are_finished_for_good_are_found_out() {
    is_found_out(Breach::ForgetsFinished, "");
}

#[test]
fn letters_that_become_items_without_an_intent_are_found_out() {
    is_found_out(Breach::SkipsIntent, "is there twice");
}

#[test]
fn letters_that_are_gone_before_their_block_is_on_the_device_are_found_out() {
    is_found_out(Breach::RemovesFirst, "is gone");
}
