//! Blocks: many records framed together with one header and two checksums, the unit of disk I/O.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPBLOK"
//!      8    2  format version (1)
//!     10    2  flags (1: the payload is compressed with LZ4; 2: each record begins with where it comes from)
//!     12    4  record count
//!     16    8  first sequence number
//!     24    8  end of the block that was on disk before this one
//!     32    8  incarnation
//!     40    8  earliest admission, milliseconds since the Unix epoch
//!     48    8  latest admission, milliseconds since the Unix epoch
//!     56    4  payload length in bytes
//!     60    4  CRC-32C of the payload
//!     64    8  cursor when the block was sealed
//!     72   64  the eight counters of the conservation law when the block was sealed
//!    136    4  place: a mark of where the block stands, given by its store (0: none)
//!    140    4  CRC-32C of bytes 0..140: a length is believed only after this fits
//!    144    …  payload: per record its length (u32) and its bytes; all of them compressed where the flags say so
//! ```

mod builder;
mod compression;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(test)]
mod tests;

pub(crate) use self::builder::{BlockBuilder, Seal};
pub use self::compression::Compression;

use self::compression::{LZ4, claimed_len, needs, unpack};
use crate::ledger::Counters;
use crate::seq::Seq;
#[cfg(any(test, feature = "sled", feature = "test-util"))]
use std::borrow::Cow;
use std::sync::Arc;
use thiserror::Error;

pub(crate) const MAGIC: [u8; 8] = *b"OVSPBLOK";
pub(crate) const HEADER_LEN: usize = 144;
const VERSION: u16 = 1;
const HEADER_CRC_AT: usize = 140;
/// The flag of a block of items that were dead letters: before each record stands which item it was.
const ORIGINS: u16 = 2;
/// Bytes of framing per record.
pub(crate) const RECORD_OVERHEAD: usize = 4;

/// What stands before a record of `len` bytes.
pub(crate) fn record_prefix(len: usize) -> [u8; RECORD_OVERHEAD] {
    // `item_bytes_max` is clamped far below 4 GiB, so the length always fits.
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// What a block says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    flags: u16,
    pub(crate) first: Seq,
    pub(crate) count: u32,
    /// One past the last number that had been written when this block was sealed. Between it and
    /// `first` lie numbers that never went to disk in order (they stayed in memory).
    pub(crate) prev_end: Seq,
    pub(crate) incarnation: u64,
    pub(crate) earliest_ms: u64,
    pub(crate) latest_ms: u64,
    pub(crate) payload_len: u32,
    payload_crc: u32,
    pub(crate) cursor: Seq,
    pub(crate) counters: Counters,
    /// Where it stands, if its store says so; 0 otherwise.
    pub(crate) place: u32,
}

/// Why bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BlockError {
    #[error("{found} bytes are too few for a block header of {HEADER_LEN}")]
    Short { found: usize },
    #[error("no block magic")]
    Magic,
    #[error("header checksum {found:08x}, expected {expected:08x}")]
    HeaderChecksum { found: u32, expected: u32 },
    #[error("block format version {found}, supported {VERSION}")]
    Version { found: u16 },
    #[error("{found} payload bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("payload checksum {found:08x}, expected {expected:08x}")]
    PayloadChecksum { found: u32, expected: u32 },
    #[error("a compressed payload that can't be unpacked")]
    Packed,
    #[error("records don't add up to the payload")]
    Records,
    #[error("sequence numbers beyond the last that there is")]
    Numbers,
}

/// A sealed block: header and records, encoded and verified.
///
/// It is what stands on disk. One with flags that this build doesn't know is whole all the same, and can be moved
/// and copied; only its records can't be read.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    header: Header,
    bytes: Bytes,
    /// The bytes of the same block without compression, where it was read and is compressed; the header is not filled in.
    unpacked: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Bytes {
    /// With the header.
    Own(Vec<u8>),
    /// Those of the block in the making that was sealed. The header isn't filled in: others read it, too.
    Shared(Arc<BlockBuilder>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(block) => block.bytes(),
        }
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        (&self.header, self.payload(), &self.unpacked)
            == (&other.header, other.payload(), &other.unpacked)
    }
}

impl Eq for Block {}

