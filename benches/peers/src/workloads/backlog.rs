//! All items written and the queue closed; then, in a new process, opened and all read.

use super::{Place, Row, Section};
use crate::args::Args;
use crate::ends::{Rx, Tx, Verb};
use crate::item::{Bytes, Item, Seen};
use crate::job::{Job, Outcome, Step};
use crate::meter::Meter;
use crate::peers::{bare, overspill, queue_file, sqlite, yaque};
use std::path::Path;

pub(super) fn sections(args: &Args) -> Vec<Section> {
    vec![Section {
        key: "backlog",
        title: format!("backlog, {} B", args.bytes),
        steps: &[Step::Write, Step::Read],
        items: args.items,
        item_bytes: args.bytes,
        rows: rows(),
    }]
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use {Place::Disk, Verb::{Many, One}};
    vec![
        Row::floor("bare, 1 MiB pieces, one sync", floor),
        Row::ours(Disk, "overspill Spill, log", Many, |job| backlog(job, overspill::log)),
        Row::ours(Disk, "overspill Spill, log, one by one", One, |job| backlog(job, overspill::log)),
        Row::ours(Disk, "overspill Spill, log, acknowledged", Many, |job| backlog(job, overspill::log_acked)),
        Row::ours(Disk, "overspill Process, log", Many, |job| backlog(job, overspill::log_process)),
        Row::ours(Disk, "overspill Spill, sled", Many, |job| backlog(job, overspill::sled)),
        Row::ours(Disk, "overspill Spill, sled, acknowledged", Many, |job| backlog(job, overspill::sled_acked)),
        Row::disk("yaque, batches (never syncs)", Many, |job| backlog(job, yaque::open)),
        Row::disk("yaque (never syncs)", One, |job| backlog(job, yaque::open)).share(4),
        Row::disk("queue-file, batches", Many, |job| backlog(job, queue_file::open)).share(10),
        Row::disk("disk_backed_queue, batches", Many, |job| backlog(job, sqlite::open)).share(10),
        Row::cannot(Disk, "hopper", "keeps nothing across a restart"),
    ]
}

fn floor(job: &Job) -> Outcome {
    match job.step {
        Step::Read => bare::read(job),
        _ => bare::write(job),
    }
}

pub(super) fn backlog<X: Tx<Bytes>, R: Rx<Bytes>>(
    job: &Job,
    open: impl FnOnce(&Path) -> (X, R),
) -> Outcome {
    match job.step {
        Step::Read => read(job, open),
        _ => write(job, open),
    }
}

/// Opens, writes everything and closes.
pub(super) fn write<X: Tx<Bytes>, R: Rx<Bytes>>(
    job: &Job,
    open: impl FnOnce(&Path) -> (X, R),
) -> Outcome {
    let meter = Meter::start();
    let (mut tx, rx) = open(&job.dir);
    let items = (0..job.items).map(|n| Bytes::make(n, job.item_bytes));
    job.verb.send(&mut tx, items);
    tx.finish();
    drop(rx);
    meter.stop(job, job.items)
}

/// Opens, reads everything and closes.
fn read<X: Tx<Bytes>, R: Rx<Bytes>>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome {
    let meter = Meter::start();
    let (tx, mut rx) = open(&job.dir);
    drop(tx);
    let mut seen = Seen::default();
    while seen.items < job.items && job.verb.recv(&mut rx, &mut |item| seen.see(item)) > 0 {}
    rx.finish();
    meter.stop_and_check(job, seen)
}
