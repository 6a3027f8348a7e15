//! Blocks in the making: records as they come, and the seal that makes a block of them.

use super::compression::{Compression, LZ4};
use super::{
    Block, HEADER_LEN, Header, ORIGINS, RECORD_OVERHEAD, record_at, record_prefix, records_of,
};
use crate::ledger::Counters;
use crate::seq::Seq;
use std::sync::Arc;

/// What is known about a block only when it is sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seal {
    pub(crate) prev_end: Seq,
    pub(crate) incarnation: u64,
    pub(crate) latest_ms: u64,
    pub(crate) cursor: Seq,
    pub(crate) counters: Counters,
    pub(crate) compression: Compression,
}

/// A block in the making.
#[derive(Clone, Debug)]
pub(crate) struct BlockBuilder {
    first: Seq,
    count: u32,
    earliest_ms: u64,
    /// 0 where nobody looks at it.
    latest_ms: u64,
    has_origins: bool,
    bytes: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn new(first: Seq, earliest_ms: u64, capacity: usize) -> Self {
        Self::within(Vec::new(), first, earliest_ms, capacity)
    }

    /// As [`new`](Self::new), in the memory of an empty buffer.
    pub(crate) fn within(
        mut bytes: Vec<u8>,
        first: Seq,
        earliest_ms: u64,
        capacity: usize,
    ) -> Self {
        bytes.reserve_exact(HEADER_LEN + capacity);
        bytes.resize(HEADER_LEN, 0);
        Self {
            first,
            count: 0,
            earliest_ms,
            latest_ms: 0,
            has_origins: false,
            bytes,
        }
    }

    /// A block of items that were dead letters.
    pub(crate) fn with_origins(first: Seq, now_ms: u64, capacity: usize) -> Self {
        let mut block = Self::new(first, now_ms, capacity);
        block.has_origins = true;
        block.latest_ms = now_ms;
        block
    }

    /// Appends the record of an item that was dead letter `seq` of an incarnation, encoded in the same or another one.
    pub(crate) fn push_origin(
        &mut self,
        (incarnation, seq): (u64, Seq),
        encoded_in: u64,
        record: &[u8],
    ) {
        let origin = [incarnation, seq, encoded_in].map(u64::to_le_bytes);
        self.push(&[origin.as_flattened(), record].concat());
    }

    /// Before each record stands which item it was.
    pub(crate) fn has_origins(&self) -> bool {
        self.has_origins
    }

    /// Notes when its youngest record was admitted.
    pub(crate) fn note_latest(&mut self, ms: u64) {
        self.latest_ms = self.latest_ms.max(ms);
    }

    /// Admission of its youngest record; 0 where it was not noted.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&record_prefix(record.len()));
        self.bytes.extend_from_slice(record);
        self.count += 1;
    }

    /// Appends `count` records that have their lengths before them.
    pub(crate) fn push_many(&mut self, records: &[u8], count: usize) {
        self.bytes.extend_from_slice(records);
        self.count += u32::try_from(count).unwrap_or(u32::MAX);
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the sealed block will have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn first(&self) -> Seq {
        self.first
    }

    /// One past the last number in the block.
    pub(crate) fn end(&self) -> Seq {
        self.first + u64::from(self.count)
    }

    pub(crate) fn earliest_ms(&self) -> u64 {
        self.earliest_ms
    }

    /// The record at `offset` bytes into the payload and the offset of the next one.
    pub(crate) fn record_at(&self, offset: usize) -> Option<(&[u8], usize)> {
        record_at(self.bytes.get(HEADER_LEN..)?, offset)
    }

    /// Whether a record of `len` bytes keeps the payload within `block_bytes`.
    pub(crate) fn fits(&self, len: usize, block_bytes: usize) -> bool {
        RECORD_OVERHEAD + len <= self.room(block_bytes)
    }

    /// Bytes that the payload may still take within `block_bytes`.
    pub(crate) fn room(&self, block_bytes: usize) -> usize {
        (HEADER_LEN + block_bytes).saturating_sub(self.bytes.len())
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Header and records; the header is not filled in.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Seals it where it is: it is shared with whoever reads it meanwhile.
    pub(crate) fn seal_shared(self: &Arc<Self>, seal: &Seal) -> Block {
        let header = Header {
            flags: 0,
            first: self.first,
            count: self.count,
            prev_end: seal.prev_end,
            incarnation: seal.incarnation,
            earliest_ms: self.earliest_ms,
            latest_ms: match self.latest_ms {
                0 => seal.latest_ms.max(self.earliest_ms),
                noted => noted,
            },
            payload_len: 0,
            payload_crc: 0,
            cursor: seal.cursor,
            counters: seal.counters,
            place: 0,
        };
        let flags = if self.has_origins { ORIGINS } else { 0 };
        if let Some(packed) = seal.compression.pack(records_of(&self.bytes)) {
            return Block::sealed(header, flags | LZ4, packed);
        }
        Block::sealed_shared(header, flags, Arc::clone(self))
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn seal(self, seal: &Seal) -> Block {
        Arc::new(self).seal_shared(seal)
    }
}
