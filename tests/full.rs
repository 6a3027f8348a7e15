//! A full disk is back-pressure and nothing worse: nothing is lost, draining goes on, and it heals by itself.
//!
//! On a small file system of its own where this user may mount one; with injected errors everywhere.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, LEVELS, Level, assert_conserved, wait_until};
use hostile::mount::Mount;
use overspill::{
    Builder, DiskBufferedChannel, Durability, FailOn, SendError, SendTimeoutError, WhenFull,
};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const DISK: u64 = 24 * MIB;
const PAD: usize = 4000;
const FRONT: usize = 16;
/// Long enough for a writer that isn't stuck.
const MOMENT: Duration = Duration::from_millis(300);
/// A quota that the disk is too small for: it makes the databases small, and is never reached.
fn builder(dir: &Path, level: &Level, policy: WhenFull) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(FRONT)
        .disk_bytes_max(2 * DISK)
        .disk_free_min(0)
        .storage(level.0)
        .durability(level.1.clone())
        .when_full(policy)
}

fn item(id: u64) -> Item {
    Item::new(id, PAD)
}

/// Takes all space that is left on the disk, as another program may.
fn fill_up(mount: &Mount) {
    let mut ballast = File::create(mount.path().join("ballast")).unwrap();
    for len in [64 << 10, 4096, 1] {
        let bytes = vec![0; len];
        while ballast.write_all(&bytes).is_ok() {}
    }
}

fn make_room(mount: &Mount) {
    fs::remove_file(mount.path().join("ballast")).unwrap();
}

/// What `send` did with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Kept,
    Dropped,
    Refused,
}

/// Sends an item, and says what came of it.
fn send(channel: &DiskBufferedChannel<Item>, policy: WhenFull, id: u64) -> Sent {
    let before = channel.stats().dropped.full;
    let sent = match policy {
        WhenFull::Block => match channel.sender().send_timeout(item(id), MOMENT) {
            Ok(()) => return Sent::Kept,
            Err(SendTimeoutError::Timeout(back)) => Err(SendError::Full(back)),
            Err(error) => panic!("{error}"),
        },
        // The others don't wait, or only for the writer.
        _ => channel.sender().send(item(id)),
    };
    match sent {
        Ok(()) if policy == WhenFull::DropNewest && channel.stats().dropped.full > before => {
            Sent::Dropped
        }
        Ok(()) => Sent::Kept,
        Err(SendError::Full(back)) => {
            assert_eq!(back.intact(), id);
            Sent::Refused
        }
        Err(error) => panic!("{error}"),
    }
}

/// Takes everything that is left, and checks that it is `expected`, in order.
fn drain(channel: &DiskBufferedChannel<Item>, expected: &[u64]) {
    channel.close();
    let rx = channel.receiver();
    for id in expected {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), *id);
    }
    assert!(rx.recv_timeout(FOR_EVER).is_err(), "nothing else comes");
    let stats = channel.stats();
    assert_eq!((stats.pending, stats.lost, stats.unaccounted), (0, 0, 0));
    assert_conserved(&stats);
}

#[test]
fn a_disk_that_the_channel_fills_loses_nothing_under_any_policy() {
    for policy in [WhenFull::Block, WhenFull::Reject, WhenFull::DropNewest] {
        // The log keeps no reserve: there a halt gives back what the disk has no room for.
        for level in LEVELS.into_iter().take(2) {
            let Some(mount) = Mount::of_size(DISK, "a disk that the channel fills") else {
                return;
            };
            let channel = builder(&mount.spool(), &level, policy).open().unwrap();
            let mut kept = Vec::new();
            let mut others = 0;
            for id in 0.. {
                match send(&channel, policy, id) {
                    Sent::Kept => kept.push(id),
                    _ => others += 1,
                }
                if others == 5 {
                    break;
                }
            }
            let stats = channel.stats();
            let what = format!("{policy:?} {level:?} {stats:?}");
            assert!(kept.len() as u64 * PAD as u64 > DISK / 2, "{what}");
            assert_eq!(stats.pending, kept.len() as u64, "{what}");
            assert_conserved(&stats);
            // A restart on the full disk changes nothing.
            channel.halt().unwrap();
            drop(channel);
            let channel = builder(&mount.spool(), &level, policy).open().unwrap();
            drain(&channel, &kept);
            channel.halt().unwrap();
        }
    }
}

