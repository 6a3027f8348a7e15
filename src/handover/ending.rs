//! Channels that end while items move.

use super::{
    assert_conserved, assert_in_order, explore, explore_in, poll_once, receive_all, send_each,
};
use crate::Durability;
use shuttle::thread;
use std::pin::pin;
use std::time::Duration;

#[test]
fn a_halt_at_any_moment_loses_and_repeats_nothing() {
    explore("halt, reopen", |spool| {
        let (tx, rx, control) = spool.split();
        let (producer, consumer) = (send_each(tx, 0..7), receive_all(rx));
        control.halt().unwrap();
        let accepted = producer.join().unwrap();
        let (mut all, _) = consumer.join().unwrap();
        assert_conserved(&control.stats());
        all.extend(spool.left());
        assert_eq!(all, (0..accepted).collect::<Vec<_>>());
    });
}

#[test]
fn a_drain_waits_for_consumers_and_saves_the_rest() {
    explore("drain", |spool| {
        let (tx, rx, control) = spool.split();
        let (producer, consumer) = (send_each(tx, 0..6), receive_all(rx));
        control.drain(Duration::from_millis(1)).unwrap();
        let accepted = producer.join().unwrap();
        let (mut all, _) = consumer.join().unwrap();
        all.extend(spool.left());
        assert_eq!(all, (0..accepted).collect::<Vec<_>>());
    });
}

#[test]
fn the_last_handle_saves_what_nobody_took() {
    explore("last handle dropped", |spool| {
        let (tx, rx, control) = spool.split();
        drop(control);
        let producer = send_each(tx, 0..6);
        let consumer = thread::spawn(move || rx.iter().take(3).collect::<Vec<_>>());
        let mut all = consumer.join().unwrap();
        let accepted = producer.join().unwrap();
        all.extend(spool.left());
        assert_eq!(all, (0..accepted).collect::<Vec<_>>());
    });
}

#[test]
fn a_halt_that_nobody_awaits_goes_on() {
    explore("halt_async dropped", |spool| {
        let (tx, rx, control) = spool.split();
        let (producer, consumer) = (send_each(tx, 0..4), receive_all(rx));
        let _ = poll_once(pin!(control.halt_async()));
        let (mut all, _) = consumer.join().unwrap();
        let accepted = producer.join().unwrap();
        control.halt().unwrap();
        drop(control);
        all.extend(spool.left());
        assert_eq!(all, (0..accepted).collect::<Vec<_>>());
    });
}

#[test]
fn a_crash_leaves_no_sender_waiting_for_durability() {
    explore_in("crash", &[Durability::Process], |spool| {
        let (tx, rx, control) = spool.split();
        let producer = send_each(tx, 0..3);
        control.crash();
        let accepted = producer.join().unwrap();
        drop((rx, control));
        let left = spool.left();
        assert_in_order(&left, &(0..3));
        assert!(left.len() >= accepted as usize, "{left:?}");
    });
}