impl Block {
    /// Checks every byte of `bytes` and takes them as a block.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, BlockError> {
        let header = Header::parse(&bytes)?;
        let payload = records_of(&bytes);
        let expected = header.payload_len as usize;
        if payload.len() != expected {
            return Err(BlockError::Length {
                found: payload.len(),
                expected,
            });
        }
        let found = crc32c::crc32c(payload);
        if found != header.payload_crc {
            return Err(BlockError::PayloadChecksum {
                found,
                expected: header.payload_crc,
            });
        }
        let unpacked = match header.flags & !ORIGINS {
            0 => {
                check_records(payload, header.count)?;
                None
            }
            LZ4 if header.needs().is_none() => {
                let unpacked = unpack(payload).ok_or(BlockError::Packed)?;
                check_records(records_of(&unpacked), header.count)?;
                Some(unpacked)
            }
            _ => None,
        };
        Ok(Self {
            header,
            bytes: Bytes::Own(bytes),
            unpacked,
        })
    }

    /// The block as it would be without compression. One that this build can't read stays as it is.
    pub(crate) fn into_plain(self) -> Self {
        match self.unpacked {
            None => self,
            Some(bytes) => {
                let flags = self.header.flags & ORIGINS;
                Self::sealed(self.header, flags, bytes)
            }
        }
    }

    /// Puts a header before a payload.
    fn sealed(header: Header, flags: u16, mut bytes: Vec<u8>) -> Self {
        let header = header.of(flags, records_of(&bytes));
        if let Some(room) = bytes.first_chunk_mut() {
            header.write(room);
        }
        Self {
            header,
            bytes: Bytes::Own(bytes),
            unpacked: None,
        }
    }

    /// As [`sealed`](Self::sealed), of records that others go on reading.
    fn sealed_shared(header: Header, flags: u16, block: Arc<BlockBuilder>) -> Self {
        Self {
            header: header.of(flags, records_of(block.bytes())),
            bytes: Bytes::Shared(block),
            unpacked: None,
        }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn first(&self) -> Seq {
        self.header.first
    }

    /// One past the last number in the block.
    pub(crate) fn end(&self) -> Seq {
        self.header.first + u64::from(self.header.count)
    }

    /// Bytes of header and payload.
    pub(crate) fn len(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// Header and payload, as they stand on disk.
    #[cfg(any(test, feature = "sled", feature = "test-util"))]
    pub(crate) fn as_bytes(&self) -> Cow<'_, [u8]> {
        match &self.bytes {
            Bytes::Own(bytes) => Cow::Borrowed(bytes),
            Bytes::Shared(_) => {
                Cow::Owned([&self.header_at(self.header.place)[..], self.payload()].concat())
            }
        }
    }

    /// The header as it stands at a place.
    pub(crate) fn header_at(&self, place: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let header = Header {
            place,
            ..self.header.clone()
        };
        header.write(&mut bytes);
        bytes
    }

    pub(crate) fn payload(&self) -> &[u8] {
        records_of(self.bytes.as_slice())
    }

    /// Bytes that it would have without compression.
    pub(crate) fn plain_len(&self) -> usize {
        let records = claimed_len(self.payload()).filter(|_| self.header.flags & !ORIGINS == LZ4);
        records.map_or(self.len(), |len| HEADER_LEN + len)
    }

    /// The record at `offset` bytes into the records of a plain block and the offset of the next one.
    pub(crate) fn record_at(&self, offset: usize) -> Option<(&[u8], usize)> {
        record_at(self.payload(), offset)
    }
}

fn records_of(bytes: &[u8]) -> &[u8] {
    bytes.get(HEADER_LEN..).unwrap_or_default()
}

/// `bytes` as a block with these flags whose magic, version, length and checksums fit, whatever else stands in it.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn resealed(bytes: &[u8], flags: u16) -> Vec<u8> {
    let mut header = bytes.to_vec();
    header.resize(HEADER_LEN.max(bytes.len()), 0);
    let payload = header.split_off(HEADER_LEN);
    let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let known = [VERSION, flags].map(u16::to_le_bytes).concat();
    header.splice(..12, MAGIC.into_iter().chain(known));
    let payload_crc = crc32c::crc32c(&payload);
    let lengths = [payload_len, payload_crc].map(u32::to_le_bytes).concat();
    header.splice(56..64, lengths);
    header.truncate(HEADER_CRC_AT);
    let header_crc = crc32c::crc32c(&header);
    header.extend_from_slice(&header_crc.to_le_bytes());
    header.extend(payload);
    header
}

