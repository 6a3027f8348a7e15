//! Receiving, as far as it is under the lock: what is ready, what stands before it, what comes forward.

use crate::dead::{Doomed, Verdict};
use crate::error::RecvError;
use crate::event::Event;
use crate::front::{Origin, Run};
use crate::ledger::Outcome;
use crate::refill::{Decoded, Refill};
use crate::seq::Seq;
use crate::staging::HandOver;
use crate::state::{Phase, State};
use crate::wait::{Ticket, Wakes};
use std::collections::VecDeque;
use std::ops::Range;
use std::task::Waker;

/// Items decoded in one piece, so that the first of them is not kept back for long.
const REFILL_ITEMS: usize = 128;

/// What a receiver finds.
#[derive(Debug)]
pub(crate) enum Take<R> {
    Item(R),
    /// Decode this outside the lock, give it back, look again.
    Refill(RefillJob),
    Wait,
    /// As many deliveries are out as may be.
    WaitForAcks,
    Ended(RecvError),
}

/// The head of refill, lent to a receiver that decodes a piece of it.
#[derive(Debug)]
pub(crate) struct RefillJob {
    pub(crate) refill: Refill,
    pub(crate) wanted: Range<Seq>,
}

/// A receiver's places in the lists that it may wait in.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) items: Ticket,
    pub(crate) limit: Ticket,
}

impl Places {
    /// As [`Ticket::that_may_idle`].
    pub(crate) fn that_may_idle() -> Self {
        Self {
            items: Ticket::that_may_idle(),
            limit: Ticket::that_may_idle(),
        }
    }

    pub(crate) fn are_held(&self) -> bool {
        self.items.is_held() || self.limit.is_held()
    }
}

impl<T> State<T> {
    // ---- one item or many -------------------------------------------------------------------

    /// The next item, finished as it leaves, or what stands before it.
    pub(crate) fn take(&mut self, wakes: &mut Wakes) -> Take<T> {
        self.take_with(0, wakes, Self::pop)
    }

    /// Up to `max` items, finished as they leave.
    pub(crate) fn take_many(
        &mut self,
        into: &mut Vec<T>,
        max: usize,
        wakes: &mut Wakes,
    ) -> Take<()> {
        self.take_with(0, wakes, |state, wakes| {
            let mut left = max;
            while left > 0 {
                let Some(count) = state.pop_many(left, into, wakes) else {
                    break;
                };
                left -= count.min(left);
            }
            (left < max).then_some(())
        })
    }

    /// No more may be out than are, and nothing that was out is ready to go out again. After the end there is no limit: what
    /// is out then never comes back.
    pub(crate) fn is_at_limit(&self) -> bool {
        let is_full = self.held.total() >= self.limits.in_flight_max;
        is_full && !self.held.has_ready() && self.phase == Phase::Open
    }

    /// What `pop` takes, or what stands before it.
    pub(crate) fn take_with<R>(
        &mut self,
        own_out: u64,
        wakes: &mut Wakes,
        pop: impl FnOnce(&mut Self, &mut Wakes) -> Option<R>,
    ) -> Take<R> {
        if self.phase != Phase::Open {
            return Take::Ended(RecvError::Halted);
        }
        if self.held.waiting() > 0 {
            // Others may wait for what this one leaves, and the timer finds nothing to tell them any more.
            self.release_due(wakes);
        }
        if self.limits.max_age_ms.is_some() {
            self.expire(wakes);
        }
        if self.doomed.are_too_many() || self.are_letters_full {
            // Dead letters that find no room: what comes next could be one, too. On a full disk, on the other hand, taking
            // items is what makes room.
            return Take::Wait;
        }
        if let Some(taken) = pop(self, wakes) {
            return Take::Item(taken);
        }
        self.look_behind_front(own_out, wakes)
    }

    /// Takes the oldest item and acknowledges it.
    fn pop(&mut self, wakes: &mut Wakes) -> Option<T> {
        if let Some(parcel) = self.held.take_ready() {
            let bytes = parcel.slip.bytes.into();
            self.acknowledge_out(&parcel.slip, 1, bytes, wakes);
            return Some(parcel.item);
        }
        let taken = self.front.pop()?;
        self.held.forget_origins(taken.seq..taken.seq + 1);
        self.ledger.acknowledge(taken.seq, 1);
        self.note_taken(taken.origin, taken.bytes, 1, wakes);
        Some(taken.item)
    }

    /// Takes up to `max` of the oldest items and acknowledges them; how many, and not necessarily all that there are.
    fn pop_many(&mut self, max: usize, into: &mut Vec<T>, wakes: &mut Wakes) -> Option<usize> {
        if self.held.has_ready() {
            into.push(self.pop(wakes)?);
            return Some(1);
        }
        let Run {
            first,
            len,
            origin,
            bytes,
            ..
        } = self.front.pop_many(max, into)?;
        self.held.forget_origins(first..first + len);
        self.ledger.acknowledge(first, len);
        self.note_taken(origin, bytes, len, wakes);
        usize::try_from(len).ok()
    }

