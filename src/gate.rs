//! The lock around the state, and the way past it for items that concern nobody else.
//!
//! While sender and receiver are both busy in memory, the one lock is what they wait for. So a receiver that took an item
//! has the rest of front lent to an outlet with a lock of its own: plain receives then take from there, and senders go on
//! filling front. Nobody else knows of it. Whoever locks the state gets back what is left, and what was taken meanwhile is
//! acknowledged, so under the lock everything is where it always is.
//!
//! - Lent is only what nothing but a plain receive can concern: see [`State::may_lend`]. All of that changes under the lock
//!   only, which ends the lending.
//! - The last item of an outlet is taken under the lock of the state: that the channel is drained then is seen there.
//! - The state's lock is taken before the outlet's.

use crate::config::Settings;
use crate::state::State;
use crate::sync::{Mutex, MutexGuard};
use crate::wait::{News, Wakes};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// After one item that could not go straight to front, so many others don't try.
const DETOURS: u32 = 16;

pub(crate) struct Gate<T> {
    state: Mutex<State<T>>,
    outlet: Mutex<VecDeque<T>>,
    news: News,
    /// Items may go to front as they are.
    is_direct: bool,
    /// A hint: something is lent.
    is_lent: AtomicBool,
    /// A hint: so many items will find front full, or something waiting behind it, as the last one did.
    detours: AtomicU32,
}

impl<T> Gate<T> {
    pub(crate) fn new(state: State<T>, settings: &Settings) -> Self {
        Self {
            news: state.recv_waiters.news(),
            is_direct: !settings.is_write_ahead() && !settings.encodes_always(),
            state: Mutex::new(state),
            outlet: Mutex::new(VecDeque::new()),
            is_lent: AtomicBool::new(false),
            detours: AtomicU32::new(0),
        }
    }

    /// Whether items came.
    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    /// The state, with nothing lent.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.state.lock();
        if state.front.is_lent() {
            state.take_home(&mut self.outlet.lock());
            self.is_lent.store(false, Ordering::Relaxed);
        }
        state
    }

    /// Admits an item if it goes straight to front; otherwise it comes back.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        if !self.is_direct {
            return Err(item);
        }
        // Where items spill, looking here first would be a look too many for each.
        let detours = self.detours.load(Ordering::Relaxed);
        if detours > 0 {
            self.detours.store(detours - 1, Ordering::Relaxed);
            return Err(item);
        }
        // What is lent counts as if it were all there still: it may be less, never more.
        let mut state = self.state.lock();
        if !state.takes_directly() {
            self.detours.store(DETOURS, Ordering::Relaxed);
            return Err(item);
        }
        state.put_in_front(item);
        if state.recv_waiters.is_empty() {
            drop(state);
            self.news.tell();
            return Ok(());
        }
        let mut wakes = Wakes::default();
        state.recv_waiters.wake_one(&mut wakes);
        drop(state);
        Ok(())
    }

    /// Takes the oldest item, if it is lent and not the last one.
    pub(crate) fn pop(&self) -> Option<T> {
        if !self.is_lent.load(Ordering::Relaxed) {
            return None;
        }
        let mut outlet = self.outlet.lock();
        if outlet.len() < 2 {
            return None;
        }
        outlet.pop_front()
    }

    /// Lends what is in front, if it may be lent.
    pub(crate) fn lend(&self, state: &mut State<T>) {
        if state.may_lend() {
            state.front.lend(&mut self.outlet.lock());
            self.is_lent.store(state.front.is_lent(), Ordering::Relaxed);
        }
    }
}
