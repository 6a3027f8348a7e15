//! Every async verb of deliveries, dropped at every poll: nothing is lost, nothing is doubled, and what was taken back
//! doesn't count as out.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Alarm, FOR_EVER, assert_conserved, wait_until};
use futures::StreamExt;
use overspill::{AckReceiver, Builder, Delivery, DiskBufferedChannel, Durability};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use tempfile::TempDir;

const ITEMS: u64 = 13;
/// Deliveries that may be out at once.
const LIMIT: usize = 3;
/// More polls than any of these futures takes.
const POLLS_MAX: usize = 50;

/// Where the items are when the future begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// In front, on disk and in staging.
    Spilling,
    /// A new incarnation: on disk.
    Backlog,
    /// As many are out as may be; one of them is acknowledged as soon as the future waits.
    AtTheLimit,
}

struct Bench {
    channel: DiskBufferedChannel<u64>,
    rx: AckReceiver<u64>,
    /// What is out beside the future.
    out: Vec<Delivery<u64>>,
    /// What was acknowledged.
    done: Vec<u64>,
    level: Durability,
    dir: TempDir,
}

fn tiny(dir: &Path, level: &Durability) -> Builder<u64> {
    DiskBufferedChannel::builder(dir)
        .memory_items(2)
        .block_bytes(15)
        .in_flight_max(LIMIT)
        .durability(level.clone())
}

impl Bench {
    fn new(begun: Begun, level: &Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut channel = tiny(dir.path(), level).open().unwrap();
        channel.sender().send_all(&mut (0..ITEMS)).unwrap();
        if begun == Begun::Backlog {
            channel.halt().unwrap();
            channel = tiny(dir.path(), level).open().unwrap();
        }
        let rx = channel.acking_receiver();
        let mut bench = Self {
            channel,
            rx,
            out: Vec::new(),
            done: Vec::new(),
            level: level.clone(),
            dir,
        };
        if begun == Begun::AtTheLimit {
            bench.take_all_that_may_be_out();
        }
        bench
    }

    fn take_all_that_may_be_out(&mut self) {
        while self.out.len() < LIMIT {
            self.out.push(self.rx.recv_timeout(FOR_EVER).unwrap());
        }
    }

    fn ack(&mut self, delivery: Delivery<u64>) {
        self.done.push(*delivery);
        delivery.ack().unwrap();
    }

