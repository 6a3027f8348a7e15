//! Sequence numbers and sets of them.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::iter::once;
use std::ops::Range;

/// The position of an item since its directory was created; the first item ever has 0.
pub(crate) type Seq = u64;

/// A set of sequence numbers, kept as sorted, disjoint, non-touching ranges.
///
/// Tens of thousands of them are held while as many deliveries are out. They come and go at both ends, and anywhere in
/// between the shorter side moves, so a queue of them it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeqSet {
    ranges: VecDeque<Range<Seq>>,
    /// How many numbers they hold: asked far more often than they change.
    len: u64,
}

impl SeqSet {
    /// The set of the given ranges, in any order, overlapping or not.
    pub(crate) fn from_ranges(ranges: impl IntoIterator<Item = Range<Seq>>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }

    /// Adds `range`; returns how many of its numbers were new.
    pub(crate) fn insert(&mut self, range: Range<Seq>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let from = self.ranges.partition_point(|held| held.end < range.start);
        let to = self
            .ranges
            .partition_point(|held| held.start <= range.end)
            .max(from);
        let already = self
            .ranges
            .range(from..to)
            .map(|held| overlap(held, &range))
            .sum::<u64>();
        let added = range.end - range.start - already;
        let end = to.checked_sub(1).and_then(|last| self.ranges.get(last));
        let end = end.map_or(range.end, |last| last.end.max(range.end));
        match self.ranges.get_mut(from) {
            Some(first) if from < to => {
                *first = first.start.min(range.start)..end;
                self.ranges.drain(from + 1..to);
            }
            _ => self.ranges.insert(from, range),
        }
        self.len += added;
        added
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.range_at(seq).is_some()
    }

    /// The lowest number `>= seq` that is not in the set.
    pub(crate) fn next_absent(&self, seq: Seq) -> Seq {
        self.range_at(seq).map_or(seq, |held| held.end)
    }

    /// True when every number of `range` is in the set.
    pub(crate) fn covers(&self, range: &Range<Seq>) -> bool {
        range.is_empty()
            || self
                .range_at(range.start)
                .is_some_and(|held| held.end >= range.end)
    }

    /// True when any number of `range` is in the set.
    pub(crate) fn touches(&self, range: &Range<Seq>) -> bool {
        let index = self.ranges.partition_point(|held| held.end <= range.start);
        let next = self.ranges.get(index);
        next.is_some_and(|held| held.start.max(range.start) < range.end.min(held.end))
    }

    /// Those of the ranges that `other` doesn't cover.
    pub(crate) fn beyond<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'a Range<Seq>> + 'a {
        let mut theirs = other.ranges.iter().peekable();
        self.ranges.iter().filter(move |ours| {
            while theirs.next_if(|held| held.end <= ours.start).is_some() {}
            !theirs
                .peek()
                .is_some_and(|held| held.start <= ours.start && ours.end <= held.end)
        })
    }

    /// The numbers of `range` that are not in the set, as ascending ranges.
    pub(crate) fn absent_in(&self, range: Range<Seq>) -> impl Iterator<Item = Range<Seq>> + '_ {
        let Range { start, end } = range;
        let from = self.ranges.partition_point(|held| held.end <= start);
        let held = self.ranges.range(from..);
        let held = held.take_while(move |held| held.start < end);
        // A gap lies between the end of each and the start of the next.
        let starts = once(start).chain(held.clone().map(|held| held.end));
        let ends = held.map(|held| held.start).chain(once(end));
        let gaps = starts.zip(ends).map(|(start, end)| start..end);
        gaps.filter(|gap| !gap.is_empty())
    }

    /// Removes and returns the end of the lowest range if that range starts at `seq`.
    pub(crate) fn take_first_at(&mut self, seq: Seq) -> Option<Seq> {
        self.ranges.front().filter(|first| first.start <= seq)?;
        let first = self.ranges.pop_front()?;
        self.len -= first.end - first.start;
        Some(first.end.max(seq))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending.
    pub(crate) fn ranges(&self) -> Iter<'_, Range<Seq>> {
        self.ranges.iter()
    }

    /// One past the highest number of the set; 0 when it is empty.
    pub(crate) fn end(&self) -> Seq {
        self.ranges.back().map_or(0, |last| last.end)
    }

    /// How many numbers the set holds.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn range_at(&self, seq: Seq) -> Option<&Range<Seq>> {
        let index = self.ranges.partition_point(|held| held.end <= seq);
        self.ranges.get(index).filter(|held| held.start <= seq)
    }
}

