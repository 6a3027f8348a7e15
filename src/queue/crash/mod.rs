//! Every crash state, counted: random short histories over the durable queue with the log store on a simulated disk.
//!
//! At every change to the disk, every state that the end of the process or of the power may leave (or many of them,
//! the extremes among them) is recovered, read to the end, and compared with what had been promised. Some of the
//! recoveries are crashed in their turn. Disks that lie show that broken promises are found out.
//!
//! So do these mutants of the code, within thirty histories each: a log that doesn't sync its directory (29 histories
//! fail), a reclaim that removes segments before the checkpoint is on the device (2), a clean stop whose checkpoint is
//! written before the data is synced (6). What a caller of dead letters may do wrong is tried in `letters.rs`, each time.

mod check;
mod driver;
mod faults;
mod full;
mod letters;
mod model;

use self::check::{Checker, Leg, Setup};
use self::driver::Driver;
use self::model::Promise;
use crate::block::Compression;
use crate::config::{Durability, Settings, Storage};
use crate::disk::sim::{Device, Lie, Random, Sample, SimDisk};
use std::path::Path;

/// So many give more than a hundred thousand states; `OVERSPILL_CRASH_HISTORIES` asks for more.
const HISTORIES: u64 = 60;

/// The most steps between two openings of a history.
const STEPS_MAX: usize = 14;

/// From this seed on, a slot of the checkpoint takes a range or two, and consumers finish more out of order.
const SMALL_SLOTS: u64 = 1 << 20;

fn setup(seed: u64) -> Setup {
    let mut settings = Settings::new(Path::new("/spool"));
    settings.storage = Storage::Log;
    settings.segment_bytes = Some(match seed % 3 {
        0 => 600,
        1 => 1500,
        _ => 4000,
    });
    settings.disk_free_min = Some(0);
    if seed.is_multiple_of(2) {
        settings.durability = Durability::Sync;
    }
    if matches!(seed % 4, 1 | 2) {
        settings.compression = Compression::Lz4;
    }
    let slot_ranges = (seed >= SMALL_SLOTS).then_some(1 + usize::from(seed % 4 == 3));
    Setup {
        settings,
        tries: 0,
        slot_ranges,
        breach: None,
    }
}

fn checker(seed: u64) -> Checker {
    Checker {
        setup: setup(seed),
        sample: Sample {
            exhaustive: 12,
            random: 4,
            seed,
        },
        nested_every: 64,
        states: 0,
    }
}

/// Up to four legs, each on what a crash, or a clean stop, left of the one before.
fn run(checker: &mut Checker, seed: u64, lie: Option<Lie>) -> Result<(), String> {
    let mut random = Random(seed);
    let (mut device, mut promise) = (Device::default(), Promise::default());
    for epoch in 0..=random.below(4) as u64 {
        let disk = SimDisk::of(device);
        if let Some(lie) = lie {
            disk.lie(lie);
        }
        let steps = Random(random.next());
        let mut driver = Driver::open(&checker.setup, &disk, promise, epoch, steps)?;
        let count = 1 + random.below(STEPS_MAX);
        let done = (0..count).try_for_each(|_| driver.any_step());
        let (leg, closed) = match random.below(4) {
            0 => driver.close(),
            _ => (driver.leg(), Ok(())),
        };
        done.and(closed)
            .and_then(|()| checker.check(&leg))
            .map_err(|what| format!("seed {seed}, epoch {epoch}: {what}\n{:#?}", leg.steps))?;
        (device, promise) = crash(&leg, &mut random);
    }
    Ok(())
}

/// Ends a leg after any of its changes.
fn crash(leg: &Leg, random: &mut Random) -> (Device, Promise) {
    let at = match random.below(3) {
        0 => leg.changes.len(),
        _ => random.below(leg.changes.len() + 1),
    };
    let (device, mut promise) = (leg.device_after(at), leg.promise_after(at).clone());
    if random.below(3) == 0 {
        return (device, promise);
    }
    let mut images = device.images(Sample {
        exhaustive: 64,
        random: 16,
        seed: random.next(),
    });
    promise.is_torn = true;
    promise.written = promise.safe.clone();
    promise.finished_written = promise.finished_safe.clone();
    (images.swap_remove(random.below(images.len())), promise)
}

fn histories() -> u64 {
    let wanted = std::env::var("OVERSPILL_CRASH_HISTORIES").ok();
    wanted
        .and_then(|histories| histories.parse().ok())
        .unwrap_or(HISTORIES)
}

/// Runs histories of all seeds on all processors. Returns how many states were looked at, and what was violated,
/// the simplest first.
fn run_all(seeds: std::ops::Range<u64>, lie: Option<Lie>) -> (usize, Vec<String>) {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let share = |thread: u64| {
        let (mut states, mut violations) = (0, Vec::new());
        for seed in seeds.clone().filter(|seed| seed % threads == thread) {
            let mut checker = checker(seed);
            violations.extend(run(&mut checker, seed, lie).err());
            states += checker.states;
        }
        (states, violations)
    };
    let shares: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || share(thread)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect()
    });
    let states = shares.iter().map(|(states, _)| states).sum();
    let mut violations: Vec<String> = shares.into_iter().flat_map(|(_, found)| found).collect();
    violations.sort_by_key(String::len);
    (states, violations)
}

#[test]
fn every_crash_leaves_what_was_promised() {
    assert_kept(0..histories());
}

#[test]
fn every_crash_leaves_what_was_promised_with_more_to_tell_than_a_slot_takes() {
    assert_kept(SMALL_SLOTS..SMALL_SLOTS + histories() / 3);
}

fn assert_kept(seeds: std::ops::Range<u64>) {
    let (states, violations) = run_all(seeds, None);
    println!("{states} crash states, {} violations", violations.len());
    for v in violations.iter().take(5) {
        println!("{v}");
    }
    assert!(violations.is_empty(), "{}", violations[0]);
}

fn is_found_out(lie: Lie) {
    let found = (0..200).find_map(|seed| run(&mut checker(seed), seed, Some(lie)).err());
    let found = found.expect("it is found out");
    assert!(
        found.contains("is gone") || found.contains("is back"),
        "{found}"
    );
}

#[test]
fn a_disk_that_never_syncs_directories_is_found_out() {
    is_found_out(Lie::SyncDir);
}

/// So would a segment be that is removed before the checkpoint is durable that makes it unneeded.
#[test]
fn a_disk_that_never_syncs_the_checkpoint_is_found_out() {
    is_found_out(Lie::Sync("/checkpoint"));
}

/// So would a checkpoint be that is ahead of the data.
#[test]
fn a_disk_that_never_syncs_the_segments_is_found_out() {
    is_found_out(Lie::Sync("/log/"));
}
