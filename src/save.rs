//! Saving what only memory has: at a halt, all of it and for good; at a sync, a copy.

use crate::block::{Block, BlockBuilder};
use crate::codec::Codec;
use crate::error::{CodecError, HaltFault, HaltReport, StoreError, SyncError};
use crate::event::Event;
use crate::front::{Front, Origin, Run};
use crate::ledger::Outcome;
use crate::refill::{Refill, decode_record, encode_item};
use crate::route::Route;
use crate::seq::Seq;
use crate::state::{Halted, Phase, State, Worker, Writer, now_ms};
use crate::sync;
use crate::worker::{Room, Work};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a halt waits for space or for a device that fails.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Blocks in the making from items that have their numbers already.
struct Packer {
    block_bytes: usize,
    open: Option<BlockBuilder>,
    done: Vec<Arc<BlockBuilder>>,
}

impl Packer {
    fn new(block_bytes: usize) -> Self {
        Self {
            block_bytes,
            open: None,
            done: Vec::new(),
        }
    }

    fn push(&mut self, seq: Seq, record: &[u8]) {
        let continues = self
            .open
            .as_ref()
            .is_some_and(|open| open.end() == seq && open.fits(record.len(), self.block_bytes));
        if !continues {
            self.close_block();
        }
        self.open
            .get_or_insert_with(|| BlockBuilder::new(seq, now_ms(), self.block_bytes))
            .push(record);
    }

    fn close_block(&mut self) {
        self.done.extend(self.open.take().map(Arc::new));
    }

    fn finish(mut self) -> Vec<Arc<BlockBuilder>> {
        self.close_block();
        self.done
    }
}

/// What a halt could not put on disk.
struct Unsaved<T> {
    items: Vec<(Seq, T)>,
    /// Items that never got a number: leftovers that can't be encoded.
    unnumbered: Vec<T>,
    unencodable: Option<(u64, CodecError)>,
    failure: Option<StoreError>,
}

impl<T> Unsaved<T> {
    fn note_unencodable(&mut self, error: CodecError) {
        self.unencodable.get_or_insert((0, error)).0 += 1;
    }
}

