//! Items that are out with consumers, at the limit of how many may be.

use super::{Spool, assert_complete, assert_conserved, explore, poll_once, send_each};
use crate::{AckReceiver, Control, Delivery, DiskBufferedChannel, Receiver, RecvError, Sender};
use futures_core::Stream;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{self, JoinHandle};
use std::future::poll_fn;
use std::iter::once;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// As long as nobody waits for.
const FOR_EVER: Duration = Duration::from_secs(60);

struct Ends {
    tx: Sender<u32>,
    rx: Receiver<u32>,
    acking: AckReceiver<u32>,
    control: Control<u32>,
}

impl Spool {
    /// With so many deliveries out at once, and a clock that stands.
    fn lend(&self, in_flight_max: usize) -> Ends {
        let builder = self.builder().in_flight_max(in_flight_max);
        let channel: DiskBufferedChannel<u32> = builder.manual_clock().open().unwrap();
        let acking = channel.acking_receiver();
        let (tx, rx, control) = channel.split();
        Ends {
            tx,
            rx,
            acking,
            control,
        }
    }
}

impl Ends {
    /// Takes an item before somebody who begins to wait later, and still waits then.
    fn take_before(&self, wait: impl FnOnce()) -> Delivery<u32> {
        let mut first = pin!(self.acking.recv_async());
        assert!(poll_once(first.as_mut()).is_pending());
        wait();
        self.tx.send(0).unwrap();
        match poll_once(first) {
            Poll::Ready(delivery) => delivery.unwrap(),
            Poll::Pending => panic!("it was sent"),
        }
    }
}

fn one_or_two() -> usize {
    thread_rng().gen_range(1..=2)
}

/// Receives until there is no more and does with each delivery what `handle` says, which returns an item that it has
/// finished. The finished items and why it ended.
fn consume(
    rx: AckReceiver<u32>,
    handle: impl Fn(Delivery<u32>) -> Option<u32> + Send + 'static,
) -> JoinHandle<(Vec<u32>, RecvError)> {
    thread::spawn(move || {
        let mut finished = Vec::new();
        loop {
            match rx.recv() {
                Ok(delivery) => finished.extend(handle(delivery)),
                Err(end) => return (finished, end),
            }
        }
    })
}

/// The item, unless it is too late.
fn ack(delivery: Delivery<u32>) -> Option<u32> {
    let item = *delivery;
    delivery.ack().ok().map(|()| item)
}

/// Gives it back in one way or another, unless it has come back already.
fn ack_a_repeat(delivery: Delivery<u32>) -> Option<u32> {
    if delivery.attempt() > 1 {
        return ack(delivery);
    }
    match thread_rng().gen_range(0..4) {
        0 => ack(delivery),
        1 => {
            drop(delivery);
            None
        }
        2 => {
            thread::yield_now();
            delivery.release();
            None
        }
        _ => {
            delivery.nack();
            None
        }
    }
}

/// All of `consumers` end with `end`; what they finished together.
fn join(
    consumers: impl IntoIterator<Item = JoinHandle<(Vec<u32>, RecvError)>>,
    end: &RecvError,
) -> Vec<u32> {
    let mut all = Vec::new();
    for consumer in consumers {
        let (finished, ended) = consumer.join().unwrap();
        assert_eq!(ended, *end);
        all.extend(finished);
    }
    all
}

// ---- back and forth -----------------------------------------------------------------------------

