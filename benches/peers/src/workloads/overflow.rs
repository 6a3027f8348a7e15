//! The consumer sleeps while the first half comes, then takes everything while the second half comes.

use super::{Place, Row, Section};
use crate::args::Args;
use crate::ends::{BATCH, Rx, Tx, Verb};
use crate::item::{Bytes, Item, Seen};
use crate::job::{Job, Outcome, Step};
use crate::meter::{Meter, disk_bytes};
use crate::peers::{bare, hopper, overspill, queue_file, sqlite, yaque};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

pub(super) fn sections(args: &Args) -> Vec<Section> {
    vec![Section {
        key: "overflow",
        title: format!("overflow, {} B", args.bytes),
        steps: &[Step::Whole],
        items: args.items,
        item_bytes: args.bytes,
        rows: rows(),
    }]
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use {Place::Disk, Verb::{Many, One}};
    vec![
        Row::floor("bare, written and read, no sync", bare::write_and_read),
        Row::ours(Disk, "overspill Spill, log", Many, |job| overflow(job, overspill::log)),
        Row::ours(Disk, "overspill Spill, log, one by one", One, |job| overflow(job, overspill::log)),
        Row::ours(Disk, "overspill Spill, log, acknowledged", Many, |job| overflow(job, overspill::log_acked)),
        Row::ours(Disk, "overspill Process, log", Many, |job| overflow(job, overspill::log_process)),
        Row::ours(Disk, "overspill Spill, sled", Many, |job| overflow(job, overspill::sled)),
        Row::ours(Disk, "overspill Spill, sled, acknowledged", Many, |job| overflow(job, overspill::sled_acked)),
        Row::disk("hopper", One, |job| overflow(job, hopper::open_small)).share(50),
        Row::disk("yaque, batches", Many, |job| overflow(job, yaque::open)),
        Row::disk("yaque", One, |job| overflow(job, yaque::open)).share(4),
        Row::disk("disk_backed_queue, batches", Many, |job| overflow(job, sqlite::open)).share(10),
        Row::disk("queue-file, batches, in turns on one thread", Many, |job| in_turns(job, queue_file::open)).share(10),
    ]
}

fn overflow<X, R>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome
where
    X: Tx<Bytes> + Send + 'static,
    R: Rx<Bytes>,
{
    let (mut tx, mut rx) = open(&job.dir);
    let (verb, items, bytes) = (job.verb, job.items, job.item_bytes);
    let (half_sent, half) = mpsc::channel();
    let meter = Meter::start();
    let producer = thread::spawn(move || {
        let make = |n| Bytes::make(n, bytes);
        verb.send(&mut tx, (0..items / 2).map(make));
        half_sent.send(()).expect("a consumer");
        verb.send(&mut tx, (items / 2..items).map(make));
        tx.flush();
    });
    half.recv().expect("a producer");
    let disk = disk_bytes(&job.dir);
    let mut seen = Seen::default();
    while seen.items < items && verb.recv(&mut rx, &mut |item| seen.see(item)) > 0 {}
    producer.join().expect("a producer");
    Outcome {
        disk,
        ..meter.stop_and_check(job, seen)
    }
}

/// For a queue that one thread owns: half of the items in, then a batch in and two out.
fn in_turns<X: Tx<Bytes>, R: Rx<Bytes>>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome {
    let (mut tx, mut rx) = open(&job.dir);
    let meter = Meter::start();
    let make = |n| Bytes::make(n, job.item_bytes);
    let half = job.items / 2;
    job.verb.send(&mut tx, (0..half).map(make));
    let disk = disk_bytes(&job.dir);
    let mut items = (half..job.items).map(make);
    let mut seen = Seen::default();
    while seen.items < job.items {
        job.verb.send(&mut tx, items.by_ref().take(BATCH));
        for _ in 0..2 {
            job.verb.recv(&mut rx, &mut |item| seen.see(item));
        }
    }
    Outcome {
        disk,
        ..meter.stop_and_check(job, seen)
    }
}
