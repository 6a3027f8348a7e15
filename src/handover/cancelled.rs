//! Waits that are given up: whoever leaves after it was woken hands the wake-up on.

use super::{assert_conserved, explore, explore_in, poll_once, receive_all, send_each};
use crate::{Durability, Receiver, RecvTimeoutError};
use futures_core::Stream;
use futures_sink::Sink;
use shuttle::thread;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// One receiver gives up and one waits for ever; an item that the first didn't take reaches the second.
fn given_up(name: &'static str, give_up: fn(Receiver<u32>) -> Option<u32>) {
    explore(name, move |spool| {
        let (tx, rx, control) = spool.split();
        let other = rx.clone();
        let waiting = thread::spawn(move || rx.recv().unwrap());
        let giving_up = thread::spawn(move || give_up(other));
        tx.send(1).unwrap();
        let taken = giving_up.join().unwrap();
        if taken.is_some() {
            tx.send(2).unwrap();
        }
        let expected = if taken == Some(1) { 2 } else { 1 };
        assert_eq!(waiting.join().unwrap(), expected);
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_receive_future_that_is_dropped_hands_its_wake_up_on() {
    given_up("recv_async dropped", |rx| {
        let mut future = pin!(rx.recv_async());
        for _ in 0..2 {
            if let Poll::Ready(item) = poll_once(future.as_mut()) {
                return item.ok();
            }
            thread::yield_now();
        }
        None
    });
}

#[test]
fn a_receive_that_times_out_hands_its_wake_up_on() {
    given_up("recv_timeout", |rx| {
        match rx.recv_timeout(Duration::from_millis(1)) {
            Ok(item) => Some(item),
            Err(error) => {
                assert_eq!(error, RecvTimeoutError::Timeout);
                None
            }
        }
    });
}

#[test]
fn an_idle_stream_keeps_nobody_asleep() {
    explore("idle stream", |spool| {
        let (tx, rx, _control) = spool.split();
        let mut stream = rx.clone().stream();
        let waiting = thread::spawn(move || rx.recv().unwrap());
        let idle = thread::spawn(move || {
            let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
            let polled = poll_once(pin!(next));
            (stream, polled)
        });
        tx.send(1).unwrap();
        let (stream, polled) = idle.join().unwrap();
        if polled.is_ready() {
            tx.send(2).unwrap();
        }
        let expected = if polled.is_ready() { 2 } else { 1 };
        assert_eq!(waiting.join().unwrap(), expected);
        drop(stream);
    });
}

#[test]
fn a_send_that_is_given_up_hands_its_wake_up_on() {
    explore_in("send_async dropped", &[Durability::Spill], |spool| {
        let (tx, rx, control) = spool.split_on_a_full_disk();
        tx.send(0).unwrap();
        let giving_up = tx.clone();
        let giving_up = thread::spawn(move || {
            let mut future = pin!(giving_up.send_async(1));
            for _ in 0..2 {
                if let Poll::Ready(sent) = poll_once(future.as_mut()) {
                    sent.unwrap();
                    return true;
                }
                thread::yield_now();
            }
            false
        });
        let waiting = thread::spawn(move || tx.send(2).unwrap());
        assert_eq!(rx.recv().unwrap(), 0);
        let sent = giving_up.join().unwrap();
        let first = rx.recv().unwrap();
        if sent {
            assert_eq!(first + rx.recv().unwrap(), 3);
        } else {
            assert_eq!(first, 2);
        }
        waiting.join().unwrap();
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_sink_that_is_dropped_hands_its_place_on() {
    explore_in("sink dropped", &[Durability::Spill], |spool| {
        let (tx, rx, control) = spool.split_on_a_full_disk();
        let mut sink = tx.clone().sink();
        let reserving = thread::spawn(move || {
            let ready = poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx));
            let _ = poll_once(pin!(ready));
            drop(sink);
        });
        let waiting = thread::spawn(move || tx.send(1).unwrap());
        waiting.join().unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        reserving.join().unwrap();
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_dropped_send_leaves_its_item_in_or_out_and_never_in_between() {
    explore("send_async dropped, item in or out", |spool| {
        let (tx, rx, control) = spool.split();
        let giving_up = tx.clone();
        let giving_up = thread::spawn(move || {
            for item in 10..13 {
                let _ = poll_once(pin!(giving_up.send_async(item)));
            }
        });
        let producer = send_each(tx, 0..4);
        let (received, _) = receive_all(rx).join().unwrap();
        giving_up.join().unwrap();
        assert_eq!(producer.join().unwrap(), 4);
        super::assert_in_order(&received, &(10..13));
        let own: Vec<u32> = received.into_iter().filter(|item| *item < 10).collect();
        assert_eq!(own, [0, 1, 2, 3]);
        assert_conserved(&control.stats());
    });
}
