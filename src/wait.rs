//! Waiting, once for threads and tasks.
//!
//! Waiters stand in lists that are part of the state under the one lock, so "look at the state, find
//! nothing, go to sleep" is one step and no wake-up can fall in between. A thread waits as a task whose
//! waker unparks it: there is one state machine for both worlds.

use crate::seq::Seq;
use crate::sync::{self, Thread};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Instant;

/// To wake so many threads that sleep takes as long as what they wait for.
const CROWD: usize = 8;

/// Those who wait for one condition, first come first.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// Ascending by ticket.
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    news: News,
}

/// Whether there was a reason to wake somebody since somebody last found nothing. Who stays awake looks here, without the
/// lock: a hint, and the list is what counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct News(Arc<AtomicBool>);

impl News {
    pub(crate) fn tell(&self) {
        // Mostly it is told already, and a look leaves the line where it is.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Release);
        }
    }

    /// Stays awake for some microseconds, as being woken takes longer than most items do; true when there is something to
    /// look at.
    pub(crate) fn stay_awake(&self) -> bool {
        sync::stay_awake(|| self.0.load(Ordering::Acquire))
    }
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// The number that it waits for, in a list where that makes a difference.
    seq: Seq,
    waker: Waker,
    may_idle: bool,
}

/// A waiter's place in a list.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    number: Option<u64>,
    may_idle: bool,
    /// Many were there before it.
    is_in_crowd: bool,
}

impl Ticket {
    /// For a waiter that lives on when nobody polls it, as a stream does: waking it is no reason to leave
    /// the next one asleep.
    pub(crate) fn that_may_idle() -> Self {
        Self {
            may_idle: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.number.is_some()
    }

    pub(crate) fn is_in_crowd(&self) -> bool {
        self.is_in_crowd
    }
}

impl WaitList {
    /// Puts the waiter in the list, or refreshes its waker if it still stands there.
    pub(crate) fn register(&mut self, ticket: &mut Ticket, waker: &Waker, wakes: &mut Wakes) {
        self.register_for(0, ticket, waker, wakes);
    }

    /// As [`register`](Self::register), for what becomes of one number.
    pub(crate) fn register_for(
        &mut self,
        seq: Seq,
        ticket: &mut Ticket,
        waker: &Waker,
        wakes: &mut Wakes,
    ) {
        if let Some(entry) = self
            .position(ticket)
            .and_then(|index| self.waiting.get_mut(index))
        {
            entry.seq = seq;
            if !entry.waker.will_wake(waker) {
                wakes.discard(std::mem::replace(&mut entry.waker, waker.clone()));
            }
            return;
        }
        ticket.number = Some(self.next_ticket);
        ticket.is_in_crowd = self.waiting.len() >= CROWD;
        self.waiting.push_back(Waiter {
            ticket: self.next_ticket,
            seq,
            waker: waker.clone(),
            may_idle: ticket.may_idle,
        });
        self.next_ticket += 1;
    }

    /// Takes the waiter out. True when it had been woken meanwhile: if it leaves without acting
    /// on that, the wake-up belongs to somebody else.
    #[inline]
    pub(crate) fn leave(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) -> bool {
        ticket.number.is_some() && self.take_out(ticket, wakes)
    }

    fn take_out(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) -> bool {
        let position = self.position(ticket);
        ticket.number = None;
        match position.and_then(|index| self.waiting.remove(index)) {
            Some(waiter) => {
                wakes.discard(waiter.waker);
                false
            }
            None => true,
        }
    }

    /// Where those look who have not registered yet.
    pub(crate) fn news(&self) -> News {
        self.news.clone()
    }

    /// Somebody looked, under the lock, and there is nothing.
    pub(crate) fn note_nothing(&self) {
        self.news.0.store(false, Ordering::Relaxed);
    }

    /// Wakes the first, and more while it may be in vain. True when the last one surely looks.
    pub(crate) fn wake_one(&mut self, wakes: &mut Wakes) -> bool {
        self.news.tell();
        while let Some(waiter) = self.waiting.pop_front() {
            wakes.add(waiter.waker);
            if !waiter.may_idle {
                return true;
            }
        }
        false
    }

    /// Wakes as many; how many of them will surely act on it.
    pub(crate) fn wake(&mut self, count: usize, wakes: &mut Wakes) -> usize {
        (0..count).take_while(|_| self.wake_one(wakes)).count()
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        self.news.tell();
        for waiter in self.waiting.drain(..) {
            wakes.add(waiter.waker);
        }
    }

    /// Wakes those who wait for a number below `end`.
    pub(crate) fn wake_below(&mut self, end: Seq, wakes: &mut Wakes) {
        // The others keep their order.
        for _ in 0..self.waiting.len() {
            match self.waiting.pop_front() {
                Some(waiter) if waiter.seq < end => wakes.add(waiter.waker),
                Some(waiter) => self.waiting.push_back(waiter),
                None => break,
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn position(&self, ticket: &Ticket) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&ticket.number?, |held| held.ticket)
            .ok()
    }
}

/// Who is to be woken when, by the worker: the one timer.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    set: BTreeMap<Alarm, Waker>,
    next: u64,
}

/// A place among the alarms: when, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm(Instant, u64);

impl Alarms {
    /// Sets the alarm, or refreshes its waker.
    pub(crate) fn set(
        &mut self,
        alarm: &mut Option<Alarm>,
        at: Instant,
        waker: &Waker,
        wakes: &mut Wakes,
    ) {
        let place = *alarm.get_or_insert_with(|| {
            self.next += 1;
            Alarm(at, self.next)
        });
        if let Some(old) = self.set.insert(place, waker.clone()) {
            wakes.discard(old);
        }
    }

