//! Parts: how a block larger than a sled value stands in several of them.
//!
//! A block that fits is stored as it is. A larger one is cut into parts, each of which says what it
//! belongs to, so that intact parts can be found again in the raw bytes of a damaged database.
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPPART"
//!      8    2  format version (1)
//!     10    2  flags (0)
//!     12    4  part number, from 0
//!     16    4  how many parts the block has
//!     20    4  bytes of the block in this part
//!     24    8  first sequence number of the block
//!     32    4  CRC-32C of the whole block: parts with different ones don't belong together
//!     36    4  CRC-32C of the bytes in this part
//!     40    4  reserved (0)
//!     44    4  CRC-32C of bytes 0..44: a length is believed only after this fits
//!     48    …  the bytes
//! ```

use crate::block::Block;
use crate::seq::Seq;
use std::borrow::Cow;
use thiserror::Error;

pub(super) const MAGIC: [u8; 8] = *b"OVSPPART";
pub(super) const HEADER_LEN: usize = 48;
const HEADER_CRC_AT: usize = 44;
const VERSION: u16 = 1;

/// Why bytes are not a part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum PartError {
    #[error("{found} bytes are too few for a part header of {HEADER_LEN}")]
    Short { found: usize },
    #[error("no part magic")]
    Magic,
    #[error("part header checksum {found:08x}, expected {expected:08x}")]
    HeaderChecksum { found: u32, expected: u32 },
    #[error("part format version {found}, supported {VERSION}")]
    Version { found: u16 },
    #[error("{found} bytes in a part, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("part checksum {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
}

/// One part of a block, verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) first: Seq,
    pub(super) number: u32,
    pub(super) parts: u32,
    pub(super) block_crc: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// Checks every byte of `value` and takes it as a part.
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, PartError> {
        let (header, bytes) = split_header(value)?;
        let expected = u32_at(header, 20) as usize;
        if bytes.len() != expected {
            return Err(PartError::Length {
                found: bytes.len(),
                expected,
            });
        }
        let (found, expected) = (crc32c::crc32c(bytes), u32_at(header, 36));
        if found != expected {
            return Err(PartError::Checksum { found, expected });
        }
        Ok(Self {
            first: u64::from_le_bytes(field(header, 24)),
            number: u32_at(header, 12),
            parts: u32_at(header, 16),
            block_crc: u32_at(header, 32),
            bytes,
        })
    }

    fn to_value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_LEN + self.bytes.len());
        value.extend_from_slice(&MAGIC);
        value.extend_from_slice(&VERSION.to_le_bytes());
        value.extend_from_slice(&0u16.to_le_bytes());
        value.extend_from_slice(&self.number.to_le_bytes());
        value.extend_from_slice(&self.parts.to_le_bytes());
        value.extend_from_slice(&u32_of(self.bytes.len()).to_le_bytes());
        value.extend_from_slice(&self.first.to_le_bytes());
        value.extend_from_slice(&self.block_crc.to_le_bytes());
        value.extend_from_slice(&crc32c::crc32c(self.bytes).to_le_bytes());
        value.extend_from_slice(&0u32.to_le_bytes());
        let crc = crc32c::crc32c(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        value.extend_from_slice(self.bytes);
        value
    }
}

/// The header at the start of `bytes`, verified, and what follows it.
fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), PartError> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_LEN) else {
        return Err(PartError::Short { found: bytes.len() });
    };
    if !header.starts_with(&MAGIC) {
        return Err(PartError::Magic);
    }
    let (covered, _) = header.split_at(HEADER_CRC_AT);
    let (found, expected) = (crc32c::crc32c(covered), u32_at(header, HEADER_CRC_AT));
    if found != expected {
        return Err(PartError::HeaderChecksum { found, expected });
    }
    match u16::from_le_bytes(field(header, 8)) {
        VERSION => Ok((header, rest)),
        found => Err(PartError::Version { found }),
    }
}

/// How long the part is that `bytes` begin with, as its header says.
pub(super) fn part_len(bytes: &[u8]) -> Result<usize, PartError> {
    let (header, _) = split_header(bytes)?;
    Ok(HEADER_LEN + u32_at(header, 20) as usize)
}

/// The values that `block` is stored as, none larger than `value_bytes_max`.
pub(super) fn values(block: &Block, value_bytes_max: usize) -> Vec<Cow<'_, [u8]>> {
    let bytes = block.as_bytes();
    if bytes.len() <= value_bytes_max {
        return vec![bytes];
    }
    let room = value_bytes_max.saturating_sub(HEADER_LEN).max(1);
    let parts = u32_of(bytes.len().div_ceil(room));
    let block_crc = crc32c::crc32c(&bytes);
    (0..parts)
        .zip(bytes.chunks(room))
        .map(|(number, bytes)| Part {
            first: block.first(),
            number,
            parts,
            block_crc,
            bytes,
        })
        .map(|part| Cow::Owned(part.to_value()))
        .collect()
}

/// Takes bytes as a part, as they are and with header and checksums that fit.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = Part::parse(bytes);
    let part = Part {
        first: u64::from_le_bytes(field(bytes, 0)),
        number: u32_at(bytes, 8),
        parts: u32_at(bytes, 12),
        block_crc: u32_at(bytes, 16),
        bytes,
    };
    debug_assert_eq!(Part::parse(&part.to_value()), Ok(part));
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(header, at))
}

/// Lengths here are bounded by `item_bytes_max`, which is clamped far below 4 GiB.
fn u32_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBuilder, Seal};

    fn block(len: usize) -> Block {
        let mut builder = BlockBuilder::new(9, 0, len);
        builder.push(&vec![0xA5; len]);
        builder.seal(&Seal::default())
    }

    #[test]
    fn a_block_that_fits_stands_as_it_is() {
        let block = block(100);
        assert_eq!(values(&block, 1000), vec![block.as_bytes()]);
    }

    #[test]
    fn the_parts_of_a_large_block_add_up_to_it() {
        let block = block(1000);
        let values = values(&block, 200);
        let parts: Vec<_> = values
            .iter()
            .map(|value| Part::parse(value).unwrap())
            .collect();
        assert!(values.iter().all(|value| value.len() <= 200));
        assert!(
            parts
                .iter()
                .all(|part| part.first == 9 && part.parts as usize == parts.len())
        );
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes).copied().collect();
        assert_eq!(bytes, *block.as_bytes());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_part_is_noticed() {
        let value = values(&block(100), 120).swap_remove(0).into_owned();
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[at] ^= 1 << bit;
                assert!(Part::parse(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Part::parse(&value[..at]).is_err(), "cut at {at}");
        }
    }
}
