//! Bad bytes don't stop the world: files of a directory are flipped, cut, zeroed and removed, and what is undamaged
//! still comes out, in order, each item at most once, with every missing one accounted for.
//!
//! Each case is opened by a process of its own: a thread of sled that panics takes the sled of its whole process with it.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved};
use hostile::bytes::{Damage, damage, ways_to_damage};
use hostile::{Chance, Child, Task, copy_tree, files, note, say, setting};
use overspill::{
    Builder, DiskBufferedChannel, Durability, HaltFault, OpenError, RecvError, RecvTimeoutError,
};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Small enough that the backlog spreads over several databases.
const QUOTA: u64 = 2 << 20;
const ITEMS: u64 = 3000;
/// What a block holds: more don't fit into a value under this quota.
const BLOCK_ITEMS: u64 = 3;
/// Taken before the directory is damaged.
const TAKEN: u64 = 40;
/// Where the checkpoint keeps what (docs/format.md).
const SLOT_BYTES: usize = 16 << 10;
const SLOTS: usize = 3;
const GENERATION_AT: usize = 16;
/// After so many processes whose sled had panicked, the directory is called stuck.
const PROCESSES_MAX: usize = 6;

fn builder(dir: &Path) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(16)
        .disk_bytes_max(QUOTA)
        .disk_free_min(0)
        .durability(Durability::Process)
}

// ---- the process that opens what is damaged ----------------------------------------------------

#[test]
#[ignore = "the other tests run it, as a process of its own"]
fn child() {
    let Some(task) = Task::from_parent() else {
        return;
    };
    let channel = match builder(&task.dir).open() {
        Ok(channel) => channel,
        Err(error) => return say(&format!("refused {error:?}")),
    };
    let before = channel.stats();
    assert_conserved(&before);
    channel.close();
    let (runs, stuck) = receive(&channel);
    for run in &runs {
        say(&format!("items {} {}", run.start, run.end));
    }
    let after = channel.stats();
    assert_conserved(&after);
    let delivered: u64 = runs.iter().map(|run| run.end - run.start).sum();
    let missed = after.lost + after.unaccounted - before.lost - before.unaccounted;
    assert_eq!(
        before.pending,
        delivered + missed + after.pending,
        "{before:?} {after:?}"
    );
    match channel.halt() {
        Ok(_) => {}
        Err(error) => match &error.source {
            HaltFault::Store(_) if stuck => assert_eq!(error.into_items(), []),
            _ => panic!("{error}"),
        },
    }
    let after = channel.stats();
    say(&format!("lost {}", after.lost));
    say(&format!("unaccounted {}", after.unaccounted));
    for set_aside in channel.quarantined() {
        assert!(set_aside.path.exists(), "{set_aside:?}");
        assert!(!set_aside.reason.is_empty());
        say(&format!("quarantined {}", set_aside.seqs.count()));
    }
    drop(channel);
    if stuck {
        return say("stuck 0");
    }
    use_again(&task.dir);
    say("done 0");
}

/// Everything that comes out, as ranges of numbers. `true`: the store failed for good.
fn receive(channel: &DiskBufferedChannel<Item>) -> (Vec<std::ops::Range<u64>>, bool) {
    let rx = channel.receiver();
    let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
    loop {
        let id = match rx.recv_timeout(FOR_EVER) {
            Ok(item) => item.intact(),
            Err(RecvTimeoutError::Closed) => {
                assert_eq!(channel.stats().pending, 0);
                return (runs, false);
            }
            Err(RecvTimeoutError::Failed(RecvError::Store(error))) => {
                say(&format!("error {error}"));
                return (runs, true);
            }
            Err(error) => panic!("{error}: {:?}", channel.stats()),
        };
        match runs.last_mut() {
            Some(run) if run.end == id => run.end += 1,
            Some(run) if run.end > id => panic!("{id} came after {run:?}"),
            _ => runs.push(id..id + 1),
        }
    }
}

/// The directory works as any other.
fn use_again(dir: &Path) {
    let channel = builder(dir).open().unwrap();
    assert_eq!(channel.stats().pending, 0);
    for id in 0..20 {
        channel.sender().send(Item::new(id, 200)).unwrap();
    }
    channel.halt().unwrap();
    let channel = builder(dir).open().unwrap();
    let rx = channel.receiver();
    for id in 0..20 {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    assert_conserved(&channel.stats());
    channel.halt().unwrap();
}

// ---- the process that damages ------------------------------------------------------------------

/// How the directory that is damaged came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Halted,
    Crashed,
}

