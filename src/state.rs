//! Everything under the one lock: where items wait, who waits for them, and what the worker has to do.
//!
//! Nothing here does I/O, encodes, decodes or calls foreign code. The numbers are laid out so:
//!
//! ```text
//!   finished │ front, refill │ backlog on disk │ staging │
//!          cursor        read_next         disk_end   next_seq
//! ```

use crate::error::{HaltFault, HaltReport, RecvError, StoreError, SyncError};
use crate::event::Event;
use crate::feed::{Batch, Places};
use crate::front::{Front, Origin, Run};
use crate::ledger::{Ledger, Outcome};
use crate::lend::Loans;
use crate::refill::{Decoded, Refill};
use crate::route::{Route, View};
use crate::seq::Seq;
use crate::staging::{HandOver, Staging};
use crate::stats::ErrorReport;
use crate::sync;
use crate::wait::{Ticket, WaitList, Wakes};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A drained channel persists its cursor no more often than this.
const TIDY_EVERY: Duration = Duration::from_millis(50);
/// Items decoded in one piece, so that the first of them is not kept back for long.
const REFILL_ITEMS: usize = 128;

/// Sizes that don't change after open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) memory_items: usize,
    pub(crate) staging_max: u64,
    pub(crate) refill_max: usize,
    /// Acknowledged bytes after which the cursor is persisted.
    pub(crate) checkpoint_bytes: u64,
    pub(crate) block_bytes: usize,
    pub(crate) write_ahead: bool,
}

/// Who writes an item that must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    Worker,
    /// Its sender sees to it.
    Sender,
}

/// How far the channel's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Items move.
    Open,
    /// Both ends are stopped; the worker saves what is left.
    Halting,
    /// The worker is gone and the directory is free.
    Halted,
}

/// What the worker does.
#[derive(Debug)]
pub(crate) enum Worker {
    /// Nothing was ever to be done.
    Absent,
    /// Somebody saw that there is work and will start the thread.
    Wanted,
    /// It works.
    Running,
    /// It waits for work.
    Parked(Waker),
    /// It waits, and a sender does what it would do. With its waker, and whether more has come meanwhile.
    Led(Waker, bool),
    /// It has ended.
    Gone,
}

/// Where disk figures come from: the worker, after each piece of work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) disk_bytes: u64,
    pub(crate) quarantined_bytes: u64,
    pub(crate) blocks_written: u64,
    pub(crate) blocks_read: u64,
    pub(crate) bytes_written: u64,
    /// What `bytes_written` would be without compression.
    pub(crate) plain_bytes_written: u64,
    pub(crate) bytes_read: u64,
    pub(crate) syncs: u64,
    pub(crate) spilled: u64,
    pub(crate) replayed: u64,
    pub(crate) passed_through: u64,
    /// One past the highest number that a sync of the store has covered.
    pub(crate) synced_end: Seq,
}

/// Requests to put everything on the device, counted so that each caller waits for its own.
#[derive(Debug, Default)]
pub(crate) struct SyncRequests {
    pub(crate) wanted: u64,
    pub(crate) done: u64,
    pub(crate) result: Option<SyncError>,
}

/// What a finished halt left.
#[derive(Debug)]
pub(crate) struct Halted<T> {
    pub(crate) report: HaltReport,
    pub(crate) fault: Option<HaltFault>,
    /// Items that are not on disk; the first caller of `halt` takes them.
    pub(crate) items: Vec<T>,
}

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each named"
)]
pub(crate) struct State<T> {
    pub(crate) limits: Limits,
    pub(crate) phase: Phase,
    pub(crate) intake_closed: bool,
    pub(crate) next_seq: Seq,
    /// The lowest number that is neither finished nor in front nor in refill.
    pub(crate) read_next: Seq,
    pub(crate) front: Front<T>,
    pub(crate) staging: Staging,
    pub(crate) refill: VecDeque<Refill>,
    pub(crate) refill_bytes: usize,
    /// Somebody holds the head of refill, or the whole front, outside the lock.
    pub(crate) refilling: bool,
    /// Places in front that were promised and not used yet.
    pub(crate) reserved: usize,
    pub(crate) ledger: Ledger,
    /// Items that are out and not finished.
    pub(crate) loans: Loans,
    /// Batches whose items are with `send_all`, not admitted yet.
    pub(crate) batches: Vec<Arc<Batch<T>>>,
    /// Senders that hold items outside the lock which will be admitted whatever happens.
    pub(crate) placing: usize,
    /// Callers of `halt_with` that still collect their items.
    pub(crate) collecting: usize,
    /// Adapters that a halt waits for, for a bounded time.
    pub(crate) attached: usize,
    /// When the halt began.
    pub(crate) halting_since: Option<Instant>,
    /// The worker has begun to save: nothing more can be added.
    pub(crate) is_saving: bool,
    /// Items given to `halt_with`.
    pub(crate) late: Vec<T>,

