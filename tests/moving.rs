//! A directory that was written with one store is opened with the other.
#![cfg(all(feature = "sled", feature = "test-util"))]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use common::assert_conserved;
use overspill::{DiskBufferedChannel, Durability, Storage};
use std::path::Path;

const BOTH_WAYS: [(Storage, Storage); 2] =
    [(Storage::Sled, Storage::Log), (Storage::Log, Storage::Sled)];

fn open(dir: &Path, storage: Storage, durability: Durability) -> DiskBufferedChannel<u64> {
    DiskBufferedChannel::builder(dir)
        .memory_items(2)
        .block_bytes(64)
        .storage(storage)
        .durability(durability)
        .open()
        .unwrap()
}

#[test]
fn what_the_old_store_holds_comes_first_and_nothing_is_lost() {
    for durability in [Durability::Spill, Durability::Process] {
        for (old, new) in BOTH_WAYS {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("spool");
            let channel = open(&dir, old, durability.clone());
            (0..100).for_each(|n| channel.sender().send(n).unwrap());
            channel.halt().unwrap();

            // Several changes of mind on the way, each with items of its own.
            let channel = open(&dir, new, durability.clone());
            assert_eq!(channel.open_report().replayed, 100);
            (100..200).for_each(|n| channel.sender().send(n).unwrap());
            let rx = channel.receiver();
            (0..30).for_each(|n| assert_eq!(rx.recv(), Ok(n)));
            channel.halt().unwrap();

            let channel = open(&dir, old, durability.clone());
            (200..300).for_each(|n| channel.sender().send(n).unwrap());
            channel.close();
            let rest: Vec<u64> = channel.receiver().iter().collect();
            assert_eq!(rest, (30..300).collect::<Vec<_>>(), "{old:?} to {new:?}");
            let stats = channel.stats();
            assert_conserved(&stats);
            assert_eq!((stats.lost, stats.unaccounted, stats.pending), (0, 0, 0));
            channel.halt().unwrap();

            // What is empty is not asked any more.
            let channel = open(&dir, new, durability.clone());
            assert_eq!(channel.stats().accepted, 300);
            channel.sender().send(300).unwrap();
            assert_eq!(channel.receiver().recv(), Ok(300));
            assert_conserved(&channel.stats());
            channel.halt().unwrap();
        }
    }
}

#[test]
fn a_crash_on_the_way_loses_nothing_that_was_confirmed() {
    for (old, new) in BOTH_WAYS {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("spool");
        let mut sent = 0;
        for storage in [old, new, old, new] {
            let channel = open(&dir, storage, Durability::Process);
            (sent..sent + 50).for_each(|n| channel.sender().send(n).unwrap());
            sent += 50;
            channel.crash();
        }
        let channel = open(&dir, new, Durability::Process);
        channel.close();
        let rest: Vec<u64> = channel.receiver().iter().collect();
        assert_eq!(rest, (0..sent).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
        channel.halt().unwrap();
    }
}
