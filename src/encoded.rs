//! Items of one caller with their records, until each has found its place.

use crate::buffers::{keep_records, take_records};
use crate::records::Records;
use std::collections::VecDeque;

/// Items that came together, and their records.
#[derive(Debug)]
pub(crate) struct Encoded<T> {
    /// Those without a place. Where all got theirs at once, what is left to be dropped.
    items: VecDeque<T>,
    records: Records,
    /// Records before this one have their places.
    next: usize,
}

impl<T> Default for Encoded<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            records: Records::default(),
            next: 0,
        }
    }
}

impl<T> Encoded<T> {
    /// Encodes `items`; those for which `encode` fails are not among them.
    pub(crate) fn new<E>(
        mut items: VecDeque<T>,
        mut encode: impl FnMut(T, &mut Vec<u8>) -> Result<T, E>,
        mut failed: impl FnMut(E),
    ) -> Self {
        let mut records = take_records();
        for _ in 0..items.len() {
            let Some(item) = items.pop_front() else {
                break;
            };
            match records.push(|buffer| encode(item, buffer)) {
                Ok(item) => items.push_back(item),
                Err(error) => failed(error),
            }
        }
        Self {
            items,
            records,
            next: 0,
        }
    }

    /// Every item has its place.
    pub(crate) fn is_placed(&self) -> bool {
        self.next >= self.records.count()
    }

    /// The record whose turn it is.
    pub(crate) fn record(&self) -> Option<&[u8]> {
        (!self.is_placed()).then(|| self.records.get(self.next))
    }

    /// The item whose turn it is, with its record: it gets its place now.
    pub(crate) fn take(&mut self) -> Option<(T, &[u8])> {
        let item = self.items.pop_front()?;
        let record = self.records.get(self.next);
        self.next += 1;
        Some((item, record))
    }

    /// All records that are left, and from which number on: they get their places now.
    pub(crate) fn take_all(&mut self) -> (&Records, usize) {
        let from = std::mem::replace(&mut self.next, self.records.count());
        (&self.records, from)
    }

    /// Bytes that the records that are left take in blocks, headers aside.
    pub(crate) fn size(&self) -> usize {
        self.records.size_from(self.next)
    }

    /// The items without a place.
    pub(crate) fn into_unplaced(self) -> VecDeque<T> {
        if self.is_placed() {
            VecDeque::new()
        } else {
            self.items
        }
    }

    /// Drops what is left and gives back the room for items.
    pub(crate) fn into_room(mut self) -> VecDeque<T> {
        keep_records(self.records);
        self.items.clear();
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(items: impl Iterator<Item = u8>) -> (Encoded<u8>, Vec<u8>) {
        let mut failed = Vec::new();
        let encode = |item, buffer: &mut Vec<u8>| {
            buffer.push(item);
            if item % 4 == 3 { Err(item) } else { Ok(item) }
        };
        let encoded = Encoded::new(items.collect(), encode, |item| failed.push(item));
        (encoded, failed)
    }

    #[test]
    fn each_item_that_could_be_encoded_comes_once_and_with_its_record() {
        let (mut encoded, failed) = of(0..10);
        assert_eq!(failed, [3, 7]);
        for expected in [0, 1, 2, 4] {
            assert_eq!(encoded.record(), Some(&[expected][..]));
            assert_eq!(encoded.take(), Some((expected, &[expected][..])));
        }
        let (records, from) = encoded.take_all();
        let rest: Vec<_> = (from..records.count()).map(|at| records.get(at)).collect();
        assert_eq!(rest, [[5], [6], [8], [9]]);
        assert!(encoded.is_placed() && encoded.record().is_none());
        assert!(encoded.into_unplaced().is_empty());
    }

    #[test]
    fn what_has_no_place_can_be_had_back() {
        let (mut encoded, _) = of(0..3);
        encoded.take();
        assert_eq!(encoded.into_unplaced(), [1, 2]);
        let (encoded, _) = of(0..3);
        let room = encoded.into_room();
        assert!(room.is_empty() && room.capacity() >= 3);
    }
}
