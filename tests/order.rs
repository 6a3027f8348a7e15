//! Order between threads, what a send and a receive may say, and who keeps the channel open.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{FOR_EVER, LEVELS, Level, assert_conserved, wait_until};
use overspill::{
    Builder, DiskBufferedChannel, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    SyncError, TryRecvError, TrySendError, WhenFull,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

fn tiny<T>(dir: &Path, level: &Level) -> Builder<T> {
    DiskBufferedChannel::builder(dir)
        .memory_items(2)
        .block_bytes(64)
        .storage(level.0)
        .durability(level.1.clone())
}

// ---- threads ------------------------------------------------------------------------------------

const PRODUCERS: u64 = 4;
const EACH: u64 = 1_500;

/// Everything that one consumer received, in its order.
fn consume(channel: &DiskBufferedChannel<(u64, u64)>, consumers: usize) -> Vec<Vec<(u64, u64)>> {
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let tx = channel.sender();
            scope.spawn(move || {
                let mut numbers = (0..EACH).map(|n| (producer, n));
                if producer % 2 == 0 {
                    numbers.for_each(|number| tx.send(number).unwrap());
                } else {
                    tx.send_all(&mut numbers).unwrap();
                }
            });
        }
        let receive = || channel.receiver().iter().collect::<Vec<_>>();
        let receivers: Vec<_> = (0..consumers).map(|_| scope.spawn(receive)).collect();
        wait_until("everything was accepted", || {
            channel.stats().accepted == PRODUCERS * EACH
        });
        channel.close();
        receivers
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn each_producers_order_holds_at_every_consumer_while_the_channel_spills_and_refills() {
    for level in LEVELS {
        for consumers in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let channel = tiny(dir.path(), &level).open().unwrap();
            let received = consume(&channel, consumers);
            let mut all = BTreeMap::<u64, Vec<u64>>::new();
            for received in &received {
                let mut last = BTreeMap::new();
                for (producer, n) in received {
                    assert!(
                        last.insert(producer, n) < Some(n),
                        "{producer} went back to {n}"
                    );
                    all.entry(*producer).or_default().push(*n);
                }
            }
            for numbers in all.values_mut() {
                numbers.sort_unstable();
                assert_eq!(*numbers, (0..EACH).collect::<Vec<_>>(), "{level:?}");
            }
            assert_eq!(all.len() as u64, PRODUCERS);
            let stats = channel.stats();
            assert_conserved(&stats);
            assert_eq!(stats.acknowledged, PRODUCERS * EACH);
        }
    }
}

#[test]
fn one_consumer_sees_the_order_in_which_sends_were_accepted() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel = tiny(dir.path(), &level).open().unwrap();
        // The numbers are given out under a lock that is held until the send is accepted.
        let next = Mutex::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..PRODUCERS {
                let (tx, next) = (channel.sender(), &next);
                scope.spawn(move || {
                    for _ in 0..300 {
                        let mut next = next.lock().unwrap();
                        tx.send(*next).unwrap();
                        *next += 1;
                    }
                });
            }
            let rx = channel.receiver();
            for n in 0..PRODUCERS * 300 {
                assert_eq!(rx.recv_timeout(FOR_EVER), Ok(n), "{level:?}");
            }
        });
    }
}

#[test]
fn a_short_burst_that_the_consumer_catches_up_with_touches_no_disk() {
    let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
    let (tx, rx) = (channel.sender(), channel.receiver());
    for burst in 0..5 {
        tx.send_all(&mut (burst * 1_500..(burst + 1) * 1_500))
            .unwrap();
        assert_eq!(
            channel.stats().front_items,
            1_024,
            "the rest waits in staging"
        );
        for n in burst * 1_500..(burst + 1) * 1_500 {
            assert_eq!(rx.try_recv(), Ok(n), "nothing has to be waited for");
        }
    }
    let stats = channel.stats();
    assert_eq!(
        (stats.spilled, stats.blocks_written, stats.bytes_written),
        (0, 0, 0)
    );
    assert_eq!((stats.replayed, stats.blocks_read), (0, 0));
    assert_eq!(stats.acknowledged, 7_500);
}

// ---- ends ---------------------------------------------------------------------------------------