    pub(crate) senders: usize,
    pub(crate) receivers: usize,
    pub(crate) handles: usize,

    pub(crate) send_waiters: WaitList,
    pub(crate) recv_waiters: WaitList,
    /// Write-ahead senders whose items are not on disk yet.
    pub(crate) confirm_waiters: WaitList,
    /// Callers of drain, sync and halt.
    pub(crate) life_waiters: WaitList,

    pub(crate) worker: Worker,
    /// Since when the worker has been inside the store.
    pub(crate) busy_since: Option<Instant>,
    pub(crate) sync: SyncRequests,
    pub(crate) drop_oldest_wanted: bool,
    /// When a caller of drain gives up waiting.
    pub(crate) deadline: Option<Instant>,
    pub(crate) crash_wanted: bool,
    /// The last handle is gone: nobody takes what can't be saved.
    pub(crate) is_unattended: bool,
    /// The worker's thread is stuck in the store and was given up.
    pub(crate) is_hung: bool,
    pub(crate) halted: Option<Halted<T>>,

    /// Bytes of blocks that the disk takes.
    pub(crate) disk_room: u64,
    /// Room that must be there, beside what staging will take, before the channel stops being full.
    pub(crate) full_until: Option<u64>,
    /// Bytes needed and available when the channel became full, for the event.
    pub(crate) full_news: Option<(u64, u64)>,
    pub(crate) stalled_since: Option<Instant>,
    pub(crate) last_error: Option<ErrorReport>,
    /// The store is lost to this process.
    pub(crate) fault: Option<StoreError>,
    /// The oldest block on disk is one that this build can't read.
    pub(crate) unreadable: Option<StoreError>,
    /// A record at the head that can't be decoded.
    pub(crate) undecodable: Option<(Seq, String)>,
    /// Encoded bytes acknowledged since the cursor was last persisted.
    pub(crate) acked_bytes: u64,
    /// When the cursor was last persisted.
    pub(crate) tidied_at: Option<Instant>,
    /// The worker sleeps until it is time to persist the cursor of a drained channel.
    pub(crate) is_tidy_armed: bool,
    pub(crate) spilling: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) figures: Figures,
    /// When front was last seen empty: nothing in it is older.
    pub(crate) front_empty_ms: u64,
}

/// What a receiver finds.
#[derive(Debug)]
pub(crate) enum Take<T> {
    Item(T),
    /// Decode this outside the lock, give it back, look again.
    Refill(RefillJob),
    Wait,
    Ended(RecvError),
}

/// The head of refill, lent to a receiver that decodes a piece of it.
#[derive(Debug)]
pub(crate) struct RefillJob {
    pub(crate) refill: Refill,
    pub(crate) wanted: Range<Seq>,
}

/// Whether senders may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    Open,
    Closed,
    Halted,
}