#[test]
fn drop_oldest_makes_its_own_room_on_a_disk_that_is_full() {
    let Some(mount) = Mount::of_size(DISK, "dropping the oldest on a full disk") else {
        return;
    };
    let channel = builder(&mount.spool(), &LEVELS[0], WhenFull::DropOldest)
        .open()
        .unwrap();
    let count = 2 * DISK / PAD as u64;
    for id in 0..count {
        channel.sender().send(item(id)).unwrap();
    }
    channel.close();
    let received: Vec<u64> = channel.receiver().into_iter().map(Item::intact).collect();
    let stats = channel.stats();
    assert!(stats.dropped.full > 0);
    assert_eq!(stats.dropped.full, count - received.len() as u64);
    assert!(received.is_sorted_by(|a, b| a < b));
    assert_eq!(received.last(), Some(&(count - 1)));
    assert_conserved(&stats);
}

#[test]
fn a_disk_that_somebody_else_fills_is_waited_for_and_drained_without_any_room() {
    for policy in [WhenFull::Block, WhenFull::Reject, WhenFull::DropNewest] {
        for level in LEVELS {
            let Some(mount) = Mount::of_size(DISK, "a disk that somebody else fills") else {
                return;
            };
            let channel = builder(&mount.spool(), &level, policy).open().unwrap();
            let mut kept: Vec<u64> = (0..1000).collect();
            for id in &kept {
                assert_eq!(send(&channel, policy, *id), Sent::Kept);
            }
            fill_up(&mount);
            // The first of them may have met a room that is gone; it waits in memory.
            let rx = channel.receiver();
            std::thread::scope(|scope| {
                let sending = scope.spawn(|| {
                    (1000..2000)
                        .filter(|id| send(&channel, policy, *id) == Sent::Kept)
                        .collect::<Vec<u64>>()
                });
                for id in &kept[..500] {
                    assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), *id);
                }
                make_room(&mount);
                kept.extend(sending.join().unwrap());
            });
            wait_until("it has healed", || {
                let stats = channel.stats();
                stats.last_error.is_none() && stats.stalled.is_none()
            });
            for id in 2000..2500 {
                assert_eq!(send(&channel, policy, id), Sent::Kept);
                kept.push(id);
            }
            fill_up(&mount);
            drain(&channel, &kept[500..]);
            channel.halt().unwrap();
        }
    }
}

#[test]
fn space_that_is_gone_without_notice_is_answered_as_the_policy_says() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let Some(mount) = Mount::of_size(DISK, "space that is gone without notice") else {
            return;
        };
        let channel = builder(&mount.spool(), &LEVELS[0], policy).open().unwrap();
        let mut kept = Vec::new();
        for id in 0..100 {
            assert_eq!(send(&channel, policy, id), Sent::Kept);
            kept.push(id);
        }
        fill_up(&mount);
        // There is no receiver to help, and still no sender waits.
        kept.extend((100..100_000).take_while(|id| send(&channel, policy, *id) == Sent::Kept));
        let stats = channel.stats();
        assert!(stats.stalled.is_some(), "{stats:?}");
        assert_conserved(&stats);
        make_room(&mount);
        wait_until("it has healed", || channel.stats().stalled.is_none());
        drain(&channel, &kept);
        channel.halt().unwrap();
    }
}