#[test]
fn a_closed_channel_gives_everything_left_and_then_says_closed() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel = tiny(dir.path(), &level).open().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        tx.send_all(&mut (0..9)).unwrap();
        channel.close();
        assert!(tx.is_closed() && rx.is_closed() && channel.is_closed());
        assert!(matches!(tx.send(9), Err(SendError::Closed(9))));
        assert!(matches!(tx.try_send(9), Err(TrySendError::Closed(9))));
        assert!(matches!(
            tx.send_timeout(9, FOR_EVER),
            Err(SendTimeoutError::Closed(9))
        ));
        let mut source = 9..12;
        assert!(matches!(
            tx.send_all(&mut source),
            Err(SendError::Closed(9))
        ));
        assert_eq!(source, 10..12, "only the item that came back was taken");
        assert_eq!(rx.iter().collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.recv_timeout(FOR_EVER), Err(RecvTimeoutError::Closed));
        assert_eq!(rx.recv_many(&mut Vec::new(), 3), Err(RecvError::Closed));
        assert_eq!(channel.halt().unwrap().saved, 0);
        assert_eq!(rx.recv(), Err(RecvError::Halted));
    }
}

#[test]
fn a_halt_wakes_everybody_and_gives_items_back() {
    let dir = tempfile::tempdir().unwrap();
    let channel: DiskBufferedChannel<u32> = tiny(dir.path(), &LEVELS[0])
        .disk_free_min(u64::MAX)
        .open()
        .unwrap();
    let (tx, rx) = (channel.sender(), channel.receiver());
    tx.send_all(&mut (0..2)).unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| tx.send(7));
        wait_until("the sender met a full disk", || {
            channel.stats().stalled.is_some()
        });
        assert_eq!(channel.halt().unwrap().saved, 2);
        assert!(matches!(sender.join().unwrap(), Err(SendError::Halted(7))));
    });
    assert!(matches!(tx.try_send(8), Err(TrySendError::Halted(8))));
    assert!(matches!(
        tx.send_timeout(8, FOR_EVER),
        Err(SendTimeoutError::Halted(8))
    ));
    assert!(matches!(
        tx.send_all(&mut [8].into_iter()),
        Err(SendError::Halted(8))
    ));
    assert_eq!(rx.recv(), Err(RecvError::Halted), "what is left is on disk");
    assert_eq!(rx.try_recv(), Err(TryRecvError::Halted));
    assert_eq!(rx.recv_timeout(FOR_EVER), Err(RecvTimeoutError::Halted));
    assert_eq!(channel.sync(), Err(SyncError::Halted));
    assert_eq!(
        channel.halt().unwrap().saved,
        2,
        "a second halt says the same"
    );
}

#[test]
fn a_halt_wakes_a_receiver_that_waits_for_an_item() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel: DiskBufferedChannel<u32> = tiny(dir.path(), &level).open().unwrap();
        let rx = channel.receiver();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| rx.recv());
            channel.halt().unwrap();
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Halted));
        });
    }
}

#[test]
fn the_channel_handle_and_every_sender_keep_the_intake_open_and_control_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (tx, rx, control) = tiny(dir.path(), &LEVELS[0]).open().unwrap().split();
    let other = tx.clone();
    drop(tx);
    assert!(!control.is_closed(), "one sender is left");
    other.send(1).unwrap();
    drop(other);
    assert!(control.is_closed());
    assert_eq!(rx.recv(), Ok(1), "what is left can be taken");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    drop((rx, control));

    let channel: DiskBufferedChannel<u32> = tiny(dir.path(), &LEVELS[0]).open().unwrap();
    let rx = channel.receiver();
    assert_eq!(
        rx.try_recv(),
        Err(TryRecvError::Empty),
        "the channel handle can make senders"
    );
}

#[test]
fn without_receivers_a_send_is_closed_and_nothing_is_lost() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let (tx, rx, control) = tiny::<u32>(dir.path(), &level).open().unwrap().split();
        tx.send_all(&mut (0..7)).unwrap();
        drop(rx.clone());
        tx.send(7).unwrap();
        drop(rx);
        assert!(matches!(tx.send(8), Err(SendError::Closed(8))));
        assert_eq!(control.stats().pending, 8);
        drop((tx, control));
        let channel: DiskBufferedChannel<u32> = tiny(dir.path(), &level).open().unwrap();
        channel.close();
        assert_eq!(
            channel.receiver().iter().collect::<Vec<_>>(),
            (0..8).collect::<Vec<_>>()
        );
    }
}

// ---- room and time ------------------------------------------------------------------------------

