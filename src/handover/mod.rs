//! Every hand-over of the channel under a scheduler that tries the orders in which threads can run.
//!
//! Front holds one or two items, a block two, staging one item or two blocks: six items cross every boundary. The store is
//! in memory; lock and checkpoint are files, whose operations no other thread can observe half done. A thread
//! that nobody wakes is a deadlock, and the scheduler reports it with the schedule that led there.

mod batches;
mod cancelled;
mod delivering;
mod ending;
mod moving;

use crate::store::sim::SimDisk;
use crate::sync::STACK_BYTES;
use crate::{
    Builder, Control, DiskBufferedChannel, Durability, Receiver, RecvError, SendError, Sender,
    Stats, WhenFull,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

/// Schedules of each scenario, unless `OVERSPILL_SCHEDULES` says otherwise.
const SCHEDULES: usize = 1_000;
/// More steps than any schedule needs: what takes longer goes round in circles.
const STEPS_MAX: usize = 50_000;
/// Preemptions that the second scheduler places.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` under both schedulers and in both durabilities.
fn explore(name: &'static str, scenario: impl Fn(&Spool) + Copy + Send + Sync + 'static) {
    explore_in(name, &[Durability::Spill, Durability::Process], scenario);
}

fn explore_in(
    name: &'static str,
    durabilities: &[Durability],
    scenario: impl Fn(&Spool) + Copy + Send + Sync + 'static,
) {
    let schedules = std::env::var("OVERSPILL_SCHEDULES")
        .map_or(SCHEDULES, |count| count.parse().expect("a number"));
    let each = schedules.div_ceil(2 * durabilities.len());
    let tally = Tally {
        name,
        begun: Arc::default(),
    };
    for durability in durabilities {
        let random = RandomScheduler::new_from_seed(1, each);
        run(random, durability, &tally, scenario);
        let preempting = PctScheduler::new_from_seed(2, PREEMPTIONS, each);
        run(preempting, durability, &tally, scenario);
    }
}

fn run(
    scheduler: impl Scheduler + 'static,
    durability: &Durability,
    tally: &Tally,
    scenario: impl Fn(&Spool) + Send + Sync + 'static,
) {
    let (durability, begun) = (durability.clone(), Arc::clone(&tally.begun));
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    Runner::new(scheduler, config).run(move || {
        begun.fetch_add(1, Ordering::Relaxed);
        scenario(&Spool::new(durability.clone()));
    });
}

/// Says in the end how much was explored.
struct Tally {
    name: &'static str,
    begun: Arc<AtomicUsize>,
}

impl Drop for Tally {
    #[allow(clippy::print_stdout, reason = "a figure to report")]
    fn drop(&mut self) {
        let (name, begun) = (self.name, self.begun.load(Ordering::Relaxed));
        if std::thread::panicking() {
            println!("{name}: schedule {begun} failed");
        } else {
            println!("{name}: {begun} schedules");
        }
    }
}

/// A directory that outlives its channels.
struct Spool {
    dir: TempDir,
    disk: SimDisk,
    durability: Durability,
}

impl Spool {
    fn new(durability: Durability) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            disk: SimDisk::default(),
            durability,
        }
    }

    /// Limits that a handful of items reach.
    fn builder(&self) -> Builder<u32> {
        DiskBufferedChannel::builder(self.dir.path().join("spool"))
            .memory_items(thread_rng().gen_range(1..=4))
            .block_bytes(10)
            .memory_bytes_max(if thread_rng().r#gen() { 200 } else { 440 })
            .durability(self.durability.clone())
            .simulated(self.disk.clone())
    }

    fn split(&self) -> (Sender<u32>, Receiver<u32>, Control<u32>) {
        self.builder().open().unwrap().split()
    }

    /// With one place in front and no room behind it.
    fn split_on_a_full_disk(&self) -> (Sender<u32>, Receiver<u32>, Control<u32>) {
        let builder = self.builder().memory_items(1).disk_bytes_max(1);
        builder.open().unwrap().split()
    }

    /// With room for a few blocks.
    fn split_on_a_small_disk(&self, full: WhenFull) -> (Sender<u32>, Receiver<u32>, Control<u32>) {
        let (.., control) = self.split();
        let fixed = control.stats().disk_bytes;
        control.halt().unwrap();
        let builder = self.builder().disk_bytes_max(fixed + 1_500).when_full(full);
        builder.open().unwrap().split()
    }

    /// What the next run of the program finds, in its order.
    fn left(&self) -> Vec<u32> {
        let (tx, rx, control) = self.split();
        drop(tx);
        let left = rx.iter().collect();
        assert_conserved(&control.stats());
        control.halt().unwrap();
        left
    }
}

/// Every accepted item is counted in exactly one place.
fn assert_conserved(stats: &Stats) {
    let dropped = stats.dropped.full + stats.dropped.expired + stats.dropped.unencodable;
    let elsewhere = dropped + stats.dead_lettered + stats.lost + stats.unaccounted;
    let accounted = stats.acknowledged + stats.pending + stats.in_flight + elsewhere;
    assert_eq!(stats.accepted, accounted, "{stats:?}");
    let placed = stats.front_items + stats.staging_items + stats.backlog_items;
    assert_eq!(stats.pending, placed, "{stats:?}");
}

/// Sends `items` one by one; the first that was not accepted.
fn send_each(tx: Sender<u32>, mut items: Range<u32>) -> JoinHandle<u32> {
    thread::spawn(move || {
        let refused = items.find(|item| match tx.send(*item) {
            Ok(()) => false,
            // After a crash the item may be anywhere.
            Err(SendError::Unconfirmed { .. }) => true,
            Err(error) => {
                assert_eq!(error.into_inner(), Some(*item));
                true
            }
        });
        refused.unwrap_or(items.end)
    })
}

/// Sends `items` as one batch; the first that was not accepted.
fn send_batch(tx: Sender<u32>, items: Range<u32>) -> JoinHandle<u32> {
    thread::spawn(move || {
        let mut items = items;
        match tx.send_all(&mut items) {
            Ok(_) => items.end,
            Err(error) => error.into_inner().unwrap(),
        }
    })
}

/// Receives until there is no more; the items and why it ended.
fn receive_all(rx: Receiver<u32>) -> JoinHandle<(Vec<u32>, RecvError)> {
    thread::spawn(move || {
        let mut received = Vec::new();
        loop {
            match rx.recv() {
                Ok(item) => received.push(item),
                Err(end) => return (received, end),
            }
        }
    })
}

/// Polls once, without a waker that does anything.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The items of `items` that lie in `range` stand in their order.
fn assert_in_order(items: &[u32], range: &Range<u32>) {
    let own = items.iter().filter(|item| range.contains(item));
    assert!(own.is_sorted_by(|one, next| one < next), "{items:?}");
}

/// Nothing of `ranges` is missing, nothing is twice.
fn assert_complete(mut items: Vec<u32>, ranges: impl IntoIterator<Item = Range<u32>>) {
    items.sort_unstable();
    let expected: Vec<u32> = ranges.into_iter().flatten().collect();
    assert_eq!(items, expected);
}