#[test]
fn a_halt_on_a_full_disk_gives_back_what_it_cannot_save() {
    for level in LEVELS {
        let Some(mount) = Mount::of_size(DISK, "a halt on a full disk") else {
            return;
        };
        let open = || {
            builder(&mount.spool(), &level, WhenFull::Reject)
                .memory_items(2048)
                .open()
                .unwrap()
        };
        let channel = open();
        for id in 0..4000 {
            assert_eq!(send(&channel, WhenFull::Reject, id), Sent::Kept);
        }
        fill_up(&mount);
        let began = Instant::now();
        let halted = channel.halt();
        assert!(began.elapsed() < FOR_EVER);
        let back: Vec<u64> = match halted {
            Ok(_) => Vec::new(),
            Err(error) => error.into_items().into_iter().map(Item::intact).collect(),
        };
        // In `Process` all of them were on disk already.
        assert_eq!(back.is_empty(), level.1 != Durability::Spill);
        assert!(back.is_sorted_by(|a, b| a < b));
        assert_conserved(&channel.stats());
        drop(channel);
        let saved: Vec<u64> = (0..4000)
            .filter(|id| back.binary_search(id).is_err())
            .collect();
        let channel = open();
        assert_eq!(channel.stats().pending, saved.len() as u64);
        drain(&channel, &saved);
        channel.halt().unwrap();
    }
}

#[test]
fn an_append_that_finds_no_space_is_tried_again_and_nothing_is_lost_or_repeated() {
    for policy in [
        WhenFull::Block,
        WhenFull::Reject,
        WhenFull::DropNewest,
        WhenFull::DropOldest,
    ] {
        for level in LEVELS {
            let dir = tempfile::tempdir().unwrap();
            let channel = builder(dir.path(), &level, policy).open().unwrap();
            for nth in [0, 1, 3, 4] {
                channel.fail_nth(FailOn::Append, nth, ErrorKind::StorageFull);
            }
            let (mut kept, mut others) = (Vec::new(), 0);
            for id in 0..200 {
                match send(&channel, policy, id) {
                    Sent::Kept => kept.push(id),
                    Sent::Dropped | Sent::Refused => others += 1,
                }
            }
            wait_until("it has healed", || {
                let stats = channel.stats();
                stats.last_error.is_none() && stats.stalled.is_none()
            });
            // Full is full, whatever the system says is free: only what waits waits.
            let waits = matches!(policy, WhenFull::Block | WhenFull::DropOldest);
            assert!(!waits || others == 0, "{policy:?} {level:?}");
            let stats = channel.stats();
            assert_eq!(stats.pending, kept.len() as u64);
            drain(&channel, &kept);
        }
    }
}

#[test]
fn a_halt_that_finds_no_space_at_first_saves_everything_in_the_end() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            builder(dir.path(), &level, WhenFull::Block)
                .block_bytes(500)
                .open()
                .unwrap()
        };
        let channel = open();
        for id in 0..50 {
            channel.sender().send(Item::new(id, 100)).unwrap();
        }
        channel.fail_next(FailOn::Append, ErrorKind::StorageFull);
        let report = channel.halt_with([Item::new(50, 100)]).unwrap();
        assert_eq!(report.saved, 51);
        drop(channel);
        drain(&open(), &(0..51).collect::<Vec<_>>());
    }
}

#[test]
fn a_halt_has_nothing_to_save_where_all_was_taken_that_a_full_disk_refused() {
    for level in [&LEVELS[0], &LEVELS[2]] {
        let dir = tempfile::tempdir().unwrap();
        let channel = builder(dir.path(), level, WhenFull::Reject).open().unwrap();
        // More often than it is tried again.
        for _ in 0..10_000 {
            channel.fail_next(FailOn::Append, ErrorKind::StorageFull);
        }
        let sent: Vec<u64> = (0..100_000)
            .take_while(|id| send(&channel, WhenFull::Reject, *id) == Sent::Kept)
            .collect();
        wait_until("it is refused", || channel.stats().last_error.is_some());
        drain(&channel, &sent);
        assert_eq!(channel.halt().unwrap().saved, 0);
    }
}
