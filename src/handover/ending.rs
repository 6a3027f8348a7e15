//! Channels that end while items move.

use super::{
    assert_complete, assert_conserved, assert_in_order, explore, explore_in, poll_once,
    receive_all, send_batch, send_each,
};
use crate::{Durability, RecvError};
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
fn a_batch_that_a_halt_overtakes_is_saved_or_given_back() {
    explore("halt, send_all", |spool| {
        let (tx, _rx, control) = spool.split();
        let producer = send_batch(tx, 0..4);
        control.halt().unwrap();
        let end = producer.join().unwrap();
        assert_eq!(spool.left(), (0..end).collect::<Vec<_>>());
    });
}

#[test]
fn two_halts_with_leftovers_save_a_batch_that_comes_meanwhile() {
    explore("two halts, send_all, leftovers", |spool| {
        let (tx, rx, control) = spool.split();
        let producer = send_batch(tx, 0..6);
        let consumer = receive_all(rx);
        let other = control.clone();
        let halted = thread::spawn(move || other.halt_with(10..12));
        let lost = control.halt().err();
        let (own, others) = (lost, halted.join().unwrap().err());
        let returned: Vec<u32> = [own, others]
            .into_iter()
            .flatten()
            .flat_map(crate::HaltError::into_items)
            .collect();
        let fed = producer.join().unwrap();
        let (mut all, _) = consumer.join().unwrap();
        all.extend(spool.left());
        all.extend(returned);
        assert_in_order(&all, &(0..6));
        assert_in_order(&all, &(10..12));
        assert_complete(all, [0..fed, 10..12]);
    });
}

#[test]
fn a_closed_channel_delivers_what_it_accepted() {
    explore("close while both ends work", |spool| {
        let (tx, rx, control) = spool.split();
        let consumer = receive_all(rx);
        let (single, batch) = (send_each(tx.clone(), 0..4), send_batch(tx, 10..14));
        control.close();
        let (received, end) = consumer.join().unwrap();
        assert_eq!(end, RecvError::Closed);
        assert_in_order(&received, &(0..4));
        assert_in_order(&received, &(10..14));
        assert_complete(
            received,
            [0..single.join().unwrap(), 10..batch.join().unwrap()],
        );
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_drain_ends_with_the_last_item_though_nobody_looks_for_another() {
    explore("drain and a consumer that counts", |spool| {
        let (tx, rx, control) = spool.split();
        assert_eq!(send_each(tx, 0..4).join().unwrap(), 4);
        let consumer = thread::spawn(move || {
            let received = [(); 4].map(|()| rx.recv().unwrap());
            (rx, received)
        });
        // So long that it never passes: the last item must end it.
        let report = control.drain(Duration::from_secs(3600)).unwrap();
        assert_eq!(report.saved, 0);
        assert_eq!(consumer.join().unwrap().1, [0, 1, 2, 3]);
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
