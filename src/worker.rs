//! The one thread that does all I/O: writes staging, reads ahead, persists the cursor, gives space back.
//!
//! It looks at the state, does one piece of work outside the lock, and looks again. When there is nothing to do it
//! parks, and whoever makes work unparks it; it sleeps by the clock only while something is due (a retry, a deadline).

use crate::block::{Block, Seal};
use crate::core::Shared;
use crate::error::{HaltFault, HaltReport, StoreError};
use crate::event::Event;
use crate::ledger::Ledger;
use crate::queue::Queue;
use crate::seq::Seq;
use crate::state::{Halted, Phase, Worker};
use crate::stats::ErrorReport;
use crate::steps::{Possible, Step};
use crate::sync;
use crate::wait::thread_waker;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of blocks that one piece of writing takes.
const WRITE_BYTES: usize = 1 << 20;
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// Starts the worker's thread.
pub(crate) fn start<T: Send + 'static>(shared: &Arc<Shared<T>>) {
    // Held while the thread is started, so that whoever joins it finds it here.
    let mut slot = shared.thread.lock();
    let own = Arc::clone(shared);
    match sync::spawn("overspill", move || run(&own)) {
        Ok(thread) => *slot = Some(thread),
        Err(error) => {
            drop(slot);
            let fault = StoreError::io("start the worker thread for", &shared.settings.dir, error);
            no_thread(shared, fault);
        }
    }
}

/// No thread can be had: a halt does the work here, and everybody else is told.
fn no_thread<T>(shared: &Arc<Shared<T>>, fault: StoreError) {
    let halting = shared.enter(|state, wakes| {
        let halting = state.phase == Phase::Halting;
        if !halting {
            state.worker = Worker::Absent;
            state.last_error = Some(ErrorReport::new(&fault));
            state.fault = Some(fault);
            state.wake_everybody(wakes);
        }
        halting
    });
    if halting {
        run(shared);
    }
}

/// Works until the channel is halted.
fn run<T>(shared: &Arc<Shared<T>>) {
    let Some(desk) = shared.desk.lock().take() else {
        return;
    };
    let worked = catch_unwind(AssertUnwindSafe(|| Work { shared, desk }.run()));
    if worked.is_err() {
        note_panic(shared);
    }
}

/// A panic in the store's code, not in foreign code: nobody knows what is on disk now.
pub(crate) fn note_panic<T>(shared: &Arc<Shared<T>>) {
    shared.enter(|state, wakes| {
        let fault = StoreError::Poisoned {
            path: shared.settings.dir.clone(),
            message: "the worker thread panicked".to_owned(),
        };
        let report = HaltReport {
            saved: state.unfinished_total(),
            ..HaltReport::default()
        };
        state.phase = Phase::Halted;
        state.end_worker(wakes);
        state.fault = Some(fault.clone());
        let items = state.take_memory_only();
        state.halted = Some(Halted {
            report,
            fault: Some(HaltFault::Store(fault)),
            items,
        });
        state.wake_everybody(wakes);
    });
}

/// Whether a write minds the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    WithinLimits,
    /// A halt may exceed them by what memory held.
    AnyThereIs,
}

/// When something that failed is tried again.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    at: Option<Instant>,
    delay: Duration,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    pub(crate) fn later(&mut self) {
        self.delay = (self.delay * 2).clamp(RETRY_FIRST, RETRY_LAST);
        self.at = Some(sync::now() + self.delay);
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What the worker works with; it lies in `Shared` while nobody does.
pub(crate) struct Desk {
    pub(crate) queue: Queue,
    /// Sealed blocks that the store hasn't confirmed. They are tried again as they are: the store may have some of them.
    pub(crate) unwritten: Vec<Arc<Block>>,
    /// The store has `unwritten`, but not yet as safely as senders were promised.
    pub(crate) appended: bool,
    pub(crate) writing: Retry,
    pub(crate) reading: Retry,
    pub(crate) syncing: Retry,
    pub(crate) setting_aside: Retry,
    pub(crate) finishing: Retry,
    /// Letters were staged as a block of new items: the end of its numbers.
    pub(crate) requeueing: Option<Seq>,
    /// Since when something that was written has waited for a sync.
    pub(crate) unsynced_since: Option<Instant>,
    /// The store had no space for what it was given last, whatever the file system says is free.
    pub(crate) is_refused: bool,
    /// The last step was a read: a write comes first, if there is one.
    pub(crate) has_read: bool,
}

impl Desk {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            unwritten: Vec::new(),
            appended: false,
            writing: Retry::default(),
            reading: Retry::default(),
            syncing: Retry::default(),
            setting_aside: Retry::default(),
            finishing: Retry::default(),
            requeueing: None,
            unsynced_since: None,
            is_refused: false,
            has_read: false,
        }
    }

    /// Nothing that failed waits to be tried again.
    pub(crate) fn is_clear(&self) -> bool {
        self.unwritten.is_empty()
            && self.writing.at.is_none()
            && !self.is_refused
            && self.requeueing.is_none()
    }
}

