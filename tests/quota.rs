//! A quota is a hard limit: the directory never exceeds it while the channel runs, each policy does exactly what it
//! says when it is reached, and space comes back as items are taken.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, LEVELS, Level, assert_conserved, take_exactly, wait_until};
use hostile::{note, setting, tree_bytes};
use overspill::{
    Builder, DiskBufferedChannel, Durability, Event, FailOn, SendError, SendTimeoutError, Stats,
    Storage, WhenFull,
};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// What an item's bytes come to, about.
const PAD: usize = 1000;
const FRONT: usize = 16;
/// Threads that send at once.
const CROWD: usize = 16;
/// Sends between two looks at the directory.
const LOOK_EVERY: u64 = 50;
/// Long enough for a writer that isn't stuck.
const MOMENT: Duration = Duration::from_millis(200);
fn builder(dir: &Path, quota: u64, level: &Level, policy: WhenFull) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(FRONT)
        .disk_bytes_max(quota)
        .disk_free_min(0)
        .storage(level.0)
        .durability(level.1.clone())
        .when_full(policy)
}

fn item(id: u64) -> Item {
    Item::new(id, PAD)
}

fn assert_within(dir: &Path, quota: u64, stats: &Stats) {
    let bytes = tree_bytes(dir);
    assert!(bytes <= quota, "{bytes} of {quota}: {stats:?}");
}

/// The smallest quota, a few in between, and one of several databases of full size.
fn quotas() -> [u64; 3] {
    [
        MIB,
        2 * MIB + 12_345,
        setting("OVERSPILL_QUOTA_MIB", 4) * MIB,
    ]
}

fn each_case(policy: WhenFull, check: impl Fn(&Path, u64, DiskBufferedChannel<Item>)) {
    for level in LEVELS {
        for quota in quotas() {
            let dir = tempfile::tempdir().unwrap();
            let channel = builder(dir.path(), quota, &level, policy).open().unwrap();
            check(dir.path(), quota, channel);
        }
    }
}

