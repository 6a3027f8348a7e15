//! Sequence numbers and sets of them.

use std::ops::Range;

/// The position of an item since its directory was created; the first item ever has 0.
pub(crate) type Seq = u64;

/// A set of sequence numbers, kept as sorted, disjoint, non-touching ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeqSet {
    ranges: Vec<Range<Seq>>,
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
        let to = self.ranges.partition_point(|held| held.start <= range.end);
        let touched = self.ranges.get(from..to).unwrap_or_default();
        let already = touched
            .iter()
            .map(|held| overlap(held, &range))
            .sum::<u64>();
        let start = touched
            .first()
            .map_or(range.start, |held| held.start.min(range.start));
        let end = touched
            .last()
            .map_or(range.end, |held| held.end.max(range.end));
        let added = range.end - range.start - already;
        self.ranges.splice(from..to, std::iter::once(start..end));
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

    /// The numbers of `range` that are not in the set, as ascending ranges.
    pub(crate) fn absent_in(&self, range: Range<Seq>) -> Vec<Range<Seq>> {
        let mut absent = Vec::new();
        let mut at = range.start;
        let from = self.ranges.partition_point(|held| held.end <= range.start);
        for held in self.ranges.get(from..).unwrap_or_default() {
            if held.start >= range.end {
                break;
            }
            if at < held.start {
                absent.push(at..held.start);
            }
            at = at.max(held.end);
        }
        if at < range.end {
            absent.push(at..range.end);
        }
        absent
    }

    /// Removes and returns the end of the lowest range if that range starts at `seq`.
    pub(crate) fn take_first_at(&mut self, seq: Seq) -> Option<Seq> {
        match self.ranges.first() {
            Some(first) if first.start <= seq => {
                let end = first.end;
                self.ranges.remove(0);
                Some(end.max(seq))
            }
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn ranges(&self) -> &[Range<Seq>] {
        &self.ranges
    }

    /// How many numbers the set holds.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|held| held.end - held.start).sum()
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
            prop_assert!(set.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.next_absent(probe), (probe..).find(|n| !model.contains(n)).unwrap());
            let absent: Vec<u64> = set.absent_in(probe..probe + span).into_iter().flatten().collect();
            let expected: Vec<u64> = (probe..probe + span).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(set.covers(&(probe..probe + span)), expected.is_empty());
            prop_assert_eq!(absent, expected);
        }
    }
}
