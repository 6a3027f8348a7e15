//! Encodings of items that are out or came back and that only memory has: a halt saves them, a sync copies them.
//!
//! They lie in bundles: what went out together and has consecutive numbers is encoded into one, outside the lock, and left
//! here at once. Items of a bundle are finished one by one or together; it goes with the last of them.

use crate::seq::Seq;
use std::num::NonZeroU32;

/// A bundle takes no more when it has so many bytes: one item that is never finished keeps all of it.
const BUNDLE_BYTES: usize = 4 << 10;
/// … or so many records.
const BUNDLE_RECORDS: usize = 256;
/// So many items, or fewer, fill a bundle where items are not small.
const USUAL_RECORDS: usize = 16;
/// What empty bundles that wait for the next items may occupy together.
const SPARE_BYTES: usize = 1 << 20;

/// Where a bundle is kept; places count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(NonZeroU32);

impl Place {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Encodings of items with consecutive numbers, one behind the other. In a box, as it changes hands often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle(Box<Contents>);

#[derive(Clone, Debug, Default)]
struct Contents {
    first: Seq,
    /// Items that are not finished.
    left: u64,
    /// A disk has them now: the encodings are gone.
    is_stored: bool,
    /// Admission of the items at the latest; 0 where no age is limited.
    latest_ms: u64,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where its bytes end; they begin where those of the one before it end.
    end: u32,
    kept: Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Encoded,
    /// It has no encoding.
    Unencodable,
    /// Not any more: the item is finished.
    Finished,
}

impl Bundle {
    /// Whether the encoding of that item may be the next one.
    #[inline]
    pub(crate) fn takes(&self, seq: Seq, latest_ms: u64) -> bool {
        self.0.records.is_empty()
            || (self.0.first + self.0.records.len() as u64 == seq
                && self.0.latest_ms == latest_ms
                && self.0.bytes.len() < BUNDLE_BYTES
                && self.0.records.len() < BUNDLE_RECORDS)
    }

    /// Appends what `encode` appends, unless that fails; how many bytes that are.
    #[inline]
    pub(crate) fn push(
        &mut self,
        seq: Seq,
        latest_ms: u64,
        encode: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> u32 {
        if self.0.records.is_empty() {
            (self.0.first, self.0.latest_ms) = (seq, latest_ms);
        }
        let before = self.0.bytes.len();
        let kept = if encode(&mut self.0.bytes) {
            Kept::Encoded
        } else {
            self.0.bytes.truncate(before);
            self.0.bytes.shrink_to(BUNDLE_BYTES);
            Kept::Unencodable
        };
        // A record has at most 1 GiB, and begins before `BUNDLE_BYTES`.
        let within = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let end = within(self.0.bytes.len());
        self.0.records.push(Record { end, kept });
        self.0.left += 1;
        within(self.0.bytes.len() - before)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.records.len()
    }

    fn finish(&mut self, seq: Seq, count: u64) {
        let within = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let records = self.0.records.iter_mut().skip(within(seq - self.0.first));
        for record in records.take(within(count)) {
            record.kept = Kept::Finished;
        }
        let is_finished = |record: &mut Record| record.kept == Kept::Finished;
        while self.0.records.pop_if(is_finished).is_some() {}
        // Only the last one may have been large.
        let end = self.0.records.last().map_or(0, |record| record.end);
        self.0.bytes.truncate(end as usize);
        self.0.bytes.shrink_to(2 * BUNDLE_BYTES);
    }

    /// When its items were admitted at the latest; 0 where no age is limited.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.0.latest_ms
    }

    /// What is not finished and not on disk, with its bytes if it has an encoding.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (Seq, Option<&[u8]>)> {
        let starts = std::iter::once(0).chain(self.0.records.iter().map(|record| record.end));
        (self.0.first..)
            .zip(starts.zip(&self.0.records))
            .filter(|(_, (_, record))| record.kept != Kept::Finished)
            .map(|(seq, (start, record))| {
                let is_encoded = record.kept == Kept::Encoded;
                let bytes = self.0.bytes.get(start as usize..record.end as usize);
                (seq, bytes.filter(|_| is_encoded))
            })
    }

    fn clear(&mut self) {
        self.0.is_stored = false;
        self.0.bytes.clear();
        self.0.records.clear();
    }

    /// What it occupies, in bytes.
    fn footprint(&self) -> usize {
        size_of::<Contents>()
            + self.0.bytes.capacity()
            + self.0.records.capacity() * size_of::<Record>()
    }
}

/// All bundles, in slots that are used again.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    slots: Vec<Option<Bundle>>,
    free: Vec<Place>,
    /// Empty ones, for the next items.
    spare: Vec<Bundle>,
    spare_bytes: usize,
    memory_only: u64,
}

