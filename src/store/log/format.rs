//! What a segment looks like: its name, its header, and where in it a block is at home.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPSEGM"
//!      8    2  format version (1)
//!     10    1  lane (0: tail, 1: older)
//!     11    1  reserved (0)
//!     12    4  n, the length of the identity
//!     16    8  name: no block in here begins with a lower number
//!     24    4  CRC-32C of the identity
//!     28    4  CRC-32C of bytes 0..28
//!     32    n  identity, the bytes of the `channel` file
//!      …    …  blocks, one after the other
//! ```

use crate::block::{Header, MAGIC as BLOCK_MAGIC};
use crate::dir::Identity;
use crate::seq::Seq;
use std::ffi::OsStr;
use std::path::Path;

const MAGIC: [u8; 8] = *b"OVSPSEGM";
const VERSION: u16 = 1;
const LANE_AT: usize = 10;
const NAME_AT: usize = 16;
const CRC_AT: usize = 28;
pub(crate) const FIXED_LEN: usize = 32;
/// More than any identity: codec names and schema tags are short.
const IDENTITY_MAX: usize = 1 << 20;

const NAME_DIGITS: usize = 20;
const NEW_PREFIX: &str = ".new-";
const KEPT_PREFIX: &str = ".kept-";

/// The two chains of segments. Within each, numbers ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Blocks that continued the tail when they were written.
    Tail = 0,
    /// Blocks that were older than the tail: a halt or a sync made them of what only memory had.
    Older = 1,
}

impl Lane {
    fn suffix(self) -> &'static str {
        match self {
            Self::Tail => "segment",
            Self::Older => "older",
        }
    }
}

/// The name of a segment's file.
pub(super) fn file_name(lane: Lane, name: Seq) -> String {
    format!("{name:0NAME_DIGITS$}.{}", lane.suffix())
}

/// The name of a segment in the making, which replaces the one of that name when it is whole.
pub(super) fn new_name(lane: Lane, name: Seq) -> String {
    format!("{NEW_PREFIX}{}", file_name(lane, name))
}

/// The name of a damaged segment that found no room in quarantine and is in a new one's way.
pub(super) fn kept_name(lane: Lane, name: Seq, number: u32) -> String {
    format!("{KEPT_PREFIX}{number}-{}", file_name(lane, name))
}

/// What a name in the store's directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Segment(Lane, Seq),
    /// A crash left it in the making.
    New,
    Kept,
    Unknown,
}

pub(super) fn parse_name(path: &Path) -> Named {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else {
        return Named::Unknown;
    };
    if name.starts_with(NEW_PREFIX) {
        return Named::New;
    }
    if name.starts_with(KEPT_PREFIX) {
        return Named::Kept;
    }
    let parsed = name.split_once('.').and_then(|(digits, suffix)| {
        let is_name =
            digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        let lane = [Lane::Tail, Lane::Older]
            .into_iter()
            .find(|lane| lane.suffix() == suffix)?;
        let name = digits.parse().ok().filter(|_| is_name)?;
        Some(Named::Segment(lane, name))
    });
    parsed.unwrap_or(Named::Unknown)
}

/// The bytes before a segment's first block.
pub(super) fn encode_header(lane: Lane, name: Seq, identity: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED_LEN + identity.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[lane as u8, 0]);
    let len = u32::try_from(identity.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&name.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(identity).to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(identity);
    out
}

/// The length of the identity behind a segment's fixed header; `None` when the header can't be believed.
pub(crate) fn identity_len(fixed: &[u8]) -> Option<usize> {
    let fixed: &[u8; FIXED_LEN] = fixed.first_chunk()?;
    let (covered, crc) = fixed.split_at(CRC_AT);
    let fits = covered.starts_with(&MAGIC)
        && crc.first_chunk().copied().map(u32::from_le_bytes) == Some(crc32c::crc32c(covered));
    let len = covered.get(12..16)?.first_chunk().copied()?;
    usize::try_from(u32::from_le_bytes(len))
        .ok()
        .filter(|len| fits && *len <= IDENTITY_MAX)
}

/// The identity in the first bytes of a segment, unchecked: it carries its own checksum.
pub(crate) fn identity_in(bytes: &[u8]) -> Option<&[u8]> {
    let len = identity_len(bytes)?;
    bytes.get(FIXED_LEN..FIXED_LEN + len)
}

/// Whether the first bytes of a file are the whole header of another segment than the one of that name: one of another
/// channel, or a copy under a wrong name.
pub(super) fn is_stranger(bytes: &[u8], channel: &[u8; 16], lane: Lane, name: Seq) -> bool {
    let Some(Ok(identity)) = identity_in(bytes).map(Identity::decode) else {
        return false;
    };
    let says = |at: usize, expected: &[u8]| bytes.get(at..at + expected.len()) == Some(expected);
    let is_here = says(LANE_AT, &[lane as u8]) && says(NAME_AT, &name.to_le_bytes());
    identity.channel != *channel || !is_here
}

