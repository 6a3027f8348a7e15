//! Saving what only memory has: at a halt, all of it and for good; at a sync, a copy.

use crate::block::{Block, BlockBuilder};
use crate::codec::Codec;
use crate::error::{CodecError, HaltFault, HaltReport, StoreError, SyncError};
use crate::event::Event;
use crate::front::{Front, Origin, Run};
use crate::ledger::Outcome;
use crate::packer::{Admitted, Aside, Loose, Packer, places};
use crate::refill::{Refill, decode_record, encode_item};
use crate::route::Route;
use crate::seq::Seq;
use crate::state::{Halted, Limits, Phase, State, Worker, Writer};
use crate::sync;
use crate::worker::{Room, Work};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a halt waits for space or for a device that fails.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(50);

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
        // Some of these may be given up below: then they are neither out nor pending.
        let in_flight = self.shared.enter(|state, _| state.held.recall());
        let mut unsaved = Unsaved {
            items: Vec::new(),
            unnumbered: Vec::new(),
            unencodable: None,
            failure: self.shared.enter(|state, _| state.fault.clone()),
        };
        self.admit_late(&mut unsaved);
        self.save_staging(deadline, &mut unsaved);
        self.settle_requeue(deadline, &mut unsaved);
        self.save_doomed(deadline, &unsaved);
        self.save_front(deadline, &mut unsaved);
        let lost = self.settle(&mut unsaved);
        let saved = self.finish_halt(&mut unsaved);
        let report = HaltReport {
            saved,
            in_flight,
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
            let written = self.retry(deadline, |work| {
                work.write_batch(Room::AnyThereIs).or_else(|error| {
                    if error.is_full() {
                        work.forget_taken();
                    }
                    if error.is_full() && work.desk.unwritten.is_empty() {
                        return Ok(());
                    }
                    Err(error)
                })
            });
            unsaved.failure = written.err();
        }
        // It can't be written: the items go back to the caller, in memory as they were.
        let staged = self.shared.enter(|state, _| state.staging.take_all());
        let codec = self.shared.codec.as_ref();
        for block in staged {
            if block.has_origins() {
                // Their letters are there still.
                let items = block.first()..block.end();
                self.shared
                    .enter(|state, wakes| state.finish(items, Outcome::DeadLettered, wakes));
                continue;
            }
            let from = block.first();
            let refill = Refill::from_staging(block, Origin::Handed, from, 0);
            let finished = |seq| self.shared.state.lock().ledger.is_finished(seq);
            unsaved
                .items
                .extend(decode_unfinished(&refill, codec, finished));
        }
    }

    /// Dead letters that were not written yet. What can't be is saved as an item, and comes again.
    fn save_doomed(&mut self, deadline: Instant, unsaved: &Unsaved<T>) {
        while unsaved.failure.is_none() && !self.shared.enter(|state, _| state.doomed.is_empty()) {
            let written = self.retry(deadline, |work| match work.write_letters() {
                Err(StoreError::DeadLettersFull { .. }) => Ok(false),
                outcome => outcome.map(|()| true),
            });
            if !matches!(written, Ok(true)) {
                return;
            }
        }
    }

    /// Letters that were to become items have become some, or are letters still.
    fn settle_requeue(&mut self, deadline: Instant, unsaved: &mut Unsaved<T>) {
        if self.desk.requeueing.is_some() && unsaved.failure.is_none() {
            unsaved.failure = self.retry(deadline, Self::finish_requeue).err();
        }
    }

    /// Everything that is older than staging and that only memory has.
    fn save_front(&mut self, deadline: Instant, unsaved: &mut Unsaved<T>) {
        let (front, refill, limits, ledger, mut kept) = self.shared.enter(|state, _| {
            state.refill_bytes = 0;
            (
                std::mem::take(&mut state.front),
                std::mem::take(&mut state.refill),
                state.limits,
                state.ledger.clone(),
                state.held.take_unsaved(&mut state.discarded),
            )
        });
        let mut packer = Packer::new(&limits, self.encodable(unsaved));
        let mut record = Vec::new();
        let (items, runs) = front.into_parts();
        for (place, item) in places(&runs).zip(items) {
            if !place.is_memory_only {
                continue;
            }
            record.clear();
            match encode_item(&item, self.shared.codec.as_ref(), &mut record) {
                Ok(()) => packer.push(place.seq, &record, place.admitted),
                Err(error) => self.give_up(place.seq, error, unsaved),
            }
            kept.push((place.seq, item));
        }
        for refill in refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
        {
            for (seq, record) in refill.records() {
                if !ledger.is_finished(seq) {
                    packer.push(seq, record, Admitted::of(refill));
                }
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
        if unsaved.failure.is_some() {
            self.hand_back(blocks, kept, unsaved);
        } else {
            let is_given_up = |seq: Seq| self.shared.state.lock().ledger.is_finished(seq);
            kept.retain(|(seq, _)| is_given_up(*seq));
            unsaved.items.extend(kept);
        }
    }

    /// What can't be saved goes back to the caller: as it was, or else out of its encoding.
    fn hand_back(
        &self,
        blocks: Vec<Arc<BlockBuilder>>,
        mut kept: Vec<(Seq, T)>,
        unsaved: &mut Unsaved<T>,
    ) {
        kept.sort_by_key(|(seq, _)| *seq);
        let is_kept = |seq: Seq| kept.binary_search_by_key(&seq, |(held, _)| *held).is_ok();
        for block in blocks {
            let from = block.first();
            let refill = Refill::from_staging(block, Origin::Handed, from, 0);
            let codec = self.shared.codec.as_ref();
            unsaved
                .items
                .extend(decode_unfinished(&refill, codec, is_kept));
        }
        unsaved.items.extend(kept);
    }

    /// The encodings of what is neither in front nor in refill. What has none is given up.
    fn encodable(&self, unsaved: &mut Unsaved<T>) -> Vec<Loose> {
        let loose = self.shared.enter(|state, _| state.aside()).into_loose();
        let mut encodable = Vec::with_capacity(loose.len());
        for (loose, is_encoded) in loose {
            if is_encoded {
                encodable.push(loose);
            } else {
                let error = CodecError::new("it could not be encoded as it went out");
                self.give_up(loose.seq, error, unsaved);
            }
        }
        encodable
    }

    /// An item that can't be saved because it can't be encoded.
    fn give_up(&self, seq: Seq, error: CodecError, unsaved: &mut Unsaved<T>) {
        unsaved.note_unencodable(error);
        self.shared.enter(|state, wakes| {
            state.finish(seq..seq + 1, Outcome::Unencodable, wakes);
        });
    }

    /// Blocks that are older than the tail: they claim nothing about what was written before them.
    fn append_older(&mut self, blocks: &[Arc<BlockBuilder>], room: Room) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let ledger = self.shared.enter(|state, _| state.told());
        if self.desk.unwritten.is_empty() {
            self.desk.unwritten = blocks
                .iter()
                .map(|block| Arc::new(block.seal_shared(&self.seal(0, &ledger))))
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
        let (ledger, next_seq, saved) = self
            .shared
            .enter(|state, _| (state.told(), state.next_seq, state.unfinished_total()));
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
            if state.refilling || state.handing > 0 {
                return None;
            }
            state.refilling = true;
            state.lent_at_risk = state.front.memory_only();
            let front = std::mem::take(&mut state.front);
            Some((
                front,
                state.refill.clone(),
                state.aside(),
                state.limits,
                state.next_seq,
            ))
        });
        let Some((front, refill, aside, limits, end)) = lent else {
            return Ok(false);
        };
        let loose = aside.into_loose();
        let (items, runs) = front.into_parts();
        let seqs: Vec<Seq> = loose.iter().map(|(loose, _)| loose.seq).collect();
        let copied = self.copy_to_disk(&items, &runs, &refill, loose, &limits);
        let saved = copied.is_ok();
        let outcome = copied.and_then(|()| self.write_staging_below(end));
        self.shared.enter(|state, wakes| {
            if saved {
                state.held.mark_stored(&seqs);
                state.doomed.mark_stored(&seqs);
                state.suspects.mark_stored(&seqs);
            }
            state.return_front(items, runs, saved, wakes);
        });
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
        loose: Vec<(Loose, bool)>,
        limits: &Limits,
    ) -> Result<(), SyncError> {
        let unencodable = |seq, message| SyncError::Encode { seq, message };
        if let Some((loose, _)) = loose.iter().find(|(_, is_encoded)| !is_encoded) {
            let message = "it could not be encoded as it went out".to_owned();
            return Err(unencodable(loose.seq, message));
        }
        let loose = loose.into_iter().map(|(loose, _)| loose).collect();
        let mut packer = Packer::new(limits, loose);
        let mut record = Vec::new();
        for (place, item) in places(runs).zip(items) {
            if place.is_memory_only {
                record.clear();
                encode_item(item, self.shared.codec.as_ref(), &mut record)
                    .map_err(|error| unencodable(place.seq, error.to_string()))?;
                packer.push(place.seq, &record, place.admitted);
            }
        }
        for refill in refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
        {
            let admitted = Admitted::of(refill);
            refill
                .records()
                .for_each(|(seq, record)| packer.push(seq, record, admitted));
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
        self.lent_at_risk = 0;
        let mut front = Front::default();
        let mut items = items.into_iter();
        for mut run in runs {
            if saved {
                run.origin = Origin::Stored;
            }
            let len = usize::try_from(run.len).unwrap_or(usize::MAX);
            front.extend(items.by_ref().take(len), run);
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
        let waiting = self.held.take_unsaved(&mut self.discarded);
        let (items, runs) = std::mem::take(&mut self.front).into_parts();
        let front = places(&runs).zip(items);
        let (front, stored): (Vec<_>, Vec<_>) = front.partition(|(place, _)| place.is_memory_only);
        // Dropping an item is foreign code.
        self.discarded
            .extend(stored.into_iter().map(|(_, item)| item));
        let waiting = waiting.into_iter().map(|(_, item)| item);
        waiting
            .chain(front.into_iter().map(|(_, item)| item))
            .collect()
    }

    /// What only memory has and is neither in front nor in refill.
    fn aside(&self) -> Aside {
        let doomed = self.doomed.iter().chain(self.suspects.iter());
        Aside {
            now: self.clock.wall_ms(),
            out: self.held.unsaved(),
            doomed: doomed
                .filter(|doomed| doomed.origin.is_memory_only())
                .map(|doomed| (doomed.seq, doomed.bytes.clone(), doomed.latest_ms))
                .collect(),
        }
    }
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
