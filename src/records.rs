//! Records that were encoded together, in the form that they have in a block.

use crate::block::{RECORD_OVERHEAD, record_prefix};

/// Records one behind the other, each with its length before it.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Records {
    /// Bytes that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds the record that `encode` appends to the buffer, if it succeeds.
    pub(crate) fn push<R, E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<R, E>,
    ) -> Result<R, E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_OVERHEAD]);
        let outcome = encode(&mut self.bytes);
        let prefix = record_prefix(self.bytes.len() - start - RECORD_OVERHEAD);
        match self.bytes.get_mut(start..start + RECORD_OVERHEAD) {
            Some(place) if outcome.is_ok() => {
                place.copy_from_slice(&prefix);
                self.ends.push(self.bytes.len());
            }
            _ => self.bytes.truncate(start),
        }
        outcome
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    fn start_of(&self, index: usize) -> usize {
        let before = index.checked_sub(1).and_then(|last| self.ends.get(last));
        before.copied().unwrap_or(0)
    }

    /// One record, without its length.
    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let start = self.start_of(index) + RECORD_OVERHEAD;
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Bytes that one of them takes in a block.
    pub(crate) fn size_of(&self, index: usize) -> usize {
        RECORD_OVERHEAD + self.get(index).len()
    }

    /// Bytes that all from number `from` on take in blocks, headers aside.
    pub(crate) fn size_from(&self, from: usize) -> usize {
        self.bytes.len() - self.start_of(from)
    }

    /// As many from number `from` on as fit into `room` bytes, and how many these are.
    pub(crate) fn fitting(&self, from: usize, room: usize) -> (&[u8], usize) {
        let start = self.start_of(from);
        let ends = self.ends.get(from..).unwrap_or_default();
        let count = ends.partition_point(|end| end - start <= room);
        let fitting = self.bytes.get(start..self.start_of(from + count));
        (fitting.unwrap_or_default(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lens: &[usize]) -> Records {
        let mut records = Records::default();
        for (at, len) in lens.iter().enumerate() {
            let record = vec![u8::try_from(at).unwrap(); *len];
            let append = |buffer: &mut Vec<u8>| {
                buffer.extend_from_slice(&record);
                Ok::<_, ()>(())
            };
            records.push(append).unwrap();
        }
        records
    }

    #[test]
    fn a_record_is_what_was_appended_and_a_failure_leaves_nothing() {
        let mut records = of(&[3, 0, 5]);
        let failed: Result<(), &str> = records.push(|buffer| {
            buffer.push(9);
            Err("no")
        });
        assert_eq!((failed, records.count()), (Err("no"), 3));
        assert_eq!(records.get(0), [0; 3]);
        assert!(records.get(1).is_empty());
        assert_eq!(records.get(2), [2; 5]);
        assert_eq!(records.size_of(2), RECORD_OVERHEAD + 5);
        assert_eq!(records.size_from(1), 2 * RECORD_OVERHEAD + 5);
        records.clear();
        assert_eq!((records.count(), records.size_from(0)), (0, 0));
    }

    #[test]
    fn so_many_fit_as_are_no_longer_together_than_the_room() {
        let records = of(&[4, 4, 4]);
        let size = RECORD_OVERHEAD + 4;
        for (room, count) in [(0, 0), (size - 1, 0), (size, 1), (2 * size, 2), (99, 2)] {
            let (bytes, fitting) = records.fitting(1, room);
            assert_eq!((bytes.len(), fitting), (count * size, count), "{room}");
        }
        assert_eq!(records.fitting(3, 99), (&[][..], 0));
    }
}