    /// Front is empty: what a receiver does about it.
    fn look_behind_front<R>(&mut self, own_out: u64, wakes: &mut Wakes) -> Take<R> {
        if let Some((seq, message)) = &self.undecodable {
            return Take::Ended(RecvError::Undecodable {
                seq: *seq,
                message: message.clone(),
            });
        }
        if let Some(job) = self.begin_refill() {
            return Take::Refill(job);
        }
        if self.read_next == self.next_seq && !self.refilling {
            // Nothing comes that could tell more about them.
            let suspects = self.suspects.take();
            self.doom(suspects, wakes);
        }
        let is_over = self.is_drained() && self.held.out() <= own_out;
        if is_over && (self.intake_closed || self.senders == 0) {
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

    // ---- what follows from it ---------------------------------------------------------------

    /// Items have left and were acknowledged.
    pub(crate) fn note_taken(&mut self, origin: Origin, bytes: u64, items: u64, wakes: &mut Wakes) {
        match origin {
            Origin::Direct => self.figures.passed_through += items,
            Origin::Stored => self.note_acknowledged(bytes.max(items), wakes),
            Origin::Handed => {}
        }
        self.wake_for_front(items, wakes);
        if self.front.is_empty() && self.pending() == 0 {
            self.note_drained(wakes);
        }
    }

    /// Front has room: where nothing waits behind it, senders that wait for the disk need it no more.
    pub(crate) fn wake_for_front(&mut self, items: u64, wakes: &mut Wakes) {
        if !self.send_waiters.is_empty() && !self.has_waiting() {
            let items = usize::try_from(items).unwrap_or(usize::MAX);
            self.send_waiters.wake(items, wakes);
        }
    }

    /// Bytes on disk that are not needed any more.
    pub(crate) fn note_acknowledged(&mut self, bytes: u64, wakes: &mut Wakes) {
        let before = self.acked_bytes;
        self.acked_bytes += bytes.max(1);
        let due = self.limits.checkpoint_bytes;
        if before < due && self.acked_bytes >= due {
            self.kick(wakes);
        }
    }

    /// The last item was taken: those who wait for the end may go on, and the disk can be tidied.
    pub(crate) fn note_drained(&mut self, wakes: &mut Wakes) {
        self.life_waiters.wake_all(wakes);
        if self.intake_closed || self.senders == 0 {
            self.recv_waiters.wake_all(wakes);
        }
        if self.acked_bytes > 0 && !self.is_tidy_armed {
            self.kick(wakes);
        }
    }

    // ---- what comes forward -----------------------------------------------------------------

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
                    let end = rest.end.min(start + most);
                    let wanted = self.ledger.unfinished_in(start..end).next()?;
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
            .push_back(Refill::from_staging(block, origin, from, self.incarnation));
        Some(())
    }

    /// Takes back what [`begin_refill`](Self::begin_refill) lent, and gives back the room that the items had.
    pub(crate) fn finish_refill(
        &mut self,
        refill: Refill,
        mut decoded: Decoded<T>,
        wakes: &mut Wakes,
    ) -> VecDeque<T> {
        self.refilling = false;
        let count = decoded.items.len();
        if refill.is_from_disk() {
            self.figures.replayed += count as u64;
        }
        self.front.append(&mut decoded.items, decoded.run);
        self.held.note_origins(decoded.origins);
        let verdict = self
            .suspects
            .judge(count > 0, decoded.failure, refill.rest().is_empty());
        match verdict {
            Verdict::Fine => {}
            Verdict::Guilty(records) => self.doom(records, wakes),
            Verdict::Stop { seq, message } => {
                self.undecodable = Some((seq, message));
                self.recv_waiters.wake_all(wakes);
            }
        }
        if refill.rest().is_empty() {
            self.drop_head();
        } else if let Some(head) = self.refill.front_mut() {
            *head = refill;
        }
        self.recv_waiters.wake(count.max(1), wakes);
        self.send_waiters.wake(count.max(1), wakes);
        if self.phase == Phase::Halting || self.sync.wanted > self.sync.done || self.wants_read() {
            self.kick(wakes);
        }
        decoded.items
    }

    // ---- age --------------------------------------------------------------------------------

    /// What was admitted at this time or before is too old.
    pub(crate) fn expiry_ms(&self) -> Option<u64> {
        self.clock.wall_ms().checked_sub(self.limits.max_age_ms?)
    }

    /// Drops what has become too old, as far as it is in memory and not out.
    pub(crate) fn expire(&mut self, wakes: &mut Wakes) {
        let Some(limit) = self.expiry_ms() else {
            return;
        };
        let is_old = |latest_ms: u64| latest_ms > 0 && latest_ms <= limit;
        let mut expired = 0;
        while let Some(parcel) = self.held.drop_ready_if(|slip| is_old(slip.latest_ms)) {
            expired += self.expire_range(
                parcel.slip.seq..parcel.slip.seq + 1,
                parcel.slip.bytes.into(),
                wakes,
            );
            self.discarded.push(parcel.item);
            self.limit_waiters.wake_one(wakes);
        }
        while let Some(run) = self.front.oldest().copied() {
            if !is_old(run.latest_ms) {
                break;
            }
            self.front.pop_run(&mut self.discarded);
            self.held.forget_origins(run.first..run.first + run.len);
            expired += self.expire_range(run.first..run.first + run.len, run.bytes, wakes);
        }
        while !self.refilling && self.front.is_empty() {
            let Some(head) = self.refill.front() else {
                break;
            };
            if !is_old(head.latest_ms()) {
                break;
            }
            let (rest, bytes) = (head.rest(), head.bytes() as u64);
            self.drop_head();
            expired += self.expire_range(rest, bytes, wakes);
        }
        self.note_expired(expired);
    }

    /// Finishes numbers whose items are too old; how many those were.
    pub(crate) fn expire_range(&mut self, range: Range<Seq>, bytes: u64, wakes: &mut Wakes) -> u64 {
        let count = self.finish(range, Outcome::Expired, wakes);
        self.note_acknowledged(bytes, wakes);
        count
    }

    pub(crate) fn note_expired(&mut self, items: u64) {
        if items > 0 {
            self.events.push(Event::Expired { items });
        }
    }

    // ---- dead letters -----------------------------------------------------------------------

    /// Has the worker write these down as dead letters.
    pub(crate) fn doom(&mut self, records: Vec<Doomed>, wakes: &mut Wakes) {
        if !records.is_empty() {
            self.doomed.extend(records);
            self.kick(wakes);
        }
    }

    // ---- waiting ----------------------------------------------------------------------------

    /// A waiting receiver leaves: if it had been woken, another one may go on.
    pub(crate) fn leave_receivers(&mut self, places: &mut Places, wakes: &mut Wakes) {
        if self.recv_waiters.leave(&mut places.items, wakes) {
            // It may have been woken for what came back, which those may take, too, who wait for room.
            self.wake_for_ready(1, wakes);
        }
        if self.limit_waiters.leave(&mut places.limit, wakes) {
            self.limit_waiters.wake_one(wakes);
        }
        // It may have been woken for what those at the limit may take, too.
        self.pass_on(wakes);
    }

    /// A receiver looked, and there is nothing for it.
    pub(crate) fn note_nothing(&mut self) {
        self.recv_waiters.note_nothing();
        if self.front.is_empty() {
            self.front_empty_ms = self.clock.wall_ms();
        }
    }

    /// A receiver goes to sleep.
    pub(crate) fn wait_for_items(&mut self, places: &mut Places, waker: &Waker, wakes: &mut Wakes) {
        self.limit_waiters.leave(&mut places.limit, wakes);
        self.recv_waiters.register(&mut places.items, waker, wakes);
        self.pass_on(wakes);
    }

    /// A receiver that has all that it may have goes to sleep. If it was woken for an item, that is for somebody else.
    pub(crate) fn wait_for_acks(&mut self, places: &mut Places, waker: &Waker, wakes: &mut Wakes) {
        if self.recv_waiters.leave(&mut places.items, wakes) {
            self.recv_waiters.wake_one(wakes);
        }
        self.limit_waiters.register(&mut places.limit, waker, wakes);
    }

    /// A receiver has what it came for.
    pub(crate) fn stop_waiting(&mut self, places: &mut Places, wakes: &mut Wakes) {
        self.recv_waiters.leave(&mut places.items, wakes);
        self.limit_waiters.leave(&mut places.limit, wakes);
        self.pass_on(wakes);
    }

    /// While more may be out than are, nobody stands where only the end of a delivery wakes: not where items come.
    fn pass_on(&mut self, wakes: &mut Wakes) {
        if !self.limit_waiters.is_empty() && !self.is_at_limit() {
            self.limit_waiters.wake_one(wakes);
        }
    }

    /// Something that was out is ready again: any receiver may take it.
    pub(crate) fn wake_for_ready(&mut self, count: usize, wakes: &mut Wakes) {
        for _ in 0..count {
            if !self.recv_waiters.wake_one(wakes) {
                self.limit_waiters.wake_one(wakes);
            }
        }
    }
}
