//! How long it takes, and how much memory, to open what an earlier process left and to have its first item.

use super::{Place, Row, Section, backlog};
use crate::args::Args;
use crate::ends::{Rx, Tx, Verb};
use crate::item::Bytes;
use crate::job::{Job, Outcome, Step};
use crate::meter::{Meter, peak_memory};
use crate::peers::{overspill, queue_file, sqlite, yaque};
use std::path::Path;

/// Every round takes one item, so there are some even where nothing is asked for.
const ITEMS_MIN: u64 = 1000;

pub(super) fn sections(args: &Args) -> Vec<Section> {
    let section = |gib: &u64| Section {
        key: "open",
        title: format!("open with {gib} GiB behind, {} B", args.bytes),
        steps: &[Step::Write, Step::Open],
        items: ((gib << 30) / args.bytes as u64).max(ITEMS_MIN),
        item_bytes: args.bytes,
        rows: rows(),
    };
    args.gib.iter().map(section).collect()
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use {Place::Disk, Verb::Many};
    vec![
        Row::ours(Disk, "overspill, log", Many, |job| open(job, overspill::log)),
        Row::ours(Disk, "overspill, sled", Many, |job| open(job, overspill::sled)),
        Row::disk("yaque", Many, |job| open(job, yaque::open)),
        Row::disk("queue-file", Many, |job| open(job, queue_file::open)),
        Row::disk("disk_backed_queue", Many, |job| open(job, sqlite::open)),
        Row::cannot(Disk, "hopper", "keeps nothing across a restart"),
    ]
}

fn open<X: Tx<Bytes>, R: Rx<Bytes>>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome {
    if job.step == Step::Write {
        return backlog::write(job, open);
    }
    let before = peak_memory();
    let meter = Meter::start();
    let (_tx, mut rx) = open(&job.dir);
    rx.recv(&mut |_| {});
    let outcome = meter.stop(job, 1);
    Outcome {
        rss: outcome.rss.saturating_sub(before),
        ..outcome
    }
}
