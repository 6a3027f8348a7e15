//! Payloads compressed with LZ4, and how little is believed of them.

use super::compression::{LENGTH_LEN, claimed_len};
use super::{HEADER_LEN, RECORD_OVERHEAD};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// Fewer bytes of records are not worth the while.
const RECORDS_LEAST: usize = 256;
/// What compression must save: one part in so many.
const SAVED_SHARE: usize = 16;
/// No byte can stand for more than so many.
const EXPANSION_MOST: usize = 255;
/// Only a single large item makes a block of more than 4 MiB, and that has at most 1 GiB.
const RECORDS_MOST: usize = (1 << 30) + RECORD_OVERHEAD;

/// Room for a header, and the payload; `None` where too little is saved.
pub(super) fn pack(records: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(records.len()).ok()?;
    if records.len() < RECORDS_LEAST {
        return None;
    }
    let mut bytes = vec![0; HEADER_LEN + LENGTH_LEN + get_maximum_output_size(records.len())];
    let payload = bytes.get_mut(HEADER_LEN..)?;
    let (length, room) = payload.split_first_chunk_mut::<LENGTH_LEN>()?;
    *length = len.to_le_bytes();
    let packed = LENGTH_LEN + compress_into(records, room).ok()?;
    if packed > records.len() - records.len() / SAVED_SHARE {
        return None;
    }
    bytes.truncate(HEADER_LEN + packed);
    // Blocks may stay in memory until they are synced, and count by their length.
    bytes.shrink_to_fit();
    Some(bytes)
}

/// Room for a header, and the records; `None` when that isn't what the payload holds. Never takes more memory than so
/// many bytes could have come from.
pub(super) fn unpack(payload: &[u8]) -> Option<Vec<u8>> {
    let len = claimed_len(payload)?;
    let packed = payload.get(LENGTH_LEN..)?;
    if len > RECORDS_MOST || len > packed.len().saturating_mul(EXPANSION_MOST) {
        return None;
    }
    let mut bytes = vec![0; HEADER_LEN + len];
    let unpacked = decompress_into(packed, bytes.get_mut(HEADER_LEN..)?);
    unpacked.is_ok_and(|found| found == len).then_some(bytes)
}
