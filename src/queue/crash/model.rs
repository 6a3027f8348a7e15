//! What a queue has promised at some moment, and what it has no right to.

use super::letters::Letters;
use crate::disk::sim::Random;
use crate::ledger::{Counters, Ledger};
use crate::seq::Seq;
use std::collections::{BTreeMap, BTreeSet};

/// An opening of the directory in a history; a number may be given out again in a later one.
pub(super) type Epoch = u64;

/// An item, whatever its number is by now: the one that it had first, and in which epoch.
pub(super) type Item = (Seq, Epoch);

/// An item's bytes: different in every epoch, long enough to cross sectors, and every other one worth compressing.
pub(super) fn record((seq, epoch): Item) -> Vec<u8> {
    let mut random = Random(seq << 32 | epoch);
    let len = [0, 5, 60, 250, 500][random.below(5)] + random.below(12);
    let mut record = [seq, epoch].map(u64::to_le_bytes).concat();
    let word = random.next();
    let repeats = word.is_multiple_of(2);
    let words = std::iter::repeat_with(|| if repeats { word } else { random.next() });
    record.extend(words.flat_map(u64::to_le_bytes).take(len));
    record
}

/// The item with these bytes; an error when they are nobody's.
pub(super) fn item_of(bytes: &[u8]) -> Result<Item, String> {
    let number = |at: usize| {
        let number = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(number))
    };
    match number(0).zip(number(8)) {
        Some(item) if record(item) == bytes => Ok(item),
        item => Err(format!("{item:?} came with {} wrong bytes", bytes.len())),
    }
}

/// What holds when power goes, or the process ends, at one moment of a history.
#[derive(Clone, Debug, Default)]
pub(super) struct Promise {
    /// The numbers that may be on disk, whether or not anybody was told, and their items.
    pub(super) contents: BTreeMap<Seq, Item>,
    /// Those that the operating system has.
    pub(super) written: BTreeSet<Seq>,
    /// Those that the device has.
    pub(super) safe: BTreeSet<Seq>,
    /// What is finished by now.
    pub(super) finished: Ledger,
    /// What was finished at the last checkpoint that the operating system has.
    pub(super) finished_written: Ledger,
    /// What was finished at the last checkpoint that the device has.
    pub(super) finished_safe: Ledger,
    pub(super) letters: Letters,
    /// What was missing when this leg began, whether or not anybody had come across it.
    pub(super) was_missing: Counters,
    /// A power cut has torn things: what was missing then may be found in any order, and counted either way.
    pub(super) is_torn: bool,
    /// A device has thrown pages away: what wasn't synced is nobody's any more.
    pub(super) is_faulty: bool,
    /// The queue was closed, and nothing was done since.
    pub(super) is_clean: bool,
}

/// How things ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process is gone, the operating system has everything.
    Process,
    /// Only the device has anything.
    Power,
}

/// What a recovery came up with.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Finished according to the checkpoint that was found.
    pub(super) finished: Ledger,
    pub(super) was_clean: bool,
    /// What was read to the end, in order.
    pub(super) delivered: Vec<(Seq, Item)>,
    /// The dead letters, in order.
    pub(super) letters: Vec<Item>,
    /// After all of that.
    pub(super) ledger: Ledger,
    pub(super) next_seq: Seq,
}

impl Promise {
    /// Compares what a crash left with what it may leave.
    pub(super) fn check(&self, crash: Crash, outcome: &Outcome) -> Result<(), String> {
        let delivered: BTreeMap<Seq, Item> = outcome.delivered.iter().copied().collect();
        if outcome
            .delivered
            .windows(2)
            .any(|pair| pair[0].0 >= pair[1].0)
        {
            return Err(format!("out of order: {:?}", outcome.delivered));
        }
        for (seq, item) in &delivered {
            if self.contents.get(seq) != Some(item) {
                let expected = self.contents.get(seq);
                return Err(format!("{seq} is {item:?}, expected {expected:?}"));
            }
        }
        self.letters.check(outcome)?;
        let (mut kept, over) = match crash {
            Crash::Process if !self.is_faulty => (&self.written, &self.finished_written),
            _ => (&self.safe, &self.finished_safe),
        };
        if outcome.was_clean {
            // A checkpoint that says so is never ahead of the data.
            kept = &self.written;
        }
        for seq in kept {
            let is_back = delivered.contains_key(seq);
            let item = self.contents.get(seq);
            let is_letter = item.is_some_and(|item| outcome.letters.contains(item));
            let may_be_finished = self.finished.is_finished(*seq) || is_letter;
            let is_finished = outcome.finished.is_finished(*seq) && may_be_finished;
            if !is_back && !is_finished {
                return Err(format!("{seq} was promised and is gone"));
            }
        }
        if let Some(seq) = delivered.keys().find(|seq| over.is_finished(**seq)) {
            return Err(format!("{seq} was finished and is back"));
        }
        self.check_counters(crash, outcome)
    }

    fn check_counters(&self, crash: Crash, outcome: &Outcome) -> Result<(), String> {
        let (ledger, counters) = (&outcome.ledger, outcome.ledger.counters());
        let finished = ledger.cursor() + ledger.above().len();
        let counted = counters.finished_numbers();
        if counted != finished || ledger.pending(outcome.next_seq) != 0 {
            return Err(format!(
                "{finished} of {} numbers are finished and {counted} counted",
                outcome.next_seq
            ));
        }
        let failures = outcome.finished.all_failures();
        let is_overcounted =
            |(seq, count)| count > self.finished.failures(seq) && !self.finished.is_finished(seq);
        if let Some((seq, count)) = failures
            .iter()
            .map(|(seq, count)| (*seq, *count))
            .find(|failed| is_overcounted(*failed))
        {
            return Err(format!("{seq} failed {count} times"));
        }
        let (found, now) = (outcome.finished.counters(), self.finished.counters());
        // A slot that has no room for every range forgets acknowledgements first, whatever the ranges were.
        let given_up = now.dead_lettered + self.letters.coming.len() as u64;
        if found.acknowledged > now.acknowledged
            || found.acknowledged + found.dead_lettered > now.acknowledged + given_up
        {
            return Err(format!(
                "{} of {} acknowledged, {} of {given_up} given up",
                found.acknowledged, now.acknowledged, found.dead_lettered
            ));
        }
        let is_whole =
            (crash == Crash::Process || self.is_clean) && !self.is_torn && !self.is_faulty;
        let lost = self.was_missing.lost.max(now.lost);
        if is_whole && counters.lost > lost {
            return Err(format!("{} lost, {lost} before", counters.lost));
        }
        let unaccounted = self.was_missing.unaccounted.max(now.unaccounted);
        if self.is_clean && !outcome.was_clean {
            return Err("a clean stop is none".to_owned());
        }
        if self.is_clean && is_whole && counters.unaccounted > unaccounted {
            return Err(format!(
                "{} unaccounted, {unaccounted} before",
                counters.unaccounted
            ));
        }
        Ok(())
    }
}
