//! Each item on the device before its sender sends the next, for a second.

use super::{Place, Row, Section};
use crate::args::Args;
use crate::ends::{Rx, Tx, Verb};
use crate::item::{Bytes, Item};
use crate::job::{Job, Outcome, Step};
use crate::meter::Meter;
use crate::peers::{bare, overspill, queue_file, sqlite};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(1);

pub(super) fn sections(args: &Args) -> Vec<Section> {
    let section = |key, senders: usize, rows| Section {
        key,
        title: format!("durable, {} B, senders: {senders}", args.bytes),
        steps: &[Step::Whole],
        items: 0,
        item_bytes: args.bytes,
        rows,
    };
    vec![
        section("durable 1", 1, rows::<1>()),
        section("durable 8", 8, rows::<8>()),
        section("durable 64", 64, rows::<64>()),
    ]
}

#[rustfmt::skip]
fn rows<const SENDERS: usize>() -> Vec<Row> {
    use {Place::Disk, Verb::One};
    let alone = SENDERS == 1;
    vec![
        Row::floor("bare, append and fdatasync, one by one", |job| bare::append_and_sync(job, SPAN)),
        Row::ours(Disk, "overspill Sync, log", One, |job| many::<SENDERS, _, _>(job, overspill::log_sync)),
        Row::disk("disk_backed_queue, Full", One, |job| many::<SENDERS, _, _>(job, sqlite::open_durable)),
        if alone { Row::disk("queue-file, sync_writes", One, |job| one(job, queue_file::open_durable)) }
        else { Row::cannot(Disk, "queue-file, sync_writes", "belongs to one thread") },
        Row::cannot(Disk, "yaque", "never syncs"),
        Row::cannot(Disk, "hopper", "never syncs"),
    ]
}

fn send_for_a_while(tx: &mut impl Tx<Bytes>, bytes: usize, began: Instant) -> u64 {
    let mut items = 0;
    while began.elapsed() < SPAN {
        tx.send(Bytes::make(items, bytes));
        items += 1;
    }
    items
}

fn one<X: Tx<Bytes>, R: Rx<Bytes>>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome {
    let (mut tx, _rx) = open(&job.dir);
    let meter = Meter::start();
    let items = send_for_a_while(&mut tx, job.item_bytes, Instant::now());
    meter.stop(job, items)
}

fn many<const SENDERS: usize, X, R>(job: &Job, open: impl FnOnce(&Path) -> (X, R)) -> Outcome
where
    X: Tx<Bytes> + Clone + Send,
    R: Rx<Bytes>,
{
    let (tx, _rx) = open(&job.dir);
    let meter = Meter::start();
    let began = Instant::now();
    let items = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let mut tx = tx.clone();
                scope.spawn(move || send_for_a_while(&mut tx, job.item_bytes, began))
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender"))
            .sum()
    });
    meter.stop(job, items)
}
