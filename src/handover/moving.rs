//! Items on their way.

use super::{
    assert_complete, assert_conserved, assert_in_order, explore, explore_in, receive_all,
    send_batch, send_each,
};
use crate::store::faulty::Operation;
use crate::{Durability, RecvError, StoreError, WhenFull};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::io::ErrorKind;
use std::path::Path;

#[test]
fn one_producer_and_one_consumer_keep_order() {
    explore("one producer, one consumer", |spool| {
        let (tx, rx, control) = spool.split();
        let watching = control.clone();
        let watcher = thread::spawn(move || {
            for _ in 0..3 {
                assert_conserved(&watching.stats());
            }
        });
        let (producer, consumer) = (send_each(tx, 0..7), receive_all(rx));
        assert_eq!(producer.join().unwrap(), 7);
        let (received, end) = consumer.join().unwrap();
        assert_eq!(received, (0..7).collect::<Vec<_>>());
        assert_eq!(end, RecvError::Closed);
        watcher.join().unwrap();
        assert_conserved(&control.stats());
        control.halt().unwrap();
        assert!(spool.left().is_empty());
    });
}

#[test]
fn what_one_receiver_was_lent_is_there_for_all_and_counted() {
    explore("two receivers, and one who looks", |spool| {
        let (tx, rx, control) = spool.split();
        assert_eq!(send_each(tx.clone(), 0..4).join().unwrap(), 4);
        assert_eq!(rx.recv().unwrap(), 0);
        let watching = control.clone();
        let watcher = thread::spawn(move || {
            let mut before = 1;
            for _ in 0..3 {
                let stats = watching.stats();
                assert_conserved(&stats);
                assert!(before <= stats.acknowledged, "{stats:?}");
                before = stats.acknowledged;
            }
        });
        let producer = send_each(tx, 4..7);
        let consumers = [receive_all(rx.clone()), receive_all(rx)];
        assert_eq!(producer.join().unwrap(), 7);
        let received = consumers.map(|consumer| consumer.join().unwrap().0);
        for part in &received {
            assert_in_order(part, &(1..7));
        }
        let mut all = received.concat();
        all.sort_unstable();
        assert_eq!(all, (1..7).collect::<Vec<_>>());
        watcher.join().unwrap();
        assert_eq!(control.stats().acknowledged, 7);
    });
}

#[test]
fn senders_need_no_consumer_while_there_is_disk() {
    explore("no consumer", |spool| {
        let (tx, rx, control) = spool.split();
        let producers = [send_each(tx.clone(), 0..4), send_batch(tx, 10..14)];
        assert_eq!(producers.map(|producer| producer.join().unwrap()), [4, 14]);
        let (received, _) = receive_all(rx).join().unwrap();
        assert_in_order(&received, &(0..4));
        assert_in_order(&received, &(10..14));
        assert_complete(received, [0..4, 10..14]);
        assert_conserved(&control.stats());
    });
}

#[test]
fn two_producers_and_three_consumers_share_without_loss() {
    explore("two producers, three consumers", |spool| {
        let (tx, rx, control) = spool.split();
        let consumers = [rx.clone(), rx.clone(), rx].map(receive_all);
        let producers = [send_each(tx.clone(), 0..4), send_each(tx, 10..14)];
        let mut all = Vec::new();
        for consumer in consumers {
            let (received, end) = consumer.join().unwrap();
            assert_eq!(end, RecvError::Closed);
            assert_in_order(&received, &(0..4));
            assert_in_order(&received, &(10..14));
            all.extend(received);
        }
        assert_eq!(producers.map(|producer| producer.join().unwrap()), [4, 14]);
        assert_complete(all, [0..4, 10..14]);
        assert_conserved(&control.stats());
    });
}

