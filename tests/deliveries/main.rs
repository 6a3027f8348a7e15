//! At least once: what becomes of an item that is out, and of the channel while items are.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod limits;
mod times;

use common::{Alarm, FOR_EVER, LEVELS, assert_conserved, block_on, drain, send, wait_until};
use overspill::{
    AckError, AckReceiver, Delivery, DiskBufferedChannel, Durability, RecvError, Storage,
    TryRecvError,
};
use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tempfile::TempDir;

type Channel = DiskBufferedChannel<u64>;
type Builder = overspill::Builder<u64>;

/// Runs a scenario with every kind of channel; five items of front, the rest behind it.
fn with_each_kind(scenario: impl Fn(&dyn Fn() -> Builder)) {
    let interval = Durability::Interval(Duration::from_millis(1));
    for (storage, durability) in LEVELS.into_iter().chain([(Storage::Log, interval)]) {
        let dir = tempfile::tempdir().unwrap();
        scenario(&|| {
            Channel::builder(dir.path().join("spool"))
                .storage(storage)
                .durability(durability.clone())
                .memory_items(5)
                .block_bytes(40)
        });
    }
}

fn open(dir: &TempDir) -> Channel {
    builder(dir.path()).open().unwrap()
}

fn builder(dir: &Path) -> Builder {
    Channel::builder(dir.join("spool"))
        .storage(Storage::Log)
        .memory_items(5)
        .block_bytes(40)
}

fn take(rx: &AckReceiver<u64>, count: usize) -> Vec<Delivery<u64>> {
    (0..count)
        .map(|_| rx.recv_timeout(FOR_EVER).unwrap())
        .collect()
}

fn numbers(deliveries: &[Delivery<u64>]) -> Vec<u64> {
    deliveries.iter().map(|delivery| **delivery).collect()
}

#[test]
fn released_items_come_back_first_in_their_order_and_no_failure_is_counted() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        let mut out = take(&rx, 12);
        assert_eq!(channel.stats().in_flight, 12);
        for index in [7, 2, 5] {
            out.remove(index).release();
        }
        let again = take(&rx, 4);
        assert_eq!(numbers(&again), [2, 6, 7, 12]);
        assert!(again.iter().all(|delivery| delivery.attempt() == 1));
        let stats = channel.stats();
        assert_eq!((stats.redelivered, stats.in_flight), (3, 13));
        assert_conserved(&stats);
        drop(out);
        drop(again);
        assert_eq!(drain(&channel), (0..20).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
    });
}

#[test]
fn failures_are_counted_and_survive_a_restart() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..3);
        for attempt in 1..4 {
            let delivery = rx.recv().unwrap();
            assert_eq!((*delivery, delivery.attempt()), (0, attempt));
            delivery.nack();
        }
        rx.recv().unwrap().release();
        drop(rx);
        channel.halt().unwrap();
        drop(channel);

        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        let attempts: Vec<_> = take(&rx, 3).iter().map(|d| (**d, d.attempt())).collect();
        assert_eq!(attempts, [(0, 4), (1, 1), (2, 1)]);
    });
}

#[test]
fn a_consumer_that_panics_gives_its_item_back_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..2);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _delivery = rx.recv().unwrap();
        panic!("as a consumer may");
    }));
    assert!(panicked.is_err());
    let again = take(&rx, 2);
    let attempts: Vec<_> = again.iter().map(|d| (**d, d.attempt())).collect();
    assert_eq!(attempts, [(0, 2), (1, 1)]);
}

#[test]
fn a_halt_saves_what_is_out_in_its_place_and_a_late_ack_says_so() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        let mut out = take(&rx, 12);
        for index in [9, 4, 0] {
            out.remove(index).ack().unwrap();
        }
        out.remove(0).nack_after(FOR_EVER);
        out.remove(0).release();
        let report = channel.halt().unwrap();
        assert_eq!((report.saved, report.in_flight), (17, 7));
        assert_eq!(rx.recv().unwrap_err(), RecvError::Halted);
        let mut late = out.into_iter();
        assert_eq!(late.next().unwrap().ack(), Err(AckError::TooLate));
        assert_eq!(late.next().unwrap().ack_and_take(), 5);
        late.next().unwrap().nack();
        late.next().unwrap().dead_letter("too late as well");
        assert_conserved(&channel.stats());
        drop(late);
        drop(rx);
        drop(channel);

        let channel = builder().open().unwrap();
        assert_eq!(channel.open_report().replayed, 17);
        let expected: Vec<u64> = (0..20).filter(|n| ![0, 4, 9].contains(n)).collect();
        assert_eq!(drain(&channel), expected);
        let stats = channel.stats();
        assert_conserved(&stats);
        assert_eq!((stats.acknowledged, stats.accepted), (20, 20));
    });
}

