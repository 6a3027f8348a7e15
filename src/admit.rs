//! Sending, as far as it is under the lock: where an item goes, and who waits until it can.

use crate::block::HEADER_LEN;
use crate::error::StoreError;
use crate::feed::Places;
use crate::front::{Origin, Run};
use crate::records::Records;
use crate::route::{Route, View};
use crate::seq::Seq;
use crate::staging::Time;
use crate::state::{Intake, Phase, State, Writer};
use crate::wait::{Ticket, Wakes};
use std::collections::VecDeque;
use std::time::Instant;

impl<T> State<T> {
    pub(crate) fn intake(&self) -> Intake {
        if self.phase != Phase::Open {
            Intake::Halted
        } else if self.intake_closed || self.receivers == 0 {
            Intake::Closed
        } else {
            Intake::Open
        }
    }

    /// Where a record of `len` bytes would go now.
    pub(crate) fn route(&self, len: usize) -> Route {
        let view = View {
            front_room: self
                .limits
                .memory_items
                .saturating_sub(self.front.len() + self.reserved),
            waiting: self.has_waiting(),
            staged_bytes: self.staging.bytes(),
            staging_max: self.limits.staging_max,
            disk_room: self.disk_room,
            write_ahead: self.limits.write_ahead,
        };
        // Where ages are limited a block may end before it is full.
        let spare = self.limits.max_age_ms.map_or(0, |_| HEADER_LEN as u64);
        view.route(self.staging.cost(len, self.limits.block_bytes) + spare)
    }

    /// What keeps an item that takes this route from the disk for good, where it has to go there.
    pub(crate) fn fault_on(&self, route: Route) -> Option<&StoreError> {
        let stays_in_memory = route == Route::Front && !self.limits.write_ahead;
        self.fault.as_ref().filter(|_| !stays_in_memory)
    }

    /// Whether an item goes straight to front, whatever it is. What is lent may be less by now.
    pub(crate) fn takes_directly(&self) -> bool {
        self.intake() == Intake::Open
            && !self.has_waiting()
            && self.front.len() + self.front.lent() + self.reserved < self.limits.memory_items
    }

    /// How many items go straight to front, whatever they are.
    pub(crate) fn direct_room(&self) -> usize {
        if self.limits.write_ahead || self.has_waiting() {
            return 0;
        }
        let used = self.front.len() + self.reserved;
        self.limits.memory_items.saturating_sub(used)
    }

    /// Whether what is in front may be taken without a look at anything else: nobody waits for its going, nothing goes
    /// ahead of it, nothing in it gets too old, and its numbers are in memory only.
    pub(crate) fn may_lend(&self) -> bool {
        self.phase == Phase::Open
            && self.send_waiters.is_empty()
            && self.held.total() == 0
            && self.limits.max_age_ms.is_none()
            && !self.refilling
            && self.sync.done == self.sync.wanted
    }

    /// Front has back what was lent and not taken; what was taken is finished.
    pub(crate) fn take_home(&mut self, outlet: &mut VecDeque<T>) {
        if let Some(taken) = self.front.take_home(outlet) {
            let count = taken.end - taken.start;
            self.ledger.acknowledge(taken.start, count);
            self.figures.passed_through += count;
        }
    }

    /// Admits an item to the front, without a trace on disk.
    pub(crate) fn admit_direct(&mut self, item: T, wakes: &mut Wakes) {
        self.put_in_front(item);
        self.recv_waiters.wake_one(wakes);
    }

    /// As [`admit_direct`](Self::admit_direct), of so many as there is [room](Self::direct_room) for.
    pub(crate) fn admit_many_direct(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        wakes: &mut Wakes,
    ) {
        let (first, count) = (self.next_seq, items.len());
        let run = Run {
            len: count as u64,
            ..self.run_of_one(first, Origin::Direct, 0)
        };
        self.next_seq += run.len;
        self.read_next = self.next_seq;
        self.front.extend(items, run);
        self.recv_waiters.wake(count, wakes);
    }

    /// As [`admit_direct`](Self::admit_direct), for whoever wakes a receiver.
    pub(crate) fn put_in_front(&mut self, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.read_next = self.next_seq;
        let pushed = match self.limits.max_age_ms {
            None => self.front.push_another(item, seq, self.incarnation),
            Some(_) => Err(item),
        };
        if let Err(item) = pushed {
            let run = self.run_of_one(seq, Origin::Direct, 0);
            self.front.push(item, run);
        }
    }

    /// Admits an encoded item; what is returned is to be dropped outside the lock.
    pub(crate) fn admit_encoded(
        &mut self,
        item: T,
        record: &[u8],
        route: Route,
        writer: Writer,
        wakes: &mut Wakes,
    ) -> (Seq, Option<T>) {
        let seq = self.next_seq;
        if route == Route::Front && !self.limits.write_ahead {
            // It was encoded for staging, and meanwhile nothing waits any more.
            self.admit_direct(item, wakes);
            return (seq, None);
        }
        let time = Time {
            clock: &self.clock,
            spread_ms: self.limits.spread_ms(),
        };
        self.staging
            .push(seq, record, self.limits.block_bytes, time);
        self.next_seq += 1;
        let left = if route == Route::Front {
            self.read_next = self.next_seq;
            let run = self.run_of_one(seq, Origin::Stored, record.len() as u64);
            self.front.push(item, run);
            None
        } else {
            Some(item)
        };
        self.recv_waiters.wake_one(wakes);
        self.kick_for_staged(writer, wakes);
        (seq, left)
    }

