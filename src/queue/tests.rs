use super::*;
use crate::block::{BlockBuilder, Seal, resealed};
use crate::config::Settings;
use crate::config::Storage;
use crate::error::OpenError;
use crate::store::sim::SimDisk;
use crate::{DiskBufferedChannel, RecvError};
use std::path::Path;

#[test]
fn a_damaged_block_costs_its_own_items_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::default();
    let open = || {
        let builder = DiskBufferedChannel::<u32>::builder(dir.path().join("spool"));
        builder
            .memory_items(1)
            .block_bytes(15)
            .simulated(disk.clone())
            .open()
            .unwrap()
    };
    let channel = open();
    (0..30).for_each(|n| channel.sender().send(n).unwrap());
    channel.halt().unwrap();
    // The first item was in front, and three fit into a block.
    disk.damage(10);

    let channel = open();
    channel.close();
    let rx = channel.receiver();
    let received: Vec<u32> = rx.iter().collect();
    let expected: Vec<u32> = (0..30).filter(|n| !(10..13).contains(n)).collect();
    assert_eq!(received, expected);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let stats = channel.stats();
    assert_eq!((stats.lost, stats.unaccounted, stats.pending), (3, 0, 0));
}

/// Flags as this version doesn't know them.
const NEWER: u16 = 1 << 15;

fn settings(dir: &Path, storage: Storage) -> Settings {
    let mut settings = Settings::new(dir);
    settings.storage = storage;
    settings.disk_free_min = Some(0);
    settings
}

/// Puts blocks of one item each into a new directory.
fn append(settings: &Settings, flags: &[u16]) -> Queue {
    let (mut queue, _) = Queue::open(settings, "none").unwrap();
    let blocks: Vec<Arc<Block>> = (0..)
        .zip(flags)
        .map(|(first, flags)| {
            let mut builder = BlockBuilder::new(first, 0, 64);
            builder.push(b"one item");
            let block = builder.seal(&Seal {
                prev_end: first,
                ..Seal::default()
            });
            Arc::new(Block::parse(resealed(&block.as_bytes(), *flags)).unwrap())
        })
        .collect();
    queue.append(&blocks).unwrap();
    queue
}

/// The same, and a clean stop.
fn write(settings: &Settings, flags: &[u16]) {
    let mut queue = append(settings, flags);
    let next_seq = flags.len() as u64;
    queue.close(&Ledger::default(), next_seq).unwrap();
    queue.abandon().unwrap();
}

fn assert_unsupported(error: &StoreError, first: Seq) {
    match error {
        StoreError::Unsupported { seq, .. } => assert_eq!(*seq, first),
        other => panic!("{other}"),
    }
}

const STORES: &[Storage] = &[
    Storage::Log,
    #[cfg(feature = "sled")]
    Storage::Sled,
];

#[test]
fn a_newest_block_of_a_newer_version_is_refused_at_open_every_time() {
    for storage in STORES {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("spool"), *storage);
        write(&settings, &[0, NEWER]);
        for _ in 0..2 {
            match Queue::open(&settings, "none").map(|(_, recovered)| recovered.next_seq) {
                Err(OpenError::Store(error)) => assert_unsupported(&error, 1),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_block_of_a_newer_version_that_is_finished_is_in_nobodys_way() {
    for storage in STORES {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("spool"), *storage);
        let mut queue = append(&settings, &[0, NEWER]);
        let mut ledger = Ledger::default();
        ledger.acknowledge(0, 2);
        queue.checkpoint(&ledger).unwrap();
        queue.abandon().unwrap();
        let (queue, recovered) = Queue::open(&settings, "none").unwrap();
        assert_eq!((recovered.next_seq, recovered.report.replayed), (2, 0));
        queue.abandon().unwrap();
    }
}

#[test]
fn an_older_block_of_a_newer_version_stays_where_it_is() {
    for storage in STORES {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("spool"), *storage);
        write(&settings, &[0, NEWER, 0]);
        for _ in 0..2 {
            let (mut queue, recovered) = Queue::open(&settings, "none").unwrap();
            assert_eq!(recovered.report.replayed, 3);
            let read = queue.read(0, 3).unwrap();
            assert_eq!(read.block.as_ref().map(Block::first), Some(0));
            for _ in 0..2 {
                assert_unsupported(&queue.read(1, 3).unwrap_err(), 1);
            }
            let read = queue.read(2, 3).unwrap();
            assert_eq!(read.block.as_ref().map(Block::first), Some(2));
            assert!(read.missing.is_empty(), "{read:?}");
            queue.abandon().unwrap();
        }
    }
}
