//! One item there, one item back: how long it takes to wake somebody who waits.

use super::{Place, Row, Section};
use crate::args::Args;
use crate::ends::{AsyncRx, AsyncTx, Rx, Tx, Verb};
use crate::item::{Bytes, Item};
use crate::job::{Job, Outcome, Step};
use crate::meter::Meter;
use crate::peers::{overspill, tasks, threads, yaque};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// One round trip for so many items of the other workloads.
const SHARE: u64 = 50;

pub(super) fn sections(args: &Args) -> Vec<Section> {
    let section = |key, title: &str, rows| Section {
        key,
        title: title.to_owned(),
        steps: &[Step::Whole],
        items: (args.items / SHARE).max(100),
        item_bytes: 8,
        rows,
    };
    vec![
        section("wake, threads", "wake, between threads", between_threads()),
        section("wake, tasks", "wake, between tasks", between_tasks()),
    ]
}

#[rustfmt::skip]
fn between_threads() -> Vec<Row> {
    use {Place::{Disk, Memory}, Verb::One};
    vec![
        Row::ours(Memory, "overspill Spill, log", One, |job| ping_pong::<u64, _, _>(job, overspill::log)),
        Row::ours(Disk, "overspill Process, log", One, |job| ping_pong::<u64, _, _>(job, overspill::log_process)),
        Row::memory("crossbeam-channel", One, |job| ping_pong::<u64, _, _>(job, |_| threads::crossbeam())),
        Row::memory("flume", One, |job| ping_pong::<u64, _, _>(job, |_| threads::flume())),
        Row::memory("kanal", One, |job| ping_pong::<u64, _, _>(job, |_| threads::kanal())),
        Row::memory("tokio mpsc", One, |job| ping_pong::<u64, _, _>(job, |_| threads::tokio())),
        Row::memory("async-channel", One, |job| ping_pong::<u64, _, _>(job, |_| threads::async_channel())),
        Row::disk("yaque", One, |job| ping_pong::<Bytes, _, _>(job, yaque::open)),
    ]
}

#[rustfmt::skip]
fn between_tasks() -> Vec<Row> {
    use {Place::Memory, Verb::One};
    vec![
        Row::ours(Memory, "overspill Spill, log", One, |job| tasks_ping_pong(job, overspill::log)),
        Row::memory("flume", One, |job| tasks_ping_pong(job, |_| threads::flume())),
        Row::memory("kanal", One, |job| tasks_ping_pong(job, |_| tasks::kanal())),
        Row::memory("tokio mpsc", One, |job| tasks_ping_pong(job, |_| tasks::tokio())),
        Row::memory("async-channel", One, |job| tasks_ping_pong(job, |_| threads::async_channel())),
    ]
}

fn ping_pong<T, X, R>(job: &Job, open: impl Fn(&Path) -> (X, R)) -> Outcome
where
    T: Item,
    X: Tx<T> + Send + 'static,
    R: Rx<T> + Send + 'static,
{
    let (mut there, mut arrived) = open(&job.dir.join("there"));
    let (mut back, mut returned) = open(&job.dir.join("back"));
    let (items, bytes) = (job.items, job.item_bytes);
    let echo = thread::spawn(move || {
        for _ in 0..items {
            let mut number = 0;
            arrived.recv(&mut |item| number = item.number());
            back.send(T::make(number, bytes));
        }
    });
    let meter = Meter::start();
    let mut trips = Vec::new();
    for number in 0..items {
        let began = Instant::now();
        there.send(T::make(number, bytes));
        returned.recv(&mut |item| assert_eq!(item.number(), number));
        trips.push(began.elapsed());
    }
    let outcome = meter.stop(job, items);
    echo.join().expect("an echo");
    with_latency(outcome, trips)
}

fn tasks_ping_pong<X, R>(job: &Job, open: impl Fn(&Path) -> (X, R)) -> Outcome
where
    X: AsyncTx<u64>,
    R: AsyncRx<u64>,
{
    let (mut there, mut arrived) = open(&job.dir.join("there"));
    let (mut back, mut returned) = open(&job.dir.join("back"));
    let items = job.items;
    let runtime = crate::runtime();
    let meter = Meter::start();
    let trips = runtime.block_on(async {
        runtime.spawn(async move {
            while let Some(number) = arrived.recv().await {
                back.send(number).await;
            }
        });
        let pinger = runtime.spawn(async move {
            let mut trips = Vec::new();
            for number in 0..items {
                let began = Instant::now();
                there.send(number).await;
                assert_eq!(returned.recv().await, Some(number));
                trips.push(began.elapsed());
            }
            trips
        });
        pinger.await.expect("a pinger")
    });
    with_latency(meter.stop(job, items), trips)
}

fn with_latency(mut outcome: Outcome, mut trips: Vec<Duration>) -> Outcome {
    trips.sort_unstable();
    let at = |permille: usize| {
        let trip = trips.get((trips.len() * permille / 1000).min(trips.len() - 1));
        trip.map_or(0.0, Duration::as_secs_f64)
    };
    outcome.latency = Some([at(500), at(990), at(999)]);
    outcome
}
