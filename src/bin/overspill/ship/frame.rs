//! `--framing ack`: batches with receipts over TCP.
//!
//! ```text
//! both sides first send    "overspill-ship/2\n"
//! sender  →  batch         number u64 · channel 16 bytes · payload length u32 · CRC-32C of these 28 bytes
//!                          payload: lines (incarnation u64 · seq u64 · source u64 · end u64 · length u32 · text) …
//!                          CRC-32C of the payload u32
//! receiver →  receipt      number u64 · CRC-32C of these 8 bytes
//! ```
//!
//! Little-endian. Channel, incarnation and seq are what the sender's channel calls the line; an incarnation of 0 says that
//! it isn't in the channel. Source and end are its place in a followed file; a source of 0 says that it has none.
//!
//! A receipt says that the receiver has the batch and all before it, as safe as its `--durability` makes it.
//! A sender without a receipt sends the batch again; by id and place the receiver knows what it has.

use crate::ship::record::{LINE_BYTES_MAX, Line, LogRecord, Place};
use overspill::ItemId;
use std::io::{self, Read};

pub(crate) const GREETING: [u8; 17] = *b"overspill-ship/2\n";
pub(crate) const RECEIPT_BYTES: usize = 12;
const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = 36;
/// What a sender puts into one batch at most: the record that reaches `BATCH_BYTES` is the last one.
const PAYLOAD_MAX: usize = BATCH_BYTES + LINE_BYTES_MAX + BATCH_RECORDS * RECORD_BYTES;
pub(crate) const BATCH_BYTES: usize = 1 << 20;
pub(crate) const BATCH_RECORDS: usize = 4096;

fn bad(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// All lines of a batch are of one channel, or of none.
pub(crate) fn encode_batch(number: u64, batch: &[Line<'_>]) -> Vec<u8> {
    let size = batch
        .iter()
        .map(|line| RECORD_BYTES + line.text.len())
        .sum::<usize>();
    let channel = batch
        .iter()
        .find_map(|line| line.id)
        .map_or([0; 16], |id| id.channel);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + size + 4);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&channel);
    bytes.extend_from_slice(&length(size));
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    for line in batch {
        let (incarnation, seq) = line.id.map_or((0, 0), |id| (id.incarnation, id.seq));
        let (source, end) = line.place.map_or((0, 0), |place| (place.source, place.end));
        for number in [incarnation, seq, source, end] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&length(line.text.len()));
        bytes.extend_from_slice(line.text);
    }
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes
}

/// Batches are bounded far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Reads one batch and its number. `Ok(None)`: the other side has ended between two batches.
pub(crate) fn read_batch(from: &mut impl Read) -> io::Result<Option<(u64, Vec<LogRecord>)>> {
    let mut header = [0; HEADER_BYTES];
    match from.read(&mut header)? {
        0 => return Ok(None),
        read => from.read_exact(header.get_mut(read..).unwrap_or_default())?,
    }
    let mut rest = header.as_slice();
    let (number, channel) = (take_u64(&mut rest)?, take::<16>(&mut rest)?);
    let len = take_u32(&mut rest)? as usize;
    let of_header = header.get(..HEADER_BYTES - 4).unwrap_or_default();
    if take_u32(&mut rest)? != crc32c::crc32c(of_header) || len > PAYLOAD_MAX {
        return Err(bad("not a batch: the sender must use --framing ack"));
    }
    let mut payload = vec![0; len + 4];
    from.read_exact(&mut payload)?;
    let (payload, mut crc) = payload.split_at(len);
    if take_u32(&mut crc)? != crc32c::crc32c(payload) {
        return Err(bad("a batch arrived damaged"));
    }
    decode_records(channel, payload).map(|records| Some((number, records)))
}

fn decode_records(channel: [u8; 16], mut payload: &[u8]) -> io::Result<Vec<LogRecord>> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        let id = ItemId {
            channel,
            incarnation: take_u64(&mut payload)?,
            seq: take_u64(&mut payload)?,
        };
        let place = Place {
            source: take_u64(&mut payload)?,
            end: take_u64(&mut payload)?,
        };
        let len = take_u32(&mut payload)? as usize;
        let line = payload
            .split_off(..len)
            .ok_or_else(|| bad("a record is longer than its batch"))?;
        records.push(LogRecord {
            place: Some(place).filter(|place| place.source > 0),
            came_as: Some(id).filter(|id| id.incarnation > 0),
            line: line.to_vec(),
        });
    }
    Ok(records)
}

pub(crate) fn encode_receipt(number: u64) -> [u8; RECEIPT_BYTES] {
    let mut bytes = [0; RECEIPT_BYTES];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    tail.copy_from_slice(&crc32c::crc32c(head).to_le_bytes());
    bytes
}

pub(crate) fn decode_receipt(bytes: [u8; RECEIPT_BYTES]) -> io::Result<u64> {
    let mut rest = bytes.as_slice();
    let number = take_u64(&mut rest)?;
    if take_u32(&mut rest)? == crc32c::crc32c(&number.to_le_bytes()) {
        Ok(number)
    } else {
        Err(bad("not a receipt: the receiver must use --framing ack"))
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> io::Result<[u8; N]> {
    let bytes = from.split_off(..N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| bad("a number is cut off"))
}

fn take_u64(from: &mut &[u8]) -> io::Result<u64> {
    take(from).map(u64::from_le_bytes)
}

fn take_u32(from: &mut &[u8]) -> io::Result<u32> {
    take(from).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> [Line<'static>; 3] {
        let id = |incarnation, seq| {
            Some(ItemId {
                channel: [9; 16],
                incarnation,
                seq,
            })
        };
        let line = |id, place, text| Line {
            id,
            came_as: None,
            place,
            text,
        };
        let place = |source, end| Some(Place { source, end });
        [
            line(id(1, 0), place(7, 4), b"one\n"),
            line(None, place(7, u64::MAX), b""),
            line(id(u64::MAX, u64::MAX), None, &[0xFF, 0, b'\n']),
        ]
    }

    #[test]
    fn a_batch_comes_back_with_the_names_that_its_sender_gave_it() {
        let mut bytes = encode_batch(1, &batch());
        bytes.extend(encode_batch(2, &[]));
        let mut from = bytes.as_slice();
        let (number, records) = read_batch(&mut from).unwrap().unwrap();
        assert_eq!((number, records.len()), (1, 3));
        for (sent, came) in batch().iter().zip(&records) {
            let came = Line::reread(came);
            assert_eq!(
                (sent.id, sent.place, sent.text),
                (came.came_as, came.place, came.text)
            );
        }
        assert_eq!(read_batch(&mut from).unwrap(), Some((2, Vec::new())));
        assert_eq!(read_batch(&mut from).unwrap(), None);
    }

    #[test]
    fn a_damaged_or_cut_batch_is_an_error_and_never_a_wrong_batch() {
        let whole = encode_batch(1, &batch());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(read_batch(&mut bytes.as_slice()).is_err(), "byte {at}");
            if at > 0 {
                assert!(read_batch(&mut &whole[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn other_protocols_are_refused() {
        let error = read_batch(&mut b"GET / HTTP/1.1\r\nHost: logs.example\r\n\r\n".as_slice())
            .unwrap_err();
        assert!(error.to_string().contains("--framing ack"));
    }

    #[test]
    fn a_receipt_names_its_batch() {
        assert_eq!(decode_receipt(encode_receipt(42)).unwrap(), 42);
        assert!(decode_receipt(*b"HTTP/1.1 200").is_err());
    }
}
