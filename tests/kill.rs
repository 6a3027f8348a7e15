//! A process that is killed with SIGKILL at any moment, and what the next one finds.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved};
use hostile::{Chance, Child, Task, note, say, setting};
use overspill::{Builder, DiskBufferedChannel, Durability, Storage, TryRecvError};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Acknowledgements that a crash may forget, in bytes, as the durability table says, with what memory may hold.
const REPEATED_BYTES_MAX: u64 = (1 << 20) + MEMORY_BYTES;
const MEMORY_BYTES: u64 = 1 << 20;
const PAD: usize = 1000;
/// Small, so that many a kill comes while one segment follows another.
const SEGMENT_BYTES: u64 = 10_000;

fn rounds() -> u64 {
    setting("OVERSPILL_KILL_ROUNDS", 5)
}

/// Stores and levels at which nothing that was confirmed may go with its process.
const WRITE_AHEAD: [&str; 4] = ["sled process", "log process", "log interval", "log sync"];
const SPILL: [&str; 2] = ["sled spill", "log spill"];

/// `kept` names a store and a level.
fn builder(dir: &Path, kept: &str) -> Builder<Item> {
    let (storage, level) = kept.split_once(' ').unwrap();
    let durability = match level {
        "spill" => Durability::Spill,
        "process" => Durability::Process,
        "interval" => Durability::Interval(Duration::from_millis(2)),
        "sync" => Durability::Sync,
        other => panic!("no such level: {other}"),
    };
    DiskBufferedChannel::builder(dir)
        .memory_items(8)
        .memory_bytes_max(MEMORY_BYTES.try_into().unwrap())
        .block_bytes(2048)
        .segment_bytes(SEGMENT_BYTES)
        .disk_free_min(0)
        .storage(match storage {
            "sled" => Storage::Sled,
            "log" => Storage::Log,
            other => panic!("no such store: {other}"),
        })
        .durability(durability)
}

fn open(dir: &Path, kept: &str) -> DiskBufferedChannel<Item> {
    builder(dir, kept).open().unwrap()
}

fn item(id: u64) -> Item {
    Item::new(id, usize::try_from(id % 7).unwrap() * PAD / 6)
}

// ---- what the children do ---------------------------------------------------------------------

#[test]
#[ignore = "the other tests run it, as a process of its own"]
fn child() {
    let Some(task) = Task::from_parent() else {
        return;
    };
    let (name, kept) = task.name.split_once(' ').unwrap();
    match name {
        "produce" => produce(&task, kept),
        "work" => work(&task, kept),
        "cycle" => cycle(&task, kept),
        other => panic!("no such task: {other}"),
    }
}

/// Sends from number `arg` on, for ever.
fn produce(task: &Task, kept: &str) {
    let channel = open(&task.dir, kept);
    let tx = channel.sender();
    for id in task.arg.. {
        tx.send(item(id)).unwrap();
        say(&format!("sent {id}"));
    }
}

