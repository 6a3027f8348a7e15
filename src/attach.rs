//! What adapters need of a halt: that it waits for them, and takes what they still hold.

use crate::core::Shared;
use crate::state::Phase;
use crate::wait::Ticket;
use std::sync::Arc;
use std::task::{Poll, Waker};

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
}