#[test]
fn receivers_at_the_limit_share_what_acknowledgements_let_out() {
    explore("acks at the limit", |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let consumers = [ends.acking.clone(), ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| consume(rx, ack));
        let producer = send_each(ends.tx, 0..6);
        assert_complete(join(consumers, &RecvError::Closed), once(0..6));
        assert_eq!(producer.join().unwrap(), 6);
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn what_comes_back_reaches_somebody() {
    explore("release, nack, drop at the limit", |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let consumers = [ends.acking.clone(), ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| consume(rx, ack_a_repeat));
        let producer = send_each(ends.tx, 0..5);
        assert_complete(join(consumers, &RecvError::Closed), once(0..5));
        assert_eq!(producer.join().unwrap(), 5);
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn plain_and_acking_receivers_share_without_loss() {
    explore("plain and acking", |spool| {
        let ends = spool.lend(one_or_two());
        let plain = super::receive_all(ends.rx);
        let acking = [ends.acking.clone(), ends.acking];
        let consumers = acking.map(|rx| consume(rx, ack_a_repeat));
        let producer = send_each(ends.tx, 0..6);
        let all = join(consumers.into_iter().chain([plain]), &RecvError::Closed);
        assert_complete(all, once(0..6));
        assert_eq!(producer.join().unwrap(), 6);
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn each_of_several_plain_receivers_gets_what_one_at_the_limit_may_not() {
    explore("an acking receiver in the way of plain ones", |spool| {
        let ends = spool.lend(1);
        ends.tx.send(0).unwrap();
        let held = ends.acking.recv().unwrap();
        let limited = consume(ends.acking, ack);
        let (rx, other) = (ends.rx.clone(), ends.rx);
        let plain = [rx, other].map(|rx| thread::spawn(move || rx.recv().unwrap()));
        (1..3).for_each(|item| ends.tx.send(item).unwrap());
        let taken = plain.map(|plain| plain.join().unwrap());
        assert_complete(taken.into(), once(1..3));
        ends.tx.send(3).unwrap();
        drop(ends.tx);
        held.ack().unwrap();
        assert_complete(join([limited], &RecvError::Closed), once(3..4));
    });
}

#[test]
fn a_batch_that_goes_back_wakes_as_many_as_it_held() {
    explore("a batch released", |spool| {
        let ends = spool.lend(2);
        (0..2).for_each(|item| ends.tx.send(item).unwrap());
        let batch = ends.acking.recv_batch(2, u64::MAX, FOR_EVER).unwrap();
        assert_eq!(batch.len(), 2);
        let waiting = [ends.acking.clone(), ends.acking].map(|rx| {
            thread::spawn(move || {
                let delivery = rx.recv().unwrap();
                (*delivery, delivery)
            })
        });
        batch.release();
        // Both are out at once: neither waits for the other's acknowledgement.
        let out = waiting.map(|waiting| waiting.join().unwrap());
        assert_complete(out.iter().map(|(item, _)| *item).collect(), once(0..2));
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn a_future_that_is_dropped_at_the_limit_hands_its_wake_up_on() {
    explore("recv_async dropped at the limit", |spool| {
        let ends = spool.lend(1);
        (0..2).for_each(|item| ends.tx.send(item).unwrap());
        let held = ends.acking.recv().unwrap();
        let (rx, other) = (ends.acking.clone(), ends.acking);
        let giving_up = thread::spawn(move || {
            let mut future = pin!(other.recv_async());
            for _ in 0..2 {
                if let Poll::Ready(delivery) = poll_once(future.as_mut()) {
                    assert_eq!(*delivery.unwrap(), 1);
                    return;
                }
                thread::yield_now();
            }
        });
        let waiting = thread::spawn(move || ack(rx.recv().unwrap()));
        held.ack().unwrap();
        assert_eq!(waiting.join().unwrap(), Some(1));
        giving_up.join().unwrap();
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn an_idle_stream_keeps_no_returned_delivery_from_others() {
    explore("idle stream, release", |spool| {
        let ends = spool.lend(1);
        let mut stream = ends.acking.stream();
        let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
        let mut next = pin!(next);
        let held = ends.take_before(|| assert!(poll_once(next.as_mut()).is_pending()));
        let rx = ends.acking.clone();
        let waiting = thread::spawn(move || ack(rx.recv().unwrap()));
        held.release();
        assert_eq!(waiting.join().unwrap(), Some(0));
        drop(stream);
    });
}

#[test]
fn a_future_that_is_dropped_leaves_a_returned_delivery_to_whoever_is_at_the_limit() {
    explore("recv_async dropped, release", |spool| {
        let ends = spool.lend(1);
        let rx = ends.acking.clone();
        let mut future = Box::pin(async move { rx.recv_async().await });
        let held = ends.take_before(|| assert!(poll_once(future.as_mut()).is_pending()));
        let rx = ends.acking.clone();
        let waiting = thread::spawn(move || ack(rx.recv().unwrap()));
        let giving_up = thread::spawn(move || drop(future));
        held.release();
        assert_eq!(waiting.join().unwrap(), Some(0));
        giving_up.join().unwrap();
    });
}

// ---- delays -------------------------------------------------------------------------------------

#[test]
fn what_is_due_at_one_time_reaches_all_who_wait() {
    explore("nack_after", |spool| {
        let ends = spool.lend(thread_rng().gen_range(2..=3));
        (0..2).for_each(|item| ends.tx.send(item).unwrap());
        for delivery in [(); 2].map(|()| ends.acking.recv().unwrap()) {
            delivery.nack_after(Duration::from_millis(5));
        }
        let waiting = [ends.acking.clone(), ends.acking].map(|rx| {
            thread::spawn(move || {
                let delivery = rx.recv().unwrap();
                (*delivery, delivery)
            })
        });
        let shared = ends.tx.shared();
        shared.settings.clock.advance(Duration::from_millis(5));
        shared.enter(crate::state::State::kick);
        let out = waiting.map(|waiting| waiting.join().unwrap());
        assert_complete(out.iter().map(|(item, _)| *item).collect(), once(0..2));
        assert_conserved(&ends.control.stats());
    });
}

// ---- the end ------------------------------------------------------------------------------------

#[test]
fn a_halt_with_deliveries_out_wakes_everybody_and_keeps_what_was_not_acknowledged() {
    explore("halt with deliveries out", |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let producer = send_each(ends.tx, 0..5);
        let consumers = [ends.acking.clone(), ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| consume(rx, ack_a_repeat));
        ends.control.halt().unwrap();
        let accepted = producer.join().unwrap();
        let mut all = Vec::new();
        for consumer in consumers {
            let (finished, end) = consumer.join().unwrap();
            assert!(matches!(end, RecvError::Halted | RecvError::Closed));
            all.extend(finished);
        }
        assert_conserved(&ends.control.stats());
        drop(ends.control);
        all.extend(spool.left());
        assert_complete(all, once(0..accepted));
    });
}

#[test]
fn a_delivery_that_nobody_finishes_keeps_no_receiver_from_a_halt() {
    explore("halt at the limit", |spool| {
        let ends = spool.lend(1);
        (0..2).for_each(|item| ends.tx.send(item).unwrap());
        let held = ends.acking.recv().unwrap();
        let waiting = [ends.acking.clone(), ends.acking].map(|rx| consume(rx, ack));
        ends.control.halt().unwrap();
        assert_eq!(join(waiting, &RecvError::Halted), []);
        assert!(held.ack().is_err());
        drop((ends.tx, ends.rx, ends.control));
        assert_eq!(spool.left(), [0, 1]);
    });
}

#[test]
fn a_drain_waits_for_deliveries_and_saves_the_rest() {
    explore("drain with deliveries out", |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let producer = send_each(ends.tx, 0..5);
        let consumers = [ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| consume(rx, ack_a_repeat));
        ends.control.drain(Duration::from_millis(1)).unwrap();
        let accepted = producer.join().unwrap();
        let joined = consumers.map(|consumer| consumer.join().unwrap().0);
        let mut all = joined.concat();
        drop(ends.control);
        all.extend(spool.left());
        assert_complete(all, once(0..accepted));
    });
}

/// A batch that would linger for ever ends with the channel.
fn lingering(name: &'static str, end: fn(&Control<u32>)) {
    explore(name, move |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let batches = thread::spawn(move || {
            let mut finished = Vec::new();
            while let Ok(batch) = ends.acking.recv_batch(9, u64::MAX, FOR_EVER) {
                let items: Vec<u32> = batch.iter().copied().collect();
                if batch.ack().is_ok() {
                    finished.extend(items);
                }
            }
            finished
        });
        let producer = send_each(ends.tx, 0..3);
        end(&ends.control);
        let accepted = producer.join().unwrap();
        let mut all = batches.join().unwrap();
        ends.control.halt().unwrap();
        drop(ends.control);
        all.extend(spool.left());
        assert_complete(all, once(0..accepted));
    });
}

#[test]
fn a_batch_lingers_no_longer_than_the_intake_is_open() {
    lingering("a lingering batch and a close", Control::close);
}

#[test]
fn a_batch_lingers_no_longer_than_the_channel_runs() {
    lingering("a lingering batch and a halt", |control| {
        control.halt().unwrap();
    });
}

// ---- dead letters -------------------------------------------------------------------------------

#[test]
fn a_dead_letter_that_a_halt_overtakes_is_a_letter_or_an_item() {
    explore("dead_letter and halt", |spool| {
        let ends = spool.lend(one_or_two());
        drop(ends.rx);
        let producer = send_each(ends.tx, 0..4);
        let consumers = [ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| {
            consume(rx, |delivery| {
                delivery.dead_letter("refused");
                None
            })
        });
        ends.control.halt().unwrap();
        let accepted = producer.join().unwrap();
        for consumer in consumers {
            consumer.join().unwrap();
        }
        drop(ends.control);
        let channel = spool.builder().open().unwrap();
        channel.close();
        let mut all: Vec<u32> = channel.receiver().iter().collect();
        for letter in channel.dead_letters() {
            all.push(letter.seq.try_into().unwrap());
        }
        assert_complete(all, once(0..accepted));
        assert_conserved(&channel.stats());
    });
}

#[test]
fn a_receiver_at_the_limit_goes_on_when_a_delivery_becomes_a_letter() {
    explore("dead_letter at the limit", |spool| {
        let ends = spool.lend(1);
        drop(ends.rx);
        let consumers = [ends.acking.clone(), ends.acking.clone(), ends.acking];
        let consumers = consumers.map(|rx| {
            consume(rx, |delivery| {
                if delivery.is_multiple_of(2) {
                    delivery.dead_letter("even");
                    None
                } else {
                    ack(delivery)
                }
            })
        });
        let producer = send_each(ends.tx, 0..4);
        let odd = join(consumers, &RecvError::Closed);
        assert_complete(odd, [1..2, 3..4]);
        assert_eq!(producer.join().unwrap(), 4);
        assert_eq!(ends.control.stats().dead_lettered, 2);
        assert_conserved(&ends.control.stats());
    });
}

#[test]
fn letters_come_back_among_items_that_are_sent_meanwhile() {
    explore("requeue, send, recv", |spool| {
        let ends = spool.lend(one_or_two());
        (0..2).for_each(|item| ends.tx.send(item).unwrap());
        for _ in 0..2 {
            ends.acking.recv().unwrap().dead_letter("not yet");
        }
        let watched = ends.control.clone();
        let requeuing = thread::spawn(move || watched.requeue_dead_letters().unwrap());
        // As long as somebody may send, consumers wait for what comes back.
        let producer = send_each(ends.tx.clone(), 2..5);
        let consumer = thread::spawn(move || {
            let (rx, acking) = (ends.rx, ends.acking);
            let mut all = Vec::new();
            while let Ok(delivery) = acking.recv() {
                all.extend(ack(delivery));
                all.extend(rx.try_recv());
            }
            all
        });
        let requeued = requeuing.join().unwrap();
        assert_eq!(producer.join().unwrap(), 5);
        drop(ends.tx);
        let all = consumer.join().unwrap();
        let stats = ends.control.stats();
        assert_conserved(&stats);
        assert_eq!(all.len() as u64, 3 + requeued);
        assert_eq!((stats.accepted, stats.dead_lettered), (5 + requeued, 2));
    });
}