#[test]
fn reject_gives_the_item_back_and_keeps_the_others() {
    each_case(WhenFull::Reject, |dir, quota, channel| {
        let tx = channel.sender();
        let mut accepted = Vec::new();
        let mut refused = 0;
        for id in 0.. {
            // It never waits for a consumer, also where the item is to be on disk before `Ok`.
            match tx.send(item(id)) {
                Ok(()) => accepted.push(id),
                Err(SendError::Full(back)) => {
                    assert_eq!(back.intact(), id);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
            if id % LOOK_EVERY == 0 {
                assert_within(dir, quota, &channel.stats());
            }
            if refused == 3 * LOOK_EVERY {
                break;
            }
        }
        let stats = channel.stats();
        assert_within(dir, quota, &stats);
        assert_eq!(stats.accepted, accepted.len() as u64);
        assert_eq!((stats.dropped.full, stats.pending), (0, stats.accepted));
        assert_conserved(&stats);
        take_exactly(&channel, accepted.into_iter());
        assert_within(dir, quota, &channel.stats());
    });
}

#[test]
fn a_crowd_that_is_admitted_together_finds_room_without_a_consumer() {
    for quota in quotas() {
        let dir = tempfile::tempdir().unwrap();
        let channel = builder(dir.path(), quota, &LEVELS[1], WhenFull::Reject)
            .open()
            .unwrap();
        let (done, all) = mpsc::channel();
        for _ in 0..CROWD {
            let (tx, done) = (channel.sender(), done.clone());
            std::thread::spawn(move || {
                // Until nothing fits any more, the smallest neither.
                for pad in [PAD, PAD / 10, 1] {
                    while tx.send(Item::new(0, pad)).is_ok() {}
                }
                done.send(()).expect("the test waits");
            });
        }
        for _ in 0..CROWD {
            all.recv_timeout(FOR_EVER).expect("nobody waits");
            assert_within(dir.path(), quota, &channel.stats());
        }
        assert_conserved(&channel.stats());
    }
}

#[test]
fn drop_newest_accepts_and_counts_what_it_drops() {
    each_case(WhenFull::DropNewest, |dir, quota, channel| {
        let tx = channel.sender();
        let mut kept = Vec::new();
        let mut id = 0;
        while channel.stats().dropped.full < 3 * LOOK_EVERY {
            let before = channel.stats().dropped.full;
            tx.send(item(id)).unwrap();
            if channel.stats().dropped.full == before {
                kept.push(id);
            }
            id += 1;
            if id.is_multiple_of(LOOK_EVERY) {
                assert_within(dir, quota, &channel.stats());
            }
        }
        let stats = channel.stats();
        assert_eq!(stats.accepted, id);
        assert_eq!(stats.pending, kept.len() as u64);
        assert_eq!(stats.dropped.full, id - stats.pending);
        assert_conserved(&stats);
        take_exactly(&channel, kept.into_iter());
        assert_within(dir, quota, &channel.stats());
    });
}

#[test]
fn drop_oldest_keeps_the_newest_and_drops_in_order() {
    for level in LEVELS {
        for quota in quotas() {
            let dir = tempfile::tempdir().unwrap();
            let told = Arc::new(AtomicU64::new(0));
            let counted = told.clone();
            let channel = builder(dir.path(), quota, &level, WhenFull::DropOldest)
                .on_event(move |event| {
                    if let Event::DroppedOldest { items } = event {
                        counted.fetch_add(*items, Ordering::SeqCst);
                    }
                })
                .open()
                .unwrap();
            let tx = channel.sender();
            let count = 2 * quota / PAD as u64;
            for id in 0..count {
                tx.send(item(id)).unwrap();
                if id.is_multiple_of(LOOK_EVERY) {
                    assert_within(dir.path(), quota, &channel.stats());
                }
            }
            channel.close();
            let received: Vec<u64> = channel.receiver().into_iter().map(Item::intact).collect();
            let stats = channel.stats();
            assert_within(dir.path(), quota, &stats);
            assert_conserved(&stats);
            assert_eq!(stats.accepted, count);
            assert_eq!(stats.dropped.full, count - received.len() as u64);
            assert!(stats.dropped.full > 0);
            wait_until("every drop was told", || {
                told.load(Ordering::SeqCst) == stats.dropped.full
            });
            assert!(received.is_sorted_by(|a, b| a < b));
            // What was in memory ahead of the disk stays: front, and what is read ahead, perhaps after a first drop only.
            let gaps = received.windows(2).filter(|pair| pair[1] != pair[0] + 1);
            let gaps = gaps.count();
            let (first, last) = (received.first(), received.last());
            assert!((1..=2).contains(&gaps), "{gaps}: {first:?} to {last:?}");
            assert_eq!(received[..FRONT], (0..FRONT as u64).collect::<Vec<_>>());
            assert_eq!(received.last(), Some(&(count - 1)));
        }
    }
}

#[test]
fn block_waits_until_a_consumer_makes_room() {
    each_case(WhenFull::Block, |dir, quota, channel| {
        let tx = channel.sender();
        let rx = channel.receiver();
        let (mut sent, mut received) = (0, 0);
        // Full three times over; in between a part is taken.
        for _ in 0..3 {
            loop {
                match tx.send_timeout(item(sent), MOMENT) {
                    Ok(()) => sent += 1,
                    Err(SendTimeoutError::Timeout(back)) => break assert_eq!(back.intact(), sent),
                    Err(error) => panic!("{error}"),
                }
                if sent % LOOK_EVERY == 0 {
                    assert_within(dir, quota, &channel.stats());
                }
            }
            let stats = channel.stats();
            assert!(stats.stalled.is_some(), "{stats:?}");
            assert_eq!((stats.accepted, stats.dropped.full), (sent, 0));
            assert_conserved(&stats);
            // A sender that waits goes on when most is taken, without being called again.
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| tx.send(item(sent)));
                let most = received + (sent - received) * 3 / 4;
                while received < most {
                    assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), received);
                    received += 1;
                }
                waiting.join().unwrap().unwrap();
            });
            sent += 1;
        }
        take_exactly(&channel, received..sent);
        assert_within(dir, quota, &channel.stats());
    });
}

