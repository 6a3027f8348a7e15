//! Directories that earlier versions wrote open for ever.
//!
//! `tests/golden/` holds one per way to end. They are written by the ignored test `write`, once per format version.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved};
use hostile::{copy_tree, files, tree_bytes};
use overspill::{Builder, DiskBufferedChannel, Durability, Storage};
use std::fs;
use std::path::{Path, PathBuf};

const ITEMS: u64 = 40;
const TAKEN: u64 = 7;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn builder(dir: &Path, durability: Durability) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(12)
        .block_bytes(60)
        .segment_bytes(600)
        .disk_free_min(0)
        .storage(Storage::Log)
        .schema("golden")
        .durability(durability)
}

/// Sends all items, and takes the first few; some of the next are in memory only.
fn fill(dir: &Path, durability: Durability) -> DiskBufferedChannel<Item> {
    let channel = builder(dir, durability).open().unwrap();
    let rx = channel.receiver();
    for id in 0..ITEMS {
        let pad = usize::try_from(id % 5 * 7).unwrap();
        channel.sender().send(Item::new(id, pad)).unwrap();
    }
    for id in 0..TAKEN {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    channel
}

/// Opens a copy, takes everything, and the copy is a channel like any other.
fn drain(name: &str, is_clean: bool, least: u64) {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&golden(name), copy.path());
    let channel = builder(copy.path(), Durability::Spill).open().unwrap();
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
    drain("log-1-halted", true, TAKEN);
}

#[test]
fn a_log_of_the_first_format_that_a_crash_left_opens() {
    assert!(files(&golden("log-1-crashed").join("log")).len() >= 3);
    drain("log-1-crashed", false, 0);
}

#[test]
#[ignore = "writes tests/golden/ anew; OVERSPILL_GOLDEN=write says that this is meant"]
fn write() {
    if std::env::var("OVERSPILL_GOLDEN").as_deref() != Ok("write") {
        return;
    }
    for (name, durability) in [
        ("log-1-halted", Durability::Spill),
        ("log-1-crashed", Durability::Process),
    ] {
        let dir = golden(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let channel = fill(&dir, durability.clone());
        if durability == Durability::Spill {
            channel.halt().unwrap();
        } else {
            channel.crash();
        }
        // Who held it last is nobody's business.
        fs::write(dir.join("LOCK"), "").unwrap();
    }
    assert!(tree_bytes(&golden("")) < 128 << 10);
}
