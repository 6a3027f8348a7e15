//! Taking items out, as far as it is under the lock: they leave the front unfinished, and are finished later.

use crate::copies::Bundle;
use crate::front::Run;
use crate::held::{Parcel, Slip};
use crate::seq::Seq;
use crate::state::State;
use crate::take::Take;
use crate::wait::Wakes;
use std::collections::BTreeMap;

/// Who takes an item out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// One of those who share `in_flight_max`.
    Consumer,
    /// One that has a limit of its own, and that ends when nothing is left but what it has out.
    #[cfg_attr(
        not(any(feature = "crossbeam", feature = "tokio")),
        allow(dead_code, reason = "only the adapters are such")
    )]
    Adapter { own_out: u64 },
}

/// What a receiver takes out at once, as it leaves the state.
#[derive(Debug)]
pub(crate) struct Haul<T> {
    /// What was out before.
    pub(crate) again: Vec<Parcel<T>>,
    /// What follows: numbers, how often deliveries of some of them have failed ..
    pub(crate) runs: Vec<(Run, BTreeMap<Seq, u32>)>,
    /// .. and the items.
    pub(crate) items: Vec<T>,
    /// For the encodings of what only memory has.
    pub(crate) bundles: Vec<Bundle>,
}

impl<T> Default for Haul<T> {
    fn default() -> Self {
        Self {
            again: Vec::new(),
            runs: Vec::new(),
            items: Vec::new(),
            bundles: Vec::new(),
        }
    }
}

impl<T> State<T> {
    /// The next item, which stays unfinished, or what stands before it. With an empty bundle where it must be encoded.
    pub(crate) fn take_out(
        &mut self,
        asker: Asker,
        wakes: &mut Wakes,
    ) -> Take<(Parcel<T>, Option<Bundle>)> {
        let own_out = match asker {
            Asker::Consumer if self.is_at_limit() => return Take::WaitForAcks,
            Asker::Consumer => 0,
            Asker::Adapter { own_out } => own_out,
        };
        self.take_with(own_out, wakes, Self::pop_out)
    }

    /// Up to `max` items of `max_bytes` together, as far as their sizes are known; at least one.
    pub(crate) fn take_out_many(
        &mut self,
        haul: &mut Haul<T>,
        max: usize,
        max_bytes: u64,
        wakes: &mut Wakes,
    ) -> Take<()> {
        if self.is_at_limit() {
            return Take::WaitForAcks;
        }
        self.take_with(0, wakes, |state, wakes| {
            state.pop_out_many(haul, max, max_bytes, wakes)
        })
    }

    /// Takes the oldest item out; it stays unfinished.
    fn pop_out(&mut self, wakes: &mut Wakes) -> Option<(Parcel<T>, Option<Bundle>)> {
        if let Some(parcel) = self.held.take_ready() {
            return Some((parcel, None));
        }
        let taken = self.front.pop()?;
        let run = Run {
            first: taken.seq,
            len: 1,
            origin: taken.origin,
            bytes: taken.bytes,
            earliest_ms: taken.earliest_ms,
            latest_ms: taken.latest_ms,
            incarnation: taken.incarnation,
        };
        let mut slip = Slip::new(&run, run.bytes);
        slip.failures = self.ledger.failures(run.first);
        self.held.take_out(run.origin, 1);
        let bundle = slip.awaits_record().then(|| {
            self.handing += 1;
            self.held.copies().lend()
        });
        self.wake_for_front(1, wakes);
        let item = taken.item;
        Some((Parcel { item, slip }, bundle))
    }

    /// Takes the oldest items out, as [`take_out_many`](Self::take_out_many) says.
    fn pop_out_many(
        &mut self,
        haul: &mut Haul<T>,
        max: usize,
        max_bytes: u64,
        wakes: &mut Wakes,
    ) -> Option<()> {
        let (mut taken, mut bytes) = (0, 0);
        while taken < max && (taken == 0 || bytes < max_bytes) {
            let Some(parcel) = self.held.take_ready() else {
                break;
            };
            taken += 1;
            bytes += u64::from(parcel.slip.bytes);
            haul.again.push(parcel);
        }
        let mut awaited = 0;
        while taken < max && (taken == 0 || bytes < max_bytes) {
            let room = self.limits.in_flight_max.saturating_sub(self.held.total());
            let Some(oldest) = self.front.oldest().filter(|_| room > 0) else {
                break;
            };
            let fitting = (max_bytes - bytes).div_ceil((oldest.bytes / oldest.len).max(1));
            let most = fitting.clamp(1, room);
            let most = usize::try_from(most).unwrap_or(max).min(max - taken);
            let run = self.front.pop_many(most, &mut haul.items)?;
            let failures = self.ledger.failures_in(run.first..run.first + run.len);
            self.held.take_out(run.origin, run.len);
            let count = usize::try_from(run.len).unwrap_or(most);
            taken += count;
            bytes += run.bytes;
            awaited += if run.origin.is_memory_only() {
                count
            } else {
                0
            };
            haul.runs.push((run, failures));
            self.wake_for_front(run.len, wakes);
        }
        if awaited > 0 {
            self.handing += 1;
            haul.bundles = self.held.copies().lend_many(awaited);
        }
        (taken > 0).then_some(())
    }

    /// Finishes items that were out: that of the slip and those that continue it, `count` with `bytes` together.
    pub(crate) fn acknowledge_out(
        &mut self,
        slip: &Slip,
        count: u64,
        bytes: u64,
        wakes: &mut Wakes,
    ) {
        let origin = self.held.origin(slip);
        self.held.finish(slip, count);
        self.ledger.acknowledge(slip.seq, count);
        self.note_taken(origin, bytes, count, wakes);
        if !self.limit_waiters.is_empty() {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            self.limit_waiters.wake(count, wakes);
        }
    }
}
