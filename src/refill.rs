//! Blocks that come forward: read ahead from disk or handed over by staging, decoded a piece at a time.

use crate::block::{Block, BlockBuilder};
use crate::codec::Codec;
use crate::dead::Doomed;
use crate::dir::LetterId;
use crate::error::CodecError;
use crate::front::{Origin, Run};
use crate::schema::Earlier;
use crate::seq::Seq;
use std::collections::VecDeque;
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

    fn latest_ms(&self) -> u64 {
        match self {
            Self::Disk(block) => block.header().latest_ms,
            Self::Staged(block) => block.latest_ms(),
        }
    }

    fn has_origins(&self) -> bool {
        match self {
            Self::Disk(block) => block.header().has_origins(),
            Self::Staged(block) => block.has_origins(),
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
    /// In which its items were admitted.
    incarnation: u64,
    at: Seq,
    offset: usize,
}

impl Refill {
    /// A block that was read back, from number `from` on.
    pub(crate) fn from_disk(block: Block, from: Seq) -> Self {
        let (at, incarnation) = (block.first(), block.header().incarnation);
        let source = Source::Disk(Arc::new(block));
        Self::new(source, Origin::Stored, incarnation, at, from)
    }

    /// A block that staging hands over, from number `from` on.
    pub(crate) fn from_staging(
        block: Arc<BlockBuilder>,
        origin: Origin,
        from: Seq,
        incarnation: u64,
    ) -> Self {
        let at = block.first();
        Self::new(Source::Staged(block), origin, incarnation, at, from)
    }

    fn new(source: Source, origin: Origin, incarnation: u64, at: Seq, from: Seq) -> Self {
        let mut refill = Self {
            source,
            origin,
            incarnation,
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
            Source::Disk(block) => block.len(),
            Source::Staged(block) => block.len(),
        }
    }

    pub(crate) fn earliest_ms(&self) -> u64 {
        self.source.earliest_ms()
    }

    /// Admission of its youngest item at the latest; 0 where it was not noted.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.source.latest_ms()
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

    /// Decodes the numbers of `wanted` up to one that can't be decoded, and moves past them, that one included. The items
    /// go into `room`, which is empty.
    pub(crate) fn decode<T>(
        &mut self,
        wanted: Range<Seq>,
        mut room: VecDeque<T>,
        codec: &dyn Codec<T>,
        earlier: &Earlier<T>,
    ) -> Decoded<T> {
        self.skip_to(wanted.start);
        room.reserve(usize::try_from(wanted.end - wanted.start).unwrap_or(0));
        let mut decoded = Decoded {
            items: room,
            run: Run {
                first: wanted.start,
                len: 0,
                origin: self.origin,
                bytes: 0,
                earliest_ms: self.earliest_ms(),
                latest_ms: self.latest_ms(),
                incarnation: self.incarnation,
            },
            failure: None,
            origins: Vec::new(),
        };
        while self.at < wanted.end {
            let Some((record, next)) = self.source.record_at(self.offset) else {
                break;
            };
            let (origin, record) = split_origin(self.source.has_origins(), record);
            let encoded_in = origin.map_or(self.incarnation, |(_, encoded_in)| encoded_in);
            if let Some((letter, _)) = origin {
                decoded.origins.push((self.at, letter));
            }
            match earlier.decode(encoded_in, record, codec) {
                Ok(item) => {
                    decoded.items.push_back(item);
                    decoded.run.len += 1;
                    decoded.run.bytes += (next - self.offset) as u64;
                }
                Err(error) => {
                    let (seq, origin) = (self.at, self.origin);
                    decoded.failure = Some(Doomed {
                        latest_ms: self.latest_ms(),
                        encoded_in,
                        ..Doomed::undecodable(seq, self.incarnation, record, origin, &error)
                    });
                }
            }
            self.offset = next;
            self.at += 1;
            if decoded.failure.is_some() {
                break;
            }
        }
        decoded
    }
}

/// The outcome of a piece of decoding.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    pub(crate) items: VecDeque<T>,
    pub(crate) run: Run,
    /// The record that stopped it.
    pub(crate) failure: Option<Doomed>,
    /// Which dead letters some of the numbers were.
    pub(crate) origins: Vec<(Seq, LetterId)>,
}

/// A record and, where its block has such marks, which dead letter it was and the incarnation that encoded it.
fn split_origin(has_origin: bool, record: &[u8]) -> (Option<(LetterId, u64)>, &[u8]) {
    match record.split_first_chunk::<24>() {
        Some((origin, rest)) if has_origin => {
            let (fields, _) = origin.as_chunks::<8>();
            let mut fields = fields.iter().map(|field| u64::from_le_bytes(*field));
            let mut next = || fields.next().unwrap_or_default();
            let letter = LetterId {
                incarnation: next(),
                seq: next(),
            };
            (Some((letter, next())), rest)
        }
        _ => (None, record),
    }
}

/// A decoder is foreign code: its panic is one record's error, not the end of the channel.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(CodecError::new("the decoder panicked")))
}

/// Makes the item out of a record that was encoded in this incarnation.
pub(crate) fn decode_record<T>(record: &[u8], codec: &dyn Codec<T>) -> Result<T, CodecError> {
    guarded(|| codec.decode(record))
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
