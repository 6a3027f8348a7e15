//! Which store a channel gets, and the sizes that suit it.

use crate::block::HEADER_LEN;
use crate::clock::to_ms;
use crate::config::{Settings, Storage};
use crate::dir::LetterLimits;
use crate::dir::{Directory, Identity, StoreKind, fs};
use crate::error::{ConfigError, OpenError};
use crate::state::Limits;
use crate::store::Store;
use crate::store::log::{self, LogOptions, LogStore};
use crate::store::moving::Moving;
use std::sync::Arc;

/// Encoded bytes that staging may hold: enough to write in large pieces, little enough to be lost.
const STAGING_BYTES: u64 = 4 << 20;
/// Acknowledged bytes after which the cursor is persisted.
const CHECKPOINT_BYTES: u64 = 1 << 20;
/// Encoded bytes of read-ahead.
const REFILL_BYTES: usize = 512 << 10;
/// Bytes of a block in the log, and the most that make sense.
const LOG_BLOCK_BYTES: usize = 64 << 10;
const LOG_BLOCK_BYTES_MAX: usize = 4 << 20;

/// Refuses what the store can't be asked for.
pub(super) fn check(settings: &Settings) -> Result<(), OpenError> {
    #[cfg(test)]
    if settings.sim.is_some() {
        return Ok(());
    }
    let least = match settings.storage {
        Storage::Log => log::QUOTA_BYTES_LEAST,
        #[cfg(feature = "sled")]
        Storage::Sled => crate::store::sled::QUOTA_BYTES_LEAST,
        #[cfg(not(feature = "sled"))]
        Storage::Sled => return Err(no_sled()),
    };
    match settings.disk_bytes_max {
        Some(found) if found < least => Err(ConfigError::TooSmall {
            setting: "disk_bytes_max",
            found,
            least,
        }
        .into()),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "sled"))]
fn no_sled() -> OpenError {
    ConfigError::StorageUnavailable {
        storage: "sled",
        feature: "sled",
    }
    .into()
}

pub(super) fn kind(settings: &Settings) -> StoreKind {
    match settings.storage {
        Storage::Sled => StoreKind::Sled,
        Storage::Log => StoreKind::Log,
    }
}

/// As many scattered acknowledgements as a checkpoint takes.
const IN_FLIGHT_MOST: u64 = 1 << 18;

/// Letters are kept in a handful of files, so that space comes back as they leave.
pub(super) fn letter_limits(settings: &Settings) -> LetterLimits {
    let bytes_max = settings.dead_letter_bytes_max;
    LetterLimits {
        bytes_max,
        file_bytes: (bytes_max / 8).clamp(1, 8 << 20),
    }
}

/// The sizes that follow from what the builder says.
pub(super) fn limits(settings: &Settings) -> Limits {
    // What is read ahead can't be dropped any more, and what is taken gives no space back before it is checkpointed:
    // both must be small against a quota.
    let share = settings.disk_bytes_max.map_or(u64::MAX, |max| max / 16);
    let refill_max = (settings.memory_bytes_max / 4)
        .min(usize::try_from(share).unwrap_or(usize::MAX))
        .clamp(1, REFILL_BYTES);
    Limits {
        memory_items: settings.memory_items,
        staging_max: ((settings.memory_bytes_max - refill_max) as u64).clamp(1, STAGING_BYTES),
        refill_max,
        checkpoint_bytes: share.clamp(1, CHECKPOINT_BYTES),
        block_bytes: block_bytes(settings),
        write_ahead: settings.is_write_ahead(),
        max_age_ms: settings.max_age.map(to_ms),
        in_flight_max: (settings.in_flight_max as u64).min(IN_FLIGHT_MOST),
        max_attempts: settings.max_attempts,
        backoff: settings.backoff,
    }
}

fn block_bytes(settings: &Settings) -> usize {
    let (usual, most) = match settings.storage {
        Storage::Log => {
            let segment = log::segment_bytes(settings.segment_bytes, settings.disk_bytes_max);
            let most = usize::try_from(segment / 2).unwrap_or(usize::MAX);
            let most = most.clamp(HEADER_LEN + 1, LOG_BLOCK_BYTES_MAX);
            (most.min(LOG_BLOCK_BYTES) - HEADER_LEN, most - HEADER_LEN)
        }
        Storage::Sled => {
            let most = sled_block_bytes(settings);
            (most, most)
        }
    };
    settings.block_bytes.unwrap_or(usual).min(most)
}

#[cfg(feature = "sled")]
fn sled_block_bytes(settings: &Settings) -> usize {
    use crate::store::sled::{SledOptions, value_bytes_max};
    let options = SledOptions::new(
        std::path::PathBuf::new(),
        Vec::new(),
        settings.disk_bytes_max,
    );
    value_bytes_max(options.segment_bytes) - HEADER_LEN
}

#[cfg(not(feature = "sled"))]
fn sled_block_bytes(_: &Settings) -> usize {
    (16 << 10) - HEADER_LEN
}

/// Opens the store that the builder asks for.
pub(super) fn open(
    settings: &Settings,
    directory: &Directory,
    identity: &Identity,
) -> Result<Box<dyn Store>, OpenError> {
    let store = open_plain(settings, directory, identity)?;
    #[cfg(any(test, feature = "test-util"))]
    let store = Box::new(crate::store::faulty::Faulty::new(
        store,
        settings.faults.clone(),
    ));
    Ok(store)
}

fn open_plain(
    settings: &Settings,
    directory: &Directory,
    identity: &Identity,
) -> Result<Box<dyn Store>, OpenError> {
    #[cfg(test)]
    if let Some(disk) = &settings.sim {
        return Ok(Box::new(crate::store::sim::SimStore::open(disk.clone(), 8)));
    }
    let wanted = kind(settings);
    let other = match wanted {
        StoreKind::Sled => StoreKind::Log,
        StoreKind::Log => StoreKind::Sled,
    };
    let store = open_kind(wanted, settings, directory, identity)?;
    // A directory that was written with another store is read to its end first.
    if fs::entries(directory.disk(), &directory.store(other))?.is_empty() {
        return Ok(store);
    }
    let old = open_kind(other, settings, directory, identity)?;
    if old.units().is_empty() && old.disk_bytes() == 0 {
        return Ok(store);
    }
    Ok(Box::new(Moving::new(old, store)))
}

fn open_kind(
    kind: StoreKind,
    settings: &Settings,
    directory: &Directory,
    identity: &Identity,
) -> Result<Box<dyn Store>, OpenError> {
    match kind {
        StoreKind::Log => {
            let options = LogOptions {
                disk: Arc::clone(&settings.disk),
                dir: directory.store(kind),
                channel: identity.channel,
                identity: identity.encode(),
                segment_bytes: log::segment_bytes(settings.segment_bytes, settings.disk_bytes_max),
                keep_unsynced: settings.keeps_unsynced(),
            };
            Ok(Box::new(LogStore::open(options)?))
        }
        #[cfg(feature = "sled")]
        StoreKind::Sled => {
            use crate::store::sled::{SledOptions, SledStore};
            let dir = directory.store(kind);
            let options = SledOptions::new(dir, identity.encode(), settings.disk_bytes_max);
            Ok(Box::new(SledStore::open(options)?))
        }
        #[cfg(not(feature = "sled"))]
        StoreKind::Sled => Err(no_sled()),
    }
}
