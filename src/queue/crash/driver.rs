//! Random short histories over a queue, as its worker drives it, with a note of every promise.

use super::check::{Leg, Setup, items};
use super::letters::Breach;
use super::model::{Epoch, Promise, record};
use crate::block::{Block, BlockBuilder, Compression, Seal};
use crate::disk::sim::{Random, SimDisk};
use crate::error::StoreError;
use crate::ledger::{Ledger, Outcome as Finish};
use crate::queue::{Newest, Queue};
use crate::seq::Seq;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is done with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Append,
    Sync,
    SyncData,
    Consume,
    AcknowledgeAny,
    Checkpoint,
    Reclaim,
    SaveMemory,
    KeepInMemory,
    Bury,
    Requeue,
    Purge,
}

/// As often as they come.
const STEPS: [Step; 21] = [
    Step::Append,
    Step::Append,
    Step::Append,
    Step::Append,
    Step::Append,
    Step::Sync,
    Step::Sync,
    Step::SyncData,
    Step::Consume,
    Step::Consume,
    Step::Consume,
    Step::AcknowledgeAny,
    Step::Checkpoint,
    Step::Reclaim,
    Step::SaveMemory,
    Step::KeepInMemory,
    Step::Bury,
    Step::Bury,
    Step::Bury,
    Step::Requeue,
    Step::Purge,
];

/// A queue in use.
pub(super) struct Driver {
    pub(super) disk: SimDisk,
    pub(super) queue: Queue,
    tries: usize,
    compression: Compression,
    finishes_any: bool,
    pub(super) breach: Option<Breach>,
    pub(super) random: Random,
    pub(super) epoch: Epoch,
    pub(super) next_seq: Seq,
    /// Numbers that were given out and are in memory only.
    pub(super) memory: BTreeSet<Seq>,
    pub(super) now: Promise,
    promises: Vec<(usize, Promise)>,
    steps: Vec<(usize, String)>,
}

impl Driver {
    /// Opens a queue on what `disk` holds, where so much was promised.
    pub(super) fn open(
        setup: &Setup,
        disk: &SimDisk,
        promise: Promise,
        epoch: Epoch,
        random: Random,
    ) -> Result<Self, String> {
        // What is there is learned from a copy: this queue has still to come across it.
        let there = setup.recover(&SimDisk::of(disk.device()))?;
        let promise = Promise {
            was_missing: *there.ledger.counters(),
            is_clean: false,
            ..promise
        };
        let mut now = promise.clone();
        let mut opened = setup.open(disk);
        for _ in 0..setup.tries {
            opened = opened.or_else(|_| setup.open(disk));
        }
        let (queue, recovered) = opened.or_else(|_| {
            disk.heal();
            setup.open(disk)
        })?;
        now.written = there.delivered.iter().map(|(seq, _)| *seq).collect();
        // What is neither there nor finished is gone, and must not come back.
        now.contents
            .retain(|seq, _| now.written.contains(seq) || there.finished.is_finished(*seq));
        now.safe.retain(|seq| now.written.contains(seq));
        now.safe.extend(now.letters.settle(&there));
        now.finished = recovered.ledger;
        let promises = vec![(0, promise)];
        let mut driver = Self {
            disk: disk.clone(),
            queue,
            tries: setup.tries,
            compression: setup.settings.compression,
            finishes_any: setup.slot_ranges.is_some(),
            breach: setup.breach,
            random,
            epoch,
            next_seq: recovered.next_seq,
            memory: BTreeSet::new(),
            now,
            promises,
            steps: vec![(0, "open".to_owned())],
        };
        driver.note_checkpoint_on_device();
        driver.note();
        Ok(driver)
    }

    /// The leg that ends here.
    pub(super) fn leg(&self) -> Leg {
        let (start, changes) = self.disk.history();
        Leg {
            start,
            changes,
            promises: self.promises.clone(),
            steps: self.steps.clone(),
        }
    }

    /// Whether a slot of the checkpoint has room for all that isn't told yet.
    pub(super) fn has_room(&self) -> bool {
        self.queue.file.has_room(&self.now.finished)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.now.finished.pending(self.next_seq) > 0
    }

