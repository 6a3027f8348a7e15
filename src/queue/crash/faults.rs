//! A fault at every call: fixed histories in which the n-th call to the disk fails, for every n and in every way.

use super::check::{Checker, Setup};
use super::driver::{Driver, Step};
use super::model::Promise;
use super::{checker, setup};
use crate::config::Durability;
use crate::disk::sim::{Device, Fault, Random, Sample, SimDisk, View};

const FAULTS: [Fault; 5] = [
    Fault::Io,
    Fault::Full,
    Fault::ShortWrite,
    Fault::LostSync(View::Memory),
    Fault::LostSync(View::Device),
];

/// Some of it is inherited from a process that was killed.
const INHERITED: [Step; 7] = [
    Step::Append,
    Step::Sync,
    Step::Append,
    Step::KeepInMemory,
    Step::SaveMemory,
    Step::Consume,
    Step::Append,
];

const STEPS: [Step; 14] = [
    Step::SyncData,
    Step::Append,
    Step::Consume,
    Step::Checkpoint,
    Step::Sync,
    Step::KeepInMemory,
    Step::Append,
    Step::SaveMemory,
    Step::Consume,
    Step::Consume,
    Step::Sync,
    Step::Reclaim,
    Step::AcknowledgeAny,
    Step::Append,
];

/// What a process that was killed leaves to the one that meets the fault.
fn inherited(setup: &Setup, seed: u64, last: Step) -> (Device, Promise) {
    let disk = SimDisk::default();
    let mut driver = Driver::open(setup, &disk, Promise::default(), 0, Random(seed)).unwrap();
    for step in INHERITED.into_iter().chain([last]) {
        driver.step(step).unwrap();
    }
    let leg = driver.leg();
    (disk.device(), leg.promise_after(leg.changes.len()).clone())
}

/// A history with the fault in it; how many calls it made.
fn run(
    checker: &mut Checker,
    seed: u64,
    start: &(Device, Promise),
    fault: Option<(u64, u64, Fault)>,
) -> Result<u64, String> {
    let disk = SimDisk::of(start.0.clone());
    let mut promise = start.1.clone();
    if let Some((from, count, fault)) = fault {
        disk.fail(from..from + count, fault);
        promise.is_faulty = fault == Fault::LostSync(View::Device);
    }
    let mut driver = Driver::open(&checker.setup, &disk, promise, 1, Random(seed))?;
    let done = STEPS.into_iter().try_for_each(|step| driver.step(step));
    let (leg, closed) = driver.close();
    // What a torn write leaves is known from the crashes without a fault.
    let since = match fault {
        Some((_, _, Fault::LostSync(_))) => 0,
        _ => leg.changes.len(),
    };
    let outcome = done
        .and(closed)
        .and_then(|()| checker.check_syncs(&leg, since));
    outcome.map_err(|what| format!("seed {seed}, {fault:?}: {what}\n{:#?}", leg.steps))?;
    Ok(disk.calls())
}

/// Every fault at every call, once and from then on until the disk is mended. Returns how many faults and how many crash
/// states that were, and the violations.
fn run_all(seed: u64) -> (usize, usize, Vec<String>) {
    let mut checker = checker(seed);
    checker.sample = Sample {
        exhaustive: 4,
        random: 1,
        seed,
    };
    let start = inherited(&checker.setup, seed, Step::Append);
    // Nobody has a copy of what a dead process didn't sync.
    let synced = inherited(&checker.setup, seed, Step::Sync);
    let calls = run(&mut checker, seed, &start, None).unwrap();
    checker.setup.tries = 3;
    // Where a failed sync throws away what everybody could still read, a level that promises to survive that keeps a
    // copy; the others have never promised it.
    let keeps = setup(seed).settings.durability == Durability::Sync;
    let mut runs = 0;
    let mut violations = Vec::new();
    for fault in FAULTS {
        let start = match fault {
            Fault::LostSync(View::Device) if keeps => &synced,
            Fault::LostSync(View::Device) => continue,
            _ => &start,
        };
        for n in 0..calls {
            for count in [1, u64::MAX / 2] {
                let outcome = run(&mut checker, seed, start, Some((n, count, fault)));
                violations.extend(outcome.err());
                runs += 1;
            }
        }
    }
    (runs, checker.states, violations)
}

#[test]
fn a_fault_at_any_call_loses_nothing() {
    let (runs, states, mut violations) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run_all(3));
        let (runs, states, mut violations) = run_all(2);
        let (more, more_states, found) = other.join().unwrap();
        violations.extend(found);
        (runs + more, states + more_states, violations)
    });
    println!(
        "{runs} faults, {states} crash states after them, {} violations",
        violations.len()
    );
    violations.sort_by_key(String::len);
    assert!(violations.is_empty(), "{}", violations[0]);
}
