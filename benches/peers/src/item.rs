//! What goes through the queues: numbers, and byte strings that begin with their number.

use serde::{Serialize, de::DeserializeOwned};

pub(crate) type Bytes = Vec<u8>;

/// An item that knows its place, so that every workload can check order and loss.
pub(crate) trait Item: Serialize + DeserializeOwned + Send + Sync + 'static {
    fn make(number: u64, bytes: usize) -> Self;
    fn number(&self) -> u64;
}

impl Item for u64 {
    fn make(number: u64, _bytes: usize) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

impl Item for Bytes {
    fn make(number: u64, bytes: usize) -> Self {
        let mut item = vec![7; bytes];
        if let Some(head) = item.first_chunk_mut() {
            *head = number.to_le_bytes();
        }
        item
    }

    fn number(&self) -> u64 {
        self.first_chunk()
            .map_or(0, |head| u64::from_le_bytes(*head))
    }
}

/// What a consumer saw of the items `0..`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) items: u64,
    /// Items that came after one with a higher number.
    pub(crate) late: u64,
    next: u64,
}

impl Seen {
    pub(crate) fn see(&mut self, item: &impl Item) {
        let number = item.number();
        self.items += 1;
        self.late += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_higher_number_is_late() {
        let mut seen = Seen::default();
        for number in [0, 2, 1, 3] {
            seen.see(&Bytes::make(number, 16));
        }
        assert_eq!((seen.items, seen.late), (4, 1));
    }
}