    pub(crate) fn cancel(&mut self, alarm: Alarm, wakes: &mut Wakes) {
        if let Some(waker) = self.set.remove(&alarm) {
            wakes.discard(waker);
        }
    }

    /// Wakes whose time has come; when the next one's will.
    pub(crate) fn ring(&mut self, now: Instant, wakes: &mut Wakes) -> Option<Instant> {
        while let Some(first) = self.set.first_entry() {
            let Alarm(at, _) = *first.key();
            if at > now {
                return Some(at);
            }
            wakes.add(first.remove());
        }
        None
    }
}

/// Wakers collected under the lock and used after it: waking, and even dropping a waker, can run foreign
/// code that takes the lock again. Dropping this wakes; declare it before the lock guard.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// Mostly there is one at most.
    first: Option<Waker>,
    others: Vec<Waker>,
    discarded: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn add(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.others.push(waker);
        }
    }

    fn discard(&mut self, waker: Waker) {
        self.discarded.push(waker);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        // Nearly always there is nobody.
        if let Some(first) = self.first.take() {
            for waker in std::iter::once(first).chain(self.others.drain(..)) {
                // A runtime's panic is its own trouble: the next one in the list is another's.
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
        }
    }
}

struct Unpark {
    thread: Thread,
    /// Somebody has woken it since it last began to wait.
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// A waker that unparks the current thread.
pub(crate) fn thread_waker() -> Waker {
    unpark().into()
}

fn unpark() -> Arc<Unpark> {
    sync::thread_local! {
        static UNPARK: Arc<Unpark> = new_unpark();
    }
    UNPARK.try_with(Arc::clone).unwrap_or_else(|_| new_unpark())
}

fn new_unpark() -> Arc<Unpark> {
    Arc::new(Unpark {
        thread: sync::current(),
        is_woken: AtomicBool::new(false),
    })
}

/// Polls on this thread until there is a result; `None` when `deadline` passes first.
pub(crate) fn block_until<R>(
    deadline: Option<Instant>,
    poll: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    wait(deadline, poll, |_| false)
}

/// As [`block_until`], for what may come at any moment: the thread stays awake for some microseconds before it sleeps, as
/// being woken takes longer than most items do.
pub(crate) fn block_briefly<R>(
    deadline: Option<Instant>,
    poll: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    wait(deadline, poll, |unpark| {
        sync::stay_awake(|| unpark.is_woken.load(Ordering::Acquire))
    })
}

/// As [`block_until`], for what many may wait for together: while they are `is_in_crowd`, others go first for a moment before the
/// thread sleeps. Where all of them are busy with that, nobody has to be woken from sleep.
pub(crate) fn block_in_crowd<R>(
    deadline: Option<Instant>,
    poll: impl FnMut(&Waker) -> Poll<R>,
    is_in_crowd: impl Fn() -> bool,
) -> Option<R> {
    wait(deadline, poll, |unpark| {
        is_in_crowd() && sync::give_way(|| unpark.is_woken.load(Ordering::Acquire))
    })
}

fn wait<R>(
    deadline: Option<Instant>,
    mut poll: impl FnMut(&Waker) -> Poll<R>,
    stay_awake: impl Fn(&Unpark) -> bool,
) -> Option<R> {
    let unpark = unpark();
    let waker = Waker::from(Arc::clone(&unpark));
    loop {
        unpark.is_woken.store(false, Ordering::Relaxed);
        if let Poll::Ready(result) = poll(&waker) {
            return Some(result);
        }
        if stay_awake(&unpark) {
            continue;
        }
        match deadline {
            None => sync::park(),
            Some(deadline) => match deadline.checked_duration_since(sync::now()) {
                Some(left) if !left.is_zero() => sync::park_timeout(left),
                _ => return None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_that_was_woken_and_leaves_says_so() {
        let waker = thread_waker();
        let mut list = WaitList::default();
        let (mut first, mut second) = (Ticket::default(), Ticket::default());
        let mut wakes = Wakes::default();
        list.register(&mut first, &waker, &mut wakes);
        list.register(&mut second, &waker, &mut wakes);
        list.register(&mut first, &waker, &mut wakes);
        list.wake_one(&mut wakes);
        assert!(list.leave(&mut first, &mut wakes), "first was woken");
        assert!(!list.leave(&mut first, &mut wakes), "and has left");
        assert!(
            !list.leave(&mut second, &mut wakes),
            "second was still waiting"
        );
        assert!(list.is_empty());
    }

    #[test]
    fn only_those_whose_number_has_come_are_woken() {
        let waker = thread_waker();
        let mut list = WaitList::default();
        let mut tickets = [5, 3, 4, 6].map(|seq| (seq, Ticket::default()));
        let mut wakes = Wakes::default();
        for (seq, ticket) in &mut tickets {
            list.register_for(*seq, ticket, &waker, &mut wakes);
        }
        let [(_, five), ..] = &mut tickets;
        list.register_for(2, five, &waker, &mut wakes);
        list.wake_below(4, &mut wakes);
        let woken = tickets.map(|(_, mut ticket)| list.leave(&mut ticket, &mut wakes));
        assert_eq!(woken, [true, true, false, false]);
    }
}
