//! Fixed-width little-endian fields out of bytes.

/// Takes fields off the front; `None` when the bytes have run out.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

const CRC_LEN: usize = 4;

/// Appends the CRC-32C of all of `bytes`.
pub(super) fn seal(bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// `bytes` behind this magic and the current version, with a checksum that fits.
#[cfg(feature = "test-util")]
pub(super) fn resealed(bytes: &[u8], magic: [u8; 8]) -> Vec<u8> {
    let version = super::FORMAT_VERSION.to_le_bytes();
    let mut sealed = [&magic[..], &version, bytes].concat();
    seal(&mut sealed);
    sealed
}

/// Why bytes can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The checksum doesn't fit, or they are something else.
    Damaged,
    /// Intact, and in a format of the future.
    Version(u32),
}

/// The fields after magic and version. The checksum in the last four bytes comes first: no length and no version
/// is believed before it fits, and it stands there in every version.
pub(super) fn unseal(bytes: &[u8], magic: [u8; 8], version: u16) -> Result<Fields<'_>, Unreadable> {
    let (content, crc) = bytes
        .split_last_chunk::<CRC_LEN>()
        .ok_or(Unreadable::Damaged)?;
    let mut fields = Fields(content);
    let ours = crc32c::crc32c(content) == u32::from_le_bytes(*crc) && fields.take() == Some(magic);
    match fields.u16() {
        Some(found) if ours && found == version => Ok(fields),
        Some(found) if ours => Err(Unreadable::Version(found.into())),
        _ => Err(Unreadable::Damaged),
    }
}
