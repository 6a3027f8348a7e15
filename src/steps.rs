//! What the worker does next, read off the state. It is here that "first" and "later" are decided.

use crate::event::Event;
use crate::letters::Errand;
use crate::refill::Refill;
use crate::seq::Seq;
use crate::state::{Figures, State};
use crate::sync;
use std::time::{Duration, Instant};

/// How long a halt waits for adapters that must bring their items or say what was taken.
const ADAPTERS_WAIT: Duration = Duration::from_secs(5);

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Step {
    Tell(Vec<Event>),
    Crash,
    Save,
    DropOldest {
        from: Seq,
    },
    Read {
        from: Seq,
        end: Seq,
    },
    Write,
    Sync {
        request: u64,
    },
    /// What was written has waited long enough.
    Flush,
    Checkpoint,
    /// What is acknowledged is to be on the device.
    Persist {
        request: u64,
    },
    /// Items are to be written down as dead letters.
    SetAside,
    /// Letters whose block is on disk are to go.
    FinishRequeue,
    Errand(u64, Errand),
    ProbeRoom,
    Park(Option<Instant>),
}

/// What the store and its retries allow now.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each named"
)]
pub(crate) struct Possible {
    pub(crate) may_write: bool,
    /// There is something to write, and it may be written.
    pub(crate) has_write: bool,
    pub(crate) may_read: bool,
    pub(crate) may_set_aside: bool,
    /// Letters are on their way to become items, up to this number.
    pub(crate) requeueing: Option<Seq>,
}

impl<T> State<T> {
    pub(crate) fn next_open_step(&mut self, can: Possible, has_read: bool) -> Option<Step> {
        let Possible {
            may_write,
            has_write,
            may_read,
            may_set_aside,
            requeueing,
        } = can;
        if self.drop_oldest_wanted && may_write {
            return Some(Step::DropOldest {
                from: self.read_position(),
            });
        }
        if may_set_aside && !self.doomed.is_empty() {
            return Some(Step::SetAside);
        }
        if requeueing.is_some_and(|end| self.disk_end() >= end) {
            return Some(Step::FinishRequeue);
        }
        if let Some((id, errand)) = self.errands.next(requeueing.is_some()) {
            return Some(Step::Errand(id, errand));
        }
        if self.persist.wanted > self.persist.done {
            return Some(Step::Persist {
                request: self.persist.wanted,
            });
        }
        // Before reading: a consumer that waits for every block would keep it from ever coming, and its space with it.
        if self.acked_bytes >= self.limits.checkpoint_bytes {
            return Some(Step::Checkpoint);
        }
        if may_read && !(has_write && has_read) {
            let from = self.read_position();
            let end = self.disk_end();
            if from < end {
                return Some(Step::Read { from, end });
            }
        }
        if has_write {
            return Some(Step::Write);
        }
        if self.sync.wanted > self.sync.done && !self.refilling && self.handing == 0 {
            return Some(Step::Sync {
                request: self.sync.wanted,
            });
        }
        if self.tidy_at().is_some_and(|at| at <= sync::now()) {
            return Some(Step::Checkpoint);
        }
        (self.full_until.is_some() && may_write).then_some(Step::ProbeRoom)
    }

    /// Until when a halt waits for adapters.
    pub(crate) fn adapters_deadline(&self) -> Option<Instant> {
        let since = self.halting_since.filter(|_| self.attached > 0);
        since.map(|since| since + ADAPTERS_WAIT)
    }

    pub(crate) fn next_halting_step(&mut self, has_write: bool) -> Option<Step> {
        if self.crash_wanted {
            return Some(Step::Crash);
        }
        let waits = self
            .adapters_deadline()
            .is_some_and(|deadline| deadline > sync::now());
        let quiet = !self.refilling
            && self.handing == 0
            && self.placing == 0
            && self.collecting == 0
            && !waits;
        if quiet {
            self.is_saving = true;
            return Some(Step::Save);
        }
        // An adapter may wait for the durability of what it sent before it says its last word.
        has_write.then_some(Step::Write)
    }

    /// Blocks wait to be written.
    pub(crate) fn wants_write(&self) -> bool {
        let everything = self.limits.write_ahead || self.sync.wanted > self.sync.done;
        self.staging.has_full() || (everything && self.staging.has_unwritten())
    }

    pub(crate) fn note_spilling(&mut self) {
        let spilling = self.has_backlog() || self.refill.iter().any(Refill::is_from_disk);
        if spilling != self.spilling {
            self.spilling = spilling;
            self.events.push(if spilling {
                Event::SpillBegan
            } else {
                Event::SpillEnded
            });
        }
    }

    pub(crate) fn note_success(&mut self) {
        if self.unreadable.is_none() && self.last_error.take().is_some() {
            self.events.push(Event::Recovered);
            if self.full_until.is_none() {
                self.stalled_since = None;
            }
        }
    }

    /// What the queue counts; the rest of the figures is counted here.
    pub(crate) fn take_figures(&mut self, queue: &Figures) {
        self.figures = Figures {
            spilled: self.figures.spilled,
            replayed: self.figures.replayed,
            passed_through: self.figures.passed_through,
            ..queue.clone()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Backoff;
    use crate::ledger::Ledger;
    use crate::state::Limits;

    #[test]
    fn a_checkpoint_that_is_due_comes_before_the_next_read() {
        let limits = Limits {
            memory_items: 1,
            staging_max: 1,
            refill_max: 1,
            checkpoint_bytes: 100,
            block_bytes: 1,
            write_ahead: false,
            max_age_ms: None,
            in_flight_max: 1,
            max_attempts: None,
            backoff: Backoff::default(),
        };
        let clock = Clock::manual();
        let mut state = State::<u32>::new(limits, Ledger::default(), 10, 0, clock);
        let can = Possible {
            may_write: true,
            has_write: false,
            may_read: true,
            may_set_aside: true,
            requeueing: None,
        };
        state.acked_bytes = 99;
        assert!(matches!(
            state.next_open_step(can, false),
            Some(Step::Read { from: 0, end: 10 })
        ));
        state.acked_bytes = 100;
        assert!(matches!(
            state.next_open_step(can, false),
            Some(Step::Checkpoint)
        ));
    }
}