#[test]
fn acknowledgements_in_any_order_survive_a_halt_exactly() {
    with_each_kind(|builder| {
        let channel = builder().memory_items(400).open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..1000);
        for delivery in take(&rx, 900) {
            if *delivery % 3 == 1 {
                delivery.ack().unwrap();
            }
        }
        drop(rx);
        channel.halt().unwrap();
        drop(channel);
        let channel = builder().open().unwrap();
        let left: Vec<u64> = (0..1000).filter(|n| *n >= 900 || n % 3 != 1).collect();
        assert_eq!(drain(&channel), left);
    });
}

#[test]
fn a_receiver_is_told_closed_only_when_nothing_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let (acking, plain) = (channel.acking_receiver(), channel.receiver());
    send(&channel, 0..2);
    let out = take(&acking, 2);
    channel.close();
    assert_eq!(acking.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(plain.try_recv(), Err(TryRecvError::Empty));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| acking.recv().map(Delivery::ack_and_take));
        let mut out = out.into_iter();
        out.next().unwrap().ack().unwrap();
        out.next().unwrap().release();
        assert_eq!(waiting.join().unwrap(), Ok(1));
    });
    assert_eq!(acking.recv().unwrap_err(), RecvError::Closed);
    assert_eq!(plain.recv(), Err(RecvError::Closed));
}

#[test]
fn a_sender_that_waits_for_the_disk_goes_on_when_front_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path())
        .memory_items(2)
        // There is no room on disk for anything.
        .disk_free_min(u64::MAX)
        .open()
        .unwrap();
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    send(&channel, 0..2);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| tx.send(2));
        wait_until("it waits", || channel.stats().stalled.is_some());
        let _out = take(&rx, 2);
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn a_drain_waits_for_what_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    let out = rx.recv().unwrap();
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| channel.drain(FOR_EVER).unwrap());
        wait_until("the intake is closed", || channel.is_closed());
        out.ack().unwrap();
        assert_eq!(draining.join().unwrap().saved, 0);
    });

    let channel = open(&dir);
    send(&channel, 1..2);
    let rx = channel.acking_receiver();
    let out = rx.recv().unwrap();
    let report = channel.drain(Duration::from_millis(10)).unwrap();
    assert_eq!((report.saved, report.in_flight), (1, 1));
    assert_eq!(out.ack(), Err(AckError::TooLate));
}

#[test]
fn plain_receivers_take_what_was_released_first() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    send(&channel, 0..9);
    let out = take(&channel.acking_receiver(), 3);
    let rx = channel.receiver();
    assert_eq!(rx.recv(), Ok(3));
    drop(out);
    channel.close();
    assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 7, 8]);
    assert_conserved(&channel.stats());
}

#[test]
fn every_async_verb_delivers_and_its_drop_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    {
        let alarm = Alarm::new();
        let mut one = pin!(rx.recv_async());
        let mut many = Vec::new();
        let mut several = pin!(rx.recv_many_async(&mut many, 2));
        assert!(alarm.poll(one.as_mut()).is_pending());
        assert!(alarm.poll(several.as_mut()).is_pending());
        tx.send(0).unwrap();
        alarm.wait();
    }
    assert_eq!(channel.stats().pending, 1);
    let mut many = Vec::new();
    send(&channel, 1..4);
    assert_eq!(block_on(rx.recv_many_async(&mut many, 3)), Ok(3));
    assert_eq!(numbers(&many), [0, 1, 2]);
    let mut stream = Box::pin(rx.stream());
    let next = block_on(std::future::poll_fn(|cx| {
        futures_core::Stream::poll_next(stream.as_mut(), cx)
    }));
    assert_eq!(next.map(Delivery::ack_and_take), Some(3));
    many.clear();
    assert_eq!(drain(&channel), [0, 1, 2]);
    let ended = futures_core::Stream::poll_next(
        stream.as_mut(),
        &mut std::task::Context::from_waker(std::task::Waker::noop()),
    );
    assert!(matches!(ended, Poll::Ready(None)));
}

