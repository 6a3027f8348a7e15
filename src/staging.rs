//! Encoded items on their way to disk, the youngest of all that wait.

use crate::block::{BlockBuilder, HEADER_LEN, RECORD_OVERHEAD};
use crate::clock::Clock;
use crate::records::Records;
use crate::seq::Seq;
use crate::spare::Spare;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// Blocks in the order of their numbers: the first `writing` are with the writer, the others are
/// full, the last one may still be open.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    full: VecDeque<Arc<BlockBuilder>>,
    open: Option<BlockBuilder>,
    writing: usize,
    bytes: u64,
    items: u64,
    /// What the last records cost, each.
    last_cost: Option<NonZeroU64>,
    spare: Spare,
}

/// What a handed-over block leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// The block is still to be written, or being written.
    Share,
    /// Nobody has begun to write it and nobody has to: it leaves staging.
    Take,
}

/// The time, and how exactly it is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time<'a> {
    pub(crate) clock: &'a Clock,
    /// Set where ages are limited: the admissions in one block are no further apart, in milliseconds.
    pub(crate) spread_ms: Option<u64>,
}

impl Time<'_> {
    fn latest_ms(self) -> Option<u64> {
        self.spread_ms.map(|_| self.clock.wall_ms())
    }

    fn spreads(self, open: &BlockBuilder, now: u64) -> bool {
        self.spread_ms
            .is_some_and(|most| now.saturating_sub(open.earliest_ms()) > most)
    }
}

impl Staging {
    /// The lowest number in staging.
    pub(crate) fn first(&self) -> Option<Seq> {
        match self.full.front() {
            Some(block) => Some(block.first()),
            None => self.open.as_ref().map(BlockBuilder::first),
        }
    }

    /// Bytes of all blocks here, headers included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the last records cost, in bytes each.
    pub(crate) fn last_cost(&self) -> Option<NonZeroU64> {
        self.last_cost
    }

