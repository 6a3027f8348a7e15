//! Producers and consumers at once, between threads or between tasks.

use super::{Place, Row, Section};
use crate::args::Args;
use crate::ends::{AsyncRx, AsyncTx, BATCH, Rx, Tx, Verb};
use crate::item::{Bytes, Item, Seen};
use crate::job::{Job, Outcome, Step};
use crate::meter::Meter;
use crate::peers::{hopper, overspill, queue_file, sqlite, tasks, threads, yaque};
use std::path::Path;
use std::thread;

const CROWD: u64 = 4;

pub(super) fn sections(args: &Args) -> Vec<Section> {
    let (size, items) = (args.bytes, args.items);
    let section = |key, title, item_bytes, rows| Section {
        key,
        title,
        steps: &[Step::Whole],
        items,
        item_bytes,
        rows,
    };
    let mut sized = between_threads::<Bytes>();
    sized.extend(through_disks());
    vec![
        section(
            "live, u64, threads",
            "live, u64, 1:1 between threads".to_owned(),
            8,
            between_threads::<u64>(),
        ),
        section(
            "live, u64, tasks",
            "live, u64, 1:1 between tasks".to_owned(),
            8,
            between_tasks::<u64>(),
        ),
        section(
            "live, bytes, threads",
            format!("live, {size} B, 1:1 between threads"),
            size,
            sized,
        ),
        section(
            "live, bytes, tasks",
            format!("live, {size} B, 1:1 between tasks"),
            size,
            between_tasks::<Bytes>(),
        ),
        section(
            "live, crowd",
            format!("live, u64, {CROWD}:{CROWD} between threads"),
            8,
            in_a_crowd(),
        ),
    ]
}