/// A directory with a backlog over several databases.
fn spilled(end: End) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path()).open().unwrap();
    let tx = channel.sender();
    for id in 0..ITEMS {
        tx.send(Item::new(id, 200)).unwrap();
    }
    let rx = channel.receiver();
    for id in 0..TAKEN {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    match end {
        End::Halted => {
            channel.halt().unwrap();
        }
        End::Crashed => channel.crash(),
    }
    assert!(databases(dir.path()).len() >= 3, "{:?}", files(dir.path()));
    dir
}

fn databases(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files(dir)
        .into_iter()
        .filter(|path| path.ends_with("db"))
        .map(|path| path.parent().unwrap().to_owned())
        .collect();
    found.sort();
    found
}

/// What came of a damaged directory.
#[derive(Debug, Default)]
struct Outcome {
    refused: Option<String>,
    runs: Vec<(u64, u64)>,
    lost: u64,
    unaccounted: u64,
    quarantined: u64,
    processes: usize,
    errors: Vec<String>,
}

impl Outcome {
    fn delivered(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }
}

/// Opens a damaged directory in as many processes as it takes.
fn open_damaged(dir: &Path, what: &str) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.processes < PROCESSES_MAX {
        outcome.processes += 1;
        let lines = Child::start("open", dir, 0).finish(what);
        outcome.quarantined = 0;
        let mut ended = false;
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap();
            let numbers: Vec<u64> = rest
                .split(' ')
                .map_while(|word| word.parse().ok())
                .collect();
            match word {
                "items" => outcome.runs.push((numbers[0], numbers[1])),
                "lost" => outcome.lost = numbers[0],
                "unaccounted" => outcome.unaccounted = numbers[0],
                "quarantined" => outcome.quarantined += 1,
                "refused" => {
                    outcome.refused = Some(rest.to_owned());
                    ended = true;
                }
                "error" => outcome.errors.push(rest.to_owned()),
                "done" => ended = true,
                "stuck" => {}
                other => panic!("{other}"),
            }
        }
        if ended {
            return outcome;
        }
    }
    panic!("{what}: no end after {PROCESSES_MAX} processes: {outcome:?}");
}

/// A copy of `dir` with `way` done to `file`, opened.
fn try_damage(dir: &Path, file: &Path, way: &Damage) -> (TempDir, Outcome) {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir, copy.path());
    let inside = file.strip_prefix(dir).unwrap();
    damage(&copy.path().join(inside), way);
    let outcome = open_damaged(copy.path(), &format!("{} {way:?}", inside.display()));
    (copy, outcome)
}

/// What must hold whatever was damaged.
fn check(what: &str, file: &Path, outcome: &Outcome, tail_is_known: bool) {
    assert_eq!(outcome.refused, None, "{what}: {outcome:?}");
    let in_order = outcome.runs.is_sorted_by(|a, b| a.1 <= b.0);
    assert!(in_order, "{what}: out of order or twice: {outcome:?}");
    let first = outcome.runs.first().map_or(ITEMS, |run| run.0);
    let last = outcome.runs.last().map_or(first, |run| run.1);
    assert!(last <= ITEMS, "{what}: {outcome:?}");
    // What was taken last may come again; what wasn't taken is delivered or accounted for.
    let end = if tail_is_known { ITEMS } else { last };
    let gone = end - first.min(TAKEN) - outcome.delivered();
    let accounted = outcome.lost + outcome.unaccounted;
    assert!(accounted >= gone, "{what}: {gone} are missing: {outcome:?}");
    // After a crash, what was taken last may be among the lost: nobody had written down that it was taken.
    if !file.ends_with("checkpoint") && tail_is_known {
        assert!(accounted <= gone + TAKEN, "{what}: {outcome:?}");
    }
    let holds_items = file.is_dir() || file.ends_with("db") || file.ends_with("conf");
    if !holds_items {
        assert_eq!(
            (gone, last),
            (0, ITEMS),
            "{what}: no item is in there: {outcome:?}"
        );
    }
}