    /// What was acknowledged is gone, everything else is there once, and as much may be out as before.
    fn check(mut self) {
        let stats = self.channel.stats();
        assert_conserved(&stats);
        assert_eq!(stats.in_flight, self.out.len() as u64);
        self.out.clear();
        self.take_all_that_may_be_out();
        assert!(self.rx.try_recv().is_err(), "not more than that");
        self.out.clear();
        self.channel.halt().unwrap();
        drop((self.rx, self.channel));
        let channel = tiny(self.dir.path(), &self.level).open().unwrap();
        channel.close();
        let mut rest: Vec<u64> = channel.receiver().iter().collect();
        assert!(rest.is_sorted());
        rest.extend(self.done);
        rest.sort_unstable();
        assert_eq!(rest, (0..ITEMS).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
    }
}

/// Polls `future` up to `polls` times, each time when it was woken, and drops it. Before it waits the first time, `then`.
fn drop_after<F: Future>(future: F, polls: usize, then: impl FnOnce()) -> Option<F::Output> {
    let (mut future, alarm) = (pin!(future), Alarm::new());
    let mut then = Some(then);
    for poll in 0..polls {
        if poll > 0 {
            alarm.wait();
        }
        if let Poll::Ready(output) = alarm.poll(future.as_mut()) {
            return Some(output);
        }
        then.take().into_iter().for_each(|then| then());
    }
    None
}

/// Runs `scenario` for every place of the items and every number of polls, until it says that its future was ready.
fn at_every_poll(begun: &[Begun], mut scenario: impl FnMut(Bench, usize) -> bool) {
    for level in [Durability::Spill, Durability::Process] {
        for begun in begun {
            let ready = (0..POLLS_MAX).any(|polls| scenario(Bench::new(*begun, &level), polls));
            assert!(ready, "{begun:?} {level:?}: never ready");
        }
    }
}

/// A receive in the way of `receive`: what it returns is acknowledged.
fn assert_receive_is_cancel_safe(receive: impl AsyncFn(AckReceiver<u64>) -> Vec<Delivery<u64>>) {
    let begun = [Begun::Spilling, Begun::Backlog, Begun::AtTheLimit];
    at_every_poll(&begun, |mut bench, polls| {
        let first = bench.out.pop();
        let done = first.as_ref().map(|first| **first);
        let mut first = Some(first);
        let received = drop_after(receive(bench.rx.clone()), polls, || {
            if let Some(first) = first.take().flatten() {
                first.ack().unwrap();
            }
        });
        match first.flatten() {
            Some(first) => bench.out.push(first),
            None => bench.done.extend(done),
        }
        let ready = received.is_some();
        for delivery in received.into_iter().flatten() {
            bench.ack(delivery);
        }
        bench.check();
        ready
    });
}

#[test]
fn a_cancelled_receive_takes_nothing_out() {
    assert_receive_is_cancel_safe(async |rx| vec![rx.recv_async().await.unwrap()]);
}

#[test]
fn a_cancelled_receive_of_many_takes_nothing_out() {
    assert_receive_is_cancel_safe(async |rx| {
        let mut many = Vec::new();
        let count = rx.recv_many_async(&mut many, 2).await.unwrap();
        assert_eq!(many.len(), count);
        many
    });
}

#[test]
fn a_cancelled_batch_gives_back_what_it_gathered() {
    assert_receive_is_cancel_safe(async |rx| {
        let batch = rx.recv_batch_async(3, u64::MAX, FOR_EVER).await.unwrap();
        batch.into_deliveries()
    });
}

#[test]
fn a_stream_of_deliveries_that_is_dropped_takes_nothing_out() {
    assert_receive_is_cancel_safe(async |rx| {
        let mut stream = rx.stream();
        vec![stream.next().await.unwrap()]
    });
}

#[test]
fn an_acknowledgement_that_is_cancelled_was_made_or_gives_its_item_back() {
    at_every_poll(&[Begun::Spilling, Begun::Backlog], |mut bench, polls| {
        let delivery = bench.rx.recv_timeout(FOR_EVER).unwrap();
        let item = *delivery;
        let acked = drop_after(delivery.ack_sync_async(), polls, || ());
        bench.done.extend((polls > 0).then_some(item));
        bench.check();
        acked.map(Result::unwrap).is_some()
    });
}

// ---- dead letters -------------------------------------------------------------------------------

/// Makes letters of the first items.
fn bury(bench: &Bench, count: u64) {
    for _ in 0..count {
        bench.rx.recv_timeout(FOR_EVER).unwrap().dead_letter("no");
    }
    wait_until("they are written down", || {
        bench.channel.stats().dead_lettered == count
    });
}

#[test]
fn a_requeue_that_is_cancelled_leaves_each_a_letter_or_an_item() {
    at_every_poll(&[Begun::Spilling, Begun::Backlog], |bench, polls| {
        bury(&bench, 5);
        let requeued = drop_after(bench.channel.requeue_dead_letters_async(), polls, || ());
        let requeued = requeued.map(|requeued| assert_eq!(requeued.unwrap(), 5));
        bench.channel.halt().unwrap();
        let channel = tiny(bench.dir.path(), &bench.level).open().unwrap();
        let letters: Vec<u64> = channel.dead_letters().map(|letter| letter.seq).collect();
        channel.close();
        let mut all: Vec<u64> = channel.receiver().iter().collect();
        assert!(requeued.is_none() || letters.is_empty());
        all.extend(letters);
        all.sort_unstable();
        assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
        requeued.is_some()
    });
}

#[test]
fn a_purge_that_is_cancelled_takes_all_letters_or_none() {
    at_every_poll(&[Begun::Spilling, Begun::Backlog], |bench, polls| {
        bury(&bench, 5);
        let purged = drop_after(bench.channel.purge_dead_letters_async(), polls, || ());
        let purged = purged.map(|purged| assert_eq!(purged.unwrap(), 5));
        bench.channel.halt().unwrap();
        let channel = tiny(bench.dir.path(), &bench.level).open().unwrap();
        let letters = channel.dead_letters().count();
        assert!(letters == 0 || letters == 5 && purged.is_none());
        channel.close();
        let rest: Vec<u64> = channel.receiver().iter().collect();
        assert_eq!(rest, (5..ITEMS).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
        purged.is_some()
    });
}
