//! Items that are out with consumers, and those that came back: pure bookkeeping, no I/O and no codec.
//!
//! An item that is out is with its consumer and nowhere else in memory. Where no disk has it, its encoding is kept (see
//! `copies`), so that a halt can save it whatever the consumer does. What comes back waits here, in the order of its
//! numbers, and goes out again ahead of everything that was never out.

use crate::copies::{Bundle, Copies, Place};
use crate::dir::LetterId;
use crate::front::{Origin, Run};
use crate::seq::Seq;
use std::collections::BTreeMap;
use std::ops::Range;

/// What is known of an item that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slip {
    pub(crate) seq: Seq,
    /// In which incarnation it was admitted.
    pub(crate) incarnation: u64,
    /// How it came to the front.
    pub(crate) origin: Origin,
    /// Encoded bytes, 0 where it was never encoded.
    pub(crate) bytes: u32,
    /// Admission at the earliest, milliseconds since the Unix epoch.
    pub(crate) earliest_ms: u64,
    /// Admission at the latest, likewise; 0 where no age is limited.
    pub(crate) latest_ms: u64,
    /// Deliveries of it that failed.
    pub(crate) failures: u32,
    /// It was out before.
    pub(crate) is_repeat: bool,
    /// Where its encoding is kept, once it is, if only memory has it.
    pub(crate) copy: Option<Place>,
}

impl Slip {
    /// For the first item of a run that leaves the front. Its encoding has so many bytes.
    #[inline]
    pub(crate) fn new(run: &Run, bytes: u64) -> Self {
        Self {
            seq: run.first,
            incarnation: run.incarnation,
            origin: run.origin,
            // `item_bytes_max` is far below 4 GiB.
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            earliest_ms: run.earliest_ms,
            latest_ms: run.latest_ms,
            failures: 0,
            is_repeat: false,
            copy: None,
        }
    }

    /// Its encoding is still to be left, before the item is handed out.
    #[inline]
    pub(crate) fn awaits_record(&self) -> bool {
        self.origin.is_memory_only() && self.copy.is_none()
    }

    /// Whether `next` is the number that follows this and the `count - 1` after it, of the same kind and in the same bundle.
    #[inline]
    pub(crate) fn is_continued_by(&self, count: u64, next: &Self) -> bool {
        next.seq == self.seq + count && next.origin == self.origin && next.copy == self.copy
    }
}

/// An item with its slip.
#[derive(Debug)]
pub(crate) struct Parcel<T> {
    pub(crate) item: T,
    pub(crate) slip: Slip,
}

#[derive(Debug)]
pub(crate) struct Held<T> {
    out: u64,
    ready: BTreeMap<Seq, Parcel<T>>,
    /// By when they are due, in milliseconds of the run.
    delayed: BTreeMap<(u64, Seq), Parcel<T>>,
    copies: Copies,
    /// Which dead letters some of the items were that are in memory.
    origins: BTreeMap<Seq, LetterId>,
    redelivered: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            out: 0,
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            copies: Copies::default(),
            origins: BTreeMap::new(),
            redelivered: 0,
        }
    }
}

impl<T> Held<T> {
    /// Items with consumers.
    pub(crate) fn out(&self) -> u64 {
        self.out
    }