/// What must hold, too, when a log was damaged after a halt: all that is intact in it is salvaged.
fn check_salvage(what: &str, way: &Damage, outcome: &Outcome) {
    let gone = ITEMS - TAKEN - outcome.delivered();
    assert_eq!(
        (outcome.lost, outcome.unaccounted),
        (gone, 0),
        "{what}: {outcome:?}"
    );
    // A page may be of zeros already, and overlaps at most six blocks of 900 bytes.
    let (cost_max, set_aside_min) = match way {
        Damage::Flip { .. } => (BLOCK_ITEMS, 1),
        Damage::Zero { .. } => (6 * BLOCK_ITEMS, 0),
        Damage::Cut { .. } | Damage::Remove => (ITEMS, 1),
    };
    assert!(gone <= cost_max, "{what}: {outcome:?}");
    assert!(
        (set_aside_min..=1).contains(&outcome.quarantined),
        "{what}: {outcome:?}"
    );
}

/// Some of all ways to damage some of all files; `OVERSPILL_DAMAGE_CASES` says how many.
fn damage_any_file(end: End) {
    let cases = setting("OVERSPILL_DAMAGE_CASES", 60);
    let mut chance = Chance::seeded(setting("OVERSPILL_SEED", 7));
    let dir = spilled(end);
    let newest = databases(dir.path()).pop().unwrap();
    let mut ways: Vec<(PathBuf, Damage)> = Vec::new();
    for file in files(dir.path()) {
        let len = fs::metadata(&file).unwrap().len();
        // Most of the files are small, and most of the bytes are in sled's logs.
        let samples = if file.ends_with("db") { 8 } else { 2 };
        let damages = ways_to_damage(len, &mut chance, samples.max(cases / 200));
        ways.extend(damages.into_iter().map(|damage| (file.clone(), damage)));
    }
    let (mut tried, mut worst_flip, mut stuck) = (0, 0, 0);
    while tried < cases && !ways.is_empty() {
        let index = chance.below(ways.len() as u64);
        let (file, way) = ways.swap_remove(usize::try_from(index).unwrap());
        let (_copy, outcome) = try_damage(dir.path(), &file, &way);
        let inside = file.strip_prefix(dir.path()).unwrap().display();
        // How far the newest database went is written down when it is synced, so not before a crash.
        let tail_is_known = end == End::Halted || !file.starts_with(&newest);
        check(
            &format!("{end:?} {inside} {way:?}"),
            &file,
            &outcome,
            tail_is_known,
        );
        if end == End::Halted && file.ends_with("db") {
            check_salvage(&format!("{inside} {way:?}"), &way, &outcome);
        }
        if let Damage::Flip { .. } = way {
            // After a crash what was taken last may come again, or be among the lost.
            let again = outcome.runs.first().map_or(0, |run| run.0).min(TAKEN);
            assert!(
                ITEMS - again - outcome.delivered() <= BLOCK_ITEMS || !file.ends_with("db"),
                "{end:?} {inside} {way:?}: {outcome:?}"
            );
            worst_flip = worst_flip.max(outcome.lost);
        }
        stuck += u64::from(outcome.processes > 1);
        tried += 1;
    }
    note(&format!(
        "{end:?}: {tried} damaged directories, all opened; {stuck} needed a new process; \
         a flipped bit cost at most {worst_flip} of {ITEMS} items"
    ));
}

#[test]
fn damage_to_any_file_of_a_halted_directory_costs_only_what_is_reported() {
    damage_any_file(End::Halted);
}

#[test]
fn damage_to_any_file_of_a_crashed_directory_costs_only_what_is_reported() {
    damage_any_file(End::Crashed);
}

#[test]
fn a_database_that_cannot_be_opened_is_set_aside_and_the_others_go_on() {
    let dir = spilled(End::Halted);
    let databases = databases(dir.path());
    let starts: Vec<u64> = databases
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .chain([ITEMS])
        .collect();
    for (index, database) in databases.iter().enumerate() {
        let held = starts[index + 1] - starts[index].max(TAKEN);
        // The items are in sled's log; without its settings it is read all the same.
        let ways = [
            (database.clone(), Damage::Remove, held, 0),
            (database.join("db"), Damage::Remove, held, 1),
            (database.join("conf"), Damage::Remove, 0, 1),
            (database.join("conf"), Damage::Cut { to: 0 }, 0, 1),
        ];
        for (file, way, lost, set_aside) in ways {
            let (copy, outcome) = try_damage(dir.path(), &file, &way);
            let what = format!("{} {way:?} {outcome:?}", file.display());
            assert_eq!((outcome.lost, outcome.unaccounted), (lost, 0), "{what}");
            assert_eq!(outcome.delivered(), ITEMS - TAKEN - lost, "{what}");
            assert_eq!(outcome.quarantined, set_aside, "{what}");
            let kept = fs::read_dir(copy.path().join("quarantine")).map_or(0, |dir| {
                dir.filter(|entry| entry.as_ref().unwrap().path().is_dir())
                    .count()
            });
            assert_eq!(kept as u64, set_aside, "{what}");
        }
    }
}

