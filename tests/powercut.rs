//! A power cut at any moment on a real file system, and what the next process finds.
//!
//! `OVERSPILL_POWERCUT` names a script that runs a workload on a recorded ext4 and hands the file system as it would be
//! after a cut to a checker: `SCRIPT --work CMD --check CMD --cuts N --subsets N`. In the commands it replaces `{dir}` and
//! `{promised}`, the highest number that the workload had printed after `promise` before the cut, where it waits for a
//! line. Both commands are this test, started again. `OVERSPILL_POWERCUT_CUTS` says how many cuts each history gets.
#![cfg(all(feature = "test-util", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved};
use hostile::{Chance, Task, command_line, files, note, setting};
use overspill::{Builder, DiskBufferedChannel, Durability, Storage};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::Path;
use std::process::{self, Command};
use std::time::Duration;
use std::{env, fs};

/// The timer shall not help: what the interval promises here, `sync` has to keep.
const NEVER: Duration = Duration::from_secs(3600);
const STEPS: usize = 360;

/// What the child does between two promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Send,
    Take(u64),
    Sync,
    Reopen,
}

/// The same history in every process.
#[derive(Clone, Debug)]
struct History {
    durability: Durability,
    steps: Vec<Step>,
}

impl History {
    fn named(name: &str) -> Self {
        let (durability, seed) = match name {
            "sync" => (Durability::Sync, 0x9E37_79B9_7F4A_7C15),
            "interval" => (Durability::Interval(NEVER), 0xC2B2_AE3D_27D4_EB4F),
            "spill" => (Durability::Spill, 0x1656_67B1_9E37_79F9),
            other => panic!("no such history: {other}"),
        };
        let mut chance = Chance::seeded(seed);
        let step = |_| match chance.below(100) {
            0..82 => Step::Send,
            82..89 => Step::Take(chance.below(12)),
            // Everything: then the segments before go.
            89..91 => Step::Take(u64::MAX),
            91..98 => Step::Sync,
            _ => Step::Reopen,
        };
        let mut steps: Vec<Step> = (0..STEPS).map(step).collect();
        steps.push(Step::Sync);
        Self { durability, steps }
    }

    /// Whether everything that was accepted is safe when this step is done.
    fn promises(&self, step: Step) -> bool {
        self.durability == Durability::Sync || matches!(step, Step::Sync | Step::Reopen)
    }

    /// What is known after a cut between promise number `promised`, which is kept, and the next one.
    fn known(&self, promised: usize) -> Known {
        let mut known = Known::default();
        let (mut sent, mut taken) = (0_u64, 0_u64);
        for (index, step) in self.steps.iter().enumerate() {
            match *step {
                Step::Send => sent += 1,
                Step::Take(count) => taken = sent.min(taken.saturating_add(count)),
                Step::Sync | Step::Reopen => {}
            }
            known.sent_at_most = sent;
            known.taken_at_most = taken;
            if index >= promised {
                if self.promises(*step) {
                    break;
                }
                continue;
            }
            known.safe = sent;
            if matches!(step, Step::Sync | Step::Reopen) {
                known.taken_for_good = taken;
            }
        }
        known
    }
}

/// Numbers of items, each one past the last.
#[derive(Debug, Default)]
struct Known {
    safe: u64,
    sent_at_most: u64,
    taken_at_most: u64,
    /// That they were taken is on the device.
    taken_for_good: u64,
}

fn builder(dir: &Path, durability: &Durability) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(6)
        .block_bytes(2048)
        .segment_bytes(6000)
        // Under a small quota little is kept for the next spill, so segments go while the channel runs.
        .disk_bytes_max(256 << 10)
        .disk_free_min(0)
        .storage(Storage::Log)
        .durability(durability.clone())
}

fn open(dir: &Path, durability: &Durability) -> DiskBufferedChannel<Item> {
    builder(dir, durability).open().unwrap()
}

#[test]
#[ignore = "the other tests run it, as a process of its own"]
fn child() {
    let Some(task) = Task::from_parent() else {
        return;
    };
    // The script shows the last line of what a checker says.
    panic::set_hook(Box::new(|info| {
        note(&info.to_string().replace('\n', " "));
        process::exit(1);
    }));
    let (role, name) = task.name.split_once('-').unwrap();
    let history = History::named(name);
    match role {
        "work" => work(&task.dir, &history),
        "check" => check(&task.dir, &history, task.arg.try_into().unwrap()),
        other => panic!("no such task: {other}"),
    }
}