#[test]
fn as_many_receivers_as_items_all_get_one() {
    explore("one item each", |spool| {
        let (tx, rx, control) = spool.split();
        let receivers = [0; 5].map(|_| {
            let rx = rx.clone();
            thread::spawn(move || rx.recv().unwrap())
        });
        (0..5).for_each(|item| tx.send(item).unwrap());
        let received = receivers.map(|receiver| receiver.join().unwrap());
        assert_complete(received.into(), std::iter::once(0..5));
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_batch_with_a_slow_consumer_keeps_order() {
    explore("send_all, slow consumer", |spool| {
        let (tx, rx, control) = spool.split();
        let (batch, single) = (send_batch(tx.clone(), 0..6), send_each(tx, 10..12));
        let consumer = thread::spawn(move || {
            let mut received = Vec::new();
            while rx.recv_many(&mut received, 2).is_ok() {
                thread::yield_now();
            }
            received
        });
        assert_eq!((batch.join().unwrap(), single.join().unwrap()), (6, 12));
        let received = consumer.join().unwrap();
        assert_in_order(&received, &(0..6));
        assert_in_order(&received, &(10..12));
        assert_complete(received, [0..6, 10..12]);
        assert_conserved(&control.stats());
    });
}

#[test]
fn senders_that_met_a_full_disk_go_on_when_items_are_taken() {
    explore_in("full disk", &[Durability::Spill], |spool| {
        let (tx, rx, control) = spool.split_on_a_full_disk();
        let (batch, single) = (send_batch(tx.clone(), 0..3), send_each(tx, 10..13));
        let (received, end) = receive_all(rx).join().unwrap();
        assert_eq!(end, RecvError::Closed);
        assert_eq!((batch.join().unwrap(), single.join().unwrap()), (3, 13));
        assert_in_order(&received, &(0..3));
        assert_in_order(&received, &(10..13));
        assert_complete(received, [0..3, 10..13]);
        assert_conserved(&control.stats());
    });
}

#[test]
fn a_sync_covers_what_was_accepted_before_it() {
    explore("sync while spilling, then a crash", |spool| {
        let (tx, rx, control) = spool.split();
        let consumer = receive_all(rx);
        (0..3).for_each(|item| tx.send(item).unwrap());
        let producer = send_each(tx.clone(), 3..6);
        control.sync().unwrap();
        control.crash();
        producer.join().unwrap();
        let (received, end) = consumer.join().unwrap();
        assert_eq!(end, RecvError::Halted);
        assert_eq!(received, (0..).take(received.len()).collect::<Vec<_>>());
        drop((tx, control));
        let left = spool.left();
        assert_in_order(&left, &(0..6));
        let covered = |item: &u32| received.contains(item) || left.contains(item);
        assert!((0..3).all(|item| covered(&item)), "{received:?} {left:?}");
    });
}

#[test]
fn a_store_that_fails_now_and_then_delays_and_loses_nothing() {
    explore("failing store", |spool| {
        let (tx, rx, control) = spool.split();
        for operation in [Operation::Append, Operation::Append, Operation::Read] {
            let successes = thread_rng().gen_range(0..3);
            let error = StoreError::io("use", Path::new("spool"), ErrorKind::StorageFull.into());
            tx.shared()
                .settings
                .faults
                .fail(operation, successes, error);
        }
        let (producer, consumer) = (send_each(tx, 0..7), receive_all(rx));
        assert_eq!(producer.join().unwrap(), 7);
        let (received, end) = consumer.join().unwrap();
        assert_eq!(end, RecvError::Closed);
        assert_eq!(received, (0..7).collect::<Vec<_>>());
        assert_conserved(&control.stats());
    });
}

#[test]
fn the_oldest_of_a_full_disk_makes_room_for_what_is_sent() {
    explore_in("drop oldest", &[Durability::Spill], |spool| {
        let (tx, rx, control) = spool.split_on_a_small_disk(WhenFull::DropOldest);
        let (producer, consumer) = (send_each(tx, 0..30), receive_all(rx));
        assert_eq!(producer.join().unwrap(), 30);
        let (received, end) = consumer.join().unwrap();
        assert_eq!(end, RecvError::Closed);
        assert_in_order(&received, &(0..30));
        let stats = control.stats();
        assert_conserved(&stats);
        assert_eq!(received.len() as u64 + stats.dropped.full, 30);
    });
}

#[test]
fn tasks_hand_over_as_threads_do() {
    explore("tasks", |spool| {
        let (tx, rx, control) = block_on(spool.builder().open_async()).unwrap().split();
        let producer = thread::spawn(move || {
            block_on(async {
                for item in 0..3 {
                    tx.send_async(item).await.unwrap();
                }
                tx.send_all_async(&mut (3..6)).await.unwrap()
            })
        });
        let consumer = thread::spawn(move || {
            block_on(async {
                let mut received = Vec::new();
                while rx.recv_many_async(&mut received, 2).await.is_ok() {}
                received
            })
        });
        block_on(control.sync_async()).unwrap();
        assert_eq!(producer.join().unwrap(), 3);
        assert_eq!(consumer.join().unwrap(), (0..6).collect::<Vec<_>>());
        block_on(control.halt_async()).unwrap();
    });
}
