//! The default codec.

use super::{Codec, append};
use crate::error::CodecError;
use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};

/// The default codec: compact and fast, for everything that serde can carry.
///
/// Records are those of bincode 2 in its standard configuration. They carry no field names, so the type must not
/// change while records of it are on disk; a changed type is mostly noticed by bytes that are left over. Give the
/// directory a `schema` tag to be sure, or take [`Json`](crate::Json) where the type must be able to grow.
///
/// Items of type `Vec<u8>` are copied at once, into the same bytes that bincode writes for them.
///
/// # Examples
///
/// ```
/// use overspill::{Bincode, Codec};
///
/// let item = (7_u32, "listening on port 80".to_owned());
/// let mut record = Vec::new();
/// Bincode.encode(&item, &mut record)?;
/// let again: (u32, String) = Bincode.decode(&record)?;
/// assert_eq!(again, item);
///
/// let another_type: Result<u32, _> = Bincode.decode(&record);
/// assert!(another_type.is_err());
/// # Ok::<(), overspill::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bincode;

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Bincode {
    fn name(&self) -> &'static str {
        "bincode2"
    }

    fn encode(&self, item: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        append(buffer, |buffer| {
            if let Some(bytes) = (item as &dyn Any).downcast_ref::<Vec<u8>>() {
                bincode::encode_into_std_write(bytes.len(), buffer, config::standard())?;
                buffer.extend_from_slice(bytes);
            } else {
                bincode::serde::encode_into_std_write(item, buffer, config::standard())?;
            }
            Ok::<_, bincode::error::EncodeError>(())
        })
    }

    fn decode(&self, record: &[u8]) -> Result<T, CodecError> {
        if TypeId::of::<T>() == TypeId::of::<Vec<u8>>() {
            let mut item: Option<T> = None;
            if let Some(item) = (&mut item as &mut dyn Any).downcast_mut::<Option<Vec<u8>>>() {
                *item = Some(decode_bytes(record)?);
            }
            return item.ok_or_else(|| CodecError::new("not a vector of bytes"));
        }
        if record.len() <= SMALL_RECORD {
            decode_limited::<T, SMALL_LIMIT>(record)
        } else {
            decode_limited::<T, LARGE_LIMIT>(record)
        }
    }
}

/// bincode allocates a string before it knows that its bytes are there, so a record of another type could ask for
/// more memory than the machine has. An honest one is at most 16 times as long decoded (a `u128` of one byte).
const DECODED_PER_ENCODED: usize = 16;
const SMALL_RECORD: usize = 1 << 20;
const SMALL_LIMIT: usize = SMALL_RECORD * DECODED_PER_ENCODED;
/// The largest record that can be configured has 1 GiB.
const LARGE_LIMIT: usize = (1_usize << 30).saturating_mul(DECODED_PER_ENCODED);

fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(record: &[u8]) -> Result<T, CodecError> {
    let config: Configuration<LittleEndian, Varint, Limit<LIMIT>> =
        config::standard().with_limit::<LIMIT>();
    let (item, used) =
        bincode::serde::decode_from_slice(record, config).map_err(CodecError::new)?;
    if used == record.len() {
        Ok(item)
    } else {
        Err(left_over(record.len() - used))
    }
}

fn decode_bytes(record: &[u8]) -> Result<Vec<u8>, CodecError> {
    let (len, used): (usize, usize) =
        bincode::decode_from_slice(record, config::standard()).map_err(CodecError::new)?;
    let bytes = record.get(used..).unwrap_or_default();
    if bytes.len() < len {
        return Err(CodecError::new(format!("{} of {len} bytes", bytes.len())));
    }
    if bytes.len() > len {
        return Err(left_over(bytes.len() - len));
    }
    Ok(bytes.to_vec())
}

fn left_over(bytes: usize) -> CodecError {
    CodecError::new(format!(
        "{bytes} bytes are left over: the record is not of this type"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Unencodable;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct LogRecord {
        at_ms: u64,
        line: String,
        fields: Vec<(String, i64)>,
    }

    proptest! {
        #[test]
        fn byte_vectors_have_the_bytes_that_bincode_gives_them(
            item in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut record = Vec::new();
            Bincode.encode(&item, &mut record).unwrap();
            let theirs = bincode::serde::encode_to_vec(&item, config::standard()).unwrap();
            prop_assert_eq!(&record, &theirs);
            let again: Vec<u8> = Bincode.decode(&record).unwrap();
            prop_assert_eq!(again, item);
        }

        #[test]
        fn arbitrary_bytes_never_panic(record in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _: Result<Vec<u8>, _> = Bincode.decode(&record);
            let _: Result<LogRecord, _> = Bincode.decode(&record);
        }
    }

    #[test]
    fn a_record_of_another_type_asks_for_no_memory_it_does_not_fill() {
        let mut record = vec![253];
        record.extend_from_slice(&(u64::MAX / 4).to_le_bytes());
        let bytes: Result<Vec<u8>, _> = Bincode.decode(&record);
        let text: Result<String, _> = Bincode.decode(&record);
        assert!(bytes.is_err() && text.is_err());
    }

    #[test]
    fn long_records_of_small_numbers_are_within_the_limits() {
        let item = vec![1_u128; SMALL_RECORD + 1];
        for len in [SMALL_RECORD - 8, SMALL_RECORD + 1] {
            let mut record = Vec::new();
            Bincode.encode(&item[..len].to_vec(), &mut record).unwrap();
            let again: Vec<u128> = Bincode.decode(&record).unwrap();
            assert_eq!(again.len(), len);
        }
    }

    #[test]
    fn a_record_that_is_cut_or_has_bytes_left_over_is_an_error() {
        let item = LogRecord {
            at_ms: 9,
            line: "up".to_owned(),
            fields: vec![("n".to_owned(), -4)],
        };
        let mut record = Vec::new();
        Bincode.encode(&item, &mut record).unwrap();
        let again: LogRecord = Bincode.decode(&record).unwrap();
        assert_eq!(again, item);
        for len in 0..record.len() {
            let cut: Result<LogRecord, _> = Bincode.decode(&record[..len]);
            assert!(cut.is_err(), "cut at {len}");
        }
        record.push(0);
        let longer: Result<LogRecord, _> = Bincode.decode(&record);
        assert!(longer.is_err());
        let longer: Result<Vec<u8>, _> = Bincode.decode(&[1, 7, 7]);
        assert!(longer.is_err());
    }

    #[test]
    fn a_failed_encoding_leaves_the_buffer_as_it_was() {
        let mut buffer = b"before".to_vec();
        assert!(Bincode.encode(&Unencodable, &mut buffer).is_err());
        assert_eq!(buffer, b"before");
    }
}