    /// Items that came back and wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len() + self.delayed.len()
    }

    /// When the oldest of these was admitted at the earliest.
    pub(crate) fn earliest_ms(&self) -> Option<u64> {
        let waiting = self.ready.values().chain(self.delayed.values());
        waiting.map(|parcel| parcel.slip.earliest_ms).min()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Everything here, out or not.
    pub(crate) fn total(&self) -> u64 {
        self.out + self.waiting() as u64
    }

    /// Deliveries that were repeated.
    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Items, out or not, that only memory has.
    pub(crate) fn memory_only(&self) -> u64 {
        self.copies.memory_only()
    }

    /// Whether only memory has it, which a sync may have changed since it went out.
    pub(crate) fn origin(&self, slip: &Slip) -> Origin {
        if slip.copy.is_some_and(|place| self.copies.is_stored(place)) {
            Origin::Stored
        } else {
            slip.origin
        }
    }

    /// Items go out for the first time. Where only memory has them, their encodings are awaited.
    pub(crate) fn take_out(&mut self, origin: Origin, count: u64) {
        self.out += count;
        if origin.is_memory_only() {
            self.copies.expect(count);
        }
    }

    /// The encodings of what is out; where they are left and empty bundles come from.
    pub(crate) fn copies(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// The oldest that came back and needn't wait goes out again.
    pub(crate) fn take_ready(&mut self) -> Option<Parcel<T>> {
        let (_, parcel) = self.ready.pop_first()?;
        self.out += 1;
        self.redelivered += u64::from(parcel.slip.is_repeat);
        Some(parcel)
    }

    /// Nobody got to see an item that went out: it was not repeated then.
    pub(crate) fn note_unseen(&mut self, slip: &Slip) {
        self.redelivered -= u64::from(slip.is_repeat);
    }

    /// The oldest that came back leaves for good, if it is such a one.
    pub(crate) fn drop_ready_if(
        &mut self,
        is_unwanted: impl Fn(&Slip) -> bool,
    ) -> Option<Parcel<T>> {
        let first = self.ready.first_entry()?;
        if !is_unwanted(&first.get().slip) {
            return None;
        }
        let parcel = first.remove();
        self.forget(&parcel.slip, 1);
        Some(parcel)
    }

    /// Notes which dead letters these numbers were.
    pub(crate) fn note_origins(&mut self, origins: Vec<(Seq, LetterId)>) {
        self.origins.extend(origins);
    }

    /// Which dead letter the number was.
    pub(crate) fn origin_of(&self, seq: Seq) -> Option<LetterId> {
        self.origins.get(&seq).copied()
    }

    /// Items that were out are finished: that of the slip, and those that continue it.
    pub(crate) fn finish(&mut self, slip: &Slip, count: u64) {
        self.out -= count;
        self.forget(slip, count);
    }

    fn forget(&mut self, slip: &Slip, count: u64) {
        if let Some(place) = slip.copy {
            self.copies.finish(place, slip.seq, count);
        }
        self.forget_origins(slip.seq..slip.seq + count);
    }

    /// The numbers are finished.
    pub(crate) fn forget_origins(&mut self, seqs: Range<Seq>) {
        if self.origins.is_empty() {
            return;
        }
        while let Some((seq, _)) = self.origins.range(seqs.clone()).next() {
            let seq = *seq;
            self.origins.remove(&seq);
        }
    }

    /// An item that was out waits again, from `due` on if that is set.
    pub(crate) fn put_back(&mut self, parcel: Parcel<T>, due: Option<u64>) {
        self.out -= 1;
        let seq = parcel.slip.seq;
        match due {
            Some(due) => self.delayed.insert((due, seq), parcel),
            None => self.ready.insert(seq, parcel),
        };
    }

    /// What is due by now may go out again; how many.
    pub(crate) fn release_due(&mut self, now: u64) -> usize {
        let mut released = 0;
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let parcel = entry.remove();
            self.ready.insert(parcel.slip.seq, parcel);
            released += 1;
        }
        released
    }

    /// When the next of those that wait is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// Copies of the encodings of all that only memory has.
    pub(crate) fn unsaved(&self) -> Vec<Bundle> {
        self.copies.unsaved()
    }

    /// A disk has these now.
    pub(crate) fn mark_stored(&mut self, seqs: &[Seq]) {
        self.copies.mark_stored(seqs);
    }

    /// Takes out what waits and only memory has. The others go to `discarded`, to be dropped outside the lock.
    pub(crate) fn take_unsaved(&mut self, discarded: &mut Vec<T>) -> Vec<(Seq, T)> {
        let waiting = std::mem::take(&mut self.ready)
            .into_values()
            .chain(std::mem::take(&mut self.delayed).into_values());
        let mut unsaved = Vec::new();
        for Parcel { item, slip } in waiting {
            if self.origin(&slip).is_memory_only() {
                unsaved.push((slip.seq, item));
            } else {
                discarded.push(item);
            }
        }
        unsaved
    }

    /// What is out counts as waiting from now on: a halt saves it, and it is too late for its consumer. How many those
    /// are.
    pub(crate) fn recall(&mut self) -> u64 {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: Seq, origin: Origin) -> Run {
        Run {
            first,
            len: 1,
            origin,
            bytes: 0,
            earliest_ms: 0,
            latest_ms: 0,
            incarnation: 0,
        }
    }

    fn out(held: &mut Held<u64>, seq: Seq, origin: Origin) -> Parcel<u64> {
        let mut slip = Slip::new(&run(seq, origin), 0);
        held.take_out(origin, 1);
        if slip.awaits_record() {
            let mut bundle = Bundle::default();
            bundle.push(seq, 0, |_| true);
            slip.copy = Some(held.copies().keep(bundle));
        }
        Parcel { item: seq, slip }
    }

    #[test]
    fn what_comes_back_goes_out_again_by_its_number() {
        let mut held = Held::default();
        let mut parcels: Vec<_> = (0..4)
            .map(|seq| out(&mut held, seq, Origin::Stored))
            .collect();
        let delayed = parcels.remove(0);
        for parcel in parcels.into_iter().rev() {
            held.put_back(parcel, None);
        }
        held.put_back(delayed, Some(5));
        assert_eq!(
            (held.out(), held.waiting(), held.next_due()),
            (0, 4, Some(5))
        );
        assert_eq!(held.take_ready().unwrap().item, 1);
        assert_eq!(held.release_due(4), 0);
        assert_eq!(held.release_due(5), 1);
        let rest: Vec<u64> =
            std::iter::from_fn(|| held.take_ready().map(|parcel| parcel.item)).collect();
        assert_eq!(rest, [0, 2, 3]);
        assert_eq!(held.out(), 4);
    }

    #[test]
    fn encodings_are_kept_until_the_item_is_finished_or_on_disk() {
        let mut held = Held::default();
        let first = out(&mut held, 7, Origin::Direct);
        let second = out(&mut held, 3, Origin::Handed);
        let third = out(&mut held, 9, Origin::Stored);
        assert_eq!(held.memory_only(), 2);

        held.mark_stored(&[7]);
        assert_eq!(held.origin(&first.slip), Origin::Stored);
        assert_eq!(held.origin(&second.slip), Origin::Handed);
        assert_eq!(held.memory_only(), 1);
        held.finish(&second.slip, 1);
        held.finish(&first.slip, 1);
        held.finish(&third.slip, 1);
        assert_eq!((held.memory_only(), held.out()), (0, 0));
    }

    #[test]
    fn what_waits_is_saved_as_an_item_where_only_memory_has_it() {
        let mut held = Held::<u64>::default();
        let parcels = [
            out(&mut held, 4, Origin::Direct),
            out(&mut held, 5, Origin::Stored),
            out(&mut held, 6, Origin::Direct),
        ];
        held.mark_stored(&[6]);
        for parcel in parcels {
            held.put_back(parcel, None);
        }
        let mut discarded = Vec::new();
        assert_eq!(held.take_unsaved(&mut discarded), [(4, 4)]);
        assert_eq!(discarded, [5, 6]);
    }
}
