//! Records that a human can read.

use super::{Codec, append};
use crate::error::CodecError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One JSON text per record (cargo feature `json`).
///
/// Larger and slower than [`Bincode`](crate::Bincode), but readable with any tool, and a type may gain optional fields
/// while records of it are on disk.
///
/// # Examples
///
/// ```
/// use overspill::{Codec, Json};
///
/// let item = ("up".to_owned(), 80_u16);
/// let mut record = Vec::new();
/// Json.encode(&item, &mut record)?;
/// assert_eq!(record, br#"["up",80]"#);
/// let again: (String, u16) = Json.decode(&record)?;
/// assert_eq!(again, item);
/// # Ok::<(), overspill::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn encode(&self, item: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        append(buffer, |buffer| serde_json::to_writer(buffer, item))
    }

    fn decode(&self, record: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(record).map_err(CodecError::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Unencodable;

    #[test]
    fn an_item_reads_back_and_left_over_bytes_are_an_error() {
        let item = vec!["one".to_owned(), "two".to_owned()];
        let mut record = Vec::new();
        Json.encode(&item, &mut record).unwrap();
        let again: Vec<String> = Json.decode(&record).unwrap();
        assert_eq!(again, item);
        record.extend_from_slice(b"[]");
        let longer: Result<Vec<String>, _> = Json.decode(&record);
        assert!(longer.is_err());
    }

    #[test]
    fn a_failed_encoding_leaves_the_buffer_as_it_was() {
        let mut buffer = b"before".to_vec();
        assert!(Json.encode(&Unencodable, &mut buffer).is_err());
        assert_eq!(buffer, b"before");
    }
}
