//! The end of a channel: drain, halt, and the drop of the last handle.

use crate::core::Shared;
use crate::error::{HaltError, HaltFault, HaltReport, StoreError};
use crate::event::Listener;
use crate::state::{Halted, Phase, Worker};
use crate::sync;
use crate::wait::{Ticket, block_until};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A store that stays in one operation for this long is called hung, and no longer waited for.
const HUNG_AFTER: Duration = Duration::from_secs(30);

impl<T> Halted<T> {
    pub(crate) fn store_fault(&self) -> Option<StoreError> {
        match &self.fault {
            Some(HaltFault::Store(error)) => Some(error.clone()),
            _ => None,
        }
    }
}

/// A caller of `halt` that still collects its leftovers: the worker waits for it, also when they panic.
struct Collecting<'a, T>(&'a Arc<Shared<T>>);

impl<T> Drop for Collecting<'_, T> {
    fn drop(&mut self) {
        self.0.enter(|state, wakes| {
            state.collecting -= 1;
            state.kick(wakes);
        });
    }
}

impl<T> Shared<T> {
    /// Stops both ends and hands the leftovers to the worker, or returns them when it is too late for that.
    pub(crate) fn begin_halt(self: &Arc<Self>, leftovers: impl IntoIterator<Item = T>) -> Vec<T> {
        self.enter(|state, wakes| {
            if state.phase == Phase::Open {
                state.phase = Phase::Halting;
                state.halting_since = Some(sync::now());
                state.wake_everybody(wakes);
            }
            state.collecting += 1;
        });
        let collecting = Collecting(self);
        // Foreign code: it runs outside the lock, after the intake has stopped.
        let mut items: Vec<T> = leftovers.into_iter().collect();
        self.enter(|state, _| {
            if state.phase == Phase::Halting && !state.is_saving {
                state.late.append(&mut items);
            }
        });
        drop(collecting);
        items
    }

    /// Stops both ends, has everything left saved, and waits for the end of the worker.
    pub(crate) fn halt(
        self: &Arc<Self>,
        leftovers: impl IntoIterator<Item = T>,
    ) -> Result<HaltReport, HaltError<T>> {
        if Listener::is_running_here() {
            let items = leftovers.into_iter().collect();
            return Err(HaltError::new(
                HaltReport::default(),
                HaltFault::FromCallback,
                items,
            ));
        }
        let too_late = self.begin_halt(leftovers);
        self.wait_halted();
        self.halt_result(too_late)
    }

    /// Waits for the worker to finish a halt and to end. Gives a hung store up.
    pub(crate) fn wait_halted(self: &Arc<Self>) {
        let mut ticket = Ticket::default();
        loop {
            let deadline = sync::now() + HUNG_AFTER;
            let halted = block_until(Some(deadline), |waker| self.poll_halted(&mut ticket, waker));
            if halted.is_some() {
                break;
            }
            self.give_up_if_hung();
        }
        let worker = self.thread.lock().take();
        let hung = self.state.lock().is_hung;
        if let Some(worker) = worker.filter(|_| !hung) {
            // The worker has said its last word; it takes no lock after it.
            if worker.thread().id() != sync::current().id() {
                let _ = worker.join();
            }
        }
    }

    pub(crate) fn poll_halted(self: &Arc<Self>, ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
        self.enter(|state, wakes| {
            if state.halted.is_none() {
                state.life_waiters.register(ticket, waker, wakes);
                return Poll::Pending;
            }
            state.life_waiters.leave(ticket, wakes);
            Poll::Ready(())
        })
    }

    /// What the halt came to. The items that are not on disk go to the first who asks.
    pub(crate) fn halt_result(
        self: &Arc<Self>,
        too_late: Vec<T>,
    ) -> Result<HaltReport, HaltError<T>> {
        let mut state = self.state.lock();
        let Some(halted) = state.halted.as_mut() else {
            return Ok(HaltReport::default());
        };
        let report = halted.report.clone();
        let mut items = std::mem::take(&mut halted.items);
        items.extend(too_late);
        match halted.fault.clone() {
            Some(fault) => Err(HaltError::new(report, fault, items)),
            None if items.is_empty() => Ok(report),
            None => Err(HaltError::new(report, HaltFault::TooLate, items)),
        }
    }

    fn give_up_if_hung(self: &Arc<Self>) {
        self.enter(|state, wakes| {
            let Some(after) = state.busy_since.map(|since| since.elapsed()) else {
                return;
            };
            if after < HUNG_AFTER || state.halted.is_some() {
                return;
            }
            let fault = StoreError::Hung {
                path: self.settings.dir.clone(),
                after,
            };
            state.is_hung = true;
            state.phase = Phase::Halted;
            state.worker = Worker::Gone;
            let items = state.take_memory_only();
            let report = HaltReport {
                saved: state.unfinished_total(),
                ..HaltReport::default()
            };
            state.fault = Some(fault.clone());
            state.halted = Some(Halted {
                report,
                fault: Some(HaltFault::Store(fault)),
                items,
            });
            state.wake_everybody(wakes);
        });
    }

    /// Ready when nothing is left, when the channel was halted, or at `deadline`; without one, it may take for ever.
    pub(crate) fn poll_drained(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<()> {
        self.enter(|state, wakes| {
            let over = (state.is_drained() && state.held.out() == 0)
                || state.phase != Phase::Open
                || state.receivers == 0
                || deadline.is_some_and(|deadline| sync::now() >= deadline);
            if over {
                state.life_waiters.leave(ticket, wakes);
                return Poll::Ready(());
            }
            state.life_waiters.register(ticket, waker, wakes);
            state.deadline = state.deadline.into_iter().chain(deadline).min();
            state.kick(wakes);
            Poll::Pending
        })
    }

    pub(crate) fn leave_life(self: &Arc<Self>, ticket: &mut Ticket) {
        if ticket.is_held() {
            self.enter(|state, wakes| {
                state.life_waiters.leave(ticket, wakes);
            });
        }
    }

    /// The last handle is gone: as halt, with nobody left to be told.
    pub(crate) fn halt_unattended(self: &Arc<Self>) {
        if self.state.lock().halted.is_some() {
            return;
        }
        self.enter(|state, _| state.is_unattended = true);
        self.begin_halt(None);
        // The worker can't wait for itself; it will find the request.
        let on_worker = self
            .thread
            .lock()
            .as_ref()
            .is_some_and(|worker| worker.thread().id() == sync::current().id());
        if !on_worker {
            self.wait_halted();
        }
    }
}