fn record_at(payload: &[u8], offset: usize) -> Option<(&[u8], usize)> {
    let start = offset.checked_add(RECORD_OVERHEAD)?;
    let prefix: [u8; RECORD_OVERHEAD] = payload.get(offset..start)?.try_into().ok()?;
    let end = start.checked_add(u32::from_le_bytes(prefix) as usize)?;
    Some((payload.get(start..end)?, end))
}

fn check_records(payload: &[u8], count: u32) -> Result<(), BlockError> {
    let mut offset = 0;
    for _ in 0..count {
        offset = record_at(payload, offset).ok_or(BlockError::Records)?.1;
    }
    if offset == payload.len() {
        Ok(())
    } else {
        Err(BlockError::Records)
    }
}

impl Header {
    /// The same before that payload.
    fn of(self, flags: u16, payload: &[u8]) -> Self {
        Self {
            flags,
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_crc: crc32c::crc32c(payload),
            ..self
        }
    }

    /// Reads a header from the start of `bytes`. Nothing in it is believed before its checksum fits.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let header: &[u8; HEADER_LEN] = bytes
            .first_chunk()
            .ok_or(BlockError::Short { found: bytes.len() })?;
        let mut fields = Fields(header);
        if fields.take::<8>() != MAGIC {
            return Err(BlockError::Magic);
        }
        let (covered, expected) = header.split_at(HEADER_CRC_AT);
        let found = crc32c::crc32c(covered);
        let expected = expected
            .first_chunk()
            .map_or(0, |crc| u32::from_le_bytes(*crc));
        if found != expected {
            return Err(BlockError::HeaderChecksum { found, expected });
        }
        let version = u16::from_le_bytes(fields.take());
        if version != VERSION {
            return Err(BlockError::Version { found: version });
        }
        let flags = u16::from_le_bytes(fields.take());
        let count = fields.u32();
        let first: Seq = fields.u64();
        // Everybody computes the end, so it must be a number.
        if first.checked_add(count.into()).is_none() {
            return Err(BlockError::Numbers);
        }
        Ok(Self {
            flags,
            first,
            count,
            prev_end: fields.u64(),
            incarnation: fields.u64(),
            earliest_ms: fields.u64(),
            latest_ms: fields.u64(),
            payload_len: fields.u32(),
            payload_crc: fields.u32(),
            cursor: fields.u64(),
            counters: Counters {
                accepted_unnumbered: fields.u64(),
                acknowledged: fields.u64(),
                dropped_full: fields.u64(),
                dropped_expired: fields.u64(),
                dropped_unencodable: fields.u64(),
                dead_lettered: fields.u64(),
                lost: fields.u64(),
                unaccounted: fields.u64(),
            },
            place: fields.u32(),
        })
    }

    /// What this build lacks to read the records; `None` when it can.
    pub(crate) fn needs(&self) -> Option<&'static str> {
        needs(self.flags & !ORIGINS)
    }

    /// Before each record stands which item it was.
    pub(crate) fn has_origins(&self) -> bool {
        self.flags & ORIGINS != 0
    }

    fn write(&self, bytes: &mut [u8; HEADER_LEN]) {
        let (covered, crc) = bytes.split_at_mut(HEADER_CRC_AT);
        let mut room = Room(covered);
        room.put(MAGIC);
        room.put(VERSION.to_le_bytes());
        room.put(self.flags.to_le_bytes());
        room.put(self.count.to_le_bytes());
        for field in [
            self.first,
            self.prev_end,
            self.incarnation,
            self.earliest_ms,
            self.latest_ms,
        ] {
            room.put(field.to_le_bytes());
        }
        room.put(self.payload_len.to_le_bytes());
        room.put(self.payload_crc.to_le_bytes());
        let counters = &self.counters;
        for field in [
            self.cursor,
            counters.accepted_unnumbered,
            counters.acknowledged,
            counters.dropped_full,
            counters.dropped_expired,
            counters.dropped_unencodable,
            counters.dead_lettered,
            counters.lost,
            counters.unaccounted,
        ] {
            room.put(field.to_le_bytes());
        }
        room.put(self.place.to_le_bytes());
        Room(crc).put(crc32c::crc32c(covered).to_le_bytes());
    }
}

/// Puts fixed-width fields into a header, one behind the other.
struct Room<'a>(&'a mut [u8]);

impl Room<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some((place, rest)) = std::mem::take(&mut self.0).split_first_chunk_mut() {
            *place = field;
            self.0 = rest;
        }
    }
}

/// Takes fixed-width fields off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else {
            return [0; N];
        };
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
