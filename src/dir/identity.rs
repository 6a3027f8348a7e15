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
//!      …    4  k, the number of earlier schemas, oldest first; absent when there is none
//!           8  of each: the last incarnation that wrote in it
//!           8  one past the highest number that may have been given out in it
//!           4  n, the length of the codec's name, and n bytes of UTF-8
//!           4  m, the length of the schema tag, and m bytes of UTF-8
//!      …    4  CRC-32C of everything before
//! ```

use super::bytes::{Fields, Unreadable, seal, unseal};
use super::{ChannelId, Directory, FORMAT_VERSION, clock, fs};
use crate::error::{OpenError, SchemaTag, StoreError};
use crate::seq::Seq;
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
    /// What the records of earlier times are written in, oldest first.
    pub(crate) earlier: Vec<Era>,
}

/// A time in which records were written in one schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Era {
    pub(crate) schema: SchemaTag,
    /// The last incarnation of it.
    pub(crate) last: u64,
    /// One past the highest number that may have been given out in it.
    pub(crate) end: Seq,
}

/// What a channel that is to be opened writes and reads.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) schema: SchemaTag,
    /// Other tags whose records it can read.
    pub(crate) readable: Vec<String>,
}

impl Wanted {
    fn reads(&self, schema: &SchemaTag) -> bool {
        let tag = schema.schema.as_ref();
        *schema == self.schema || tag.is_some_and(|tag| self.readable.contains(tag))
    }

    fn refuse(&self, directory: &Directory, found: &SchemaTag) -> OpenError {
        OpenError::Schema {
            path: directory.path().to_owned(),
            found: found.clone(),
            expected: self.schema.clone(),
        }
    }
}

/// How what a directory says and what the builder asks for go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Same,
    /// The directory has no tag, and gets the builder's.
    Adopts,
    /// The directory's schema becomes an earlier one.
    Changes,
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
            earlier: Vec::new(),
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
        put_schema(&mut out, &self.schema);
        if !self.earlier.is_empty() {
            let count = u32::try_from(self.earlier.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&count.to_le_bytes());
        }
        for era in &self.earlier {
            out.extend_from_slice(&era.last.to_le_bytes());
            out.extend_from_slice(&era.end.to_le_bytes());
            put_schema(&mut out, &era.schema);
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
        let mut earlier = Vec::new();
        let count = if fields.0.is_empty() {
            0
        } else {
            fields.u32()?
        };
        for _ in 0..count {
            earlier.push(Era {
                last: fields.u64()?,
                end: fields.u64()?,
                schema: SchemaTag {
                    codec: text(fields)?,
                    schema: Some(text(fields)?),
                },
            });
        }
        Some(Self {
            store,
            schema: SchemaTag { codec, schema },
            channel,
            created_ms,
            earlier,
        })
    }

    /// Compares with what the builder asks for.
    pub(super) fn fit(&self, directory: &Directory, wanted: &Wanted) -> Result<Fit, OpenError> {
        let (mine, theirs) = (&self.schema, &wanted.schema);
        if mine == theirs {
            Ok(Fit::Same)
        } else if mine.schema.is_none() && mine.codec == theirs.codec {
            Ok(Fit::Adopts)
        } else if theirs.schema.is_some() && wanted.reads(mine) {
            Ok(Fit::Changes)
        } else {
            Err(wanted.refuse(directory, mine))
        }
    }

    /// Refuses a builder that can't read what may still wait from earlier times. Everything below `cursor` is finished.
    pub(super) fn check_backlog(
        &self,
        directory: &Directory,
        wanted: &Wanted,
        cursor: Seq,
    ) -> Result<(), OpenError> {
        let mut waiting = self.earlier.iter().filter(|era| cursor < era.end);
        match waiting.find(|era| !wanted.reads(&era.schema)) {
            Some(era) => Err(wanted.refuse(directory, &era.schema)),
            None => Ok(()),
        }
    }

    /// No later incarnation may be taken for one that wrote in an earlier schema.
    pub(crate) fn incarnation_least(&self) -> u64 {
        self.earlier.last().map_or(0, |era| era.last)
    }

    pub(crate) fn write(&self, directory: &Directory) -> Result<(), StoreError> {
        fs::replace(
            directory.disk(),
            &directory.channel(),
            &directory.channel_temporary(),
            &self.encode(),
        )
    }
}

fn put_schema(out: &mut Vec<u8>, schema: &SchemaTag) {
    for text in [Some(&schema.codec), schema.schema.as_ref()]
        .into_iter()
        .flatten()
    {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
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

/// The first identity that can be read: the `channel` file's, or a copy's, the newest unit's first: a schema that
/// changes gets a unit of its own with its first block. `true` when it is the file's own.
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
            earlier: Vec::new(),
        }
    }

    fn changed_twice() -> Identity {
        let era = |tag, last, end| Era {
            schema: SchemaTag::new("json", Some(tag)),
            last,
            end,
        };
        Identity {
            earlier: vec![era("log-record/v0", 3, 70), era("", 4, 70)],
            ..sample(Some("log-record/v2"))
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
        let bytes = changed_twice().encode();
        assert_eq!(Identity::decode(&bytes), Ok(changed_twice()));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_damage() {
        let bytes = changed_twice().encode();
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

        let mut bytes = sample(None).encode();
        bytes.truncate(bytes.len() - 4);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(Identity::decode(&bytes), Err(Unreadable::Damaged));
    }
}