#[test]
fn a_sync_stays_within_the_quota_too() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path(), MIB, &LEVELS[0], WhenFull::Reject)
        .memory_items(1024)
        .open()
        .unwrap();
    let tx = channel.sender();
    let sent = (0..100_000)
        .take_while(|id| tx.send(item(*id)).is_ok())
        .count() as u64;
    // Front alone is larger than the quota.
    assert!(sent * PAD as u64 > MIB);
    let synced = channel.sync();
    assert_within(dir.path(), MIB, &channel.stats());
    assert!(synced.is_err());
    take_exactly(&channel, 0..sent);
}

#[test]
fn an_emptied_channel_gives_its_space_back() {
    let mib = setting("OVERSPILL_SPILL_MIB", 64);
    let dir = tempfile::tempdir().unwrap();
    let channel = DiskBufferedChannel::builder(dir.path())
        .disk_free_min(0)
        .open()
        .unwrap();
    let count = mib * MIB / PAD as u64;
    let tx = channel.sender();
    let mut items = (0..count).map(item);
    assert_eq!(tx.send_all(&mut items).unwrap() as u64, count);
    let largest = tree_bytes(dir.path());
    assert!(largest > mib * MIB / 2, "{largest} bytes");
    let rx = channel.receiver();
    for id in 0..count {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
        if id.is_multiple_of(1000) {
            // However fast it is drained: one database is partly taken, and the reserve stands.
            let left = (count - id) * (PAD as u64 + 100);
            let bytes = tree_bytes(dir.path());
            assert!(bytes <= left + 24 * MIB, "{bytes} for {left}");
        }
    }
    channel.halt().unwrap();
    let left = tree_bytes(dir.path());
    note(&format!(
        "{mib} MiB spilled and drained: {largest} bytes on disk at most, {left} in the end"
    ));
    assert!(left < 8 * MIB, "{left} bytes are left");
}

#[test]
fn a_backlog_that_never_empties_does_not_grow_the_directory() {
    let standing = setting("OVERSPILL_STANDING_MIB", 8) * MIB / PAD as u64;
    let through = setting("OVERSPILL_THROUGH_MIB", 128) * MIB / PAD as u64;
    let dir = tempfile::tempdir().unwrap();
    let channel = DiskBufferedChannel::builder(dir.path())
        .memory_items(FRONT)
        .disk_free_min(0)
        .open()
        .unwrap();
    let (tx, rx) = (channel.sender(), channel.receiver());
    let mut received = Vec::new();
    let (mut next, mut largest) = (0, 0);
    for sent in (0..through).step_by(500) {
        let mut items = (sent..sent + 500).map(item);
        tx.send_all(&mut items).unwrap();
        while sent + 500 - next > standing {
            rx.recv_many(&mut received, 100).unwrap();
            for item in received.drain(..) {
                assert_eq!(item.intact(), next);
                next += 1;
            }
        }
        largest = largest.max(tree_bytes(dir.path()));
    }
    let content = standing * (PAD as u64 + 32);
    // One database at either end is only partly needed, and one is kept back to be opened on a full disk.
    let database = 16 * MIB;
    note(&format!(
        "{} MiB through a standing backlog of {} MiB: {largest} bytes on disk at most",
        through * PAD as u64 / MIB,
        standing * PAD as u64 / MIB
    ));
    assert!(
        largest <= content + content / 10 + 2 * database,
        "{largest}"
    );
    channel.close();
}

#[test]
fn a_sender_whose_item_is_taken_while_a_full_disk_refuses_it_is_confirmed() {
    for (storage, durability) in [
        (Storage::Sled, Durability::Process),
        (Storage::Log, Durability::Process),
        (Storage::Log, Durability::Sync),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let channel = DiskBufferedChannel::<u64>::builder(dir.path().join("spool"))
            .storage(storage)
            .durability(durability)
            .open()
            .unwrap();
        // More often than it is tried again while anybody waits.
        for _ in 0..10_000 {
            channel.fail_next(FailOn::Append, ErrorKind::StorageFull);
        }
        let tx = channel.sender();
        let sender = std::thread::spawn(move || tx.send(7));
        assert_eq!(channel.receiver().recv().unwrap(), 7);
        wait_until("the sender goes on", || sender.is_finished());
        sender.join().unwrap().unwrap();
        assert_conserved(&channel.stats());
    }
}
