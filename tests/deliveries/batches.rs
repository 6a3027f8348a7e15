//! Deliveries that are received together.

use super::{open, with_each_kind};
use crate::common::{Alarm, FOR_EVER, assert_conserved, block_on, drain, send, wait_until};
use std::pin::pin;
use std::time::Duration;

#[test]
fn a_batch_is_acknowledged_in_parts_and_the_rest_goes_back() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        let mut batch = rx.recv_batch(6, u64::MAX, FOR_EVER).unwrap();
        assert_eq!(
            batch.iter().copied().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        batch.ack_first(2).unwrap();
        batch.ack_first(1).unwrap();
        assert_eq!(batch.len(), 3);
        let mut deliveries = batch.into_deliveries();
        deliveries.remove(1).ack().unwrap();
        drop(deliveries);
        let batch = rx.recv_batch(3, u64::MAX, FOR_EVER).unwrap();
        assert_eq!((&batch).into_iter().copied().collect::<Vec<_>>(), [3, 5, 6]);
        batch.ack().unwrap();
        assert_conserved(&channel.stats());
        assert_eq!(drain(&channel), (7..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_batch_ends_at_its_bytes_but_holds_one_item_at_least() {
    with_each_kind(|builder| {
        let channel = builder().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        let batch = rx.recv_batch(100, 0, FOR_EVER).unwrap();
        assert_eq!(batch.len(), 1);
        // However they came, these numbers are encoded in one to five bytes.
        let more = rx.recv_batch(100, 12, FOR_EVER).unwrap();
        assert!((2..=12).contains(&more.len()), "{more:?}");
        assert_eq!(more.iter().next(), Some(&1));
        drop((batch, more));
        assert_eq!(
            channel.stats().redelivered,
            0,
            "nobody has seen them twice yet"
        );
        assert_eq!(drain(&channel), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_batch_lingers_for_more_and_no_longer_than_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    send(&channel, 0..2);
    let batch = rx
        .recv_batch(5, u64::MAX, Duration::from_millis(20))
        .unwrap();
    assert_eq!(batch.len(), 2);
    batch.ack().unwrap();

    send(&channel, 2..3);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| rx.recv_batch(3, u64::MAX, FOR_EVER).unwrap());
        wait_until("the first is out", || channel.stats().in_flight == 1);
        tx.send(3).unwrap();
        tx.send(4).unwrap();
        let batch = waiting.join().unwrap();
        assert_eq!(batch.iter().copied().collect::<Vec<_>>(), [2, 3, 4]);
    });
    // After a close nothing more can come, so it doesn't wait.
    channel.close();
    assert_eq!(rx.recv_batch(9, u64::MAX, FOR_EVER).unwrap().len(), 3);
}

#[test]
fn an_async_batch_lingers_without_a_runtime_and_gives_all_back_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    send(&channel, 0..2);
    let batch = block_on(rx.recv_batch_async(5, u64::MAX, Duration::from_millis(20))).unwrap();
    assert_eq!(batch.len(), 2);
    batch.ack().unwrap();

    let alarm = Alarm::new();
    {
        let mut future = pin!(rx.recv_batch_async(3, u64::MAX, FOR_EVER));
        assert!(alarm.poll(future.as_mut()).is_pending());
        tx.send(2).unwrap();
        assert!(alarm.poll(future.as_mut()).is_pending());
        assert_eq!(channel.stats().in_flight, 1);
    }
    let stats = channel.stats();
    assert_eq!((stats.in_flight, stats.pending), (0, 1));
    let delivery = rx.try_recv().unwrap();
    assert_eq!((*delivery, channel.stats().redelivered), (2, 0));
}

/// A batch took what had come back, and was dropped before anybody had it: that was counted as a redelivery, and so was the
/// next one.
#[test]
fn a_repeated_item_that_nobody_got_to_see_is_not_counted_as_redelivered() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..2);
    rx.recv().unwrap().nack();
    let alarm = Alarm::new();
    {
        let mut future = pin!(rx.recv_batch_async(3, u64::MAX, FOR_EVER));
        assert!(alarm.poll(future.as_mut()).is_pending());
        assert_eq!(channel.stats().in_flight, 2);
    }
    assert_eq!(channel.stats().redelivered, 0);
    let batch = rx.recv_batch(2, u64::MAX, Duration::ZERO).unwrap();
    assert_eq!(batch.len(), 2);
    let stats = channel.stats();
    assert_eq!(stats.redelivered, 1, "only one of them was out before");
    assert_conserved(&stats);
}