/// Whose blocks are at home in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home(u32);

impl Home {
    pub(super) fn new(channel: &[u8; 16], lane: Lane, name: Seq) -> Self {
        let crc = crc32c::crc32c(channel);
        let crc = crc32c::crc32c_append(crc, &[lane as u8]);
        Self(crc32c::crc32c_append(crc, &name.to_le_bytes()))
    }

    /// The mark of a block at `position`. A copy of a block anywhere else, in an item's bytes for instance,
    /// doesn't carry it.
    pub(super) fn place(self, position: u64) -> u32 {
        crc32c::crc32c_append(self.0, &position.to_le_bytes())
    }

    /// The block header at the start of `bytes`, if it belongs at `position`.
    pub(super) fn header(self, bytes: &[u8], position: u64) -> Result<Header, String> {
        let header = Header::parse(bytes).map_err(|error| error.to_string())?;
        if header.place == self.place(position) {
            Ok(header)
        } else {
            Err("a block that belongs elsewhere".to_owned())
        }
    }
}

/// Whether these could be the first bytes of a segment of `len` bytes whose header isn't complete.
pub(super) fn begins_like_a_segment(bytes: &[u8], len: u64) -> bool {
    let known = bytes.len().min(MAGIC.len());
    let is_incomplete = match identity_len(bytes) {
        Some(identity) => len < (FIXED_LEN + identity) as u64,
        None => len < FIXED_LEN as u64,
    };
    is_incomplete && bytes.get(..known) == MAGIC.get(..known)
}

/// Whether these could be the first bytes of a block.
pub(super) fn begins_like_a_block(bytes: &[u8]) -> bool {
    let len = bytes.len().min(BLOCK_MAGIC.len());
    bytes.get(..len) == BLOCK_MAGIC.get(..len)
}

/// Where in `bytes` the next block might begin.
pub(super) fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(BLOCK_MAGIC.len())
        .position(|window| window == BLOCK_MAGIC)
}

/// Where in `bytes` the last block might begin.
pub(super) fn rfind_magic(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(BLOCK_MAGIC.len())
        .rposition(|window| window == BLOCK_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::StoreKind;
    use crate::error::SchemaTag;

    #[test]
    fn names_sort_as_numbers_do_and_read_back() {
        for lane in [Lane::Tail, Lane::Older] {
            for name in [0, 7, u64::MAX] {
                let file = file_name(lane, name);
                assert_eq!(parse_name(Path::new(&file)), Named::Segment(lane, name));
                assert_eq!(parse_name(Path::new(&new_name(lane, name))), Named::New);
                assert_eq!(
                    parse_name(Path::new(&kept_name(lane, name, 3))),
                    Named::Kept
                );
            }
        }
        assert!(file_name(Lane::Tail, 9) < file_name(Lane::Tail, 10));
        for name in ["1.segment", "0000000000000000000x.segment", "notes"] {
            assert_eq!(parse_name(Path::new(name)), Named::Unknown);
        }
    }

    #[test]
    fn every_flipped_bit_of_the_fixed_header_is_noticed() {
        let bytes = encode_header(Lane::Tail, 12, b"identity");
        assert_eq!(identity_in(&bytes), Some(&b"identity"[..]));
        for bit in 0..FIXED_LEN * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(identity_in(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_place_belongs_to_one_channel_lane_segment_and_position() {
        let home = Home::new(&[1; 16], Lane::Tail, 5);
        assert_eq!(home.place(9), Home::new(&[1; 16], Lane::Tail, 5).place(9));
        for other in [
            Home::new(&[2; 16], Lane::Tail, 5).place(9),
            Home::new(&[1; 16], Lane::Older, 5).place(9),
            Home::new(&[1; 16], Lane::Tail, 6).place(9),
            home.place(10),
        ] {
            assert_ne!(home.place(9), other);
        }
    }

    #[test]
    fn a_whole_header_tells_a_stranger_and_a_damaged_one_tells_nothing() {
        let identity = Identity {
            store: StoreKind::Log,
            schema: SchemaTag::new("codec", None),
            channel: [1; 16],
            created_ms: 0,
            earlier: Vec::new(),
        };
        let bytes = encode_header(Lane::Tail, 5, &identity.encode());
        assert!(!is_stranger(&bytes, &[1; 16], Lane::Tail, 5));
        assert!(is_stranger(&bytes, &[2; 16], Lane::Tail, 5));
        assert!(is_stranger(&bytes, &[1; 16], Lane::Older, 5));
        assert!(is_stranger(&bytes, &[1; 16], Lane::Tail, 6));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(!is_stranger(&damaged, &[2; 16], Lane::Tail, 5), "byte {at}");
        }
    }
}
