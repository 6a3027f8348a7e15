//! Why a channel isn't opened: its settings, or its directory.

use super::StoreError;
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// A setting that can't be kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit of zero would let nothing through.
    #[error("`{setting}` must be at least 1")]
    Zero {
        /// The builder's method.
        setting: &'static str,
    },
    /// A limit is below what the store can work with.
    #[error("`{setting}` is {found} bytes, and this store needs at least {least}")]
    TooSmall {
        /// The builder's method.
        setting: &'static str,
        /// What was asked for, in bytes.
        found: u64,
        /// The least that works, in bytes.
        least: u64,
    },
    /// A limit is above what the format can hold.
    #[error("`{setting}` is {found} bytes, and the format holds at most {most}")]
    TooLarge {
        /// The builder's method.
        setting: &'static str,
        /// What was asked for, in bytes.
        found: u64,
        /// The most that works, in bytes.
        most: u64,
    },
    /// sled confirms writes that a power cut then takes back, so it can't keep `Interval` or `Sync`.
    #[error(
        "durability {durability} needs a store whose fsync reaches the device, and sled's doesn't: \
         use `Durability::Process` on sled, or the log store (`Storage::Log`)"
    )]
    DurabilityUnsupported {
        /// The level that was asked for.
        durability: &'static str,
    },
    /// The crate was built without this compression.
    #[error("{compression} compression is not compiled in: enable the cargo feature `{feature}`")]
    CompressionUnavailable {
        /// The compression that was asked for.
        compression: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The crate was built without this store.
    #[error("the {storage} store is not compiled in: enable the cargo feature `{feature}`")]
    StorageUnavailable {
        /// The store that was asked for.
        storage: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
}

/// Why a directory can't be opened. Nothing in it was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting can't be kept.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Another channel, in this process or another one, has the directory open.
    #[error("{} is in use by process {}", path.display(), pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The channel's directory.
        path: PathBuf,
        /// The owner's process id, where its lock file says it.
        pid: Option<u32>,
    },
    /// The directory holds something else, or a newer format.
    #[error("{} {}", path.display(), describe_format(*found, *supported))]
    Format {
        /// The channel's directory.
        path: PathBuf,
        /// The format version found; `None` when the files aren't a channel's.
        found: Option<u32>,
        /// The newest format version that this crate reads.
        supported: u32,
    },
    /// The directory was written with another codec or another schema tag. The data stays.
    #[error("{} was written with {found}, not with {expected}", path.display())]
    Schema {
        /// The channel's directory.
        path: PathBuf,
        /// What the directory says.
        found: SchemaTag,
        /// What the builder says.
        expected: SchemaTag,
    },
    /// The disk or the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn describe_format(found: Option<u32>, supported: u32) -> String {
    match found {
        Some(found) => {
            format!(
                "has format version {found}; this version reads up to {supported}: use a newer overspill"
            )
        }
        None => {
            "holds files that are not a channel's: choose an empty or a new directory".to_owned()
        }
    }
}

/// What a directory's records are written in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaTag {
    /// The codec's name.
    pub codec: String,
    /// The builder's `schema` tag.
    pub schema: Option<String>,
}

impl SchemaTag {
    pub(crate) fn new(codec: &str, schema: Option<&str>) -> Self {
        Self {
            codec: codec.to_owned(),
            schema: schema.map(str::to_owned),
        }
    }
}

impl fmt::Display for SchemaTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "codec `{}` and schema `{schema}`", self.codec),
            None => write!(f, "codec `{}` and no schema", self.codec),
        }
    }
}
