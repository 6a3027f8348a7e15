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
use hostile::{Chance, Child, Task, copy_tree, files, note, say, setting};
use overspill::{Builder, DiskBufferedChannel, Durability, HaltFault, RecvError, RecvTimeoutError};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Small enough that the backlog spreads over several databases.
const QUOTA: u64 = 8 << 20;
const ITEMS: u64 = 6000;
/// Taken before the directory is damaged.
const TAKEN: u64 = 40;
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
    for id in 0..100 {
        channel.sender().send(Item::new(id, 200)).unwrap();
    }
    channel.halt().unwrap();
    let channel = builder(dir).open().unwrap();
    let rx = channel.receiver();
    for id in 0..100 {
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

#[derive(Clone, Debug)]
enum Damage {
    Flip { at: u64, mask: u8 },
    Cut { to: u64 },
    Zero { at: u64 },
    Remove,
}

fn damage(path: &Path, damage: &Damage) {
    if matches!(damage, Damage::Remove) {
        return match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        };
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let len = file.metadata().unwrap().len();
    match *damage {
        Damage::Flip { at, mask } => {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ mask]).unwrap();
        }
        Damage::Cut { to } => file.set_len(to).unwrap(),
        Damage::Zero { at } => {
            let page = usize::try_from((len - at).min(4096)).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&vec![0; page]).unwrap();
        }
        Damage::Remove => {}
    }
}

/// Some ways to damage a file of `len` bytes.
fn ways(len: u64, chance: &mut Chance, samples: u64) -> Vec<Damage> {
    let mut ways = vec![Damage::Remove];
    if len == 0 {
        return ways;
    }
    ways.extend([Damage::Cut { to: 0 }, Damage::Cut { to: len - 1 }]);
    for _ in 0..samples {
        let mask = 1 << chance.below(8);
        ways.push(Damage::Flip {
            at: chance.below(len),
            mask,
        });
        ways.push(Damage::Cut {
            to: chance.below(len),
        });
        ways.push(Damage::Zero {
            at: chance.below(len) / 4096 * 4096,
        });
    }
    // Where the magic, the lengths and the checksums are.
    ways.push(Damage::Flip {
        at: chance.below(len.min(64)),
        mask: 1,
    });
    ways
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
        let (lines, well) = Child::start("open", dir, 0).wait();
        assert!(
            well,
            "{what}: the process failed after {lines:?}; {outcome:?}"
        );
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
fn check(what: &str, file: &Path, outcome: &Outcome) {
    assert_eq!(outcome.refused, None, "{what}: {outcome:?}");
    let in_order = outcome.runs.is_sorted_by(|a, b| a.1 <= b.0);
    assert!(in_order, "{what}: out of order or twice: {outcome:?}");
    let is_checkpoint = file.ends_with("checkpoint");
    let missing = ITEMS - TAKEN.min(ITEMS);
    let delivered = outcome.delivered();
    if is_checkpoint {
        // The cursor is behind by what was acknowledged last: that comes again.
        assert!(
            (missing..=ITEMS).contains(&delivered),
            "{what}: {outcome:?}"
        );
    } else {
        assert!(delivered <= ITEMS, "{what}: {outcome:?}");
    }
    if !file.ends_with("db") && !file.ends_with("conf") && !file.is_dir() {
        assert!(
            delivered >= missing,
            "{what}: nothing but a backlog file loses items: {outcome:?}"
        );
    }
    let gone = ITEMS - outcome.runs.first().map_or(ITEMS, |run| run.0) - delivered;
    if delivered < missing {
        assert!(
            outcome.lost + outcome.unaccounted >= gone,
            "{what}: {gone} are missing: {outcome:?}"
        );
    }
}

fn damage_every_file(end: End) {
    let samples = setting("OVERSPILL_DAMAGE_SAMPLES", 1);
    let mut chance = Chance::seeded(setting("OVERSPILL_SEED", 7));
    let dir = spilled(end);
    let (mut cases, mut worst_flip, mut stuck) = (0, 0, 0);
    for file in files(dir.path()) {
        let len = fs::metadata(&file).unwrap().len();
        for way in ways(len, &mut chance, samples) {
            let (_copy, outcome) = try_damage(dir.path(), &file, &way);
            let what = format!(
                "{end:?} {} {way:?}",
                file.strip_prefix(dir.path()).unwrap().display()
            );
            check(&what, &file, &outcome);
            if let Damage::Flip { .. } = way {
                worst_flip = worst_flip.max(outcome.lost);
            }
            stuck += u64::from(outcome.processes > 1);
            cases += 1;
        }
    }
    note(&format!(
        "{end:?}: {cases} damaged directories, all opened; {stuck} needed a new process; \
         a flipped bit cost at most {worst_flip} of {ITEMS} items"
    ));
}

#[test]
fn damage_to_any_file_of_a_halted_directory_costs_only_what_is_reported() {
    damage_every_file(End::Halted);
}

#[test]
fn damage_to_any_file_of_a_crashed_directory_costs_only_what_is_reported() {
    damage_every_file(End::Crashed);
}
