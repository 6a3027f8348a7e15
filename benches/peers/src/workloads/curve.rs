//! What an item of a backlog costs, against its size and against the size of the backlog: both should be flat but for the bytes.

use super::{Place, Row, Section, backlog};
use crate::args::Args;
use crate::ends::Verb;
use crate::job::{Job, Outcome, Step};
use crate::peers::overspill;

const SIZES: [usize; 4] = [64, 256, 1 << 10, 64 << 10];

/// A store, and what a run of it does.
type Store = (&'static str, fn(&Job) -> Outcome);

const STORES: [Store; 2] = [
    ("log", |job| backlog::backlog(job, overspill::log)),
    ("sled", |job| backlog::backlog(job, overspill::sled)),
];

pub(super) fn sections(args: &Args) -> Vec<Section> {
    let section = |key, title, rows| Section {
        key,
        title,
        steps: &[Step::Write, Step::Read],
        items: args.items,
        item_bytes: args.bytes,
        rows,
    };
    let payload = args.items * args.bytes as u64;
    let megabytes = payload / 1_000_000;
    vec![
        section(
            "curve, items",
            format!("backlog of {megabytes} MB by the size of an item"),
            by_item(payload),
        ),
        section(
            "curve, backlog",
            format!("backlog of {} B items by its size", args.bytes),
            by_backlog(args),
        ),
    ]
}

fn by_item(payload: u64) -> Vec<Row> {
    let row = |(store, run): Store, bytes: usize| {
        let name = format!("overspill, {store}, {bytes} B");
        Row::ours(Place::Disk, &name, Verb::Many, run).of(payload / bytes as u64, bytes)
    };
    let rows = STORES.map(|store| SIZES.map(|bytes| row(store, bytes)));
    rows.into_iter().flatten().collect()
}

fn by_backlog(args: &Args) -> Vec<Row> {
    let mebibytes = [10, 100].into_iter();
    let sizes = mebibytes.chain(args.gib.iter().filter(|gib| **gib > 0).map(|gib| gib << 10));
    let row = |(store, run): Store, mebibytes: u64| {
        let name = format!("overspill, {store}, {mebibytes} MiB");
        let items = (mebibytes << 20) / args.bytes as u64;
        Row::ours(Place::Disk, &name, Verb::Many, run).of(items, args.bytes)
    };
    let rows = STORES.map(|store| sizes.clone().map(move |size| row(store, size)));
    rows.into_iter().flatten().collect()
}
