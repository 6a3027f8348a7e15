//! What every crash leaves of a directory and its checkpoint.

use super::*;
use crate::disk::sim::{Device, Sample, SimDisk};
use crate::ledger::Ledger;

const SPOOL: &str = "/spool";

const SAMPLE: Sample = Sample {
    exhaustive: 64,
    random: 24,
    seed: 3,
};

pub(super) fn open(disk: &SimDisk) -> Result<Contents, OpenError> {
    let disk: DiskRef = Arc::new(disk.clone());
    let (directory, _) = Directory::prepare(&disk, Path::new(SPOOL))?;
    let lock = DirLock::acquire(&directory)?;
    directory.load(
        &lock,
        StoreKind::Sled,
        &super::tests::wanted("bincode2", None),
    )
}

/// Runs `check` on every state that a crash after any change to `disk` may leave, with the number of changes that
/// had been made. Returns how many states that were.
fn after_every_crash(disk: &SimDisk, check: impl Fn(usize, SimDisk)) -> usize {
    sample_every_crash(disk, SAMPLE, check)
}

/// The same with so many of the states that a power cut may leave.
pub(super) fn sample_every_crash(
    disk: &SimDisk,
    sample: Sample,
    check: impl Fn(usize, SimDisk),
) -> usize {
    let (mut device, changes) = disk.history();
    let mut states = 0;
    for made in 0..=changes.len() {
        let process: Device = device.clone();
        for image in device.images(sample).into_iter().chain([process]) {
            states += 1;
            check(made, SimDisk::of(image));
        }
        if let Some(change) = changes.get(made) {
            device.apply(change);
        }
    }
    states
}

fn after(acknowledged: u64, channel: ChannelId) -> Checkpoint {
    let mut ledger = Ledger::default();
    ledger.acknowledge(0, acknowledged);
    Checkpoint {
        channel,
        ledger,
        ..Checkpoint::default()
    }
}

#[test]
fn every_crash_during_creation_leaves_a_directory_that_opens() {
    let disk = SimDisk::default();
    let created = open(&disk).unwrap();
    let all = disk.changes();
    let states = after_every_crash(&disk, |made, disk| {
        let opened = open(&disk).unwrap();
        assert!(opened.checkpoint.is_some());
        if made == all {
            assert_eq!(opened.identity, created.identity);
            assert_eq!(opened.origin, Origin::Kept);
        }
        let again = open(&SimDisk::of(disk.device())).unwrap();
        assert_eq!(again.identity.channel, opened.identity.channel);
    });
    assert!(states > 100, "{states}");
}

#[test]
fn a_checkpoint_on_the_device_outlives_every_later_one() {
    for persists in [
        [Persist::Device, Persist::Os, Persist::Os, Persist::Os],
        [Persist::Os, Persist::Device, Persist::Os, Persist::Os],
        [Persist::Os, Persist::Os, Persist::Device, Persist::Os],
    ] {
        let disk = SimDisk::default();
        let mut contents = open(&disk).unwrap();
        let mut promised = vec![(disk.changes(), 0)];
        for (cursor, persist) in (1..).zip(persists) {
            let checkpoint = after(cursor, contents.identity.channel);
            contents
                .checkpoint_file
                .write(&checkpoint, persist)
                .unwrap();
            if persist == Persist::Device {
                promised.push((disk.changes(), cursor));
            }
        }
        after_every_crash(&disk, |made, disk| {
            let least = promised.iter().rfind(|(at, _)| *at <= made);
            let found = open(&disk).unwrap().checkpoint;
            if let Some((_, least)) = least {
                let cursor = found.map(|found| found.ledger.cursor());
                assert!(cursor >= Some(*least), "{cursor:?} after {made} changes");
            }
        });
    }
}

#[test]
fn a_checkpoint_on_the_device_outlives_the_end_of_a_process_and_then_of_the_power() {
    let disk = SimDisk::default();
    let mut contents = open(&disk).unwrap();
    let channel = contents.identity.channel;
    let file = &mut contents.checkpoint_file;
    file.write(&after(1, channel), Persist::Device).unwrap();
    file.write(&after(2, channel), Persist::Os).unwrap();
    let next = SimDisk::of(disk.device());
    let mut contents = open(&next).unwrap();
    let file = &mut contents.checkpoint_file;
    file.write(&after(3, channel), Persist::Device).unwrap();
    after_every_crash(&next, |made, disk| {
        let found = open(&disk).unwrap().checkpoint;
        let cursor = found.map(|found| found.ledger.cursor());
        assert!(cursor >= Some(1), "{cursor:?} after {made} changes");
    });
}

#[test]
fn what_a_dying_process_made_is_on_the_device_once_it_was_opened_again() {
    let disk = SimDisk::default();
    open(&disk).unwrap();
    let (mut device, changes) = disk.history();
    for change in &changes {
        device.apply(change);
        // The process ends here; the next one opens, and after that the power goes.
        let next = SimDisk::of(device.clone());
        let opened = open(&next).unwrap();
        for image in next.device().images(SAMPLE) {
            let found = open(&SimDisk::of(image)).unwrap();
            assert_eq!(found.identity.channel, opened.identity.channel);
            assert_eq!(found.checkpoint, opened.checkpoint);
        }
    }
}