impl<T> Work<'_, T> {
    /// Saves everything, closes the store, releases the directory.
    pub(crate) fn save(mut self) {
        let began = sync::now();
        let deadline = began + GIVE_UP_AFTER;
        let mut unsaved = Unsaved {
            items: Vec::new(),
            unnumbered: Vec::new(),
            unencodable: None,
            failure: self.shared.enter(|state, _| state.fault.clone()),
        };
        self.admit_late(&mut unsaved);
        self.save_staging(deadline, &mut unsaved);
        self.save_front(deadline, &mut unsaved);
        let lost = self.settle(&mut unsaved);
        let saved = self.finish_halt(&mut unsaved);
        let report = HaltReport {
            saved,
            in_flight: self.shared.state.lock().loans.len() as u64,
            elapsed: began.elapsed(),
        };
        self.end(report, unsaved, &lost);
    }

    /// Items that were with `send_all` or given to `halt_with` are the youngest.
    fn admit_late(&mut self, unsaved: &mut Unsaved<T>) {
        let (batches, late) = self.shared.enter(|state, _| {
            (
                std::mem::take(&mut state.batches),
                std::mem::take(&mut state.late),
            )
        });
        let fed = batches
            .iter()
            .flat_map(|batch| batch.take())
            .collect::<Vec<_>>();
        let mut record = Vec::new();
        for item in fed.into_iter().chain(late) {
            record.clear();
            match encode_item(&item, self.shared.codec.as_ref(), &mut record) {
                Ok(()) => {
                    let (_, left) = self.shared.enter(|state, wakes| {
                        state.admit_encoded(item, &record, Route::Staging, Writer::Worker, wakes)
                    });
                    drop(left);
                }
                Err(error) => {
                    unsaved.note_unencodable(error);
                    unsaved.unnumbered.push(item);
                }
            }
        }
    }

    fn save_staging(&mut self, deadline: Instant, unsaved: &mut Unsaved<T>) {
        self.shared.enter(|state, _| state.staging.close_block());
        while unsaved.failure.is_none() {
            let left = self.shared.enter(|state, _| state.staging.has_unwritten());
            if !left && self.desk.unwritten.is_empty() {
                return;
            }
            let written = self.retry(deadline, |work| work.write_batch(Room::AnyThereIs));
            unsaved.failure = written.err();
        }
        // It can't be written: the items go back to the caller, in memory as they were.
        let staged = self.shared.enter(|state, _| state.staging.take_all());
        let codec = self.shared.codec.as_ref();
        for block in staged {
            let from = block.first();
            let refill = Refill::from_staging(block, Origin::Handed, from);
            let finished = |seq| self.shared.state.lock().ledger.is_finished(seq);
            unsaved
                .items
                .extend(decode_unfinished(&refill, codec, finished));
        }
    }

    /// Front and what was handed over from staging: older than everything on disk.
    fn save_front(&mut self, deadline: Instant, unsaved: &mut Unsaved<T>) {
        let (front, refill, block_bytes, ledger) = self.shared.enter(|state, _| {
            let front = std::mem::take(&mut state.front);
            let refill = std::mem::take(&mut state.refill);
            state.refill_bytes = 0;
            (
                front,
                refill,
                state.limits.block_bytes,
                state.ledger.clone(),
            )
        });
        let codec = self.shared.codec.as_ref();
        let mut packer = Packer::new(block_bytes);
        self.pack_loans(&mut packer);
        let mut held = Vec::new();
        let mut record = Vec::new();
        for (seq, item) in memory_only(front) {
            record.clear();
            match encode_item(&item, codec, &mut record) {
                Ok(()) => packer.push(seq, &record),
                Err(error) => {
                    unsaved.note_unencodable(error);
                    self.shared.enter(|state, wakes| {
                        state.finish(seq..seq + 1, Outcome::Unencodable, wakes);
                    });
                }
            }
            held.push((seq, item));
        }
        let handed: Vec<_> = refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
            .collect();
        for (seq, record) in handed.iter().flat_map(|refill| refill.records()) {
            if !ledger.is_finished(seq) {
                packer.push(seq, record);
            }
        }
        let blocks = packer.finish();
        if unsaved.failure.is_none() {
            unsaved.failure = self
                .retry(deadline, |work| {
                    work.append_older(&blocks, Room::AnyThereIs)
                })
                .err();
        }
        let is_back = |seq: Seq| {
            unsaved.failure.is_some() || self.shared.state.lock().ledger.is_finished(seq)
        };
        let back: Vec<_> = held.into_iter().filter(|(seq, _)| is_back(*seq)).collect();
        unsaved.items.extend(back);
        if unsaved.failure.is_some() {
            for refill in handed {
                let finished = |seq| ledger.is_finished(seq);
                unsaved
                    .items
                    .extend(decode_unfinished(refill, codec, finished));
            }
        }
    }

    /// Lent items are the oldest. One that could not be encoded is with its taker and nowhere else.
    fn pack_loans(&mut self, packer: &mut Packer) {
        let loans = self.shared.enter(|state, _| state.take_unsaved_loans());
        for (seq, record) in loans {
            match record {
                Some(record) => packer.push(seq, &record),
                None => {
                    self.shared.enter(|state, wakes| {
                        state.loans.retain(|lent| lent.seq() != seq);
                        state.finish(seq..seq + 1, Outcome::Unencodable, wakes);
                    });
                }
            }
        }
    }

    /// Blocks that are older than the tail: they claim nothing about what was written before them.
    fn append_older(&mut self, blocks: &[Arc<BlockBuilder>], room: Room) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let ledger = self.shared.enter(|state, _| state.ledger.clone());
        if self.desk.unwritten.is_empty() {
            self.desk.unwritten = blocks
                .iter()
                .map(|block| Arc::new(block.seal_copy(&self.seal(0, &ledger))))
                .collect::<Vec<Arc<Block>>>();
        }
        let items: u64 = blocks.iter().map(|block| u64::from(block.count())).sum();
        self.append_unwritten(room)?;
        self.forget_unwritten();
        self.shared.enter(|state, _| state.figures.spilled += items);
        Ok(())
    }

    /// Tries again until `deadline`, unless it can't help.
    fn retry<R>(
        &mut self,
        deadline: Instant,
        mut work: impl FnMut(&mut Self) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        loop {
            match work(self) {
                Err(error) if !error.is_final() && sync::now() < deadline => {
                    sync::park_timeout(RETRY_EVERY);
                }
                outcome => return outcome,
            }
        }
    }

    /// What goes back to the caller is not pending any more. Returns the ranges that nobody gets.
    fn settle(&mut self, unsaved: &mut Unsaved<T>) -> Vec<Event> {
        unsaved.items.sort_by_key(|(seq, _)| *seq);
        let numbers: Vec<Seq> = unsaved.items.iter().map(|(seq, _)| *seq).collect();
        self.shared.enter(|state, wakes| {
            // Handed back is as good as delivered; with nobody to take it, it is lost.
            let outcome = if state.is_unattended {
                Outcome::Lost
            } else {
                Outcome::Acknowledged
            };
            let mut lost = Vec::new();
            for seq in numbers {
                if state.finish(seq..seq + 1, outcome, wakes) > 0 && outcome == Outcome::Lost {
                    lost.push(Event::Lost { seqs: seq..=seq });
                }
            }
            lost
        })
    }

    fn finish_halt(&mut self, unsaved: &mut Unsaved<T>) -> u64 {
        let (ledger, next_seq, saved) = self.shared.enter(|state, _| {
            (
                state.ledger.clone(),
                state.next_seq,
                state.unfinished_total(),
            )
        });
        match self.desk.queue.close(&ledger, next_seq) {
            Ok(quarantined) => self.shared.quarantined.lock().extend(quarantined),
            Err(error) => unsaved.failure = unsaved.failure.take().or(Some(error)),
        }
        let figures = self.desk.queue.figures();
        self.shared.enter(|state, _| state.take_figures(&figures));
        saved
    }

    fn end(self, report: HaltReport, mut unsaved: Unsaved<T>, lost: &[Event]) {
        self.tell(lost);
        let Self { shared, desk } = self;
        let queue = desk.queue;
        if let Err(error) = queue.abandon() {
            unsaved.failure = unsaved.failure.or(Some(error));
        }
        let fault = match (unsaved.failure, unsaved.unencodable) {
            (Some(error), _) => Some(HaltFault::Store(error)),
            (None, Some((count, source))) => Some(HaltFault::Encode { count, source }),
            (None, None) => None,
        };
        let mut items: Vec<T> = unsaved.items.into_iter().map(|(_, item)| item).collect();
        items.extend(unsaved.unnumbered);
        shared.enter(|state, wakes| {
            state.phase = Phase::Halted;
            state.worker = Worker::Gone;
            state.busy_since = None;
            state.halted = Some(Halted {
                report,
                fault,
                items,
            });
            state.wake_everybody(wakes);
        });
    }

    /// Puts a copy of what only memory has on disk, and all of staging; the items stay where they are. False when
    /// a receiver holds the head of refill: it wakes the worker when it is done, and then is the time.
    ///
    /// Front is lent meanwhile: receivers wait, so nothing leaves staging unwritten, and what is sent goes behind it.
    pub(crate) fn copy_memory_to_disk(&mut self) -> Result<bool, SyncError> {
        let lent = self.shared.enter(|state, _| {
            if state.refilling {
                return None;
            }
            state.refilling = true;
            let front = std::mem::take(&mut state.front);
            Some((
                front,
                state.refill.clone(),
                state.limits.block_bytes,
                state.next_seq,
            ))
        });
        let Some((front, refill, block_bytes, end)) = lent else {
            return Ok(false);
        };
        let (items, runs) = front.into_parts();
        let copied = self.copy_to_disk(&items, &runs, &refill, block_bytes);
        let saved = copied.is_ok();
        let outcome = copied.and_then(|()| self.write_staging_below(end));
        self.shared
            .enter(|state, wakes| state.return_front(items, runs, saved, wakes));
        outcome.map(|()| true)
    }

    fn write_staging_below(&mut self, end: Seq) -> Result<(), SyncError> {
        while !self.desk.unwritten.is_empty()
            || self.shared.enter(|state, _| state.disk_end() < end)
        {
            self.write_batch(Room::WithinLimits)
                .map_err(SyncError::Store)?;
        }
        Ok(())
    }

    fn copy_to_disk(
        &mut self,
        items: &VecDeque<T>,
        runs: &VecDeque<Run>,
        refill: &VecDeque<Refill>,
        block_bytes: usize,
    ) -> Result<(), SyncError> {
        let mut packer = Packer::new(block_bytes);
        let mut record = Vec::new();
        for (seq, origin, item) in numbered(items.iter(), runs) {
            if origin.is_memory_only() {
                record.clear();
                encode_item(item, self.shared.codec.as_ref(), &mut record).map_err(|error| {
                    SyncError::Encode {
                        seq,
                        message: error.to_string(),
                    }
                })?;
                packer.push(seq, &record);
            }
        }
        for refill in refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
        {
            refill
                .records()
                .for_each(|(seq, record)| packer.push(seq, record));
        }
        // Blocks of the tail that still wait for the store are sealed already, and come first.
        while !self.desk.unwritten.is_empty() {
            self.write_batch(Room::WithinLimits)
                .map_err(SyncError::Store)?;
        }
        let written = self.append_older(&packer.finish(), Room::WithinLimits);
        if written.is_err() {
            // A sync is asked for again with what memory has then; these blocks are not the tail's.
            self.forget_unwritten();
        }
        written.map_err(SyncError::Store)
    }
}