#[test]
fn what_was_synced_survives_a_crash_also_while_it_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..9);
    let mut out = take(&rx, 4);
    out.remove(3).release();
    assert!(channel.stats().at_risk_items >= 5);
    channel.sync().unwrap();
    assert_eq!(channel.stats().at_risk_items, 0);
    out.remove(1).ack_sync().unwrap();
    channel.crash();
    assert_eq!(out.remove(0).ack(), Err(AckError::TooLate));
    drop((out, rx, channel));

    let channel = open(&dir);
    assert_eq!(drain(&channel), [0, 2, 3, 4, 5, 6, 7, 8]);
    assert_conserved(&channel.stats());
}

#[test]
fn an_acknowledgement_that_was_put_on_the_device_is_never_forgotten() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        channel.sync().unwrap();
        let mut out = take(&rx, 10);
        out.remove(6).ack_sync().unwrap();
        block_on(out.remove(2).ack_sync_async()).unwrap();
        channel.crash();
        drop((out, rx, channel));
        let channel = builder().open().unwrap();
        let left: Vec<u64> = (0..20).filter(|n| ![2, 6].contains(n)).collect();
        assert_eq!(drain(&channel), left);
    });
}

#[test]
fn no_two_items_ever_have_one_id() {
    with_each_kind(|builder| {
        let mut seen = HashSet::new();
        for round in 0..6_u64 {
            let channel = builder().open().unwrap();
            let rx = channel.acking_receiver();
            send(&channel, round * 10..round * 10 + 10);
            for delivery in take(&rx, 8) {
                let (id, item) = (delivery.id(), *delivery);
                // An item that comes again has the id that it had.
                let others = seen.iter().filter(|(known, _)| *known == id);
                assert!(others.clone().all(|(_, of)| *of == item), "{id}");
                seen.insert((id, item));
                if item % 2 == 0 {
                    delivery.ack().unwrap();
                }
            }
            drop(rx);
            if round % 2 == 0 {
                channel.crash();
            } else {
                channel.halt().unwrap();
            }
        }
    });
}

#[test]
fn a_delivery_outlives_every_handle_and_says_that_it_is_too_late() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..2);
    let out = rx.recv().unwrap();
    drop(rx);
    drop(channel);
    assert_eq!(out.ack(), Err(AckError::TooLate));
    let channel = open(&dir);
    assert_eq!(drain(&channel), [0, 1]);
}

#[test]
fn a_future_that_was_woken_for_an_item_and_is_dropped_passes_it_on() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    let out = rx.recv().unwrap();
    let (first, second) = (Alarm::new(), Alarm::new());
    let mut waiting = pin!(rx.recv_async());
    {
        let mut woken: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(rx.recv_async());
        assert!(first.poll(woken.as_mut()).is_pending());
        assert!(second.poll(waiting.as_mut()).is_pending());
        out.release();
        assert!(first.rang() && !second.rang());
    }
    second.wait();
    assert!(matches!(second.poll(waiting.as_mut()), Poll::Ready(Ok(delivery)) if *delivery == 0));
}

#[test]
fn what_a_crash_takes_from_memory_is_unaccounted_also_where_younger_items_were_finished() {
    const ITEM_BYTES: usize = 64 << 10;
    for storage in [Storage::Sled, Storage::Log] {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            DiskBufferedChannel::<Vec<u8>>::builder(dir.path().join("spool"))
                .storage(storage)
                .memory_items(1)
                .segment_bytes(1 << 20)
                .open()
                .unwrap()
        };
        let channel = open();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        tx.send(vec![0; ITEM_BYTES]).unwrap();
        let only_in_memory = rx.recv().unwrap();
        tx.send_all(&mut (0..600).map(|_| vec![1; ITEM_BYTES]))
            .unwrap();
        for _ in 0..100 {
            rx.recv().unwrap().ack().unwrap();
        }
        wait_until("the rest is on disk", || channel.stats().at_risk_items == 1);
        let full = channel.stats().disk_bytes;
        for _ in 0..350 {
            rx.recv().unwrap().ack().unwrap();
        }
        wait_until("whole units behind the item in hand are given back", || {
            channel.stats().disk_bytes < full
        });
        channel.crash();
        drop((only_in_memory, tx, rx, channel));

        let channel = open();
        channel.close();
        for delivery in &channel.acking_receiver() {
            delivery.ack().unwrap();
        }
        let stats = channel.stats();
        assert_eq!(stats.lost, 0, "{storage:?}: nothing was damaged: {stats:?}");
        assert_eq!(stats.unaccounted, 1, "{storage:?}: {stats:?}");
        assert_conserved(&stats);
    }
}
