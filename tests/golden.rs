//! Directories that earlier versions wrote open for ever.
//!
//! `tests/golden/` holds one per way to end and to write. They are written by the ignored test `writing::write`, each once and for
//! all.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{Item, assert_conserved};
use hostile::{copy_tree, files};
use overspill::{Builder, DiskBufferedChannel, Storage};
use std::path::{Path, PathBuf};

const ITEMS: u64 = 40;
const TAKEN: u64 = 7;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn builder(dir: &Path, storage: Storage) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(12)
        .block_bytes(60)
        .segment_bytes(600)
        .disk_free_min(0)
        // The least: sled's files come in pieces that are in proportion.
        .disk_bytes_max(1 << 20)
        .storage(storage)
        .schema("golden")
}

/// Opens a copy, takes everything, and the copy is a channel like any other.
fn drain(name: &str, storage: Storage, is_clean: bool, least: u64) {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&golden(name), copy.path());
    let channel = builder(copy.path(), storage).open().unwrap();
    let report = channel.open_report();
    assert_eq!((report.created, report.clean_shutdown), (false, is_clean));
    assert!(
        report.lost.is_empty() && report.quarantined.is_empty(),
        "{report:?}"
    );
    assert_conserved(&channel.stats());
    channel.close();
    let ids: Vec<u64> = channel.receiver().iter().map(Item::intact).collect();
    let first = ids.first().copied().unwrap();
    assert!((least..=TAKEN).contains(&first), "{ids:?}");
    assert_eq!(ids, (first..ITEMS).collect::<Vec<_>>());
    let stats = channel.stats();
    assert_conserved(&stats);
    assert_eq!((stats.lost, stats.unaccounted), (0, 0), "{stats:?}");
    assert_eq!((stats.accepted, stats.acknowledged), (ITEMS, ITEMS));
    channel.halt().unwrap();
}

#[test]
fn a_halted_log_of_the_first_format_opens() {
    let segments = files(&golden("log-1-halted").join("log"));
    let of = |suffix: &str| {
        segments
            .iter()
            .filter(|path| path.extension().unwrap() == suffix)
            .count()
    };
    assert!(of("segment") >= 3 && of("older") >= 1, "{segments:?}");
    drain("log-1-halted", Storage::Log, true, TAKEN);
}

#[test]
fn a_log_of_the_first_format_that_a_crash_left_opens() {
    assert!(files(&golden("log-1-crashed").join("log")).len() >= 3);
    drain("log-1-crashed", Storage::Log, false, 0);
}

#[cfg(feature = "lz4")]
fn flags_of_blocks(segment: &[u8]) -> Vec<u8> {
    let starts = (0..segment.len()).filter(|at| segment[*at..].starts_with(b"OVSPBLOK"));
    starts.map(|at| segment[at + 10]).collect()
}

#[cfg(feature = "lz4")]
#[test]
fn a_compressed_log_of_the_first_format_opens() {
    let blocks = files(&golden("log-1-lz4").join("log"))
        .iter()
        .flat_map(|file| flags_of_blocks(&std::fs::read(file).unwrap()))
        .collect::<Vec<_>>();
    assert!(blocks.contains(&0) && blocks.contains(&1), "{blocks:?}");
    drain("log-1-lz4", Storage::Log, true, TAKEN);
}

#[cfg(not(feature = "lz4"))]
#[test]
fn a_compressed_log_is_refused_without_the_feature_and_left_as_it_was() {
    use overspill::{Compression, ConfigError, OpenError, StoreError};
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&golden("log-1-lz4"), copy.path());
    let log = copy.path().join("log");
    let before = hostile::contents(&log);
    let error = builder(copy.path(), Storage::Log).open().unwrap_err();
    let OpenError::Store(StoreError::Unsupported { needs, .. }) = error else {
        panic!("{error}");
    };
    assert!(needs.contains("feature `lz4`"), "{needs}");
    assert_eq!(hostile::contents(&log), before);
    let compressed = builder(copy.path(), Storage::Log).compression(Compression::Lz4);
    assert!(matches!(
        compressed.open(),
        Err(OpenError::Config(
            ConfigError::CompressionUnavailable { .. }
        ))
    ));
}

#[cfg(feature = "sled")]
#[test]
fn a_halted_sled_of_the_first_format_opens() {
    drain("sled-1-halted", Storage::Sled, true, TAKEN);
}

#[cfg(all(feature = "lz4", feature = "sled"))]
mod writing {
    use super::*;
    use common::FOR_EVER;
    use overspill::{Compression, Durability};

    /// Sends all items, and takes the first few; some of the next are in memory only.
    fn fill(builder: Builder<Item>, pad: usize) -> DiskBufferedChannel<Item> {
        let channel = builder.open().unwrap();
        let rx = channel.receiver();
        for id in 0..ITEMS {
            let pad = pad + usize::try_from(id % 5 * 7).unwrap();
            channel.sender().send(Item::new(id, pad)).unwrap();
        }
        for id in 0..TAKEN {
            assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
        }
        channel
    }

    #[test]
    #[ignore = "writes what is missing in tests/golden/; OVERSPILL_GOLDEN=write says that this is meant"]
    fn write() {
        if std::env::var("OVERSPILL_GOLDEN").as_deref() != Ok("write") {
            return;
        }
        for (name, storage) in [
            ("log-1-halted", Storage::Log),
            ("log-1-crashed", Storage::Log),
            ("log-1-lz4", Storage::Log),
            ("sled-1-halted", Storage::Sled),
        ] {
            if golden(name).exists() {
                continue;
            }
            let builder = builder(&golden(name), storage);
            let channel = match name {
                "log-1-crashed" => fill(builder.durability(Durability::Process), 0),
                "log-1-lz4" => {
                    let builder = builder.block_bytes(400).segment_bytes(1100);
                    fill(builder.compression(Compression::Lz4), 120)
                }
                _ => fill(builder, 0),
            };
            if name == "log-1-crashed" {
                channel.crash();
            } else {
                channel.halt().unwrap();
            }
            // Zeros, which a directory is without once a full disk has needed them.
            let _ = std::fs::remove_file(golden(name).join("sled/reserve"));
            // Who held it last is nobody's business.
            std::fs::write(golden(name).join("LOCK"), "").unwrap();
        }
    }
}