impl Copies {
    /// Items that only memory has, those included whose encodings are awaited.
    pub(crate) fn memory_only(&self) -> u64 {
        self.memory_only
    }

    /// So many items go out whose encodings will be left here.
    pub(crate) fn expect(&mut self, count: u64) {
        self.memory_only += count;
    }

    /// An empty bundle.
    #[inline]
    pub(crate) fn lend(&mut self) -> Bundle {
        let Some(bundle) = self.spare.pop() else {
            return Bundle::default();
        };
        self.spare_bytes -= bundle.footprint();
        bundle
    }

    /// Empty bundles for so many items, as far as there are any.
    pub(crate) fn lend_many(&mut self, items: usize) -> Vec<Bundle> {
        let lent = items.div_ceil(USUAL_RECORDS).min(self.spare.len());
        let lent = self.spare.split_off(self.spare.len() - lent);
        self.spare_bytes -= lent.iter().map(Bundle::footprint).sum::<usize>();
        lent
    }

    /// Takes an empty bundle back.
    #[inline]
    pub(crate) fn give_back(&mut self, bundle: Bundle) {
        let bytes = bundle.footprint();
        // A large one would stay with small items.
        if bundle.0.bytes.capacity() <= 2 * BUNDLE_BYTES && self.spare_bytes + bytes <= SPARE_BYTES
        {
            self.spare_bytes += bytes;
            self.spare.push(bundle);
        }
    }

    /// Keeps encodings that were awaited.
    #[inline]
    pub(crate) fn keep(&mut self, bundle: Bundle) -> Place {
        let place = self.free.pop().unwrap_or_else(|| self.new_place());
        if let Some(slot) = self.slots.get_mut(place.index()) {
            *slot = Some(bundle);
        }
        place
    }

    fn new_place(&mut self) -> Place {
        self.slots.push(None);
        // Far fewer are out than that.
        let place = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        Place(NonZeroU32::new(place).unwrap_or(NonZeroU32::MAX))
    }

    /// Items of one bundle are finished.
    #[inline]
    pub(crate) fn finish(&mut self, place: Place, first: Seq, count: u64) {
        let Some(slot) = self.slots.get_mut(place.index()) else {
            return;
        };
        let Some(bundle) = slot else { return };
        if !bundle.0.is_stored {
            self.memory_only -= count;
        }
        bundle.0.left -= count;
        if bundle.0.left > 0 {
            bundle.finish(first, count);
        } else if let Some(mut bundle) = slot.take() {
            bundle.clear();
            self.free.push(place);
            self.give_back(bundle);
        }
    }

    /// A disk has the items of that bundle.
    #[inline]
    pub(crate) fn is_stored(&self, place: Place) -> bool {
        let bundle = self.slots.get(place.index()).and_then(Option::as_ref);
        bundle.is_some_and(|bundle| bundle.0.is_stored)
    }

    /// Copies of the encodings of all that only memory has.
    pub(crate) fn unsaved(&self) -> Vec<Bundle> {
        let bundles = self.slots.iter().flatten();
        bundles
            .filter(|bundle| !bundle.0.is_stored)
            .cloned()
            .collect()
    }

