//! How far everything that lines come from has been delivered: what tells a repeat from a new line.

use crate::ship::record::{Line, SourceId};
use overspill::ItemId;
use serde::{Deserialize, Serialize};

/// The latest of each source and of each channel.
///
/// Lines leave every channel in the order of their ids, and a followed file in the order of their places, but for
/// repeats. So one mark for each is enough: what isn't beyond it came before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends {
    places: Latest<SourceId, u64>,
    /// Incarnation and sequence number, in this order: after a crash a channel gives numbers out again, under a higher
    /// incarnation.
    ids: Latest<[u8; 16], (u64, u64)>,
}

impl Ends {
    /// Where `batch` ends.
    pub(crate) fn after(batch: &[Line<'_>]) -> Self {
        let mut ends = Self::default();
        for line in batch {
            ends.advance(line);
        }
        ends
    }

    /// 0 for a source that isn't known.
    pub(crate) fn of(&self, source: SourceId) -> u64 {
        self.places.get(&source).unwrap_or(0)
    }

    /// True for a line that came before: by its place, or under one of its names.
    pub(crate) fn have(&self, line: &Line<'_>) -> bool {
        let is_old = |id: ItemId| self.ids.get(&id.channel) >= Some((id.incarnation, id.seq));
        line.place
            .is_some_and(|place| place.end <= self.of(place.source))
            || line.ids().any(is_old)
    }

    pub(crate) fn advance(&mut self, line: &Line<'_>) {
        if let Some(place) = line.place {
            self.reach(place.source, place.end);
        }
        for id in line.ids() {
            self.ids.raise(id.channel, (id.incarnation, id.seq));
        }
    }

    /// All that the source held up to `end` is done with.
    pub(crate) fn reach(&mut self, source: SourceId, end: u64) {
        self.places.raise(source, end);
    }

    pub(crate) fn advance_all(&mut self, other: &Self) {
        self.places.raise_all(&other.places);
        self.ids.raise_all(&other.ids);
    }
}

/// The highest value of each of the latest keys. Bounded: the key that was quiet longest is forgotten first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Latest<K, V>(Vec<(K, V)>);

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + PartialEq, V: Copy + Ord> Latest<K, V> {
    /// Two sets of marks, of this many sources and channels each, are saved in one slot.
    const LIMIT: usize = 256;

    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.iter().rev().find(|(known, _)| known == key);
        known.map(|(_, value)| *value)
    }

    /// Never goes back.
    fn raise(&mut self, key: K, value: V) {
        let value = self.get(&key).map_or(value, |known| known.max(value));
        match self.0.last_mut() {
            Some(last) if last.0 == key => last.1 = value,
            _ => {
                self.0.retain(|(known, _)| *known != key);
                self.0.push((key, value));
                let excess = self.0.len().saturating_sub(Self::LIMIT);
                self.0.drain(..excess);
            }
        }
    }

    fn raise_all(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            self.raise(*key, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::record::Place;

    fn id(channel: u8, incarnation: u64, seq: u64) -> ItemId {
        ItemId {
            channel: [channel; 16],
            incarnation,
            seq,
        }
    }

    fn named(id: ItemId) -> Line<'static> {
        Line {
            id: Some(id),
            came_as: None,
            place: None,
            text: b"x\n",
        }
    }

    fn placed(source: SourceId, end: u64) -> Line<'static> {
        Line {
            id: None,
            came_as: None,
            place: Some(Place { source, end }),
            text: b"x\n",
        }
    }

    #[test]
    fn marks_never_go_back_and_the_quietest_is_forgotten() {
        let mut latest = Latest::default();
        latest.raise(7, 10);
        latest.raise(7, 5);
        assert_eq!((latest.get(&7), latest.get(&8)), (Some(10), None));
        for other in 100..100 + Latest::<i32, i32>::LIMIT - 1 {
            latest.raise(i32::try_from(other).unwrap(), 1);
        }
        latest.raise(7, 11);
        latest.raise(1_000, 1);
        assert_eq!(
            (latest.get(&7), latest.get(&100), latest.get(&101)),
            (Some(11), None, Some(1))
        );
    }

    #[test]
    fn a_line_is_a_repeat_by_its_place_or_by_either_name() {
        let first = Line {
            id: Some(id(1, 1, 10)),
            came_as: Some(id(2, 1, 20)),
            place: Some(Place { source: 3, end: 30 }),
            text: b"x\n",
        };
        let ends = Ends::after(&[first]);
        for repeat in [
            named(id(1, 1, 10)),
            named(id(1, 1, 9)),
            named(id(2, 1, 20)),
            placed(3, 30),
            placed(3, 29),
        ] {
            assert!(ends.have(&repeat), "{repeat:?}");
        }
        for new in [
            named(id(1, 1, 11)),
            named(id(2, 1, 21)),
            named(id(3, 1, 0)),
            placed(3, 31),
            placed(4, 1),
        ] {
            assert!(!ends.have(&new), "{new:?}");
        }
    }

    #[test]
    fn a_number_that_is_given_out_again_is_no_repeat() {
        let mut ends = Ends::after(&[named(id(1, 4, 100))]);
        let again = named(id(1, 5, 60));
        assert!(!ends.have(&again));
        ends.advance(&again);
        assert!(ends.have(&again));
        assert!(ends.have(&named(id(1, 4, 100))));
        assert!(!ends.have(&named(id(1, 5, 61))));
    }
}