#[test]
fn a_newest_database_that_cannot_be_opened_is_in_nobodys_way() {
    for (file, lost) in [("conf", 0), ("db", 1)] {
        let dir = spilled(End::Crashed);
        let newest = databases(dir.path()).pop().unwrap();
        damage(&newest.join(file), &Damage::Remove);
        // What goes on from here would belong into it: nobody knows how far it went.
        let channel = builder(dir.path()).open().unwrap();
        let sent = Item::new(ITEMS, 200);
        channel.sender().send(sent.clone()).unwrap();
        channel.close();
        let received: Vec<Item> = channel.receiver().iter().collect();
        assert_eq!(received.last(), Some(&sent), "{file}");
        let stats = channel.stats();
        assert_eq!(
            (stats.pending, stats.lost + stats.unaccounted),
            (0, lost),
            "{file}"
        );
        channel.halt().unwrap();
        let kept = channel.quarantined();
        assert_eq!(kept.len(), 1, "{file}: {kept:?}");
        assert!(kept[0].path.is_dir() && !newest.exists(), "{kept:?}");
    }
}

#[test]
fn one_slot_of_the_checkpoint_is_enough_and_none_repeats_items_and_loses_none() {
    let dir = spilled(End::Halted);
    let generation = |slot: usize| {
        let bytes = fs::read(dir.path().join("checkpoint")).unwrap();
        let at = slot * SLOT_BYTES + GENERATION_AT;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let newest = (0..SLOTS).max_by_key(|slot| generation(*slot)).unwrap();
    let others: Vec<usize> = (0..SLOTS).filter(|slot| *slot != newest).collect();
    let all: Vec<usize> = (0..SLOTS).collect();
    for (slots, first) in [(others, TAKEN), (vec![newest], 0), (all, 0)] {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(dir.path(), copy.path());
        for slot in &slots {
            let at = (slot * SLOT_BYTES + GENERATION_AT) as u64;
            damage(&copy.path().join("checkpoint"), &Damage::Zero { at });
        }
        let outcome = open_damaged(copy.path(), &format!("slots {slots:?}"));
        let what = format!("slots {slots:?}: {outcome:?}");
        assert_eq!(outcome.refused, None, "{what}");
        let [(start, ITEMS)] = outcome.runs[..] else {
            panic!("{what}");
        };
        assert!((first..=TAKEN).contains(&start), "{what}");
        assert_eq!((outcome.lost, outcome.quarantined), (0, 0), "{what}");
    }
}

#[test]
fn an_older_checkpoint_repeats_items_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("checkpoint");
    let channel = builder(dir.path()).open().unwrap();
    for id in 0..ITEMS {
        channel.sender().send(Item::new(id, 200)).unwrap();
    }
    channel.halt().unwrap();
    let older = fs::read(&file).unwrap();
    let channel = builder(dir.path()).open().unwrap();
    let rx = channel.receiver();
    for id in 0..100 {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    channel.halt().unwrap();
    fs::write(&file, older).unwrap();
    let outcome = open_damaged(dir.path(), "an older checkpoint");
    assert_eq!(
        (outcome.runs, outcome.lost, outcome.unaccounted),
        (vec![(0, ITEMS)], 0, 0)
    );
}

#[test]
fn a_channel_file_that_is_damaged_or_gone_is_written_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("channel");
    let tagged = || builder(dir.path()).schema("v1");
    let channel = tagged().open().unwrap();
    channel.sender().send(Item::new(1, 10)).unwrap();
    channel.halt().unwrap();
    let original = fs::read(&file).unwrap();
    let ways = [
        Damage::Remove,
        Damage::Cut { to: 0 },
        Damage::Cut { to: 20 },
        Damage::Flip { at: 12, mask: 4 },
        Damage::Zero { at: 0 },
    ];
    for way in ways {
        damage(&file, &way);
        match builder(dir.path()).schema("v2").open() {
            Err(OpenError::Schema { found, .. }) => {
                assert_eq!(found.schema.as_deref(), Some("v1"), "{way:?}");
            }
            other => panic!("{way:?}: {other:?}"),
        }
        let channel = tagged().open().unwrap();
        assert_eq!(channel.stats().pending, 1);
        channel.halt().unwrap();
        assert_eq!(fs::read(&file).unwrap(), original, "{way:?}");
    }
}
