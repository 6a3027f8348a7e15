//! Whether blocks are compressed, and what their flags say of it.
//!
//! A compressed payload is the length of the records (u32) and then all of them, compressed at once. The header's flags
//! say that it is; its length and checksum are those of the bytes on disk, so nobody has to unpack a block to find the
//! next one or to see that this one is whole.

#[cfg(feature = "lz4")]
use super::lz4;

/// How blocks are written. Whatever stands in a directory is read, mixed as it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Compressed with LZ4, where that saves at least a sixteenth (cargo feature `lz4`).
    Lz4,
}

/// The flag of a block whose payload is compressed with LZ4.
pub(super) const LZ4: u16 = 1;
/// The length in front of compressed records.
pub(super) const LENGTH_LEN: usize = 4;

/// What this build lacks to read a block with these flags; `None` when it can.
pub(super) fn needs(flags: u16) -> Option<&'static str> {
    match flags {
        0 => None,
        LZ4 if cfg!(feature = "lz4") => None,
        LZ4 => Some("the cargo feature `lz4`"),
        _ => Some("a newer version of overspill"),
    }
}

/// The length of the records in a compressed payload, as it claims.
pub(super) fn claimed_len(payload: &[u8]) -> Option<usize> {
    let len = payload.first_chunk::<LENGTH_LEN>()?;
    usize::try_from(u32::from_le_bytes(*len)).ok()
}

impl Compression {
    /// The bytes of a block with `records` compressed, and room for its header; `None` where that isn't wanted or
    /// doesn't pay.
    pub(super) fn pack(self, records: &[u8]) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => lz4::pack(records),
            // Without the feature `open` refuses the setting.
            _ => {
                let _ = records;
                None
            }
        }
    }
}

/// The records of a compressed payload, and room for a header; `None` when it is none.
pub(super) fn unpack(payload: &[u8]) -> Option<Vec<u8>> {
    #[cfg(feature = "lz4")]
    let unpacked = lz4::unpack(payload);
    // Nobody asks: the block needs more than this build has.
    #[cfg(not(feature = "lz4"))]
    let unpacked = Some(payload).and(None);
    unpacked
}