/// Sends from number `arg` on, and receives about as much, in waves that pass through memory and disk.
fn work(task: &Task, kept: &str) {
    let channel = open(&task.dir, kept);
    let (tx, rx) = (channel.sender(), channel.receiver());
    let mut chance = Chance::seeded(task.arg);
    let mut next = task.arg;
    loop {
        for _ in 0..chance.below(150) {
            // Nothing but this send makes the risk grow until the next line.
            say(&format!("risk {}", channel.stats().at_risk_items + 1));
            tx.send(item(next)).unwrap();
            say(&format!("sent {next}"));
            next += 1;
        }
        for _ in 0..chance.below(100) {
            say("take");
            match rx.try_recv() {
                Ok(item) => say(&format!("took {}", item.intact())),
                Err(TryRecvError::Empty) => say("empty"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Opens, sends a few, halts or drops, for ever, in turns at the level of `kept` and in `Spill`.
fn cycle(task: &Task, kept: &str) {
    let (storage, _) = kept.split_once(' ').unwrap();
    let spill = format!("{storage} spill");
    let mut next = task.arg;
    loop {
        let is_confirmed = next.is_multiple_of(2);
        let channel = open(&task.dir, if is_confirmed { kept } else { &spill });
        let tx = channel.sender();
        let ids = next..next + 1 + next % 11;
        for id in ids.clone() {
            tx.send(item(id)).unwrap();
            if is_confirmed {
                say(&format!("sent {id}"));
            }
        }
        next = ids.end;
        drop(tx);
        if next.is_multiple_of(3) {
            drop(channel);
        } else {
            let report = channel.halt().unwrap();
            assert!(report.saved >= ids.end - ids.start);
        }
        say(&format!("sent {}", next - 1));
    }
}

// ---- what the parent knows --------------------------------------------------------------------

/// What the lines of a child add up to.
#[derive(Debug, Default)]
struct Heard {
    /// One past the last number whose `send` returned `Ok`.
    sent: u64,
    /// One past the last number that was received.
    taken: u64,
    taken_count: u64,
    /// A `recv` may have returned, and nobody heard what.
    taking: bool,
    /// What the process said a kill would lose at most.
    risk: u64,
    lines: u64,
}

/// Lets a child run for a random number of lines, kills it, and says what it had done.
fn run_and_kill(name: &str, kept: &str, dir: &Path, from: u64, chance: &mut Chance) -> Heard {
    let child = Child::start(&format!("{name} {kept}"), dir, from);
    let mut heard = Heard {
        sent: from,
        ..Heard::default()
    };
    for _ in 0..chance.below(2500) {
        let line = child.line().expect("it goes on until it is killed");
        heard.line(&line);
    }
    for line in child.kill() {
        heard.line(&line);
    }
    heard
}

impl Heard {
    fn line(&mut self, line: &str) {
        self.lines += 1;
        let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
        let number: u64 = number.parse().unwrap();
        match word {
            "sent" => self.sent = number + 1,
            "risk" => self.risk = number,
            "took" => {
                // Within one incarnation, in order and nothing twice.
                assert!(number >= self.taken, "{number} came after {}", self.taken);
                self.taken = number + 1;
                self.taken_count += 1;
            }
            "take" | "empty" => {}
            other => panic!("{other}"),
        }
        self.taking = word == "take";
    }
}

/// Takes `count` items, or all there are.
fn take(channel: &DiskBufferedChannel<Item>, count: u64) -> Vec<u64> {
    let rx = channel.receiver();
    let count = count.min(channel.stats().pending);
    let items = (0..count).map(|_| rx.recv_timeout(FOR_EVER).unwrap().intact());
    let ids: Vec<u64> = items.collect();
    assert!(
        ids.is_sorted_by(|a, b| a < b),
        "out of order or twice: {ids:?}"
    );
    assert_conserved(&channel.stats());
    ids
}

fn undamaged(channel: &DiskBufferedChannel<Item>) {
    let (stats, report) = (channel.stats(), channel.open_report());
    assert_eq!(stats.lost, 0, "{report:?} {stats:?}");
    assert!(
        report.lost.is_empty() && report.quarantined.is_empty(),
        "{report:?}"
    );
    assert_conserved(&stats);
}

/// Everything of `certain` came back, and at most the next number, whose `Ok` nobody heard.
fn assert_whole(ids: &[u64], certain: &Range<u64>) -> u64 {
    let end = ids.last().map_or(certain.start, |last| last + 1);
    assert_eq!(ids, (certain.start..end).collect::<Vec<_>>());
    assert!(
        end == certain.end || end == certain.end + 1,
        "{end} items of {certain:?}"
    );
    end
}

#[test]
fn no_confirmed_item_is_lost_when_a_producer_is_killed() {
    WRITE_AHEAD.into_iter().for_each(kill_a_producer);
}

fn kill_a_producer(kept: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut next, mut sent) = (0, 0, 0);
    for round in 0..rounds() {
        let mut chance = Chance::new();
        let heard = run_and_kill("produce", kept, dir.path(), next, &mut chance);
        sent += heard.sent - next;
        let channel = open(dir.path(), kept);
        undamaged(&channel);
        assert_eq!(channel.stats().unaccounted, 0);
        // Every other round leaves a part of the backlog for the next.
        let all = channel.stats().pending;
        let count = if round % 2 == 0 {
            all
        } else {
            chance.below(all)
        };
        let mut ids = take(&channel, count);
        channel.halt().unwrap();
        let channel = open(dir.path(), kept);
        ids.extend(take(&channel, all - count));
        next = assert_whole(&ids, &(first..heard.sent));
        first = next;
        channel.halt().unwrap();
    }
    note(&format!(
        "{kept}: killed a producer {} times: {sent} confirmed items, 0 lost",
        rounds()
    ));
}

#[test]
fn a_killed_consumer_loses_nothing_and_repeats_only_what_it_took_last() {
    WRITE_AHEAD.into_iter().for_each(kill_a_consumer);
}

fn kill_a_consumer(kept: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (mut next, mut repeated) = (0, 0);
    for _ in 0..rounds() {
        let mut chance = Chance::new();
        let from = next;
        let heard = run_and_kill("work", kept, dir.path(), from, &mut chance);
        let taken = heard.taken.max(from);
        let channel = open(dir.path(), kept);
        undamaged(&channel);
        assert_eq!(channel.stats().unaccounted, 0);
        let ids = take(&channel, u64::MAX);
        let start = ids.first().copied().unwrap_or(heard.sent);
        // What `recv` returned without anybody hearing of it was received.
        assert!(
            start <= taken + u64::from(heard.taking),
            "{start} is beyond {heard:?}"
        );
        assert!(
            start >= from,
            "what was taken in an earlier round came again"
        );
        repeated += taken.saturating_sub(start);
        assert!(taken.saturating_sub(start) * PAD as u64 / 2 <= REPEATED_BYTES_MAX);
        next = assert_whole(&ids, &(start..heard.sent.max(start)));
        channel.halt().unwrap();
    }
    note(&format!(
        "{kept}: killed a consumer {} times: {next} items, 0 lost, {repeated} delivered again",
        rounds()
    ));
}

#[test]
fn in_spill_a_kill_loses_no_more_than_was_at_risk() {
    SPILL.into_iter().for_each(kill_in_spill);
}

fn kill_in_spill(kept: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (mut next, mut lost_total, mut risk_total) = (0, 0, 0);
    for _ in 0..rounds() {
        let mut chance = Chance::new();
        let heard = run_and_kill("work", kept, dir.path(), next, &mut chance);
        let channel = open(dir.path(), kept);
        undamaged(&channel);
        let ids = take(&channel, u64::MAX);
        let taken = heard.taken.max(next);
        // Nothing below what was received is missed; above, whatever doesn't come is lost.
        let back = ids
            .iter()
            .filter(|id| (taken..heard.sent).contains(id))
            .count() as u64;
        let unheard = u64::from(heard.taking);
        let lost = (heard.sent - taken.min(heard.sent)).saturating_sub(back);
        assert!(lost <= heard.risk + unheard, "{lost} items lost, {heard:?}");
        assert!(
            ids.iter().all(|id| (next..=heard.sent).contains(id)),
            "{ids:?}"
        );
        (lost_total, risk_total) = (lost_total + lost, risk_total + heard.risk);
        next = heard.sent + 1;
        channel.halt().unwrap();
    }
    note(&format!(
        "{kept}: killed a process {} times: {lost_total} items lost, {risk_total} had been at risk",
        rounds()
    ));
}

#[test]
fn a_kill_while_opening_or_halting_leaves_a_directory_that_opens() {
    WRITE_AHEAD.into_iter().for_each(kill_at_the_ends);
}

fn kill_at_the_ends(kept: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for _ in 0..rounds() * 2 {
        let mut chance = Chance::new();
        let child = Child::start(&format!("cycle {kept}"), dir.path(), next);
        let mut heard = Heard {
            sent: next,
            ..Heard::default()
        };
        for _ in 0..chance.below(40) {
            heard.line(&child.line().expect("it goes on until it is killed"));
        }
        child.kill().iter().for_each(|line| heard.line(line));
        let channel = open(dir.path(), kept);
        undamaged(&channel);
        let ids = take(&channel, u64::MAX);
        let confirmed: Vec<u64> = (next..heard.sent).collect();
        assert!(ids.starts_with(&confirmed), "{ids:?} of {heard:?}");
        // A cycle that nobody confirmed may have come as far as its end.
        next = heard.sent + 12;
        assert!(ids.iter().all(|id| *id < next), "{ids:?} of {heard:?}");
        channel.halt().unwrap();
    }
    note(&format!(
        "{kept}: killed an opening and halting process {} times",
        rounds() * 2
    ));
}