    /// A disk has these now: all that [`unsaved`](Self::unsaved) told of, so a bundle is among them as a whole or not at all.
    pub(crate) fn mark_stored(&mut self, seqs: &[Seq]) {
        for bundle in self.slots.iter_mut().flatten() {
            let first = bundle.unfinished().next();
            if first.is_some_and(|(seq, _)| seqs.binary_search(&seq).is_ok()) {
                self.memory_only -= bundle.0.left;
                *bundle.0 = Contents {
                    left: bundle.0.left,
                    is_stored: true,
                    ..Contents::default()
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    fn bundle(seqs: Range<Seq>) -> Bundle {
        let mut bundle = Bundle::default();
        for seq in seqs {
            assert!(bundle.takes(seq, 0));
            assert_eq!(bundle.push(seq, 0, |bytes| encode(seq, bytes)), length(seq));
        }
        bundle
    }

    /// Records of different lengths; those of some numbers fail after they have begun.
    fn encode(seq: Seq, bytes: &mut Vec<u8>) -> bool {
        bytes.extend(std::iter::repeat_n(7, usize::try_from(seq).unwrap()));
        seq % 5 != 4
    }

    fn length(seq: Seq) -> u32 {
        u32::try_from(if seq % 5 == 4 { 0 } else { seq }).unwrap()
    }

    type Unsaved = Vec<(Seq, Option<Vec<u8>>)>;

    fn expected(seqs: impl IntoIterator<Item = Seq>) -> Unsaved {
        let expected = seqs.into_iter().map(|seq| {
            let mut record = Vec::new();
            (seq, encode(seq, &mut record).then_some(record))
        });
        expected.collect()
    }

    fn unsaved(copies: &Copies) -> Unsaved {
        let bundles = copies.unsaved();
        let records = bundles.iter().flat_map(Bundle::unfinished);
        let mut unsaved: Unsaved = records
            .map(|(seq, record)| (seq, record.map(<[u8]>::to_vec)))
            .collect();
        unsaved.sort();
        unsaved
    }

    #[test]
    fn what_is_unsaved_is_what_is_not_finished() {
        let mut copies = Copies::default();
        copies.expect(8);
        let late = copies.keep(bundle(20..22));
        let early = copies.keep(bundle(3..9));
        assert_eq!(unsaved(&copies), expected((3..9).chain(20..22)));
        copies.finish(early, 5, 2);
        copies.finish(late, 21, 1);
        copies.finish(early, 3, 1);
        assert_eq!(unsaved(&copies), expected([4, 7, 8, 20]));
        assert_eq!(copies.memory_only(), 4);
        copies.finish(early, 4, 1);
        copies.finish(early, 7, 2);
        copies.finish(late, 20, 1);
        assert_eq!((copies.memory_only(), unsaved(&copies)), (0, Vec::new()));
    }

    #[test]
    fn a_disk_has_a_bundle_as_a_whole_or_not_at_all() {
        let mut copies = Copies::default();
        copies.expect(5);
        let (first, second) = (copies.keep(bundle(0..3)), copies.keep(bundle(3..5)));
        copies.finish(first, 0, 1);
        copies.mark_stored(&[1, 2]);
        assert!(copies.is_stored(first) && !copies.is_stored(second));
        assert_eq!(
            (copies.memory_only(), unsaved(&copies)),
            (2, expected(3..5))
        );
        copies.finish(first, 2, 1);
        copies.finish(first, 1, 1);
        assert_eq!(copies.memory_only(), 2);
        copies.expect(1);
        let mut again = copies.lend();
        again.push(5, 0, |bytes| encode(5, bytes));
        assert_eq!(copies.keep(again), first, "places are used again");
        assert!(!copies.is_stored(first));
        assert_eq!(
            (copies.memory_only(), unsaved(&copies)),
            (3, expected(3..6))
        );
    }

    #[test]
    fn a_bundle_ends_where_numbers_do_or_when_it_is_large() {
        let open = bundle(7..9);
        assert!(open.takes(9, 0));
        assert!(!open.takes(10, 0) && !open.takes(9, 1));
        let mut many = bundle(0..0);
        let fits = |seq: &Seq| {
            let fits = many.takes(*seq, 0);
            if fits {
                many.push(*seq, 0, |_| true);
            }
            fits
        };
        assert_eq!((0..1000).take_while(fits).count(), BUNDLE_RECORDS);
        let mut large = Bundle::default();
        large.push(0, 0, |bytes| {
            bytes.resize(BUNDLE_BYTES, 0);
            true
        });
        assert!(!large.takes(1, 0));
    }

    #[test]
    fn empty_bundles_are_used_again_within_their_limit() {
        let mut copies = Copies::default();
        let large = |bytes| {
            let mut bundle = Bundle::default();
            bundle.0.bytes.reserve(bytes);
            bundle
        };
        copies.give_back(large(SPARE_BYTES));
        assert_eq!(
            copies.lend().0.bytes.capacity(),
            0,
            "that one was too large"
        );
        for _ in 0..3 {
            copies.give_back(large(BUNDLE_BYTES));
        }
        assert_eq!(copies.lend_many(USUAL_RECORDS + 1).len(), 2);
        assert!(copies.lend().0.bytes.capacity() >= BUNDLE_BYTES);
        assert_eq!((copies.spare.len(), copies.spare_bytes), (0, 0));
    }

    #[test]
    fn a_large_encoding_stays_neither_with_small_ones_nor_with_the_next_item() {
        const LARGE: usize = 900 << 10;
        let large = |bundle: &mut Bundle, seq| {
            bundle.push(seq, 0, |bytes| {
                bytes.resize(bytes.len() + LARGE, 7);
                true
            });
        };
        let mut copies = Copies::default();
        copies.expect(3);
        let mut mixed = bundle(1..3);
        large(&mut mixed, 3);
        let place = copies.keep(mixed);
        copies.finish(place, 3, 1);
        assert_eq!(unsaved(&copies), expected(1..3));
        let held = copies.slots.iter().flatten().map(Bundle::footprint);
        assert!(held.sum::<usize>() < LARGE / 10);
        copies.finish(place, 1, 2);
        assert_eq!(copies.memory_only(), 0);

        copies.expect(1);
        let mut alone = Bundle::default();
        large(&mut alone, 9);
        let place = copies.keep(alone);
        copies.finish(place, 9, 1);
        let spare = copies.spare.iter().map(Bundle::footprint);
        assert!(spare.sum::<usize>() < LARGE / 10);
    }
}