    /// The numbers of each block here.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<Seq>> {
        let full = self.full.iter().map(|block| block.first()..block.end());
        full.chain(self.open.iter().map(|block| block.first()..block.end()))
    }

    /// True when a block waits for the writer.
    pub(crate) fn has_full(&self) -> bool {
        self.full.len() > self.writing
    }

    /// True when anything waits for the writer, an open block included.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.has_full() || self.open.is_some()
    }

    /// Bytes that a record of `len` bytes adds.
    pub(crate) fn cost(&self, len: usize, block_bytes: usize) -> u64 {
        let record = RECORD_OVERHEAD + len;
        let header = match &self.open {
            Some(open) if open.fits(len, block_bytes) => 0,
            _ => HEADER_LEN,
        };
        (header + record) as u64
    }

    /// Appends a record that is admitted now.
    pub(crate) fn push(&mut self, seq: Seq, record: &[u8], block_bytes: usize, time: Time<'_>) {
        let (before, size) = (self.bytes, RECORD_OVERHEAD + record.len());
        self.open_for(seq, size, block_bytes, time).push(record);
        self.note_pushed(1, size, block_bytes);
        self.last_cost = NonZeroU64::new(self.bytes - before);
    }

    /// Appends all records from number `from` on, which are admitted now, with the numbers from `seq` on: the same blocks as
    /// one by one.
    pub(crate) fn push_many(
        &mut self,
        mut seq: Seq,
        records: &Records,
        mut from: usize,
        block_bytes: usize,
        time: Time<'_>,
    ) {
        let (before, items) = (self.bytes, records.count().saturating_sub(from));
        while from < records.count() {
            let size = records.size_of(from);
            let open = self.open_for(seq, size, block_bytes, time);
            // One that is larger than a block has one of its own.
            let room = open.room(block_bytes).max(size);
            let (bytes, count) = records.fitting(from, room);
            open.push_many(bytes, count);
            self.note_pushed(count, bytes.len(), block_bytes);
            from += count;
            seq += count as u64;
        }
        let cost = (self.bytes - before).div_ceil(items.max(1) as u64);
        self.last_cost = NonZeroU64::new(cost).or(self.last_cost);
    }

    /// The block that takes a record of `size` bytes with number `seq`.
    fn open_for(
        &mut self,
        seq: Seq,
        size: usize,
        block_bytes: usize,
        time: Time<'_>,
    ) -> &mut BlockBuilder {
        let now = time.latest_ms();
        // A block counts its numbers from the first on, so they must touch.
        let takes = |open: &BlockBuilder| {
            let is_apart = now.is_some_and(|now| time.spreads(open, now));
            open.end() == seq && size <= open.room(block_bytes) && !is_apart
        };
        if self.open.as_ref().is_some_and(|open| !takes(open)) {
            self.close_block();
        }
        let open = self.open.get_or_insert_with(|| {
            self.bytes += HEADER_LEN as u64;
            let (buffer, capacity) = (self.spare.take(), block_bytes.max(size));
            BlockBuilder::within(buffer, seq, time.clock.wall_ms(), capacity)
        });
        if let Some(now) = now {
            open.note_latest(now);
        }
        open
    }

    /// The open block got `count` records of `size` bytes in all.
    fn note_pushed(&mut self, count: usize, size: usize, block_bytes: usize) {
        self.bytes += size as u64;
        self.items += count as u64;
        let is_full = |open: &BlockBuilder| open.room(block_bytes) == 0;
        if self.open.as_ref().is_some_and(is_full) {
            self.close_block();
        }
    }

    /// Appends a whole block.
    pub(crate) fn push_block(&mut self, block: BlockBuilder) {
        self.close_block();
        self.bytes += block.len() as u64;
        self.items += u64::from(block.count());
        self.full.push_back(Arc::new(block));
    }

    /// Takes out the block that begins with `first`, which nobody has begun to write.
    pub(crate) fn take_block(&mut self, first: Seq) -> Option<Arc<BlockBuilder>> {
        let index = self.full.iter().position(|block| block.first() == first)?;
        if index < self.writing {
            return None;
        }
        let block = self.full.remove(index)?;
        self.bytes -= block.len() as u64;
        self.items -= u64::from(block.count());
        Some(block)
    }

    /// Ends the open block, so that it can be written or handed over.
    pub(crate) fn close_block(&mut self) {
        if let Some(open) = self.open.take() {
            self.full.push_back(Arc::new(open));
        }
    }

    /// Gives the writer the oldest blocks, up to about `bytes_max`. They stay here until
    /// [`finish_write`](Self::finish_write), so that they can be handed over meanwhile.
    pub(crate) fn begin_write(&mut self, bytes_max: usize) -> Vec<Arc<BlockBuilder>> {
        let mut bytes = 0;
        let batch: Vec<_> = self
            .full
            .iter()
            .take_while(|block| {
                let within = bytes < bytes_max;
                bytes += block.len();
                within
            })
            .cloned()
            .collect();
        self.writing = batch.len();
        batch
    }

    /// The blocks of the last [`begin_write`](Self::begin_write) are on disk.
    pub(crate) fn finish_write(&mut self) {
        for block in self.full.drain(..self.writing.min(self.full.len())) {
            self.bytes -= block.len() as u64;
            self.items -= u64::from(block.count());
            // Whoever it was handed over to goes on with it.
            if let Ok(block) = Arc::try_unwrap(block) {
                self.spare.keep(block.into_buffer());
            }
        }
        self.writing = 0;
    }

    /// The block that holds number `at`, for the consumer's side. With `write_ahead` it is written all the same.
    pub(crate) fn hand_over(
        &mut self,
        at: Seq,
        write_ahead: bool,
    ) -> Option<(Arc<BlockBuilder>, HandOver)> {
        if self.full.back().is_none_or(|last| last.end() <= at) {
            self.close_block();
        }
        let index = self.full.partition_point(|block| block.end() <= at);
        // It is on the device before it is anybody's: until then it is in the dead letters, too.
        if self
            .full
            .get(index)
            .is_some_and(|block| block.has_origins())
        {
            return None;
        }
        if write_ahead || index < self.writing {
            return self
                .full
                .get(index)
                .map(|block| (Arc::clone(block), HandOver::Share));
        }
        let block = self.full.remove(index)?;
        self.bytes -= block.len() as u64;
        self.items -= u64::from(block.count());
        Some((block, HandOver::Take))
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<BlockBuilder>> {
        self.close_block();
        self.bytes = 0;
        self.items = 0;
        self.writing = 0;
        self.full.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(count: u64) -> Staging {
        let mut staging = Staging::default();
        for seq in 0..count {
            let cost = staging.cost(8, 30);
            let before = staging.bytes();
            let clock = Clock::manual();
            let time = Time {
                clock: &clock,
                spread_ms: None,
            };
            staging.push(seq, &seq.to_le_bytes(), 30, time);
            assert_eq!(staging.bytes(), before + cost);
        }
        staging
    }

    #[test]
    fn blocks_close_when_the_next_record_does_not_fit() {
        let mut staging = staged(5);
        let batch = staging.begin_write(usize::MAX);
        assert_eq!(
            batch.iter().map(|block| block.count()).collect::<Vec<_>>(),
            [2, 2]
        );
        assert_eq!(staging.items, 5);
        staging.finish_write();
        assert_eq!((staging.first(), staging.items), (Some(4), 1));
        assert!(staging.has_unwritten() && !staging.has_full());
    }

    proptest::proptest! {
        #[test]
        fn records_that_come_together_make_the_same_blocks_as_one_by_one(
            batches in proptest::collection::vec(proptest::collection::vec(0_usize..60, 0..12), 1..6),
            skipped in 0_usize..3,
            block_bytes in 1_usize..100,
        ) {
            let clock = Clock::manual();
            let time = Time { clock: &clock, spread_ms: Some(5) };
            let (mut together, mut one_by_one) = (Staging::default(), Staging::default());
            let mut seq = 7;
            for lens in batches {
                clock.advance(std::time::Duration::from_millis(4));
                let mut records = Records::default();
                for len in &lens {
                    let record = vec![u8::try_from(*len).unwrap(); *len];
                    records.push(|buffer| { buffer.extend_from_slice(&record); Ok::<_, ()>(()) }).unwrap();
                }
                let skipped = skipped.min(lens.len());
                together.push_many(seq, &records, skipped, block_bytes, time);
                for (at, index) in (skipped..lens.len()).enumerate() {
                    one_by_one.push(seq + at as u64, records.get(index), block_bytes, time);
                }
                seq += (lens.len() - skipped) as u64;
                proptest::prop_assert_eq!(together.bytes(), one_by_one.bytes());
            }
            let blocks = |staging: &mut Staging| format!("{:?}", staging.take_all());
            proptest::prop_assert_eq!(together.items, one_by_one.items);
            proptest::prop_assert_eq!(blocks(&mut together), blocks(&mut one_by_one));
        }
    }

    #[test]
    fn a_block_that_is_being_written_is_shared_and_the_others_are_taken() {
        let mut staging = staged(6);
        assert_eq!(staging.begin_write(1).len(), 1);
        let (block, how) = staging.hand_over(0, false).unwrap();
        assert_eq!((block.first(), how), (0, HandOver::Share));
        let (block, how) = staging.hand_over(2, false).unwrap();
        assert_eq!((block.first(), how), (2, HandOver::Take));
        let (block, how) = staging.hand_over(4, false).unwrap();
        assert_eq!((block.first(), how), (4, HandOver::Take));
        assert_eq!(staging.first(), Some(0));
        staging.finish_write();
        assert_eq!(staging.first(), None);
        assert_eq!(staging.bytes(), 0);
    }
}