    /// Whether records of `bytes` in all go to staging, every one: none of them to front, and there is room enough.
    pub(crate) fn stages_all(&self, bytes: usize) -> bool {
        let used = self.front.len() + self.reserved;
        if !self.has_waiting() && used < self.limits.memory_items {
            return false;
        }
        // Of two blocks that follow each other, the records were too many for one; the first may be open, the last one too.
        let blocks = bytes / self.limits.block_bytes.max(1) * 2 + 4;
        let most = (bytes + blocks * HEADER_LEN) as u64;
        self.staging.bytes().saturating_add(most) <= self.limits.staging_max.min(self.disk_room)
    }

    /// Admits the records from number `from` on, none of which can go to front. The last number given out.
    pub(crate) fn stage_many(
        &mut self,
        records: &Records,
        from: usize,
        writer: Writer,
        wakes: &mut Wakes,
    ) -> Seq {
        let (seq, count) = (self.next_seq, records.count().saturating_sub(from));
        let time = Time {
            clock: &self.clock,
            spread_ms: self.limits.spread_ms(),
        };
        self.staging
            .push_many(seq, records, from, self.limits.block_bytes, time);
        self.next_seq += count as u64;
        self.recv_waiters.wake(count, wakes);
        self.kick_for_staged(writer, wakes);
        self.next_seq - 1
    }

    fn kick_for_staged(&mut self, writer: Writer, wakes: &mut Wakes) {
        let is_due = self.limits.write_ahead || self.staging.has_full();
        if is_due && writer == Writer::Worker {
            self.kick(wakes);
        }
    }

    /// Says where an item that is admitted now comes from.
    fn run_of_one(&self, first: Seq, origin: Origin, bytes: u64) -> Run {
        let latest_ms = self.limits.spread_ms().map_or(0, |spread| {
            // Rounded up, so that few runs are enough and no item is thought older than it is.
            self.clock.wall_ms().next_multiple_of(spread)
        });
        Run {
            first,
            len: 1,
            origin,
            bytes,
            earliest_ms: self.front_empty_ms,
            latest_ms,
            incarnation: self.incarnation,
        }
    }

    /// Notes that an item of `len` bytes met a full disk.
    pub(crate) fn note_full(&mut self, len: usize, wakes: &mut Wakes) {
        let cost = self.staging.cost(len, self.limits.block_bytes);
        if self.full_until.is_none() {
            let needed = self.staging.bytes().saturating_add(cost);
            self.stalled_since.get_or_insert_with(Instant::now);
            self.full_news = Some((needed, self.disk_room));
            self.kick(wakes);
        }
        self.full_until = Some(self.full_until.map_or(cost, |until| until.min(cost)));
    }

    /// Staging has no room for an item: what is in it must be written, also a block that is still open.
    pub(crate) fn note_behind(&mut self, wakes: &mut Wakes) {
        self.staging.close_block();
        self.kick(wakes);
    }

    /// Lets somebody bring up to `wanted` items, but at least one.
    pub(crate) fn reserve(&mut self, wanted: usize) -> Places {
        if self.has_waiting() || self.limits.write_ahead {
            return Places {
                count: self.staging_places(wanted),
                in_front: 0,
            };
        }
        let room = self
            .limits
            .memory_items
            .saturating_sub(self.front.len() + self.reserved);
        let count = wanted.min(room).max(1);
        self.reserved += count;
        Places {
            count,
            in_front: count,
        }
    }

    /// How many items of the size of the last one staging can take.
    fn staging_places(&self, wanted: usize) -> usize {
        let Some(size) = self.staging.last_cost() else {
            return 1;
        };
        let most = self.limits.staging_max.min(self.disk_room);
        let room = most.saturating_sub(self.staging.bytes()) / size;
        usize::try_from(room).unwrap_or(usize::MAX).clamp(1, wanted)
    }

    /// Places in front are used or given back: a sender may have waited for them.
    pub(crate) fn unreserve(&mut self, in_front: usize, wakes: &mut Wakes) {
        self.reserved -= in_front.min(self.reserved);
        self.send_waiters.wake(in_front, wakes);
    }

    /// A sender has placed everything it held outside the lock.
    pub(crate) fn end_placing(&mut self, wakes: &mut Wakes) {
        self.placing -= 1;
        if self.phase == Phase::Halting {
            self.kick(wakes);
        } else if self.is_drained() {
            self.note_drained(wakes);
        }
    }

    /// A waiting sender leaves: if it had been woken, another one may go on.
    pub(crate) fn leave_senders(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) {
        if self.send_waiters.leave(ticket, wakes) {
            self.send_waiters.wake_one(wakes);
        }
    }
}
