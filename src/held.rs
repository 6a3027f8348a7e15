//! Items that are out with consumers, and those that came back: pure bookkeeping, no I/O and no codec.
//!
//! An item that is out is with its consumer and nowhere else in memory. Where no disk has it, its encoding is kept here,
//! so that a halt can save it whatever the consumer does. What comes back waits here, in the order of its numbers, and goes
//! out again ahead of everything that was never out.

use crate::dir::LetterId;
use crate::front::Origin;
use crate::seq::Seq;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;

/// Buffers of encodings above this size are not kept for the next one.
const KEPT_BUFFER_BYTES: usize = 4 << 10;

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
    /// Its encoding is still to be left, before it is handed out.
    pub(crate) awaits_record: bool,
    /// Where its encoding is kept, if only memory has it.
    copy: Option<NonZeroU32>,
}

impl Slip {
    pub(crate) fn new(seq: Seq, origin: Origin, bytes: u32) -> Self {
        Self {
            seq,
            incarnation: 0,
            origin,
            bytes,
            earliest_ms: 0,
            latest_ms: 0,
            failures: 0,
            is_repeat: false,
            awaits_record: false,
            copy: None,
        }
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
        self.copies.memory_only
    }

    /// Whether only memory has it, which a sync may have changed since it went out.
    pub(crate) fn origin(&self, slip: &Slip) -> Origin {
        if self.copies.is_stored(slip) {
            Origin::Stored
        } else {
            slip.origin
        }
    }

    /// An item goes out for the first time. Where only memory has it, its encoding is awaited.
    pub(crate) fn take_out(&mut self, slip: &mut Slip) {
        self.out += 1;
        if slip.origin.is_memory_only() {
            slip.copy = Some(self.copies.reserve(slip));
            slip.awaits_record = true;
        }
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
        self.forget_origins(parcel.slip.seq..parcel.slip.seq + 1);
        self.copies.free(&parcel.slip);
        Some(parcel)
    }

    /// Leaves the encoding of an item that is out; an empty hand where there is none to be had. The buffer is exchanged.
    pub(crate) fn deposit(&mut self, slip: &Slip, record: Option<&mut Vec<u8>>) {
        self.copies.deposit(slip, record);
    }

    /// Notes which dead letters these numbers were.
    pub(crate) fn note_origins(&mut self, origins: Vec<(Seq, LetterId)>) {
        self.origins.extend(origins);
    }

    /// Which dead letter the number was.
    pub(crate) fn origin_of(&self, seq: Seq) -> Option<LetterId> {
        self.origins.get(&seq).copied()
    }

    /// An item that was out is finished.
    pub(crate) fn finish(&mut self, slip: &Slip) {
        self.out -= 1;
        self.forget_origins(slip.seq..slip.seq + 1);
        self.copies.free(slip);
    }