fn work(dir: &Path, history: &History) {
    let mut channel = open(dir, &history.durability);
    let (mut sent, mut taken) = (0, 0);
    let mut seen = BTreeSet::new();
    for (index, step) in history.steps.iter().enumerate() {
        match *step {
            Step::Send => {
                let pad = usize::try_from(sent % 9 * 160).unwrap();
                channel.sender().send(Item::new(sent, pad)).unwrap();
                sent += 1;
            }
            Step::Take(count) => {
                let rx = channel.receiver();
                for _ in 0..count.min(sent - taken) {
                    assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), taken);
                    taken += 1;
                }
            }
            Step::Sync => channel.sync().unwrap(),
            Step::Reopen => {
                channel.halt().unwrap();
                channel = open(dir, &history.durability);
            }
        }
        if history.promises(*step) {
            promise(index + 1);
        }
        seen.extend(files(&dir.join("log")));
    }
    let gone = seen.iter().filter(|path| !path.exists()).count();
    assert!(seen.len() > 8 && gone > 4, "{gone} gone of {seen:?}");
    // No halt: the recording ends as a process does that is cut off.
    channel.crash();
}

/// Says so, and waits until it is written down.
fn promise(number: usize) {
    let mut out = io::stdout().lock();
    // The harness leaves its own line unfinished.
    writeln!(out, "\npromise {number}").unwrap();
    out.flush().unwrap();
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "nobody writes the promises down");
}

fn check(dir: &Path, history: &History, promised: usize) {
    let known = history.known(promised);
    let channel = open(dir, &history.durability);
    let opened = channel.stats();
    assert_conserved(&opened);
    channel.close();
    let items = channel.receiver();
    let mut ids = Vec::new();
    while let Ok(item) = items.recv_timeout(FOR_EVER) {
        ids.push(item.intact());
    }
    let stats = channel.stats();
    assert_conserved(&stats);
    let what = format!("{known:?} {ids:?} {stats:?} {:?}", channel.open_report());
    assert_eq!(stats.pending, 0, "not all was delivered: {what}");
    assert!(ids.is_sorted_by(|a, b| a < b), "out of order: {what}");
    let wanted: Vec<u64> = (known.taken_at_most..known.safe).collect();
    let safe: Vec<u64> = ids
        .iter()
        .copied()
        .filter(|id| (known.taken_at_most..known.safe).contains(id))
        .collect();
    assert_eq!(safe, wanted, "a promise is broken: {what}");
    let first = ids.first().copied().unwrap_or(known.taken_for_good);
    assert!(first >= known.taken_for_good, "came again: {what}");
    let last = ids.last().copied().unwrap_or(0);
    assert!(last < known.sent_at_most.max(1), "from nowhere: {what}");
    if history.durability == Durability::Sync {
        // Each send waits for the one before, so there is nothing behind a hole.
        let is_whole = ids.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(is_whole && stats.lost + stats.unaccounted == 0, "{what}");
    }
    channel.halt().unwrap();
    let channel = open(dir, &history.durability);
    let (sender, receiver) = (channel.sender(), channel.receiver());
    sender.send(Item::new(7, 7)).unwrap();
    assert_eq!(receiver.recv_timeout(FOR_EVER).unwrap().intact(), 7);
    assert_conserved(&channel.stats());
    channel.halt().unwrap();
}

fn survives_every_cut(name: &str) {
    let Some(script) = env::var_os("OVERSPILL_POWERCUT") else {
        return note(&format!(
            "skipped, OVERSPILL_POWERCUT names no script: power cuts of the history `{name}`"
        ));
    };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return note(&format!(
            "skipped, only root may mount: power cuts of the history `{name}`"
        ));
    }
    let output = Command::new("python3")
        .arg(script)
        .args([
            "--work",
            &command_line(&format!("work-{name}"), "{dir}", "0"),
        ])
        .args([
            "--check",
            &command_line(&format!("check-{name}"), "{dir}", "{promised}"),
        ])
        .args([
            "--cuts",
            &setting("OVERSPILL_POWERCUT_CUTS", 100).to_string(),
        ])
        .args(["--subsets", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}{complaints}");
    note(&format!(
        "power cuts of the history `{name}`: {}",
        said.replace('\n', "; ")
    ));
}

#[test]
fn after_a_power_cut_everything_confirmed_in_sync_is_there() {
    survives_every_cut("sync");
}

#[test]
fn after_a_power_cut_everything_that_a_sync_covered_is_there_at_an_interval() {
    survives_every_cut("interval");
}

#[test]
fn after_a_power_cut_everything_that_a_sync_covered_is_there_in_spill() {
    survives_every_cut("spill");
}