#[rustfmt::skip]
fn between_threads<T: Item>() -> Vec<Row> {
    use {Place::Memory, Verb::{Many, One}};
    vec![
        Row::ours(Memory, "overspill Spill, log", One, |job| one_to_one::<T, _, _>(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, log, batches", Many, |job| one_to_one::<T, _, _>(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory", One, |job| one_to_one::<T, _, _>(job, overspill::roomy)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory, batches", Many, |job| one_to_one::<T, _, _>(job, overspill::roomy)),
        Row::ours(Memory, "overspill Spill, sled, batches", Many, |job| one_to_one::<T, _, _>(job, overspill::sled)),
        Row::ours(Memory, "overspill Spill, log, acknowledged", One, |job| one_to_one::<T, _, _>(job, overspill::log_acked)),
        Row::ours(Memory, "overspill Spill, log, acknowledged, batches", Many, |job| one_to_one::<T, _, _>(job, overspill::log_acked)),
        Row::memory("crossbeam-channel", One, |job| one_to_one::<T, _, _>(job, |_| threads::crossbeam())),
        Row::memory("flume", One, |job| one_to_one::<T, _, _>(job, |_| threads::flume())),
        Row::memory("flume, drain", Many, |job| one_to_one::<T, _, _>(job, |_| threads::flume())),
        Row::memory("kanal", One, |job| one_to_one::<T, _, _>(job, |_| threads::kanal())),
        Row::memory("kanal, drain_into", Many, |job| one_to_one::<T, _, _>(job, |_| threads::kanal())),
        Row::memory("tokio mpsc", One, |job| one_to_one::<T, _, _>(job, |_| threads::tokio())),
        Row::memory("tokio mpsc, recv_many", Many, |job| one_to_one::<T, _, _>(job, |_| threads::tokio())),
        Row::memory("async-channel", One, |job| one_to_one::<T, _, _>(job, |_| threads::async_channel())),
    ]
}

#[rustfmt::skip]
fn between_tasks<T: Item>() -> Vec<Row> {
    use {Place::Memory, Verb::{Many, One}};
    vec![
        Row::ours(Memory, "overspill Spill, log", One, |job| task_to_task::<T, _, _>(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, log, batches", Many, |job| task_to_task::<T, _, _>(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory", One, |job| task_to_task::<T, _, _>(job, overspill::roomy)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory, batches", Many, |job| task_to_task::<T, _, _>(job, overspill::roomy)),
        Row::memory("flume", One, |job| task_to_task::<T, _, _>(job, |_| threads::flume())),
        Row::memory("flume, drain", Many, |job| task_to_task::<T, _, _>(job, |_| threads::flume())),
        Row::memory("kanal", One, |job| task_to_task::<T, _, _>(job, |_| tasks::kanal())),
        Row::memory("kanal, drain_into", Many, |job| task_to_task::<T, _, _>(job, |_| tasks::kanal())),
        Row::memory("tokio mpsc", One, |job| task_to_task::<T, _, _>(job, |_| tasks::tokio())),
        Row::memory("tokio mpsc, recv_many", Many, |job| task_to_task::<T, _, _>(job, |_| tasks::tokio())),
        Row::memory("async-channel", One, |job| task_to_task::<T, _, _>(job, |_| threads::async_channel())),
    ]
}

/// Where every item is on disk before it is taken.
#[rustfmt::skip]
fn through_disks() -> Vec<Row> {
    use {Place::Disk, Verb::{Many, One}};
    vec![
        Row::ours(Disk, "overspill Process, log", One, |job| one_to_one::<Bytes, _, _>(job, overspill::log_process)).share(4),
        Row::ours(Disk, "overspill Process, log, batches", Many, |job| one_to_one::<Bytes, _, _>(job, overspill::log_process)),
        Row::ours(Disk, "overspill Process, log, acknowledged, batches", Many, |job| one_to_one::<Bytes, _, _>(job, overspill::log_process_acked)),
        Row::disk("yaque", One, |job| one_to_one(job, yaque::open)).share(4),
        Row::disk("yaque, batches", Many, |job| one_to_one(job, yaque::open)),
        Row::disk("hopper (memory first)", One, |job| one_to_one(job, hopper::open)).share(10),
        Row::disk("disk_backed_queue, batches", Many, |job| one_to_one(job, sqlite::open)).share(10),
        Row::disk("queue-file, batches, in turns on one thread", Many, |job| in_turns(job, queue_file::open)).share(10),
    ]
}

#[rustfmt::skip]
fn in_a_crowd() -> Vec<Row> {
    use {Place::Memory, Verb::{Many, One}};
    vec![
        Row::ours(Memory, "overspill Spill, log", One, |job| crowd(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, log, batches", Many, |job| crowd(job, overspill::log)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory", One, |job| crowd(job, overspill::roomy)),
        Row::ours(Memory, "overspill Spill, 65,536 in memory, batches", Many, |job| crowd(job, overspill::roomy)),
        Row::memory("crossbeam-channel", One, |job| crowd(job, |_| threads::crossbeam())),
        Row::memory("flume", One, |job| crowd(job, |_| threads::flume())),
        Row::memory("flume, drain", Many, |job| crowd(job, |_| threads::flume())),
        Row::memory("kanal", One, |job| crowd(job, |_| threads::kanal())),
        Row::memory("kanal, drain_into", Many, |job| crowd(job, |_| threads::kanal())),
        Row::memory("async-channel", One, |job| crowd(job, |_| threads::async_channel())),
        Row::cannot(Memory, "tokio mpsc", "has one consumer only"),
    ]
}

fn one_to_one<T, X, R>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome
where
    T: Item,
    X: Tx<T> + Send + 'static,
    R: Rx<T>,
{
    let (mut tx, mut rx) = open(&job.dir);
    let (verb, items, bytes) = (job.verb, job.items, job.item_bytes);
    let meter = Meter::start();
    let producer = thread::spawn(move || {
        verb.send(&mut tx, (0..items).map(|n| T::make(n, bytes)));
        tx.flush();
    });
    let mut seen = Seen::default();
    while seen.items < items && verb.recv(&mut rx, &mut |item| seen.see(item)) > 0 {}
    producer.join().expect("a producer");
    meter.stop_and_check(job, seen)
}

/// For a queue that one thread owns: a batch in, a batch out.
fn in_turns<X: Tx<Bytes>, R: Rx<Bytes>>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome {
    let (mut tx, mut rx) = open(&job.dir);
    let meter = Meter::start();
    let mut seen = Seen::default();
    let mut items = (0..job.items).map(|n| Bytes::make(n, job.item_bytes));
    while seen.items < job.items {
        job.verb.send(&mut tx, items.by_ref().take(BATCH));
        job.verb.recv(&mut rx, &mut |item| seen.see(item));
    }
    meter.stop_and_check(job, seen)
}

fn task_to_task<T, X, R>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome
where
    T: Item,
    X: AsyncTx<T>,
    R: AsyncRx<T>,
{
    let (mut tx, mut rx) = open(&job.dir);
    let (verb, items, bytes) = (job.verb, job.items, job.item_bytes);
    let runtime = crate::runtime();
    let meter = Meter::start();
    let seen = runtime.block_on(async {
        runtime.spawn(async move {
            let items = (0..items).map(|n| T::make(n, bytes));
            match verb {
                Verb::Many => tx.send_all(items).await,
                Verb::One => {
                    for item in items {
                        tx.send(item).await;
                    }
                }
            }
        });
        let consumer = runtime.spawn(async move { take(verb, &mut rx, items).await });
        consumer.await.expect("a consumer")
    });
    meter.stop_and_check(job, seen)
}

async fn take<T: Item>(verb: Verb, rx: &mut impl AsyncRx<T>, items: u64) -> Seen {
    let mut seen = Seen::default();
    let mut got = Vec::with_capacity(BATCH);
    while seen.items < items {
        match verb {
            Verb::One => match rx.recv().await {
                Some(item) => seen.see(&item),
                None => break,
            },
            Verb::Many => {
                if rx.recv_many(&mut got).await == 0 {
                    break;
                }
                got.drain(..).for_each(|item| seen.see(&item));
            }
        }
    }
    seen
}

/// Several producers and several consumers, who end when the channel does. There is no order to check.
fn crowd<X, R>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome
where
    X: Tx<u64> + Clone + Send,
    R: Rx<u64> + Clone + Send,
{
    let (tx, rx) = open(&job.dir);
    let verb = job.verb;
    let each = job.items / CROWD;
    let meter = Meter::start();
    let items: u64 = thread::scope(|scope| {
        let consumers: Vec<_> = (0..CROWD)
            .map(|_| {
                let (mut tx, mut rx) = (tx.clone(), rx.clone());
                scope.spawn(move || verb.send(&mut tx, 0..each));
                scope.spawn(move || {
                    let mut items = 0;
                    while verb.recv(&mut rx, &mut |_| items += 1) > 0 {}
                    items
                })
            })
            .collect();
        drop((tx, rx));
        consumers
            .into_iter()
            .map(|consumer| consumer.join().expect("a consumer"))
            .sum()
    });
    Outcome {
        lost: (each * CROWD).saturating_sub(items),
        ..meter.stop(job, items)
    }
}
