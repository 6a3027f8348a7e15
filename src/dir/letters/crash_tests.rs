//! What every crash and every fault leaves of letters.

use super::caller::{Caller, ITEMS, check, fresh_disk, promise_at, recover};
use super::tests::try_open;
use super::*;
use crate::dir::crash_tests::sample_every_crash;
use crate::disk::sim::{Fault, Random, Sample, SimDisk, View};

const MANY: Sample = Sample {
    exhaustive: 64,
    random: 24,
    seed: 3,
};
const FEW: Sample = Sample {
    exhaustive: 4,
    random: 1,
    seed: 1,
};

/// Checks every state that a crash may leave of a history, that the next process goes on from it, and that what that one
/// tells is on the device. Returns how many states that were.
fn check_every_crash(caller: &Caller, sample: Sample, follow_ups: bool) -> usize {
    sample_every_crash(&caller.disk, sample, |changes, disk| {
        let promise = promise_at(&caller.promises, changes);
        let (mut next, found) = recover(&disk, caller.incarnation + 1);
        check(&found, &promise);
        if !follow_ups {
            return;
        }
        for image in disk.device().images(FEW) {
            let (_, again) = recover(&SimDisk::of(image), caller.incarnation + 2);
            assert_eq!(
                (again.letters, again.stored),
                (found.letters.clone(), found.stored.clone())
            );
        }
        let waiting: Vec<u8> = (0..ITEMS)
            .filter(|item| !found.finished.contains(item))
            .collect();
        next.next_seq = 100_000;
        next.give_up(&waiting).unwrap();
        next.assert_as_expected();
        for _ in 0..ITEMS {
            next.requeue(800).unwrap();
        }
        let (_, all) = recover(&disk, caller.incarnation + 2);
        check(&all, &promise);
        assert!(all.letters.is_empty());
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    GiveUp(u8),
    Requeue(u64),
    Purge,
    Reopen,
}

use Step::{GiveUp, Purge, Reopen, Requeue};

const HISTORIES: [&[Step]; 5] = [
    &[
        GiveUp(2),
        GiveUp(1),
        Requeue(100),
        GiveUp(3),
        Requeue(5000),
        GiveUp(2),
    ],
    &[GiveUp(3), Purge, GiveUp(2), Requeue(1), Purge, GiveUp(1)],
    &[
        GiveUp(1),
        Reopen,
        GiveUp(1),
        Requeue(100),
        Reopen,
        Requeue(1),
        GiveUp(2),
    ],
    &[
        GiveUp(4),
        GiveUp(4),
        Requeue(900),
        Requeue(900),
        Reopen,
        Purge,
        GiveUp(2),
    ],
    &[
        GiveUp(1),
        Requeue(1),
        GiveUp(1),
        Requeue(1),
        GiveUp(1),
        Requeue(1),
    ],
];

fn step(caller: &mut Caller, given_up: &mut u8, step: Step) -> Result<(), StoreError> {
    match step {
        GiveUp(count) => {
            let items: Vec<u8> = (*given_up..(*given_up + count).min(ITEMS)).collect();
            caller.give_up(&items)?;
            *given_up += count;
            Ok(())
        }
        Requeue(bytes_max) => caller.requeue(bytes_max),
        Purge => caller.purge(),
        // A clean stop: nothing is read, and the ledger knows everything.
        Reopen => {
            caller.withdraw()?;
            caller.save_ledger()?;
            if let Ok(letters) = try_open(&caller.disk, super::caller::LIMITS) {
                caller.letters = letters;
            }
            Ok(())
        }
    }
}

#[test]
fn every_crash_leaves_each_letter_in_exactly_one_place() {
    let mut states = 0;
    for history in HISTORIES {
        let mut caller = Caller::open(&fresh_disk(), 1);
        let mut given_up = 0;
        for next in history {
            step(&mut caller, &mut given_up, *next).unwrap();
            caller.assert_as_expected();
        }
        states += check_every_crash(&caller, MANY, true);
    }
    println!("{states} crash states, 0 violations");
    assert!(states > 1000, "{states}");
}

#[test]
fn every_crash_of_random_histories_leaves_each_letter_in_exactly_one_place() {
    let mut states = 0;
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut caller = Caller::open(&fresh_disk(), 1);
        let mut given_up = 0;
        for _ in 0..8 {
            let next = match random.below(10) {
                0..5 => GiveUp(1 + u8::try_from(random.below(3)).unwrap()),
                5..8 => Requeue([1, 100, 900, 5000][random.below(4)]),
                8 => Purge,
                _ => Reopen,
            };
            step(&mut caller, &mut given_up, next).unwrap();
            caller.assert_as_expected();
        }
        states += check_every_crash(&caller, FEW, true);
    }
    println!("{states} crash states, 0 violations");
}

/// A history in which the calls of `fault` fail; each step is tried again once the disk is mended. The states that a crash
/// may leave are checked after every error and at the end, or after every change. Returns how many calls it made, and
/// how many states there were.
fn run_with_fault(
    history: &[Step],
    fault: Option<&(std::ops::Range<u64>, Fault)>,
    is_thorough: bool,
) -> (u64, usize) {
    let disk = fresh_disk();
    let mut caller = Caller::open(&disk, 1);
    if let Some((calls, fault)) = fault {
        disk.fail(calls.clone(), *fault);
    }
    let (mut given_up, mut states) = (0, 0);
    for next in history {
        for _ in 0..3 {
            let outcome = step(&mut caller, &mut given_up, *next);
            if outcome.is_ok() {
                break;
            }
            assert!(fault.is_some(), "{outcome:?}");
            disk.heal();
            caller.assert_as_expected();
            states += check_now(&caller);
        }
    }
    disk.heal();
    caller.assert_as_expected();
    states += if is_thorough {
        check_every_crash(&caller, FEW, false)
    } else {
        check_now(&caller)
    };
    (disk.calls(), states)
}

/// Checks the states that a crash may leave now.
fn check_now(caller: &Caller) -> usize {
    let device = caller.disk.device();
    let mut images = device.images(FEW);
    images.push(device);
    let promise = promise_at(&caller.promises, usize::MAX);
    for image in &images {
        let (_, found) = recover(&SimDisk::of(image.clone()), caller.incarnation + 1);
        check(&found, &promise);
    }
    images.len()
}

/// Every fault at every call of a history, once and until the step that meets it ends. Returns how many that were, and
/// how many crash states.
fn run_with_faults(history: &[Step], is_thorough: bool) -> (usize, usize) {
    let faults = [
        Fault::Io,
        Fault::Full,
        Fault::ShortWrite,
        Fault::LostSync(View::Memory),
        Fault::LostSync(View::Device),
    ];
    let (calls, mut states) = run_with_fault(history, None, false);
    let mut runs = 0;
    for fault in faults {
        for n in 0..calls {
            for end in [n + 1, u64::MAX] {
                let is_thorough = is_thorough && end == n + 1 && fault != Fault::Io;
                runs += 1;
                states += run_with_fault(history, Some(&(n..end, fault)), is_thorough).1;
            }
        }
    }
    (runs, states)
}

#[test]
fn a_fault_at_any_call_loses_nothing_and_doubles_nothing() {
    let (runs, states) = std::thread::scope(|scope| {
        let run = |number: usize, history| move || run_with_faults(history, number == 4);
        let threads: Vec<_> = HISTORIES
            .into_iter()
            .enumerate()
            .map(|(number, history)| scope.spawn(run(number, history)))
            .collect();
        let sums = threads.into_iter().map(|thread| thread.join().unwrap());
        sums.fold((0, 0), |all, (runs, states)| (all.0 + runs, all.1 + states))
    });
    println!("{runs} faults, {states} crash states after them, 0 violations");
}

/// A process dies while it appends. The next one finishes the numbers of the letters that it finds, so these must be on
/// the device, also when its first sync failed and the system goes on to show what that lost.
#[test]
fn letters_that_a_scan_tells_are_on_the_device_whatever_failed_before() {
    let disk = fresh_disk();
    let mut caller = Caller::open(&disk, 1);
    caller.give_up(&[0]).unwrap();
    caller.give_up(&[1, 2]).unwrap();
    let (mut device, changes) = disk.history();
    let mut told_with_a_fault = 0;
    for change in changes {
        device.apply(&change);
        for n in 0..40 {
            let next = SimDisk::of(device.clone());
            let mut letters = try_open(&next, super::caller::LIMITS).unwrap();
            let start = next.calls() + n;
            next.fail(start..start + 1, Fault::LostSync(View::Memory));
            let first = letters.scan(|_| {});
            let mut told = Vec::new();
            letters.scan(|id| told.push(id)).unwrap();
            told_with_a_fault += usize::from(first.is_err() && !told.is_empty());
            for image in next.device().images(MANY) {
                let again = try_open(&SimDisk::of(image), super::caller::LIMITS).unwrap();
                let found: Vec<LetterId> = again.iter().map(|letter| letter.id()).collect();
                assert_eq!(found, told);
            }
        }
    }
    assert!(told_with_a_fault > 0);
}
