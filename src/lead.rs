//! A sender that waits for the disk anyway writes for itself, and for all who came before it.
//!
//! To hand a write to the worker and to be woken after it takes longer than many a write. So a blocking sender that
//! finds the worker at rest takes its place for one write. Whoever comes meanwhile is left to the worker, which then finds
//! all of them together.

use crate::core::{Patience, Shared};
use crate::seq::Seq;
use crate::state::{Phase, State, Worker, Writer};
use crate::sync;
use crate::wait::Wakes;
use crate::worker::{Desk, Work, note_panic};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

impl<T> Shared<T> {
    /// Who writes what a sender of this patience admits.
    pub(crate) fn writer(&self, patience: Patience) -> Writer {
        if patience == Patience::MayBlock && self.settings.lets_senders_write() {
            Writer::Sender
        } else {
            Writer::Worker
        }
    }

    /// Writes what is staged, number `seq` with it, unless somebody is at it.
    pub(crate) fn lead(self: &Arc<Self>, seq: Seq) {
        if !self.enter(|state, wakes| state.begin_lead(seq, wakes)) {
            return;
        }
        // The worker lays it down a moment after it says that it rests.
        let Some(desk) = self.desk.lock().take() else {
            return self.end_lead(true);
        };
        let was_unsynced = desk.unsynced_since.is_some();
        let worked = catch_unwind(AssertUnwindSafe(|| self.write_once(desk)));
        match worked {
            Ok(desk) => {
                let has_trouble = !desk.is_clear();
                let has_timer = desk.unsynced_since.is_some() && !was_unsynced;
                *self.desk.lock() = Some(desk);
                self.end_lead(has_trouble || has_timer);
            }
            Err(_) => note_panic(self),
        }
    }

    fn write_once(self: &Arc<Self>, desk: Box<Desk>) -> Box<Desk> {
        let mut work = Work { shared: self, desk };
        // Where something has failed, the worker knows when to try again.
        if work.desk.is_clear() {
            work.write();
        }
        work.desk
    }

    fn end_lead(self: &Arc<Self>, has_more: bool) {
        self.enter(|state, wakes| state.end_lead(has_more, wakes));
    }
}

impl<T> State<T> {
    /// True when the worker rests and there is nothing to do for it but to write.
    fn begin_lead(&mut self, seq: Seq, wakes: &mut Wakes) -> bool {
        let is_plain = self.phase == Phase::Open
            && self.fault.is_none()
            && self.events.is_empty()
            && !self.drop_oldest_wanted
            && self.full_until.is_none()
            && self.disk_end() <= seq;
        match &self.worker {
            Worker::Parked(waker) if is_plain => {
                self.worker = Worker::Led(waker.clone(), false);
                self.busy_since = Some(sync::now());
                true
            }
            _ => {
                self.kick(wakes);
                false
            }
        }
    }

    /// Lets the worker rest on, or wakes it when there is more than was done.
    fn end_lead(&mut self, has_more: bool, wakes: &mut Wakes) {
        // What was written may be what is to be read ahead; what is read ahead is not dropped when the disk is full.
        let has_more =
            has_more || self.wants_read() || !self.events.is_empty() || self.phase != Phase::Open;
        if let Worker::Led(waker, was_kicked) = &self.worker {
            let has_more = has_more || *was_kicked;
            self.worker = Worker::Parked(waker.clone());
            self.busy_since = None;
            if has_more {
                self.kick(wakes);
            }
        }
    }
}

impl<T> Work<'_, T> {
    /// Lets senders go first who were just woken and are about to come again, so that one sync serves all of them: whoever
    /// comes too late waits for two.
    pub(crate) fn gather(&self) {
        let mut before = None;
        let mut is_complete = || {
            let state = self.shared.state.lock();
            let count = state.confirm_waiters.len();
            let nobody_came = before.replace(count).is_some_and(|before| count <= before);
            nobody_came || count >= state.last_confirm_waiters
        };
        if !is_complete() {
            sync::give_way(is_complete);
        }
    }

    /// Lays everything down and waits; takes it up again when there is work.
    pub(crate) fn rest(self, until: Option<Instant>) -> Option<Self> {
        let Self { shared, desk } = self;
        *shared.desk.lock() = Some(desk);
        let mut until = until;
        loop {
            crate::worker::park(until);
            let is_free = shared.enter(|state, _| match &mut state.worker {
                // A sender is at it, and wakes this thread when it is done.
                Worker::Led(_, was_kicked) => {
                    *was_kicked = true;
                    false
                }
                Worker::Gone => true,
                worker => {
                    *worker = Worker::Running;
                    true
                }
            });
            if is_free {
                let desk = shared.desk.lock().take()?;
                return Some(Self { shared, desk });
            }
            until = None;
        }
    }
}