    /// The numbers are finished.
    pub(crate) fn forget_origins(&mut self, seqs: Range<Seq>) {
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

    /// The encodings of all that only memory has, by number; `None` for one that can't be encoded.
    pub(crate) fn unsaved(&self) -> Vec<Unsaved> {
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
            if self.copies.is_unsaved(&slip) {
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

/// What only memory has of an item that is out or came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsaved {
    pub(crate) seq: Seq,
    /// `None` where it can't be encoded.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) latest_ms: u64,
}

/// Encodings, in slots that are used again.
#[derive(Debug, Default)]
struct Copies {
    slots: Vec<Slot>,
    free: Vec<NonZeroU32>,
    memory_only: u64,
}

#[derive(Debug)]
struct Slot {
    seq: Seq,
    latest_ms: u64,
    kept: Kept,
    record: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// Somebody is encoding it.
    Awaited,
    Record,
    /// It can't be encoded.
    Unencodable,
    /// Not any more: a disk has it.
    OnDisk,
}

impl Kept {
    fn is_memory_only(self) -> bool {
        !matches!(self, Self::Nothing | Self::OnDisk)
    }
}

/// Places count from 1.
fn index(place: NonZeroU32) -> usize {
    place.get() as usize - 1
}

impl Copies {
    fn reserve(&mut self, slip: &Slip) -> NonZeroU32 {
        self.memory_only += 1;
        let slot = Slot {
            seq: slip.seq,
            latest_ms: slip.latest_ms,
            kept: Kept::Awaited,
            record: Vec::new(),
        };
        let Some(place) = self.free.pop() else {
            self.slots.push(slot);
            // Far fewer are out than that.
            let place = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            return NonZeroU32::new(place).unwrap_or(NonZeroU32::MAX);
        };
        if let Some(free) = self.slots.get_mut(index(place)) {
            let record = std::mem::take(&mut free.record);
            *free = Slot { record, ..slot };
        }
        place
    }

    fn slot(&self, slip: &Slip) -> Option<&Slot> {
        self.slots
            .get(index(slip.copy?))
            .filter(|slot| slot.seq == slip.seq)
    }

    fn deposit(&mut self, slip: &Slip, record: Option<&mut Vec<u8>>) {
        let slot = slip.copy.and_then(|place| self.slots.get_mut(index(place)));
        let Some(slot) = slot.filter(|slot| slot.seq == slip.seq) else {
            return;
        };
        slot.kept = match record {
            Some(record) => {
                std::mem::swap(&mut slot.record, record);
                Kept::Record
            }
            None => Kept::Unencodable,
        };
    }

    fn free(&mut self, slip: &Slip) {
        let Some(place) = slip.copy else { return };
        if let Some(slot) = self.slots.get_mut(index(place)) {
            self.memory_only -= u64::from(slot.kept.is_memory_only());
            slot.kept = Kept::Nothing;
            slot.record.clear();
            if slot.record.capacity() > KEPT_BUFFER_BYTES {
                slot.record = Vec::new();
            }
            self.free.push(place);
        }
    }

    fn is_stored(&self, slip: &Slip) -> bool {
        self.slot(slip)
            .is_some_and(|slot| slot.kept == Kept::OnDisk)
    }

    fn is_unsaved(&self, slip: &Slip) -> bool {
        self.slot(slip)
            .is_some_and(|slot| slot.kept.is_memory_only())
    }

    fn unsaved(&self) -> Vec<Unsaved> {
        let mut unsaved: Vec<_> = self
            .slots
            .iter()
            .filter(|slot| slot.kept.is_memory_only())
            .map(|slot| Unsaved {
                seq: slot.seq,
                record: (slot.kept == Kept::Record).then(|| slot.record.clone()),
                latest_ms: slot.latest_ms,
            })
            .collect();
        unsaved.sort_by_key(|unsaved| unsaved.seq);
        unsaved
    }

    fn mark_stored(&mut self, seqs: &[Seq]) {
        for slot in &mut self.slots {
            if slot.kept == Kept::Record && seqs.binary_search(&slot.seq).is_ok() {
                slot.kept = Kept::OnDisk;
                slot.record = Vec::new();
                self.memory_only -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(held: &mut Held<u64>, seq: Seq, origin: Origin) -> Parcel<u64> {
        let mut slip = Slip::new(seq, origin, 0);
        held.take_out(&mut slip);
        if let Some(record) = slip.copy.map(|_| seq.to_le_bytes().to_vec()) {
            held.deposit(&slip, Some(&mut record.clone()));
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
        let _third = out(&mut held, 9, Origin::Stored);
        assert_eq!(held.memory_only(), 2);
        let expected = [3_u64, 7].map(|seq| Unsaved {
            seq,
            record: Some(seq.to_le_bytes().to_vec()),
            latest_ms: 0,
        });
        assert_eq!(held.unsaved(), expected);

        held.mark_stored(&[7]);
        assert_eq!(held.origin(&first.slip), Origin::Stored);
        assert_eq!(held.origin(&second.slip), Origin::Handed);
        held.finish(&second.slip);
        assert_eq!((held.memory_only(), held.unsaved()), (0, Vec::new()));
        held.finish(&first.slip);
        let again = out(&mut held, 20, Origin::Direct);
        assert_eq!(held.copies.slots.len(), 2, "slots are used again");
        assert_eq!(held.origin(&again.slip), Origin::Direct);
    }

    #[test]
    fn one_that_can_not_be_encoded_is_named_all_the_same() {
        let mut held = Held::<u64>::default();
        let mut slip = Slip::new(4, Origin::Direct, 0);
        held.take_out(&mut slip);
        held.deposit(&slip, None);
        let out_stored = out(&mut held, 5, Origin::Stored);
        assert_eq!(held.unsaved().first().unwrap().record, None);
        held.put_back(Parcel { item: 44, slip }, Some(1));
        held.put_back(out_stored, None);
        let mut discarded = Vec::new();
        assert_eq!(held.take_unsaved(&mut discarded), [(4, 44)]);
        assert_eq!(discarded, [5]);
    }
}