#[test]
fn a_full_channel_answers_as_its_policy_says() {
    let answers = [
        WhenFull::Block,
        WhenFull::Reject,
        WhenFull::DropNewest,
        WhenFull::DropOldest,
    ];
    for policy in answers {
        let dir = tempfile::tempdir().unwrap();
        let builder = tiny(dir.path(), &LEVELS[0]).disk_free_min(u64::MAX);
        let channel = builder.when_full(policy).open().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        tx.send_all(&mut (0..2)).unwrap();
        let timed = tx.send_timeout(2, Duration::from_millis(1));
        match policy {
            WhenFull::Reject => {
                assert!(matches!(
                    timed,
                    Err(SendTimeoutError::Failed(SendError::Full(2)))
                ));
                assert!(matches!(tx.send(2), Err(SendError::Full(2))));
                assert!(matches!(tx.try_send(2), Err(TrySendError::Full(2))));
                let mut source = 2..9;
                assert!(matches!(tx.send_all(&mut source), Err(SendError::Full(2))));
                assert_eq!(source, 3..9);
            }
            WhenFull::DropNewest => {
                timed.unwrap();
                tx.send(2).unwrap();
                assert_eq!(tx.send_all(&mut (3..5)).unwrap(), 2);
                assert_eq!(channel.stats().dropped.full, 4);
            }
            _ => {
                assert!(
                    matches!(timed, Err(SendTimeoutError::Timeout(2))),
                    "front is never dropped"
                );
                assert!(matches!(tx.try_send(2), Err(TrySendError::Full(2))));
            }
        }
        assert_conserved(&channel.stats());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1]);
        tx.try_send(9).unwrap();
        assert_eq!(rx.recv(), Ok(9), "room is where front has room: {policy:?}");
    }
}

/// Staging had no room for the next item, and what filled it was one block that was still open: nobody wrote it, and
/// the sender waited for ever.
#[test]
fn a_sender_that_finds_no_room_in_staging_has_the_open_block_written() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel = tiny(dir.path(), &level)
            .memory_bytes_max(256)
            .open()
            .unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        let sizes = || (0..40).map(|n| vec![7_u8; n * 13 % 100]);
        sizes().take(20).for_each(|item| tx.send(item).unwrap());
        tx.send_all(&mut sizes().skip(20)).unwrap();
        for item in sizes() {
            assert_eq!(rx.recv_timeout(FOR_EVER), Ok(item), "{level:?}");
        }
    }
}

/// `send_all` waited for a place before it asked the iterator, also when that had nothing left.
#[test]
fn a_batch_that_just_fits_needs_no_further_room() {
    let dir = tempfile::tempdir().unwrap();
    let full = tiny(dir.path(), &LEVELS[0]).disk_free_min(u64::MAX);
    let channel: DiskBufferedChannel<u32> = full.open().unwrap();
    assert_eq!(channel.sender().send_all(&mut (0..2)).unwrap(), 2);
    assert_eq!(channel.sender().send_all(&mut (0..0)).unwrap(), 0);
}

/// `send_all` had a place for an item whose size nobody knew yet, admitted it, and waited for its durability on a disk
/// that had no room for it.
#[test]
fn a_batch_is_refused_at_the_first_item_that_is_larger_than_the_room() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let builder = tiny(dir.path(), &LEVELS[1]).disk_bytes_max(1 << 20);
        let channel = builder.when_full(policy).open().unwrap();
        let sent = channel
            .sender()
            .send_all(&mut (0..400).map(|_| vec![7_u8; 8 << 10]));
        let stats = channel.stats();
        assert_conserved(&stats);
        match sent {
            Ok(count) => assert_eq!(
                (policy, count, stats.accepted),
                (WhenFull::DropNewest, 400, 400)
            ),
            Err(error) => assert!(matches!(error, SendError::Full(_)), "{error}"),
        }
        assert!(stats.pending > 0 && stats.pending < 400, "{stats:?}");
    }
}

#[test]
fn an_empty_channel_times_out() {
    let channel = DiskBufferedChannel::<u32>::temporary().unwrap();
    let rx = channel.receiver();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        rx.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Timeout)
    );
    assert_eq!(
        rx.try_recv_many(&mut Vec::new(), 4),
        Err(TryRecvError::Empty)
    );
    assert_eq!(
        rx.recv_many(&mut Vec::new(), 0),
        Ok(0),
        "none were asked for"
    );
}
