//! How items become bytes: the [`Codec`] trait and the codecs that come with the crate.

mod bincode;
mod bytes;
#[cfg(feature = "json")]
mod json;

pub use self::bincode::Bincode;
pub use self::bytes::Bytes;
#[cfg(feature = "json")]
pub use self::json::Json;

use crate::error::CodecError;

/// Turns items into records and back.
///
/// A record is what the codec appends to the buffer for one item. The channel keeps its length and its checksum, so a
/// codec needs no framing of its own, and `decode` gets exactly the bytes that `encode` appended.
///
/// Encoding happens on the thread that sends, decoding on the thread that receives, several of them at once: a codec
/// is shared. An item that never leaves memory never meets the codec.
///
/// # Compatibility
///
/// The [name](Self::name) is stored in the directory, and opening it with a codec of another name is
/// [`OpenError::Schema`](crate::OpenError::Schema). So a codec whose records change their meaning needs a new name. The
/// type of the items isn't stored: use the builder's `schema` tag for that.
///
/// # Examples
///
/// A codec for log lines, which are readable with any tool that finds them on disk:
///
/// ```
/// use overspill::{Codec, CodecError};
///
/// #[derive(Debug, PartialEq)]
/// struct LogLine {
///     level: u8,
///     text: String,
/// }
///
/// #[derive(Clone, Debug, Default)]
/// struct Syslog;
///
/// impl Codec<LogLine> for Syslog {
///     fn name(&self) -> &str {
///         "syslog"
///     }
///
///     fn encode(&self, line: &LogLine, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
///         buffer.extend_from_slice(format!("<{}>{}", line.level, line.text).as_bytes());
///         Ok(())
///     }
///
///     fn decode(&self, record: &[u8]) -> Result<LogLine, CodecError> {
///         let line = std::str::from_utf8(record).map_err(CodecError::new)?;
///         let (level, text) = line
///             .strip_prefix('<')
///             .and_then(|line| line.split_once('>'))
///             .ok_or_else(|| CodecError::new("no level in angle brackets"))?;
///         Ok(LogLine { level: level.parse().map_err(CodecError::new)?, text: text.to_owned() })
///     }
/// }
///
/// let line = LogLine { level: 6, text: "listening on port 80".to_owned() };
/// let mut record = Vec::new();
/// Syslog.encode(&line, &mut record)?;
/// assert_eq!(record, b"<6>listening on port 80");
/// assert_eq!(Syslog.decode(&record)?, line);
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<T>: Send + Sync {
    /// What the directory calls this codec: short, and never changed.
    fn name(&self) -> &str;

    /// Appends the record of `item` to `buffer`, which may already hold other records.
    ///
    /// # Errors
    ///
    /// When the item has no encoding. The channel then gives the item back, and doesn't look at what was appended.
    fn encode(&self, item: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Makes the item out of all bytes of its record.
    ///
    /// # Errors
    ///
    /// When the record is not one that this codec writes for `T`: bytes that are left over count as that, too, since
    /// they are the surest sign that the type has changed. The record then goes to the dead letters.
    fn decode(&self, record: &[u8]) -> Result<T, CodecError>;
}

/// Runs `encode` on `buffer` and takes back what it appended if it fails.
fn append<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    buffer: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), CodecError> {
    let before = buffer.len();
    encode(buffer).map_err(|error| {
        buffer.truncate(before);
        CodecError::new(error)
    })
}

/// An item that encodes half of itself before it fails.
#[cfg(test)]
#[derive(Debug)]
struct Unencodable;

#[cfg(test)]
impl serde::Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeTuple};
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element("the first half")?;
        Err(S::Error::custom("the second half has no encoding"))
    }
}

#[cfg(test)]
impl<'de> serde::Deserialize<'de> for Unencodable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}