impl<T> State<T> {
    /// Takes front back from a sync.
    fn return_front(
        &mut self,
        items: VecDeque<T>,
        runs: VecDeque<Run>,
        saved: bool,
        wakes: &mut crate::wait::Wakes,
    ) {
        self.refilling = false;
        let mut front = Front::default();
        let mut items = items.into_iter();
        for mut run in runs {
            if saved {
                run.origin = Origin::Stored;
            }
            let len = usize::try_from(run.len).unwrap_or(usize::MAX);
            front.extend(items.by_ref().take(len).collect(), run);
        }
        self.front = front;
        if saved {
            self.refill.iter_mut().for_each(Refill::mark_stored);
        }
        self.recv_waiters.wake(self.front.len().max(1), wakes);
        self.send_waiters.wake_all(wakes);
        if self.phase == Phase::Halting {
            self.kick(wakes);
        }
    }

    /// The items that only memory has, for a caller who can't have them saved.
    pub(crate) fn take_memory_only(&mut self) -> Vec<T> {
        memory_only(std::mem::take(&mut self.front))
            .map(|(_, item)| item)
            .collect()
    }
}

/// The items of a front that no disk has, with their numbers.
fn memory_only<T>(front: Front<T>) -> impl Iterator<Item = (Seq, T)> {
    let (items, runs) = front.into_parts();
    numbered_owned(items, runs)
        .filter(|(_, origin, _)| origin.is_memory_only())
        .map(|(seq, _, item)| (seq, item))
}

fn numbered_owned<T>(
    items: VecDeque<T>,
    runs: VecDeque<Run>,
) -> impl Iterator<Item = (Seq, Origin, T)> {
    let numbers = runs
        .into_iter()
        .flat_map(|run| (run.first..run.first + run.len).map(move |seq| (seq, run.origin)));
    numbers
        .zip(items)
        .map(|((seq, origin), item)| (seq, origin, item))
}

fn numbered<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    runs: &VecDeque<Run>,
) -> impl Iterator<Item = (Seq, Origin, &'a T)> {
    let numbers = runs
        .iter()
        .flat_map(|run| (run.first..run.first + run.len).map(move |seq| (seq, run.origin)));
    numbers
        .zip(items)
        .map(|((seq, origin), item)| (seq, origin, item))
}

/// The items of a block that are still wanted, for a caller who can't have them saved.
fn decode_unfinished<T>(
    refill: &Refill,
    codec: &dyn Codec<T>,
    finished: impl Fn(Seq) -> bool,
) -> Vec<(Seq, T)> {
    refill
        .records()
        .filter(|(seq, _)| !finished(*seq))
        .filter_map(|(seq, record)| Some((seq, decode_record(record, codec).ok()?)))
        .collect()
}
