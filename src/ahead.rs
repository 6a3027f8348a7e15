//! The worker's steps that bring the backlog forward, or give it up.

use crate::block::Block;
use crate::error::StoreError;
use crate::event::Event;
use crate::ledger::Outcome;
use crate::queue::Read;
use crate::refill::Refill;
use crate::seq::Seq;
use crate::state::Phase;
use crate::worker::Work;

impl<T> Work<'_, T> {
    /// Reads ahead until read-ahead is full or the backlog's end is reached.
    pub(crate) fn read(&mut self, mut from: Seq, end: Seq) {
        let budget = self.desk.queue.refill_max();
        let mut bytes = 0;
        while from < end && bytes < budget {
            let read = match self.desk.queue.read(from, end) {
                Ok(read) => read,
                Err(error) => return self.note_unread(&error),
            };
            self.desk.reading.reset();
            bytes += read.block.as_ref().map_or(0, Block::len);
            match self.bring_forward(from, end, read) {
                Some(next) => from = next,
                None => return,
            }
        }
    }

    /// Reading is tried again later, unless this build can't read what is there: then receivers are told, and everything
    /// else goes on.
    fn note_unread(&mut self, error: &StoreError) {
        self.note_trouble(error);
        if matches!(error, StoreError::Unsupported { .. }) {
            self.shared.enter(|state, wakes| {
                state.unreadable = Some(error.clone());
                state.recv_waiters.wake_all(wakes);
            });
        } else {
            self.desk.reading.later();
        }
    }

    /// Puts a block that was read into refill, and what is missing before it into the ledger. Returns
    /// where reading goes on.
    fn bring_forward(&mut self, from: Seq, end: Seq, read: Read) -> Option<Seq> {
        let figures = self.desk.queue.figures();
        self.shared.quarantined.lock().extend(read.quarantined);
        let events = read.events;
        // While a write waits to be tried again, a read proves nothing.
        let writes_well = self.desk.unwritten.is_empty();
        self.shared.enter(|state, wakes| {
            state.take_figures(&figures);
            if writes_well {
                state.note_success();
            }
            for (range, outcome) in read.missing {
                let seqs = range.clone();
                if state.finish(range, outcome, wakes) > 0 && outcome == Outcome::Lost {
                    state.events.push(Event::Lost {
                        seqs: seqs.start..=seqs.end - 1,
                    });
                }
            }
            state.events.extend(events);
            let Some(block) = read.block else {
                state.read_next = state.read_next.max(end.min(state.disk_end()));
                state.recv_waiters.wake_all(wakes);
                state.send_waiters.wake_all(wakes);
                return None;
            };
            let next = block.end();
            state.read_next = state.read_next.max(next);
            // What comes next may have been dropped: then it waits no more.
            let next = state.read_position();
            let latest = block.header().latest_ms;
            if state.expiry_ms().is_some_and(|limit| latest <= limit) {
                let bytes = block.len() as u64;
                let expired =
                    state.expire_range(block.first().max(from)..block.end(), bytes, wakes);
                state.note_expired(expired);
                // What comes next may be in staging: receivers fetch that for themselves.
                state.recv_waiters.wake_one(wakes);
                return (state.phase == Phase::Open).then_some(next);
            }
            let refill = Refill::from_disk(block, from);
            state.refill_bytes += refill.bytes();
            state.refill.push_back(refill);
            state.recv_waiters.wake_one(wakes);
            if state.phase != Phase::Open || state.refill_bytes >= state.limits.refill_max {
                return None;
            }
            Some(next)
        })
    }

    /// Gives up the oldest part of the backlog to make room.
    pub(crate) fn drop_oldest(&mut self, from: Seq) {
        let dropped = self.desk.queue.oldest_unit(from);
        let (ledger, items) = self.shared.enter(|state, wakes| {
            state.drop_oldest_wanted = false;
            // A receiver may have moved on meanwhile: what came forward isn't dropped.
            let range = dropped.filter(|range| range.start >= state.read_position());
            let items = range.map_or(0, |range| {
                let end = range.end.min(state.disk_end());
                state.finish(range.start..end, Outcome::DroppedFull, wakes)
            });
            if items > 0 {
                // It may have been in there; a read will say.
                state.unreadable = None;
                state.events.push(Event::DroppedOldest { items });
            }
            (state.told(), items)
        });
        if items == 0 {
            self.desk.writing.later();
            return;
        }
        // The space that comes back is tried before more is dropped.
        self.desk.is_refused = false;
        self.tidy(&ledger);
    }
}
