//! Delays and ages.

use super::{builder, open, with_each_kind};
use crate::common::{FOR_EVER, assert_conserved, drain, send};
use overspill::{RecvTimeoutError, TryRecvError};
use std::time::Duration;

#[test]
fn a_delayed_item_waits_for_its_time_and_then_goes_first() {
    with_each_kind(|builder| {
        let channel = builder().manual_clock().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..8);
        rx.recv().unwrap().nack_after(Duration::from_secs(10));
        rx.recv().unwrap().nack_after(Duration::from_secs(5));
        assert_eq!(rx.recv().unwrap().ack_and_take(), 2);
        channel.advance_clock(Duration::from_millis(4_999));
        assert_eq!(rx.recv().unwrap().ack_and_take(), 3);
        channel.advance_clock(Duration::from_millis(1));
        let delivery = rx.recv().unwrap();
        assert_eq!((*delivery, delivery.attempt()), (1, 2));
        delivery.ack().unwrap();
        assert_eq!(rx.recv().unwrap().ack_and_take(), 4);
        channel.advance_clock(Duration::from_secs(5));
        assert_eq!(rx.recv().unwrap().ack_and_take(), 0);
        assert_conserved(&channel.stats());
    });
}

#[test]
fn a_receiver_that_waits_is_woken_when_a_delay_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let channel = open(&dir);
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    rx.recv().unwrap().nack_after(Duration::from_millis(20));
    assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(*rx.recv_timeout(FOR_EVER).unwrap(), 0);
}

#[test]
fn failures_in_a_row_wait_longer_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let second = Duration::from_secs(1);
    let channel = builder(dir.path())
        .backoff(second, 3 * second)
        .manual_clock()
        .open()
        .unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    for wait in [1_000, 2_000, 3_000, 3_000] {
        rx.recv().unwrap().nack();
        channel.advance_clock(Duration::from_millis(wait - 1));
        assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
        channel.advance_clock(Duration::from_millis(1));
    }
    assert_eq!(rx.try_recv().unwrap().attempt(), 5);
}

#[test]
fn items_that_are_too_old_are_dropped_and_counted_and_the_young_ones_are_not() {
    with_each_kind(|builder| {
        let hour = Duration::from_secs(3600);
        let channel = builder().max_age(hour).manual_clock().open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..12);
        let kept = rx.recv().unwrap();
        channel.advance_clock(hour / 2);
        send(&channel, 12..24);
        channel.advance_clock(hour / 2 + hour / 15);
        let delivery = rx.recv().unwrap();
        assert_eq!(*delivery, 12);
        let stats = channel.stats();
        assert_eq!(stats.dropped.expired, 11);
        assert_conserved(&stats);
        // What is out is nobody's to drop.
        kept.ack().unwrap();
        delivery.release();
        channel.advance_clock(hour);
        assert_eq!(
            rx.recv_timeout(Duration::from_millis(1)).unwrap_err(),
            RecvTimeoutError::Timeout
        );
        let stats = channel.stats();
        assert_eq!((stats.dropped.expired, stats.pending), (23, 0));
        assert_conserved(&stats);
    });
}

#[test]
fn ages_go_on_across_a_restart() {
    with_each_kind(|builder| {
        let hour = Duration::from_secs(3600);
        let builder = builder().max_age(hour).manual_clock();
        let channel = builder.clone().open().unwrap();
        send(&channel, 0..12);
        channel.halt().unwrap();
        // Too little in either run, and enough in both.
        channel.advance_clock(hour / 2);
        drop(channel);
        let channel = builder.open().unwrap();
        send(&channel, 12..13);
        channel.advance_clock(hour / 2 + hour / 8);
        assert_eq!(drain(&channel), [12]);
        let stats = channel.stats();
        assert_eq!(stats.dropped.expired, 12);
        assert_conserved(&stats);
    });
}
