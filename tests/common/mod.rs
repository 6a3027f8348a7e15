//! What the proofs share: levels, sending and draining, the law of conservation, polling by hand, and the machine that
//! drives a channel and its model through one history.
#![allow(dead_code, reason = "each test uses its own part")]

mod deliveries;
mod gone;
mod letters;
mod life;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod ops;
mod slot;
mod verbs;

use overspill::{Delivery, DiskBufferedChannel, Durability, Stats, Storage};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Longer than anything that is waited for here can take: who waits this long waits for ever.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(60);

/// Where and how safely items are kept.
pub(crate) type Level = (Storage, Durability);

/// Every store with every durability that it has and that doesn't go by the clock.
pub(crate) const LEVELS: [Level; 5] = [
    (Storage::Sled, Durability::Spill),
    (Storage::Sled, Durability::Process),
    (Storage::Log, Durability::Spill),
    (Storage::Log, Durability::Process),
    (Storage::Log, Durability::Sync),
];

/// An item whose bytes follow from its number, so that damage would show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pad: Vec<u8>,
}

impl Item {
    pub(crate) fn new(id: u64, pad: usize) -> Self {
        Self {
            id,
            pad: vec![fill(id); pad],
        }
    }

    /// The number, if the bytes are still the ones that belong to it.
    pub(crate) fn intact(self) -> u64 {
        assert!(
            self.pad.iter().all(|byte| *byte == fill(self.id)),
            "damaged: {self:?}"
        );
        self.id
    }
}

fn fill(id: u64) -> u8 {
    id.to_le_bytes().into_iter().fold(0, |mix, byte| mix ^ byte)
}

/// Takes everything that is left, and checks that it is `expected`, in order.
pub(crate) fn take_exactly(
    channel: &DiskBufferedChannel<Item>,
    expected: impl Iterator<Item = u64>,
) {
    channel.close();
    let rx = channel.receiver();
    for id in expected {
        assert_eq!(rx.recv_timeout(FOR_EVER).expect("one is left").intact(), id);
    }
    assert!(rx.recv_timeout(FOR_EVER).is_err(), "nothing else comes");
    let stats = channel.stats();
    assert_eq!(stats.pending, 0);
    assert_conserved(&stats);
}

/// Every accepted item is counted in exactly one place.
pub(crate) fn assert_conserved(stats: &Stats) {
    let dropped = stats.dropped.full + stats.dropped.expired + stats.dropped.unencodable;
    let accounted = stats.acknowledged
        + stats.pending
        + stats.in_flight
        + dropped
        + stats.dead_lettered
        + stats.lost
        + stats.unaccounted;
    assert_eq!(stats.accepted, accounted, "{stats:?}");
    let placed = stats.front_items + stats.staging_items + stats.backlog_items;
    assert_eq!(stats.pending, placed, "{stats:?}");
}

pub(crate) fn send(channel: &DiskBufferedChannel<u64>, items: Range<u64>) {
    let accepted = channel.sender().send_all(&mut items.into_iter());
    accepted.expect("the channel is open and has room");
}

/// Everything that is left, in order, acknowledged.
pub(crate) fn drain(channel: &DiskBufferedChannel<u64>) -> Vec<u64> {
    channel.close();
    let rx = channel.acking_receiver();
    let all = rx.iter().map(Delivery::ack_and_take).collect();
    assert_conserved(&channel.stats());
    all
}

/// Wakes the thread that polls, and remembers that it did.
struct Flag {
    woken: AtomicBool,
    thread: Thread,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// A future's waker that a test can look at.
pub(crate) struct Alarm(Arc<Flag>);

impl Alarm {
    pub(crate) fn new() -> Self {
        let thread = std::thread::current();
        Self(Arc::new(Flag {
            woken: AtomicBool::new(false),
            thread,
        }))
    }

    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }

    /// Polls once.
    pub(crate) fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker()))
    }

    /// True if it rang since the last time that somebody asked.
    pub(crate) fn rang(&self) -> bool {
        self.0.woken.swap(false, Ordering::SeqCst)
    }

    /// Waits until it rings.
    pub(crate) fn wait(&self) {
        let began = Instant::now();
        while !self.rang() {
            assert!(began.elapsed() < FOR_EVER, "nobody woke the future");
            std::thread::park_timeout(FOR_EVER);
        }
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, alarm) = (std::pin::pin!(future), Alarm::new());
    loop {
        match alarm.poll(future.as_mut()) {
            Poll::Ready(output) => return output,
            Poll::Pending => alarm.wait(),
        }
    }
}

/// Polls at most `polls` times, woken or not, then drops the future.
pub(crate) fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        std::thread::yield_now();
    }
    None
}

/// Waits for a condition that another thread brings about.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < FOR_EVER, "waited in vain until {what}");
        std::thread::yield_now();
    }
}
