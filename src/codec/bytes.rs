//! Records that are their items' bytes.

use super::Codec;
use crate::error::CodecError;

/// Bytes as they are, for items of type `Vec<u8>` and, with the cargo feature `bytes`, `bytes::Bytes`.
///
/// Every record can be decoded, and both types can read what the other one wrote.
///
/// # Examples
///
/// ```
/// use overspill::{Bytes, Codec};
///
/// let mut record = Vec::new();
/// Bytes.encode(&b"a line".to_vec(), &mut record)?;
/// assert_eq!(record, b"a line");
/// let again: Vec<u8> = Bytes.decode(&record)?;
/// assert_eq!(again, b"a line");
/// # Ok::<(), overspill::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes;

const NAME: &str = "bytes";

impl Codec<Vec<u8>> for Bytes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&self, item: &Vec<u8>, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        buffer.extend_from_slice(item);
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(record.to_vec())
    }
}

#[cfg(feature = "bytes")]
impl Codec<bytes::Bytes> for Bytes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&self, item: &bytes::Bytes, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        buffer.extend_from_slice(item);
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<bytes::Bytes, CodecError> {
        Ok(bytes::Bytes::copy_from_slice(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_item() {
        let mut record = b"before ".to_vec();
        Bytes.encode(&b"after".to_vec(), &mut record).unwrap();
        assert_eq!(record, b"before after");
    }

    #[cfg(feature = "bytes")]
    #[test]
    fn shared_bytes_and_vectors_read_each_other() {
        let item = bytes::Bytes::from_static(b"shared");
        let mut record = Vec::new();
        Bytes.encode(&item, &mut record).unwrap();
        let as_vector: Vec<u8> = Bytes.decode(&record).unwrap();
        let as_shared: bytes::Bytes = Bytes.decode(&record).unwrap();
        assert_eq!(as_vector, as_shared);
        assert_eq!(as_shared, item);
    }
}
