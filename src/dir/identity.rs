//! Who a channel is: the `channel` file, and its copies in every unit of the store.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic "OVSPCHAN"
//!      8    2  format version (1)
//!     10    1  store kind (1: sled, 2: log)
//!     11    1  1 when there is a schema tag, otherwise 0
//!     12    8  creation, milliseconds since the Unix epoch
//!     20   16  channel id, random
//!     36    4  n, the length of the codec's name, and n bytes of UTF-8
//!      …    4  m, the length of the schema tag, and m bytes of UTF-8; absent without a tag
//!      …    4  CRC-32C of everything before
//! ```

use super::bytes::{Fields, Unreadable, seal, unseal};
use super::{ChannelId, Directory, FORMAT_VERSION, clock, fs};
use crate::error::{OpenError, SchemaTag, StoreError};
use crate::store::log::format::identity_in;
use std::io;

pub(super) const MAGIC: [u8; 8] = *b"OVSPCHAN";

/// Which store keeps the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Sled = 1,
    Log = 2,
}

/// What stands in the `channel` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreKind,
    pub(crate) schema: SchemaTag,
    pub(crate) channel: ChannelId,
    pub(crate) created_ms: u64,
}

impl Identity {
    /// A channel that has never been before, or one of which only the id is left.
    pub(super) fn new(
        directory: &Directory,
        store: StoreKind,
        schema: SchemaTag,
        channel: Option<ChannelId>,
    ) -> Result<Self, StoreError> {
        let channel = channel.map_or_else(|| random_id(directory), Ok)?;
        Ok(Self {
            store,
            schema,
            channel,
            created_ms: clock::now_ms(),
        })
    }

    /// The bytes of the `channel` file; the same bytes stand in every unit of the store.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.store as u8);
        out.push(self.schema.schema.is_some().into());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.channel);
        for text in [Some(&self.schema.codec), self.schema.schema.as_ref()]
            .into_iter()
            .flatten()
        {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        seal(&mut out);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = unseal(bytes, MAGIC, FORMAT_VERSION)?;
        let store = match fields.u8() {
            Some(1) => StoreKind::Sled,
            Some(2) => StoreKind::Log,
            // A store that this version doesn't have makes it a newer format.
            _ => return Err(Unreadable::Version(FORMAT_VERSION.into())),
        };
        Self::decode_fields(store, &mut fields)
            .filter(|_| fields.0.is_empty())
            .ok_or(Unreadable::Damaged)
    }

    fn decode_fields(store: StoreKind, fields: &mut Fields<'_>) -> Option<Self> {
        let tagged = fields.u8()? == 1;
        let created_ms = fields.u64()?;
        let channel = fields.take()?;
        let codec = text(fields)?;
        let schema = if tagged { Some(text(fields)?) } else { None };
        Some(Self {
            store,
            schema: SchemaTag { codec, schema },
            channel,
            created_ms,
        })
    }

    /// Compares with what the builder asks for; true when the directory has to adopt the builder's tag.
    pub(super) fn check(
        &self,
        directory: &Directory,
        wanted: &SchemaTag,
    ) -> Result<bool, OpenError> {
        let mine = &self.schema;
        let same_tag = match (&mine.schema, &wanted.schema) {
            (Some(mine), Some(wanted)) => mine == wanted,
            _ => true,
        };
        if same_tag && mine.codec == wanted.codec {
            return Ok(mine.schema.is_none() && wanted.schema.is_some());
        }
        Err(OpenError::Schema {
            path: directory.path().to_owned(),
            found: mine.clone(),
            expected: wanted.clone(),
        })
    }

    pub(super) fn write(&self, directory: &Directory) -> Result<(), StoreError> {
        fs::replace(
            directory.disk(),
            &directory.channel(),
            &directory.channel_temporary(),
            &self.encode(),
        )
    }
}

fn text(fields: &mut Fields<'_>) -> Option<String> {
    let len = usize::try_from(fields.u32()?).ok()?;
    String::from_utf8(fields.slice(len)?.to_vec()).ok()
}

fn random_id(directory: &Directory) -> Result<ChannelId, StoreError> {
    let mut id = ChannelId::default();
    getrandom::fill(&mut id).map_err(|error| {
        let error = io::Error::other(error.to_string());
        StoreError::io("draw a random id for", directory.path(), error)
    })?;
    Ok(id)
}

/// The first identity that can be read: the `channel` file's, or a copy's, the newest unit's first, because a
/// directory adopts a tag and never loses one. `true` when it is the file's own.
pub(super) fn find(directory: &Directory) -> Result<Option<(Identity, bool)>, OpenError> {
    if let Some(bytes) = fs::read(directory.disk(), &directory.channel())?
        && let Some(identity) = decode(directory, &bytes)?
    {
        return Ok(Some((identity, true)));
    }
    for copy in directory.identity_copies()? {
        let bytes = fs::read(directory.disk(), &copy)?.unwrap_or_default();
        // In a segment it stands behind the header.
        let bytes = identity_in(&bytes).unwrap_or(&bytes);
        if let Some(identity) = decode(directory, bytes)? {
            return Ok(Some((identity, false)));
        }
    }
    Ok(None)
}

fn decode(directory: &Directory, bytes: &[u8]) -> Result<Option<Identity>, OpenError> {
    match Identity::decode(bytes) {
        Ok(identity) => Ok(Some(identity)),
        Err(Unreadable::Version(found)) => Err(directory.wrong_format(Some(found))),
        Err(Unreadable::Damaged) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(schema: Option<&str>) -> Identity {
        Identity {
            store: StoreKind::Sled,
            schema: SchemaTag::new("bincode2", schema),
            channel: *b"sixteen bytes id",
            created_ms: 1_790_000_000_000,
        }
    }

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        for schema in [None, Some(""), Some("log-record/v2")] {
            assert_eq!(
                Identity::decode(&sample(schema).encode()),
                Ok(sample(schema))
            );
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_damage() {
        let bytes = sample(Some("log-record/v2")).encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(
                    Identity::decode(&damaged),
                    Err(Unreadable::Damaged),
                    "{bit} of {at}"
                );
            }
            assert_eq!(
                Identity::decode(&bytes[..at]),
                Err(Unreadable::Damaged),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn only_a_valid_checksum_makes_a_newer_version() {
        let mut bytes = sample(None).encode();
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 9;
        seal(&mut bytes);
        assert_eq!(Identity::decode(&bytes), Err(Unreadable::Version(9)));
        bytes[20] ^= 1;
        assert_eq!(Identity::decode(&bytes), Err(Unreadable::Damaged));
    }

    #[test]
    fn lengths_that_lie_are_damage_even_under_a_valid_checksum() {
        let mut bytes = sample(None).encode();
        bytes.truncate(bytes.len() - 4);
        bytes[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(Identity::decode(&bytes), Err(Unreadable::Damaged));
    }
}
