//! Blocks that come forward: read ahead from disk or handed over by staging, decoded a piece at a time.

use crate::block::{Block, BlockBuilder};
use crate::codec::Codec;
use crate::error::CodecError;
use crate::front::{Origin, Run};
use crate::seq::Seq;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An encoded block, wherever it comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Read from disk.
    Disk(Arc<Block>),
    /// Handed over by staging.
    Staged(Arc<BlockBuilder>),
}

impl Source {
    fn end(&self) -> Seq {
        match self {
            Self::Disk(block) => block.end(),
            Self::Staged(block) => block.end(),
        }
    }

    fn earliest_ms(&self) -> u64 {
        match self {
            Self::Disk(block) => block.header().earliest_ms,
            Self::Staged(block) => block.earliest_ms(),
        }
    }

    fn record_at(&self, offset: usize) -> Option<(&[u8], usize)> {
        match self {
            Self::Disk(block) => block.record_at(offset),
            Self::Staged(block) => block.record_at(offset),
        }
    }
}

/// A block with the place up to which it was decoded.
#[derive(Clone, Debug)]
pub(crate) struct Refill {
    source: Source,
    origin: Origin,
    at: Seq,
    offset: usize,
}

impl Refill {
    /// A block that was read back, from number `from` on.
    pub(crate) fn from_disk(block: Block, from: Seq) -> Self {
        let at = block.first();
        Self::new(Source::Disk(Arc::new(block)), Origin::Stored, at, from)
    }

    /// A block that staging hands over, from number `from` on.
    pub(crate) fn from_staging(block: Arc<BlockBuilder>, origin: Origin, from: Seq) -> Self {
        let at = block.first();
        Self::new(Source::Staged(block), origin, at, from)
    }

    fn new(source: Source, origin: Origin, at: Seq, from: Seq) -> Self {
        let mut refill = Self {
            source,
            origin,
            at,
            offset: 0,
        };
        refill.skip_to(from);
        refill
    }

    /// The numbers that were not decoded yet.
    pub(crate) fn rest(&self) -> Range<Seq> {
        self.at..self.source.end()
    }

    /// A copy of it is on disk from now on.
    pub(crate) fn mark_stored(&mut self) {
        self.origin = Origin::Stored;
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Bytes of the whole block: it stays encoded until it is consumed.
    pub(crate) fn bytes(&self) -> usize {
        match &self.source {
            Source::Disk(block) => block.as_bytes().len(),
            Source::Staged(block) => block.len(),
        }
    }

    pub(crate) fn earliest_ms(&self) -> u64 {
        self.source.earliest_ms()
    }

    pub(crate) fn is_from_disk(&self) -> bool {
        matches!(self.source, Source::Disk(_))
    }

    /// Moves on to number `seq`.
    fn skip_to(&mut self, seq: Seq) {
        while self.at < seq {
            let Some((_, next)) = self.source.record_at(self.offset) else {
                return;
            };
            self.offset = next;
            self.at += 1;
        }
    }

    /// The records that were not decoded yet, each with its number.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Seq, &[u8])> {
        let mut offset = self.offset;
        self.rest().map_while(move |seq| {
            let (record, next) = self.source.record_at(offset)?;
            offset = next;
            Some((seq, record))
        })
    }

    /// Decodes the numbers of `wanted`, as far as they can be decoded, and moves past them.
    pub(crate) fn decode<T>(&mut self, wanted: Range<Seq>, codec: &dyn Codec<T>) -> Decoded<T> {
        self.skip_to(wanted.start);
        let mut decoded = Decoded {
            items: Vec::with_capacity(usize::try_from(wanted.end - wanted.start).unwrap_or(0)),
            run: Run {
                first: wanted.start,
                len: 0,
                origin: self.origin,
                bytes: 0,
                earliest_ms: self.earliest_ms(),
            },
            failure: None,
        };
        while self.at < wanted.end {
            let Some((record, next)) = self.source.record_at(self.offset) else {
                break;
            };
            match decode_record(record, codec) {
                Ok(item) => decoded.items.push(item),
                Err(error) => {
                    decoded.failure = Some((self.at, error));
                    break;
                }
            }
            decoded.run.len += 1;
            decoded.run.bytes += (next - self.offset) as u64;
            self.offset = next;
            self.at += 1;
        }
        decoded
    }
}

/// The outcome of a piece of decoding.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    pub(crate) items: Vec<T>,
    pub(crate) run: Run,
    /// The number that stopped it, and why.
    pub(crate) failure: Option<(Seq, CodecError)>,
}

/// A codec is foreign code: its panic is one record's error, not the end of the channel.
pub(crate) fn decode_record<T>(record: &[u8], codec: &dyn Codec<T>) -> Result<T, CodecError> {
    catch_unwind(AssertUnwindSafe(|| codec.decode(record)))
        .unwrap_or_else(|_| Err(CodecError::new("the decoder panicked")))
}

/// As [`decode_record`], the other way round. After an error `buffer` holds what it held.
pub(crate) fn encode_item<T>(
    item: &T,
    codec: &dyn Codec<T>,
    buffer: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let before = buffer.len();
    let result = catch_unwind(AssertUnwindSafe(|| codec.encode(item, buffer)))
        .unwrap_or_else(|_| Err(CodecError::new("the encoder panicked")));
    if result.is_err() {
        buffer.truncate(before);
    }
    result
}