impl<T> State<T> {
    pub(crate) fn new(limits: Limits, ledger: Ledger, next_seq: Seq, disk_room: u64) -> Self {
        Self {
            limits,
            phase: Phase::Open,
            intake_closed: false,
            next_seq,
            read_next: ledger.next_unfinished(ledger.cursor()).min(next_seq),
            front: Front::default(),
            staging: Staging::default(),
            refill: VecDeque::new(),
            refill_bytes: 0,
            refilling: false,
            reserved: 0,
            ledger,
            loans: Loans::new(),
            batches: Vec::new(),
            placing: 0,
            collecting: 0,
            attached: 0,
            halting_since: None,
            is_saving: false,
            late: Vec::new(),
            senders: 0,
            receivers: 0,
            handles: 0,
            send_waiters: WaitList::default(),
            recv_waiters: WaitList::default(),
            confirm_waiters: WaitList::default(),
            life_waiters: WaitList::default(),
            worker: Worker::Absent,
            busy_since: None,
            sync: SyncRequests::default(),
            drop_oldest_wanted: false,
            deadline: None,
            crash_wanted: false,
            is_unattended: false,
            is_hung: false,
            halted: None,
            disk_room,
            full_until: None,
            full_news: None,
            stalled_since: None,
            last_error: None,
            fault: None,
            unreadable: None,
            undecodable: None,
            acked_bytes: 0,
            tidied_at: None,
            is_tidy_armed: false,
            spilling: false,
            events: Vec::new(),
            figures: Figures::default(),
            front_empty_ms: now_ms(),
        }
    }

    /// One past the last number of the backlog on disk; staging begins there.
    pub(crate) fn disk_end(&self) -> Seq {
        self.staging.first().unwrap_or(self.next_seq)
    }

    /// Items that wait anywhere.
    pub(crate) fn pending(&self) -> u64 {
        self.unfinished_total() - self.loans.len() as u64
    }

    /// Items that wait or are out.
    pub(crate) fn unfinished_total(&self) -> u64 {
        self.ledger.pending(self.next_seq)
    }

    /// True when items on disk wait to be read.
    pub(crate) fn has_backlog(&self) -> bool {
        self.read_next < self.disk_end()
    }

    /// True when anything waits behind front.
    fn has_waiting(&self) -> bool {
        self.read_next < self.next_seq || !self.refill.is_empty() || self.refilling
    }

    // ---- sending ----------------------------------------------------------------------------

    pub(crate) fn intake(&self) -> Intake {
        if self.phase != Phase::Open {
            Intake::Halted
        } else if self.intake_closed || self.receivers == 0 {
            Intake::Closed
        } else {
            Intake::Open
        }
    }

    /// Where a record of `len` bytes would go now.
    pub(crate) fn route(&self, len: usize) -> Route {
        let view = View {
            front_room: self
                .limits
                .memory_items
                .saturating_sub(self.front.len() + self.reserved),
            waiting: self.has_waiting(),
            staged_bytes: self.staging.bytes(),
            staging_max: self.limits.staging_max,
            disk_room: self.disk_room,
            write_ahead: self.limits.write_ahead,
        };
        view.route(self.staging.cost(len, self.limits.block_bytes))
    }