    pub(super) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.queue.store.disk_bytes()
    }

    pub(super) fn any_step(&mut self) -> Result<(), String> {
        if self.finishes_any && self.random.below(3) == 0 {
            self.fail_any();
            return self.step(Step::AcknowledgeAny);
        }
        let step = STEPS[self.random.below(STEPS.len())];
        self.step(step)
    }

    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Append => self.append(),
            Step::Sync => self.sync(),
            Step::SyncData => self.sync_data(),
            Step::Consume => self.consume(),
            Step::Checkpoint => self.checkpoint(),
            Step::Reclaim => self.reclaim(),
            Step::SaveMemory => self.save_memory(),
            Step::Bury => self.bury(),
            Step::Requeue => self.requeue(),
            Step::Purge => self.purge(),
            Step::AcknowledgeAny => {
                self.acknowledge_any();
                Ok(())
            }
            Step::KeepInMemory => {
                self.keep_in_memory();
                Ok(())
            }
        }
    }

    /// Tries again what fails, as the worker does. What still fails on a sound disk is an error.
    pub(super) fn insist<R>(
        &mut self,
        work: impl Fn(&mut Queue, &Ledger) -> Result<R, StoreError>,
    ) -> Result<R, String> {
        let memory_end = self.memory.last().map_or(0, |seq| seq + 1);
        let told = self.now.finished.clone().with_memory_end(memory_end);
        for _ in 0..self.tries {
            if let Ok(done) = work(&mut self.queue, &told) {
                return Ok(done);
            }
        }
        self.disk.heal();
        work(&mut self.queue, &told).map_err(|error| {
            let step = self.steps.last().map(|(_, step)| step.as_str());
            format!("{}: {error}", step.unwrap_or_default())
        })
    }

    /// Writes down what is promised from here on.
    pub(super) fn note(&mut self) {
        self.promises.push((self.disk.changes(), self.now.clone()));
    }

    pub(super) fn begin(&mut self, step: String) {
        self.steps.push((self.disk.changes(), step));
    }

    pub(super) fn note_checkpoint_on_device(&mut self) {
        self.now.finished_written = self.now.finished.clone();
        self.now.finished_safe = self.now.finished.clone();
    }

    fn keep_in_memory(&mut self) {
        let count = 1 + self.random.below(2) as u64;
        self.begin(format!("keep {count} from {} in memory", self.next_seq));
        self.memory.extend(self.next_seq..self.next_seq + count);
        self.next_seq += count;
    }

    fn append(&mut self) -> Result<(), String> {
        if self.random.below(4) == 0 {
            self.keep_in_memory();
        }
        let mut prev_end = self.queue.claimed_end();
        let mut blocks = Vec::new();
        for _ in 0..=self.random.below(3) {
            let end = self.next_seq + 1 + self.random.below(3) as u64;
            let block = self.block((self.next_seq..end).collect(), prev_end);
            self.next_seq = end;
            prev_end = block.end();
            blocks.push(block);
        }
        self.write(&blocks, "append")
    }

    fn block(&self, seqs: Vec<Seq>, prev_end: Seq) -> Arc<Block> {
        let first = seqs.first().copied().unwrap_or_default();
        let mut builder = BlockBuilder::new(first, 0, 64);
        for seq in seqs {
            builder.push(&record((seq, self.epoch)));
        }
        self.seal(builder, prev_end)
    }

    pub(super) fn seal(&self, builder: BlockBuilder, prev_end: Seq) -> Arc<Block> {
        Arc::new(builder.seal(&Seal {
            prev_end,
            incarnation: self.queue.incarnation(),
            latest_ms: 0,
            cursor: self.now.finished.cursor(),
            counters: *self.now.finished.counters(),
            compression: self.compression,
        }))
    }

    fn write(&mut self, blocks: &[Arc<Block>], what: &str) -> Result<(), String> {
        let ranges: Vec<_> = blocks
            .iter()
            .map(|block| block.first()..block.end())
            .collect();
        self.begin(format!("{what} {ranges:?}"));
        let seqs: Vec<Seq> = ranges.into_iter().flatten().collect();
        self.now
            .contents
            .extend(seqs.iter().map(|seq| (*seq, (*seq, self.epoch))));
        self.note();
        self.insist(|queue, _| queue.append(blocks))?;
        self.now.written.extend(seqs);
        self.note();
        Ok(())
    }

    /// What only memory has, as older blocks.
    fn save_memory(&mut self) -> Result<(), String> {
        let mut runs: Vec<Vec<Seq>> = Vec::new();
        for seq in std::mem::take(&mut self.memory) {
            match runs.last_mut() {
                Some(run) if run.last() == Some(&(seq - 1)) => run.push(seq),
                _ => runs.push(vec![seq]),
            }
        }
        let blocks: Vec<_> = runs.into_iter().map(|run| self.block(run, 0)).collect();
        if blocks.is_empty() {
            return Ok(());
        }
        self.write(&blocks, "append older")
    }

    fn sync(&mut self) -> Result<(), String> {
        self.save_memory()?;
        self.begin("sync".to_owned());
        self.insist(Queue::sync)?;
        self.now.safe = self.now.written.clone();
        self.note_checkpoint_on_device();
        self.note();
        Ok(())
    }

    /// What senders share; there is nothing in memory only where they do.
    fn sync_data(&mut self) -> Result<(), String> {
        self.save_memory()?;
        self.begin("sync data".to_owned());
        self.insist(|queue, _| queue.sync_data())?;
        self.now.safe = self.now.written.clone();
        self.note();
        Ok(())
    }

    /// Takes the next items, from memory or from disk.
    fn consume(&mut self) -> Result<(), String> {
        let at = self.now.finished.next_unfinished(0);
        if at >= self.next_seq {
            return Ok(());
        }
        if self.memory.remove(&at) {
            self.acknowledge(at..at + 1);
            return Ok(());
        }
        let end = self
            .memory
            .range(at..)
            .next()
            .copied()
            .unwrap_or(self.next_seq);
        let read = self.insist(|queue, _| queue.read(at, end))?;
        for (range, outcome) in read.missing {
            if let Some(seq) = range.clone().find(|seq| self.now.written.contains(seq)) {
                return Err(format!("{seq} is written and missing"));
            }
            self.begin(format!("finish {range:?}: {outcome:?}"));
            self.now.finished.finish(range, outcome);
        }
        let Some(block) = read.block else {
            self.note();
            return Ok(());
        };
        for (seq, item) in items(&block)? {
            if self.now.contents.get(&seq) != Some(&item) {
                return Err(format!("{seq} is {item:?}"));
            }
        }
        let count = 1 + self.random.below(3) as u64;
        let from = at.max(block.first());
        self.acknowledge(from..block.end().min(from + count));
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, range: std::ops::Range<Seq>) {
        self.begin(format!("acknowledge {range:?}"));
        self.now.finished.finish(range, Finish::Acknowledged);
        self.note();
    }

    /// Finishes a number out of order, as consumers that share a channel do.
    fn acknowledge_any(&mut self) {
        let there: Vec<Seq> = self.now.written.iter().copied().collect();
        if !there.is_empty() {
            let first = there[self.random.below(there.len())];
            let last = first + self.random.below(6) as u64;
            let end = (first..=last)
                .take_while(|seq| self.now.written.contains(seq))
                .count() as u64;
            self.acknowledge(first..first + end);
        }
    }

    /// A delivery of a number fails.
    fn fail_any(&mut self) {
        let there: Vec<Seq> = self.now.written.iter().copied().collect();
        if !there.is_empty() {
            let seq = there[self.random.below(there.len())];
            self.begin(format!("fail {seq}"));
            self.now.finished.note_failure(seq);
            self.note();
        }
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        self.begin("checkpoint".to_owned());
        let has_room = self.has_room();
        self.insist(Queue::checkpoint)?;
        self.now.finished_written = if has_room {
            self.now.finished.clone()
        } else {
            self.now.finished_safe.clone()
        };
        self.note();
        Ok(())
    }

    fn reclaim(&mut self) -> Result<(), String> {
        self.begin("reclaim".to_owned());
        let before = self.disk.changes();
        if !self.has_room() {
            // On a full disk only what the device has is sure to be told again.
            self.now.finished_written = self.now.finished_safe.clone();
            self.note();
        }
        self.insist(|queue, finished| queue.reclaim(finished, Newest::Remove))?;
        // Where there is nothing to reclaim, nothing is written; on a full disk, not all.
        if self.disk.changes() > before && self.has_room() {
            self.note_checkpoint_on_device();
        }
        self.note();
        Ok(())
    }

    /// Stops as a halt does. The leg is what was done in any case.
    pub(super) fn close(mut self) -> (Leg, Result<(), String>) {
        let closed = self.try_close();
        let leg = self.leg();
        // A lock that can't be given back ends with its file.
        let _ = self.queue.abandon();
        (leg, closed)
    }

    fn try_close(&mut self) -> Result<(), String> {
        self.save_memory()?;
        self.begin("close".to_owned());
        let next_seq = self.next_seq;
        self.insist(|queue, finished| queue.close(finished, next_seq))?;
        self.now.safe = self.now.written.clone();
        self.note_checkpoint_on_device();
        self.now.is_clean = true;
        self.note();
        Ok(())
    }
}
