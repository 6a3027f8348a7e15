//! Batches that turn out larger than the room that was promised to them: others came first.

use super::{
    Spool, assert_complete, assert_conserved, assert_in_order, explore, poll_once, receive_all,
    send_batch,
};
use crate::{Control, Receiver, RecvError, Sender};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::pin::pin;

/// Staging has room for a block or two, so that of several batches not all fit that were let in.
fn split(spool: &Spool) -> (Sender<u32>, Receiver<u32>, Control<u32>) {
    let builder = spool.builder().memory_items(1).memory_bytes_max(200);
    builder.open().unwrap().split()
}

#[test]
fn what_found_no_room_is_there_before_a_closed_channel_ends() {
    explore("batches without room, close", |spool| {
        let (tx, rx, control) = split(spool);
        let producers = [0..7, 10..17, 20..27].map(|items| send_batch(tx.clone(), items));
        drop(tx);
        let consumer = receive_all(rx);
        if thread_rng().r#gen() {
            control.close();
        }
        let (received, end) = consumer.join().unwrap();
        assert_eq!(end, RecvError::Closed);
        let ends = producers.map(|producer| producer.join().unwrap());
        let ranges = [0..ends[0], 10..ends[1], 20..ends[2]];
        for range in &ranges {
            assert_in_order(&received, range);
        }
        assert_complete(received, ranges);
        assert_conserved(&control.stats());
    });
}

#[test]
fn what_found_no_room_is_saved_by_a_halt() {
    explore("batches without room, halt", |spool| {
        let (tx, rx, control) = split(spool);
        let producers = [0..7, 10..17, 20..27].map(|items| send_batch(tx.clone(), items));
        let consumer = receive_all(rx);
        control.halt().unwrap();
        let (mut all, _) = consumer.join().unwrap();
        let ends = producers.map(|producer| producer.join().unwrap());
        assert_conserved(&control.stats());
        drop((tx, control));
        all.extend(spool.left());
        let ranges = [0..ends[0], 10..ends[1], 20..ends[2]];
        for range in &ranges {
            assert_in_order(&all, range);
        }
        assert_complete(all, ranges);
    });
}

#[test]
fn what_found_no_room_stays_in_the_channel_when_its_future_is_dropped() {
    explore("batches without room, futures dropped", |spool| {
        let (tx, rx, control) = split(spool);
        let givers = [0..7_u32, 10..17, 20..27].map(|items| {
            let tx = tx.clone();
            thread::spawn(move || {
                let mut items = items;
                let polls = thread_rng().gen_range(1..4);
                {
                    let mut sending = pin!(tx.send_all_async(&mut items));
                    for _ in 0..polls {
                        if poll_once(sending.as_mut()).is_ready() {
                            break;
                        }
                        thread::yield_now();
                    }
                }
                items.start
            })
        });
        drop(tx);
        let ends = givers.map(|giver| giver.join().unwrap());
        let (received, end) = receive_all(rx).join().unwrap();
        assert_eq!(end, RecvError::Closed);
        let ranges = [0..ends[0], 10..ends[1], 20..ends[2]];
        for range in &ranges {
            assert_in_order(&received, range);
        }
        assert_complete(received, ranges);
        assert_conserved(&control.stats());
    });
}

#[test]
fn what_found_no_room_is_received_though_nobody_polls_its_future() {
    explore("batches without room, futures kept, close", |spool| {
        let builder = spool.builder().memory_items(1).memory_bytes_max(440);
        let (tx, rx, control) = builder.open().unwrap().split();
        // What comes next is thought to be as small.
        (0..3).for_each(|item| tx.send(item).unwrap());
        let mut items = [70_000..70_007_u32, 80_000..80_007];
        let mut sending: Vec<_> = items
            .iter_mut()
            .map(|items| Box::pin(tx.send_all_async(items)))
            .collect();
        for sending in &mut sending {
            let _ = poll_once(sending.as_mut());
        }
        control.close();
        let (received, end) = receive_all(rx).join().unwrap();
        assert_eq!(end, RecvError::Closed);
        drop(sending);
        let ranges = [0..3, 70_000..items[0].start, 80_000..items[1].start];
        for range in &ranges {
            assert_in_order(&received, range);
        }
        assert_complete(received, ranges);
        assert_conserved(&control.stats());
    });
}