    /// Admits an item to the front, without a trace on disk.
    pub(crate) fn admit_direct(&mut self, item: T, wakes: &mut Wakes) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.read_next = self.next_seq;
        self.front.push(
            item,
            run_of_one(seq, Origin::Direct, 0, self.front_empty_ms),
        );
        self.recv_waiters.wake_one(wakes);
    }

    /// Admits an encoded item; what is returned is to be dropped outside the lock.
    pub(crate) fn admit_encoded(
        &mut self,
        item: T,
        record: &[u8],
        route: Route,
        writer: Writer,
        wakes: &mut Wakes,
    ) -> (Seq, Option<T>) {
        let seq = self.next_seq;
        if route == Route::Front && !self.limits.write_ahead {
            // It was encoded for staging, and meanwhile nothing waits any more.
            self.admit_direct(item, wakes);
            return (seq, None);
        }
        self.staging
            .push(seq, record, self.limits.block_bytes, now_ms);
        self.next_seq += 1;
        let left = if route == Route::Front {
            self.read_next = self.next_seq;
            let bytes = record.len() as u64;
            self.front.push(
                item,
                run_of_one(seq, Origin::Stored, bytes, self.front_empty_ms),
            );
            None
        } else {
            Some(item)
        };
        self.recv_waiters.wake_one(wakes);
        let is_due = self.limits.write_ahead || self.staging.has_full();
        if is_due && writer == Writer::Worker {
            self.kick(wakes);
        }
        (seq, left)
    }

    /// Notes that an item of `len` bytes met a full disk.
    pub(crate) fn note_full(&mut self, len: usize, wakes: &mut Wakes) {
        let cost = self.staging.cost(len, self.limits.block_bytes);
        if self.full_until.is_none() {
            let needed = self.staging.bytes().saturating_add(cost);
            self.stalled_since.get_or_insert_with(Instant::now);
            self.full_news = Some((needed, self.disk_room));
            self.kick(wakes);
        }
        self.full_until = Some(self.full_until.map_or(cost, |until| until.min(cost)));
    }

    /// Staging has no room for an item: what is in it must be written, also a block that is still open.
    pub(crate) fn note_behind(&mut self, wakes: &mut Wakes) {
        self.staging.close_block();
        self.kick(wakes);
    }

    /// Lets somebody bring up to `wanted` items, but at least one.
    pub(crate) fn reserve(&mut self, wanted: usize) -> Places {
        if self.has_waiting() || self.limits.write_ahead {
            return Places {
                count: self.staging_places(wanted),
                in_front: 0,
            };
        }
        let room = self
            .limits
            .memory_items
            .saturating_sub(self.front.len() + self.reserved);
        let count = wanted.min(room).max(1);
        self.reserved += count;
        Places {
            count,
            in_front: count,
        }
    }

    /// How many items of the size of the last one staging can take.
    fn staging_places(&self, wanted: usize) -> usize {
        let Some(size) = self.staging.last_cost() else {
            return 1;
        };
        let most = self.limits.staging_max.min(self.disk_room);
        let room = most.saturating_sub(self.staging.bytes()) / size;
        usize::try_from(room).unwrap_or(usize::MAX).clamp(1, wanted)
    }

    /// Places in front are used or given back: a sender may have waited for them.
    pub(crate) fn unreserve(&mut self, in_front: usize, wakes: &mut Wakes) {
        self.reserved -= in_front.min(self.reserved);
        self.send_waiters.wake(in_front, wakes);
    }

    /// A sender has placed everything it held outside the lock.
    pub(crate) fn end_placing(&mut self, wakes: &mut Wakes) {
        self.placing -= 1;
        if self.phase == Phase::Halting {
            self.kick(wakes);
        } else if self.is_drained() {
            self.note_drained(wakes);
        }
    }

    /// A waiting sender leaves: if it had been woken, another one may go on.
    pub(crate) fn leave_senders(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) {
        if self.send_waiters.leave(ticket, wakes) {
            self.send_waiters.wake_one(wakes);
        }
    }

    // ---- receiving --------------------------------------------------------------------------

    /// The next item, or what stands before it.
    pub(crate) fn take(&mut self, wakes: &mut Wakes) -> Take<T> {
        self.take_with(wakes, Self::pop)
    }

    /// Front is empty: what a receiver does about it.
    pub(crate) fn look_behind_front<R>(&mut self, wakes: &mut Wakes) -> Take<R> {
        if let Some((seq, message)) = &self.undecodable {
            return Take::Ended(RecvError::Undecodable {
                seq: *seq,
                message: message.clone(),
            });
        }
        if let Some(job) = self.begin_refill() {
            return Take::Refill(job);
        }
        if self.is_drained() && (self.intake_closed || self.senders == 0) {
            return Take::Ended(RecvError::Closed);
        }
        if self.has_backlog() {
            if let Some(fault) = self.fault.as_ref().or(self.unreadable.as_ref()) {
                return Take::Ended(RecvError::Store(fault.clone()));
            }
            self.kick(wakes);
        }
        Take::Wait
    }

    /// Nothing waits anywhere.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending() == 0 && !self.refilling && self.batches.is_empty() && self.placing == 0
    }

    /// Takes the oldest item of front and acknowledges it.
    fn pop(&mut self, wakes: &mut Wakes) -> Option<T> {
        let taken = self.front.pop()?;
        self.ledger.acknowledge(taken.seq, 1);
        self.note_taken(taken.origin, taken.bytes, wakes);
        Some(taken.item)
    }

    /// An item has left and was acknowledged.
    pub(crate) fn note_taken(&mut self, origin: Origin, bytes: u64, wakes: &mut Wakes) {
        match origin {
            Origin::Direct => self.figures.passed_through += 1,
            Origin::Stored => self.note_acknowledged(bytes, wakes),
            Origin::Handed => {}
        }
        if !self.send_waiters.is_empty() && !self.has_waiting() {
            self.send_waiters.wake_one(wakes);
        }
        if self.front.is_empty() && self.pending() == 0 {
            self.note_drained(wakes);
        }
    }

    /// Takes up to `max` items of front at once.
    pub(crate) fn take_many(
        &mut self,
        into: &mut Vec<T>,
        max: usize,
        wakes: &mut Wakes,
    ) -> Take<()> {
        match self.take(wakes) {
            Take::Item(first) => into.push(first),
            Take::Refill(job) => return Take::Refill(job),
            Take::Wait => return Take::Wait,
            Take::Ended(error) => return Take::Ended(error),
        }
        for _ in 1..max {
            let Some(item) = self.pop(wakes) else { break };
            into.push(item);
        }
        Take::Item(())
    }

    fn note_acknowledged(&mut self, bytes: u64, wakes: &mut Wakes) {
        let before = self.acked_bytes;
        self.acked_bytes += bytes.max(1);
        let due = self.limits.checkpoint_bytes;
        if before < due && self.acked_bytes >= due {
            self.kick(wakes);
        }
    }

    /// The last item was taken: those who wait for the end may go on, and the disk can be tidied.
    fn note_drained(&mut self, wakes: &mut Wakes) {
        self.life_waiters.wake_all(wakes);
        if self.intake_closed || self.senders == 0 {
            self.recv_waiters.wake_all(wakes);
        }
        if self.acked_bytes > 0 && !self.is_tidy_armed {
            self.kick(wakes);
        }
    }

    /// Lends the head of refill to whoever will decode a piece of it.
    fn begin_refill(&mut self) -> Option<RefillJob> {
        if self.refilling {
            return None;
        }
        loop {
            if let Some(head) = self.refill.front() {
                let rest = head.rest();
                let start = self.ledger.next_unfinished(rest.start);
                if start < rest.end {
                    let room = self.limits.memory_items.saturating_sub(self.front.len());
                    let most = room.clamp(1, REFILL_ITEMS) as u64;
                    let unfinished = self.ledger.unfinished_in(start..rest.end.min(start + most));
                    let wanted = unfinished.into_iter().next()?;
                    let refill = head.clone();
                    self.refilling = true;
                    return Some(RefillJob { refill, wanted });
                }
                self.drop_head();
            } else if self.has_backlog() || self.read_next == self.next_seq {
                return None;
            } else {
                self.hand_over()?;
            }
        }
    }

    fn drop_head(&mut self) {
        if let Some(head) = self.refill.pop_front() {
            self.refill_bytes -= head.bytes();
        }
    }

    /// The backlog on disk is empty: the oldest block of staging comes forward without touching the disk.
    fn hand_over(&mut self) -> Option<()> {
        let (block, how) = self
            .staging
            .hand_over(self.read_next, self.limits.write_ahead)?;
        let origin = match how {
            HandOver::Share => Origin::Stored,
            HandOver::Take => Origin::Handed,
        };
        let from = std::mem::replace(&mut self.read_next, block.end());
        self.read_position();
        self.refill_bytes += block.len();
        self.refill
            .push_back(Refill::from_staging(block, origin, from));
        Some(())
    }

    /// Takes back what [`begin_refill`](Self::begin_refill) lent.
    pub(crate) fn finish_refill(&mut self, refill: Refill, decoded: Decoded<T>, wakes: &mut Wakes) {
        self.refilling = false;
        let count = decoded.items.len();
        if refill.is_from_disk() {
            self.figures.replayed += count as u64;
        }
        self.front.extend(decoded.items, decoded.run);
        if let Some((seq, error)) = decoded.failure {
            self.undecodable = Some((seq, error.to_string()));
            self.recv_waiters.wake_all(wakes);
        }
        if refill.rest().is_empty() {
            self.drop_head();
        } else if let Some(head) = self.refill.front_mut() {
            *head = refill;
        }
        self.recv_waiters.wake(count, wakes);
        self.send_waiters.wake(count.max(1), wakes);
        if self.phase == Phase::Halting || self.sync.wanted > self.sync.done || self.wants_read() {
            self.kick(wakes);
        }
    }

    /// A waiting receiver leaves: if it had been woken, another one may go on.
    pub(crate) fn leave_receivers(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) {
        if self.recv_waiters.leave(ticket, wakes) {
            self.recv_waiters.wake_one(wakes);
        }
    }

    /// A receiver goes to sleep, so front is empty now.
    pub(crate) fn wait_for_items(&mut self, ticket: &mut Ticket, waker: &Waker, wakes: &mut Wakes) {
        self.front_empty_ms = now_ms();
        self.recv_waiters.register(ticket, waker, wakes);
    }

    // ---- the worker's side ------------------------------------------------------------------

    /// Sees to it that the worker looks at the state again.
    pub(crate) fn kick(&mut self, wakes: &mut Wakes) {
        match &self.worker {
            Worker::Absent => self.worker = Worker::Wanted,
            Worker::Parked(_) => {
                if let Worker::Parked(waker) = std::mem::replace(&mut self.worker, Worker::Running)
                {
                    wakes.add(waker);
                }
            }
            Worker::Led(..) => {
                if let Worker::Led(_, was_kicked) = &mut self.worker {
                    *was_kicked = true;
                }
            }
            Worker::Wanted | Worker::Running | Worker::Gone => {}
        }
    }

    /// Read-ahead has room and there is something to read.
    pub(crate) fn wants_read(&self) -> bool {
        self.has_backlog()
            && self.unreadable.is_none()
            && (self.refill.is_empty() || self.refill_bytes * 2 < self.limits.refill_max)
    }

    /// Moves past numbers that are finished; the place from which the worker reads on.
    pub(crate) fn read_position(&mut self) -> Seq {
        self.read_next = self
            .ledger
            .next_unfinished(self.read_next)
            .min(self.next_seq);
        self.read_next
    }

    /// Everything was acknowledged, so the cursor should be persisted; when. A consumer that keeps up drains the
    /// channel with every item: that is no reason to write for every item.
    pub(crate) fn tidy_at(&self) -> Option<Instant> {
        let is_wanted = self.acked_bytes > 0 && self.pending() == 0;
        let at = self.tidied_at.map_or_else(sync::now, |at| at + TIDY_EVERY);
        is_wanted.then_some(at)
    }

    /// Finishes numbers that will not be delivered.
    pub(crate) fn finish(&mut self, range: Range<Seq>, outcome: Outcome, wakes: &mut Wakes) -> u64 {
        let count = self
            .ledger
            .finish(range.start..range.end.min(self.next_seq), outcome);
        self.read_position();
        if !self.has_waiting() {
            // Nothing stands between a sender and front any more.
            self.send_waiters.wake_all(wakes);
        }
        if self.is_drained() {
            self.note_drained(wakes);
        }
        count
    }

    /// The disk has this much room now.
    pub(crate) fn set_room(&mut self, room: u64, wakes: &mut Wakes) {
        let grew = room > self.disk_room;
        self.disk_room = room;
        // What is staged becomes less as room does, so both count.
        let left = room.saturating_sub(self.staging.bytes());
        if self.full_until.is_some_and(|until| left >= until) {
            self.full_until = None;
            if self.last_error.is_none() {
                self.stalled_since = None;
            }
            self.events.push(Event::Room);
        }
        if grew {
            self.send_waiters.wake_all(wakes);
        }
    }

    /// Items that a kill of the process would lose now.
    pub(crate) fn at_risk(&self) -> u64 {
        if self.limits.write_ahead {
            return 0;
        }
        let handed: u64 = self
            .refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
            .map(|refill| self.unfinished(&refill.rest()))
            .sum();
        let staged: u64 = self
            .staging
            .ranges()
            .map(|range| self.unfinished(&range))
            .sum();
        self.front.memory_only() + handed + staged + self.loans_at_risk()
    }

    pub(crate) fn unfinished(&self, range: &Range<Seq>) -> u64 {
        self.ledger
            .unfinished_in(range.clone())
            .iter()
            .map(|part| part.end - part.start)
            .sum()
    }
}

fn run_of_one(seq: Seq, origin: Origin, bytes: u64, earliest_ms: u64) -> Run {
    Run {
        first: seq,
        len: 1,
        origin,
        bytes,
        earliest_ms,
    }
}

/// Milliseconds since the Unix epoch; 0 for a clock before it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