fn overlap(a: &Range<Seq>, b: &Range<Seq>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::maybe_infinite_iter,
    reason = "small numbers"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_ranges_equals_a_set_of_numbers(
            inserts in proptest::collection::vec((0u64..60, 0u64..12), 0..24),
            probe in 0u64..80,
            span in 0u64..30,
        ) {
            let mut set = SeqSet::default();
            let mut model = BTreeSet::new();
            for (start, len) in inserts {
                let added = set.insert(start..start + len);
                let before = model.len();
                model.extend(start..start + len);
                prop_assert_eq!(added as usize, model.len() - before);
            }
            prop_assert_eq!(set.len() as usize, model.len());
            let starts = set.ranges().skip(1).map(|range| range.start);
            prop_assert!(set.ranges().zip(starts).all(|(range, next)| range.end < next));
            prop_assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.next_absent(probe), (probe..).find(|n| !model.contains(n)).unwrap());
            let absent: Vec<u64> = set.absent_in(probe..probe + span).flatten().collect();
            let expected: Vec<u64> = (probe..probe + span).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(set.covers(&(probe..probe + span)), expected.is_empty());
            prop_assert_eq!(set.touches(&(probe..probe + span)), (expected.len() as u64) < span);
            prop_assert_eq!(absent, expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_beyond_another_set_is_what_it_does_not_cover(
            ours in proptest::collection::vec((0u64..60, 0u64..9), 0..12),
            theirs in proptest::collection::vec((0u64..60, 0u64..9), 0..12),
        ) {
            let set = |ranges: Vec<(u64, u64)>| {
                SeqSet::from_ranges(ranges.into_iter().map(|(start, len)| start..start + len))
            };
            let (ours, theirs) = (set(ours), set(theirs));
            let expected: Vec<_> = ours.ranges().filter(|range| !theirs.covers(range)).collect();
            prop_assert_eq!(ours.beyond(&theirs).collect::<Vec<_>>(), expected);
        }
    }

    /// Acknowledgements as a busy day brings them: out of order within a window that moves on.
    #[test]
    fn numbers_in_any_order_become_one_range_and_the_first_ones_leave_on_the_way() {
        for (seed, window) in [(1, 1), (2, 7), (3, 300), (4, 20_000)] {
            let mut random = crate::disk::sim::Random(seed);
            let mut set = SeqSet::default();
            let (mut cursor, mut next, mut out) = (0, 0, Vec::new());
            let mut model = BTreeSet::new();
            while cursor < 20_000 {
                while out.len() < window && next < 20_000 {
                    out.push(next);
                    next += 1;
                }
                let seq = out.swap_remove(random.below(out.len()));
                assert_eq!(set.insert(seq..seq + 1), 1);
                assert_eq!(set.insert(seq..seq + 1), 0);
                model.insert(seq);
                if let Some(end) = set.take_first_at(cursor) {
                    cursor = end;
                    model = model.split_off(&cursor);
                }
                assert_eq!(set.len() as usize, model.len());
                assert_eq!(set.next_absent(cursor), cursor);
                let probe = cursor + random.below(window) as u64;
                assert_eq!(set.contains(probe), model.contains(&probe));
            }
            assert_eq!(set, SeqSet::default());
        }
    }
}
