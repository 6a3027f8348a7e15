//! The format of a dead letter on disk.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPLETR"
//!      8    2  format version (1)
//!     10    2  flags (0)
//!     12    4  attempts: failed deliveries
//!     16    8  sequence number of the item
//!     24    8  incarnation that gave the number out
//!     32    8  incarnation that encoded the item
//!     40    8  when it was given up, milliseconds since the Unix epoch
//!     48    4  length of the reason in bytes
//!     52    4  length of the item in bytes
//!     56    4  CRC-32C of reason and item
//!     60    4  place: a mark of where the frame stands
//!     64    4  CRC-32C of bytes 0..64: a length is believed only after this fits
//!     68    …  the reason (UTF-8), the item as the codec wrote it
//! ```

use super::DeadLetter;
use crate::dir::bytes::{Fields, Unreadable};
use crate::dir::{ChannelId, FORMAT_VERSION};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const MAGIC: [u8; 8] = *b"OVSPLETR";
pub(super) const HEADER_LEN: usize = 68;
const CRC_AT: usize = 64;
/// A reason is for humans: nobody reads a longer one, and it must not fill the room of items.
pub(super) const REASON_BYTES_MAX: usize = 4 << 10;

/// The file that frames stand in. A frame is at home at one place: not in a copied file, and not within the bytes of
/// an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home(u32);

impl Home {
    pub(super) fn new(channel: ChannelId, number: u64) -> Self {
        let crc = crc32c::crc32c(&channel);
        Self(crc32c::crc32c_append(crc, &number.to_le_bytes()))
    }

    fn place(self, offset: u64) -> u32 {
        crc32c::crc32c_append(self.0, &offset.to_le_bytes())
    }

    /// The header in `bytes`, which stand at `offset`.
    pub(super) fn header(self, bytes: &[u8], offset: u64) -> Option<Header> {
        let header = Header::parse(bytes).ok()?;
        (header.place == self.place(offset)).then_some(header)
    }

    /// The header of `letter` at `offset`.
    pub(super) fn seal(self, letter: &DeadLetter, offset: u64) -> [u8; HEADER_LEN] {
        let reason = reason(letter);
        let content_crc = crc32c::crc32c_append(crc32c::crc32c(reason), &letter.bytes);
        let since = letter.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Header {
            attempts: letter.attempts,
            seq: letter.seq,
            incarnation: letter.incarnation,
            encoded_in: letter.encoded_in,
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            reason_len: u32::try_from(reason.len()).unwrap_or(u32::MAX),
            // `item_bytes_max` is clamped far below 4 GiB, so the length always fits.
            item_len: u32::try_from(letter.bytes.len()).unwrap_or(u32::MAX),
            content_crc,
            place: self.place(offset),
        }
        .encode()
    }
}

/// The reason as far as it is kept.
pub(super) fn reason(letter: &DeadLetter) -> &[u8] {
    let reason = &letter.reason;
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.as_bytes().get(..end).unwrap_or_default()
}

/// What `letter` occupies.
pub(super) fn frame_len(letter: &DeadLetter) -> u64 {
    (HEADER_LEN + reason(letter).len() + letter.bytes.len()) as u64
}

/// What a frame says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    attempts: u32,
    seq: u64,
    incarnation: u64,
    encoded_in: u64,
    at_ms: u64,
    reason_len: u32,
    item_len: u32,
    content_crc: u32,
    place: u32,
}

impl Header {
    /// Reads a header from the start of `bytes`. Nothing in it is believed before its checksum fits.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(Unreadable::Damaged)?;
        let (content, crc) = bytes.split_at(CRC_AT);
        let mut fields = Fields(content);
        let is_intact =
            fields.take() == Some(MAGIC) && Fields(crc).u32() == Some(crc32c::crc32c(content));
        match fields.u16() {
            Some(FORMAT_VERSION) if is_intact => {}
            Some(found) if is_intact => return Err(Unreadable::Version(found.into())),
            _ => return Err(Unreadable::Damaged),
        }
        Self::decode(fields).ok_or(Unreadable::Damaged)
    }

    fn decode(mut fields: Fields<'_>) -> Option<Self> {
        let _flags = fields.u16()?;
        Some(Self {
            attempts: fields.u32()?,
            seq: fields.u64()?,
            incarnation: fields.u64()?,
            encoded_in: fields.u64()?,
            at_ms: fields.u64()?,
            reason_len: fields.u32()?,
            item_len: fields.u32()?,
            content_crc: fields.u32()?,
            place: fields.u32()?,
        })
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&self.attempts.to_le_bytes());
        for field in [self.seq, self.incarnation, self.encoded_in, self.at_ms] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.reason_len, self.item_len, self.content_crc, self.place] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        crate::dir::bytes::seal(&mut out);
        out.first_chunk().copied().unwrap_or([0; HEADER_LEN])
    }

    /// The bytes behind the header.
    pub(super) fn content_len(&self) -> u64 {
        u64::from(self.reason_len) + u64::from(self.item_len)
    }

    pub(super) fn frame_len(&self) -> u64 {
        HEADER_LEN as u64 + self.content_len()
    }

    /// The letter with this content; `None` when it is damaged.
    pub(super) fn letter(&self, mut content: Vec<u8>) -> Option<DeadLetter> {
        let is_intact = content.len() as u64 == self.content_len()
            && crc32c::crc32c(&content) == self.content_crc;
        if !is_intact {
            return None;
        }
        let bytes = content.split_off(self.reason_len as usize);
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(self.at_ms));
        Some(DeadLetter {
            seq: self.seq,
            incarnation: self.incarnation,
            encoded_in: self.encoded_in,
            attempts: self.attempts,
            reason: String::from_utf8_lossy(&content).into_owned(),
            bytes,
            at: at.unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }
}

/// Whether these could be the first bytes of a header that was cut off.
pub(super) fn begins_like_a_frame(bytes: &[u8]) -> bool {
    let start = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes()].concat();
    bytes.iter().zip(&start).all(|(byte, start)| byte == start)
}
