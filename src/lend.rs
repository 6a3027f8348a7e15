//! Items that left the channel but are not finished: lent to an adapter's sink, acknowledged once they are
//! seen taken, saved by a halt until then.
//!
//! The item itself is gone while it is lent, so where no disk has it the adapter leaves its encoding here first.

use crate::core::Shared;
use crate::error::RecvError;
use crate::front::Origin;
#[cfg(any(feature = "crossbeam", feature = "tokio"))]
use crate::front::Run;
use crate::refill::encode_item;
use crate::seq::Seq;
use crate::state::{Phase, State, Take};
use crate::wait::{Ticket, Wakes};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What is known of an item that is lent.
#[derive(Debug)]
pub(crate) struct Lent {
    seq: Seq,
    origin: Origin,
    bytes: u64,
    /// Its encoding, where no disk has it.
    record: Option<Vec<u8>>,
}

impl Lent {
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }
}

/// The lent items, in the order of their numbers.
pub(crate) type Loans = VecDeque<Lent>;

/// An adapter that must have its say before a halt saves: it holds items, or knows which were taken.
pub(crate) struct Attached<T>(Arc<Shared<T>>);

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        self.0.enter(|state, wakes| {
            state.attached -= 1;
            state.kick(wakes);
        });
    }
}

impl<T> Shared<T> {
    /// Makes a halt wait for the adapter, for a bounded time.
    pub(crate) fn attach(self: &Arc<Self>) -> Attached<T> {
        self.enter(|state, _| state.attached += 1);
        Attached(Arc::clone(self))
    }

    /// Ready when the channel is being halted.
    pub(crate) fn poll_halting(self: &Arc<Self>, ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
        self.enter(|state, wakes| {
            if state.phase == Phase::Open {
                state.life_waiters.register(ticket, waker, wakes);
                return Poll::Pending;
            }
            state.life_waiters.leave(ticket, wakes);
            Poll::Ready(())
        })
    }

    /// Appends items behind everything else while a halt waits; gives them back when it is over.
    pub(crate) fn add_late(self: &Arc<Self>, mut items: Vec<T>) -> Vec<T> {
        self.enter(|state, _| {
            if state.phase == Phase::Halting && !state.is_saving {
                state.late.append(&mut items);
            }
        });
        items
    }

    /// The next item, which stays unfinished until it is settled.
    pub(crate) fn poll_lend(
        self: &Arc<Self>,
        ticket: &mut Ticket,
        waker: Option<&Waker>,
    ) -> Poll<Result<T, RecvError>> {
        let lent = self.poll_take(ticket, waker, |state, wakes| {
            state.take_with(wakes, |state, _| state.pop_lent())
        });
        lent.map_ok(|(item, seq, origin)| {
            if origin.is_memory_only() {
                self.protect(&item, seq);
            }
            item
        })
    }

    /// Leaves the item's encoding with the loan. Without one it can't be saved, only given back.
    fn protect(self: &Arc<Self>, item: &T, seq: Seq) {
        let mut record = Vec::new();
        if encode_item(item, self.codec.as_ref(), &mut record).is_ok() {
            self.enter(|state, _| {
                if let Some(lent) = state.loans.iter_mut().find(|lent| lent.seq == seq) {
                    lent.record = Some(record);
                }
            });
        }
    }

    /// Acknowledges the oldest loans, all but the last `kept`.
    pub(crate) fn settle(self: &Arc<Self>, kept: usize) {
        self.enter(|state, wakes| {
            while state.loans.len() > kept {
                let Some(lent) = state.loans.pop_front() else {
                    return;
                };
                state.ledger.acknowledge(lent.seq, 1);
                state.note_taken(lent.origin, lent.bytes, wakes);
            }
        });
    }

    /// Takes the youngest loan back.
    #[cfg(any(feature = "crossbeam", feature = "tokio"))]
    pub(crate) fn return_loan(self: &Arc<Self>, item: T) {
        self.enter(|state, wakes| {
            let Some(lent) = state.loans.pop_back() else {
                return;
            };
            let Lent {
                seq, origin, bytes, ..
            } = lent;
            let run = Run {
                first: seq,
                len: 1,
                origin,
                bytes,
                earliest_ms: state.front_empty_ms,
            };
            state.front.push_front(item, run);
            state.recv_waiters.wake_one(wakes);
        });
    }
}

impl<T> State<T> {
    fn pop_lent(&mut self) -> Option<(T, Seq, Origin)> {
        let taken = self.front.pop()?;
        let (seq, origin, bytes) = (taken.seq, taken.origin, taken.bytes);
        self.loans.push_back(Lent {
            seq,
            origin,
            bytes,
            record: None,
        });
        Some((taken.item, seq, origin))
    }

    /// The loans that no disk has, with their encodings.
    pub(crate) fn take_unsaved_loans(&mut self) -> Vec<(Seq, Option<Vec<u8>>)> {
        self.loans
            .iter_mut()
            .filter(|lent| lent.origin.is_memory_only())
            .map(|lent| (lent.seq, lent.record.take()))
            .collect()
    }

    /// How many of the loans only memory has.
    pub(crate) fn loans_at_risk(&self) -> u64 {
        self.loans
            .iter()
            .filter(|lent| lent.origin.is_memory_only())
            .count() as u64
    }

    /// The next item as `pop` takes it, or what stands before it.
    pub(crate) fn take_with<R>(
        &mut self,
        wakes: &mut Wakes,
        pop: impl FnOnce(&mut Self, &mut Wakes) -> Option<R>,
    ) -> Take<R> {
        if self.phase != Phase::Open {
            return Take::Ended(RecvError::Halted);
        }
        if let Some(item) = pop(self, wakes) {
            return Take::Item(item);
        }
        self.look_behind_front(wakes)
    }
}