pub(crate) struct Work<'a, T> {
    pub(crate) shared: &'a Arc<Shared<T>>,
    pub(crate) desk: Box<Desk>,
}

impl<T> Work<'_, T> {
    fn run(mut self) {
        loop {
            match self.next_step() {
                Step::Tell(events) => self.tell(&events),
                Step::Crash => return self.crash(),
                Step::Save => return self.save(),
                Step::DropOldest { from } => self.drop_oldest(from),
                Step::Read { from, end } => self.read(from, end),
                Step::Write => self.write(),
                Step::Sync { request } => self.sync(request),
                Step::Flush => self.flush(),
                Step::Checkpoint => self.checkpoint(),
                Step::Persist { request } => self.persist(request),
                Step::SetAside => self.set_aside(),
                Step::FinishRequeue => self.finish_requeue_later(),
                Step::Errand(id, errand) => self.run_errand(id, errand),
                Step::ProbeRoom => self.probe_room(),
                Step::Park(until) => match self.rest(until) {
                    Some(rested) => self = rested,
                    None => return,
                },
            }
        }
    }

    pub(crate) fn tell(&self, events: &[Event]) {
        for event in events {
            self.shared.settings.listener.tell(event);
        }
    }

    /// Looks at the state. What comes earlier here goes first.
    fn next_step(&mut self) -> Step {
        let now = sync::now();
        let waker = thread_waker();
        let (writing, reading) = (self.desk.writing.is_due(now), self.desk.reading.is_due(now));
        let setting_aside = self.desk.setting_aside.is_due(now);
        let finishing = self.desk.finishing.is_due(now);
        let requeueing = self
            .desk
            .requeueing
            .map(|end| if finishing { end } else { Seq::MAX });
        let flush_at = self.flush_at();
        let retries = [
            self.desk.writing.at.filter(|_| !writing),
            self.desk.reading.at.filter(|_| !reading),
            self.desk.setting_aside.at.filter(|_| !setting_aside),
            self.desk.finishing.at.filter(|_| !finishing),
        ];
        let (retry_write, has_read) = (!self.desk.unwritten.is_empty(), self.desk.has_read);
        let dir = &self.shared.settings.dir;
        let step = self.shared.enter(|state, wakes| {
            state.busy_since = None;
            if let Some((needed, available)) = state.full_news.take() {
                let path = dir.clone();
                state.events.push(Event::Full(StoreError::Full {
                    path,
                    needed,
                    available,
                }));
            }
            state.note_spilling();
            let delayed = state.release_due(wakes);
            let delayed = delayed.and_then(|due| state.clock.instant_of(due));
            let alarm = state.alarms.ring(now, wakes);
            if state.full_until.is_some() {
                // What is too old makes room.
                state.expire(wakes);
            }
            if !state.events.is_empty() {
                return Step::Tell(std::mem::take(&mut state.events));
            }
            if state.deadline.is_some_and(|deadline| deadline <= now) {
                state.deadline = None;
                state.life_waiters.wake_all(wakes);
            }
            if state.fault.is_none() && flush_at.is_some_and(|at| at <= now) {
                state.busy_since = Some(now);
                return Step::Flush;
            }
            let may_write = writing && state.fault.is_none();
            let has_write = may_write && (retry_write || state.wants_write());
            let step = if state.phase == Phase::Open {
                let may_read = reading && state.fault.is_none() && state.wants_read();
                state.next_open_step(
                    Possible {
                        may_write,
                        has_write,
                        may_read,
                        may_set_aside: setting_aside,
                        requeueing,
                    },
                    has_read,
                )
            } else {
                state.next_halting_step(has_write)
            };
            let step = step.unwrap_or_else(|| {
                let adapters = state.adapters_deadline().filter(|due| *due > now);
                let tidy = state.tidy_at().filter(|_| state.phase == Phase::Open);
                state.is_tidy_armed = tidy.is_some();
                let due = retries
                    .into_iter()
                    .flatten()
                    .chain(state.deadline)
                    .chain(delayed)
                    .chain(alarm)
                    .chain(flush_at.filter(|_| state.fault.is_none()))
                    .chain(adapters)
                    .chain(tidy)
                    .min();
                state.worker = Worker::Parked(waker);
                Step::Park(due)
            });
            if !matches!(step, Step::Park(_)) {
                state.busy_since = Some(now);
            }
            step
        });
        self.desk.has_read = matches!(step, Step::Read { .. });
        step
    }

    /// Writes the oldest blocks of staging.
    pub(crate) fn write(&mut self) {
        match self.write_batch(Room::WithinLimits) {
            Ok(()) => self.desk.writing.reset(),
            Err(error) => {
                self.desk.is_refused = error.is_full();
                if error.is_full() {
                    self.forget_taken();
                }
                self.desk.writing.later();
                self.note_trouble(&error);
                let room = self.room();
                self.shared
                    .enter(|state, wakes| state.set_room(room, wakes));
            }
        }
    }

    /// Seals what staging gives and appends it, or what could not be appended last time.
    pub(crate) fn write_batch(&mut self, room: Room) -> Result<(), StoreError> {
        if self.desk.unwritten.is_empty() {
            if self.shared.settings.is_sync() {
                self.gather();
            }
            let (batch, ledger) = self.shared.enter(|state, _| {
                if state.limits.write_ahead || state.sync.wanted > state.sync.done {
                    state.staging.close_block();
                }
                (state.staging.begin_write(WRITE_BYTES), state.told())
            });
            let syncs = self.shared.settings.is_sync();
            let mut prev_end = self.desk.queue.claimed_end();
            for block in batch {
                let seal = self.seal(prev_end, &ledger);
                let sealed = block.seal_shared(&seal);
                if !syncs {
                    prev_end = sealed.end();
                }
                self.desk.unwritten.push(Arc::new(sealed));
            }
        }
        self.append_unwritten(room)?;
        let items = self
            .desk
            .unwritten
            .iter()
            .map(|block| u64::from(block.header().count))
            .sum::<u64>();
        self.forget_unwritten();
        self.desk.is_refused = false;
        let room = self.desk.queue.room();
        let figures = self.desk.queue.figures();
        let ledger = self.shared.enter(|state, wakes| {
            state.staging.finish_write();
            state.note_success();
            state.take_figures(&figures);
            state.figures.spilled += items;
            state.set_room(room, wakes);
            state.send_waiters.wake_all(wakes);
            state.last_confirm_waiters = state.confirm_waiters.len();
            let disk_end = state.disk_end();
            state.confirm_waiters.wake_below(disk_end, wakes);
            state.told()
        });
        if !self.shared.settings.is_write_ahead() {
            // In `Spill` this is what tells delivered items from lost ones after a crash.
            self.desk.queue.checkpoint(&ledger)?;
        }
        Ok(())
    }

    /// What was taken while a full disk refused it needs no room any more. The room may have become less than what was
    /// admitted, so the rest could wait for ever.
    pub(crate) fn forget_taken(&mut self) {
        let ledger = self.shared.enter(|state, _| state.told());
        let is_taken = |block: &Arc<Block>| ledger.covers(&(block.first()..block.end()));
        let unwritten = &mut self.desk.unwritten;
        // Younger blocks say that it was written, so the device must know first that it is finished.
        if self.desk.appended
            || !unwritten.iter().any(is_taken)
            || self.desk.queue.checkpoint_durably(&ledger).is_err()
        {
            return;
        }
        unwritten.retain(|block| !is_taken(block));
        if unwritten.is_empty() {
            self.desk.is_refused = false;
            self.shared.enter(|state, wakes| {
                state.staging.finish_write();
                let disk_end = state.disk_end();
                state.confirm_waiters.wake_below(disk_end, wakes);
                state.send_waiters.wake_all(wakes);
            });
        }
    }

    /// Makes the sealed blocks as safe as was promised. What failed is tried again where it failed: blocks that the
    /// store has are not given to it twice.
    pub(crate) fn append_unwritten(&mut self, room: Room) -> Result<(), StoreError> {
        if !self.desk.appended {
            match room {
                Room::WithinLimits => self.desk.queue.append(&self.desk.unwritten)?,
                Room::AnyThereIs => self.desk.queue.append_beyond_limits(&self.desk.unwritten)?,
            }
            self.desk.appended = true;
        }
        if self.shared.settings.is_sync() {
            self.desk.queue.sync_data()?;
        } else if self.shared.settings.sync_within().is_some() {
            self.desk.unsynced_since.get_or_insert_with(sync::now);
        }
        Ok(())
    }

    pub(crate) fn forget_unwritten(&mut self) {
        self.desk.unwritten.clear();
        self.desk.appended = false;
    }

    /// When what was written must be on the device.
    fn flush_at(&self) -> Option<Instant> {
        let within = self.shared.settings.sync_within()?;
        let due = self.desk.unsynced_since?.checked_add(within)?;
        Some(self.desk.syncing.at.map_or(due, |retry| retry.max(due)))
    }

    fn flush(&mut self) {
        match self.desk.queue.sync_data() {
            Ok(()) => {
                self.desk.syncing.reset();
                self.desk.unsynced_since = None;
                let figures = self.desk.queue.figures();
                self.shared.enter(|state, _| state.take_figures(&figures));
            }
            Err(error) => {
                self.desk.syncing.later();
                self.note_trouble(&error);
            }
        }
    }

    pub(crate) fn seal(&self, prev_end: Seq, ledger: &Ledger) -> Seal {
        Seal {
            prev_end,
            incarnation: self.desk.queue.incarnation(),
            latest_ms: self.shared.settings.clock.wall_ms(),
            cursor: ledger.cursor(),
            counters: *ledger.counters(),
            compression: self.shared.settings.compression,
        }
    }

    /// Records a failure; one that can't heal stops the use of the store.
    pub(crate) fn note_trouble(&mut self, error: &StoreError) {
        self.shared.enter(|state, wakes| {
            state.stalled_since.get_or_insert_with(Instant::now);
            if state.last_error.is_none() {
                state.last_error = Some(ErrorReport::new(error));
                state.events.push(Event::Trouble(error.clone()));
            }
            if error.is_final() {
                state.fault = Some(error.clone());
                state.wake_everybody(wakes);
            }
        });
    }

    /// Ends as a crash would: nothing is saved.
    fn crash(self) {
        let Self { shared, desk } = self;
        // Closing it would leave it as only a halt does.
        drop(desk);
        let dir = &shared.settings.dir;
        let cut_short = StoreError::io("finish writing to", dir, ErrorKind::Interrupted.into());
        shared.enter(|state, wakes| {
            // Whoever waits for its item's durability learns from it that none will come.
            state.fault.get_or_insert(cut_short);
            state.phase = Phase::Halted;
            state.worker = Worker::Gone;
            let (report, fault) = (HaltReport::default(), Some(HaltFault::Crashed));
            state.halted = Some(Halted {
                report,
                fault,
                items: Vec::new(),
            });
            state.wake_everybody(wakes);
        });
    }
}

pub(crate) fn park(until: Option<Instant>) {
    match until {
        None => sync::park(),
        Some(until) => {
            let left = until.saturating_duration_since(sync::now());
            if !left.is_zero() {
                sync::park_timeout(left);
            }
        }
    }
}
