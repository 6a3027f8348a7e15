//! Everything under the one lock: where items wait, who waits for them, and what the worker has to do.
//!
//! Nothing here does I/O, encodes, decodes or calls foreign code. The numbers are laid out so:
//!
//! ```text
//!   finished │ front, refill │ backlog on disk │ staging │
//!          cursor        read_next         disk_end   next_seq
//! ```

use crate::clock::Clock;
use crate::config::Backoff;
use crate::dead::{DoomedQueue, Suspects};
use crate::error::{HaltFault, HaltReport, StoreError, SyncError};
use crate::event::Event;
use crate::feed::Batch;
use crate::front::Front;
use crate::held::Held;
use crate::ledger::{Ledger, Outcome};
use crate::letters::Errands;
use crate::refill::Refill;
use crate::seq::Seq;
use crate::staging::Staging;
use crate::stats::ErrorReport;
use crate::sync;
use crate::wait::{Alarms, WaitList, Wakes};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// A drained channel persists its cursor no more often than this.
const TIDY_EVERY: Duration = Duration::from_millis(50);
/// An item may get this part of `max_age` older than that before it is dropped.
const AGE_PRECISION: u64 = 16;

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
    /// Older items are dropped, milliseconds.
    pub(crate) max_age_ms: Option<u64>,
    /// Deliveries that may be out, or back and waiting, at once.
    pub(crate) in_flight_max: u64,
    /// Failed deliveries of one item that make it a dead letter.
    pub(crate) max_attempts: Option<u32>,
    /// How long an item waits after a delivery that failed.
    pub(crate) backoff: Backoff,
}

impl Limits {
    /// How exactly times of admission are kept where ages are limited, in milliseconds.
    pub(crate) fn spread_ms(&self) -> Option<u64> {
        self.max_age_ms.map(|age| (age / AGE_PRECISION).max(1))
    }
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

/// Requests to put something on the device, counted so that each caller waits for its own.
#[derive(Debug)]
pub(crate) struct Requests<E> {
    pub(crate) wanted: u64,
    pub(crate) done: u64,
    /// What the last one failed with.
    pub(crate) result: Option<E>,
}

impl<E> Default for Requests<E> {
    fn default() -> Self {
        Self {
            wanted: 0,
            done: 0,
            result: None,
        }
    }
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
    /// Records that can't be decoded, kept back until it is clear why.
    pub(crate) suspects: Suspects,
    /// Items that are to be written down as dead letters.
    pub(crate) doomed: DoomedQueue,
    /// Why dead letters can't be written down.
    pub(crate) letters_error: Option<ErrorReport>,
    /// They have used up their limit. Delivery pauses until some are requeued or purged.
    pub(crate) are_letters_full: bool,
    pub(crate) errands: Errands,
    /// Somebody holds the head of refill, or the whole front, outside the lock.
    pub(crate) refilling: bool,
    /// Items that only memory has in a front that is lent.
    pub(crate) lent_at_risk: u64,
    /// Places in front that were promised and not used yet.
    pub(crate) reserved: usize,
    pub(crate) ledger: Ledger,
    /// Items that are out with consumers, or came back.
    pub(crate) held: Held<T>,
    /// Receivers that encode what they took out, outside the lock.
    pub(crate) handing: usize,
    /// Items that are to be dropped outside the lock.
    pub(crate) discarded: Vec<T>,
    pub(crate) clock: Clock,
    pub(crate) incarnation: u64,
    /// Batches whose items are with `send_all`, not admitted yet.
    pub(crate) batches: Vec<Arc<Batch<T>>>,
    /// Batches that nobody uses.
    pub(crate) spare_batches: Vec<Arc<Batch<T>>>,
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
    /// Receivers that may take no more until a delivery is finished or comes back.
    pub(crate) limit_waiters: WaitList,
    /// Write-ahead senders whose items are not on disk yet.
    pub(crate) confirm_waiters: WaitList,
    /// How many of them there were when the last write was done.
    pub(crate) last_confirm_waiters: usize,
    /// Callers of drain, sync and halt.
    pub(crate) life_waiters: WaitList,
    pub(crate) alarms: Alarms,

    pub(crate) worker: Worker,
    /// Since when the worker has been inside the store.
    pub(crate) busy_since: Option<Instant>,
    pub(crate) sync: Requests<SyncError>,
    /// Requests to put what is acknowledged on the device.
    pub(crate) persist: Requests<StoreError>,
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

/// Whether senders may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    Open,
    Closed,
    Halted,
}

impl<T> State<T> {
    pub(crate) fn new(
        limits: Limits,
        ledger: Ledger,
        next_seq: Seq,
        disk_room: u64,
        clock: Clock,
    ) -> Self {
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
            suspects: Suspects::default(),
            doomed: DoomedQueue::new(limits.refill_max),
            letters_error: None,
            are_letters_full: false,
            errands: Errands::default(),
            refilling: false,
            lent_at_risk: 0,
            reserved: 0,
            ledger,
            held: Held::default(),
            handing: 0,
            discarded: Vec::new(),
            incarnation: 0,
            batches: Vec::new(),
            spare_batches: Vec::new(),
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
            limit_waiters: WaitList::default(),
            confirm_waiters: WaitList::default(),
            last_confirm_waiters: 0,
            life_waiters: WaitList::default(),
            alarms: Alarms::default(),
            worker: Worker::Absent,
            busy_since: None,
            sync: Requests::default(),
            persist: Requests::default(),
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
            front_empty_ms: clock.wall_ms(),
            clock,
        }
    }

    /// One past the last number of the backlog on disk; staging begins there.
    pub(crate) fn disk_end(&self) -> Seq {
        self.staging.first().unwrap_or(self.next_seq)
    }

    /// Items that wait anywhere.
    pub(crate) fn pending(&self) -> u64 {
        self.unfinished_total() - self.held.out()
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
    pub(crate) fn has_waiting(&self) -> bool {
        self.read_next < self.next_seq || !self.refill.is_empty() || self.refilling
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

    /// Nobody works any more. A thread that rests while a sender worked ends, too: whoever halts waits for it.
    pub(crate) fn end_worker(&mut self, wakes: &mut Wakes) {
        let worker = std::mem::replace(&mut self.worker, Worker::Gone);
        if let Worker::Parked(waker) | Worker::Led(waker, _) = worker {
            wakes.add(waker);
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
        let has_changed = room != self.disk_room;
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
        // Less room is news as well: who waits for the writer may have to be told that the disk is full.
        if has_changed {
            self.send_waiters.wake_all(wakes);
        }
    }
}
