use super::super::bytes::seal;
use super::super::checkpoint_format::{SLOT_FAILURES, SLOT_RANGES, encode_slot};
use super::super::{CheckpointFile, Persist};
use super::*;
use crate::disk::DiskRef;
use crate::disk::sim::{Random, SimDisk};
use crate::ledger::Outcome;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const CHANNEL: ChannelId = *b"sixteen bytes id";

/// A directory with a checkpoint of a channel to which nothing has happened.
fn start(disk: &DiskRef, path: &Path) -> (Directory, CheckpointFile) {
    let (directory, _) = Directory::prepare(disk, path).unwrap();
    let file = CheckpointFile::create(&directory, &checkpoint(Ledger::default())).unwrap();
    (directory, file)
}

fn real() -> (tempfile::TempDir, Directory, CheckpointFile) {
    let root = tempfile::tempdir().unwrap();
    let (directory, file) = start(&crate::disk::real(), root.path());
    (root, directory, file)
}

fn reopen(directory: &Directory) -> (CheckpointFile, Option<Checkpoint>) {
    CheckpointFile::open(directory, Some(CHANNEL))
        .unwrap()
        .unwrap()
}

fn checkpoint(ledger: Ledger) -> Checkpoint {
    Checkpoint {
        channel: CHANNEL,
        ledger,
        ..Checkpoint::default()
    }
}

/// A ledger in which every other number from 11 on is acknowledged, so many of them, and some of the others failed.
fn scattered(ranges: u64, failures: u64) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.acknowledge(0, 10);
    for n in 0..ranges {
        ledger.finish(11 + 2 * n..12 + 2 * n, Outcome::Acknowledged);
    }
    for n in 0..failures {
        for _ in 0..=n % 3 {
            ledger.note_failure(10 + 2 * n);
        }
    }
    ledger
}

fn ranges(ledger: &Ledger) -> Vec<Range<Seq>> {
    ledger.above().ranges().cloned().collect()
}

fn large(directory: &Directory) -> Option<Vec<u8>> {
    std::fs::read(directory.checkpoint_large()).ok()
}

#[test]
fn whatever_is_finished_or_failed_is_on_the_device_to_the_last_number() {
    for (ranges, failures) in [(2000, 0), (0, 700), (2000, 700), (65_537, 65_536)] {
        let (_root, directory, mut file) = real();
        let whole = checkpoint(scattered(ranges, failures));
        file.write(&whole, Persist::Device).unwrap();
        assert_eq!(file.large_bytes(), large(&directory).unwrap().len() as u64);
        let (file, found) = reopen(&directory);
        assert!(found == Some(whole), "{ranges} ranges, {failures} failures");
        assert_eq!(file.large_bytes(), large(&directory).unwrap().len() as u64);
    }
}

#[test]
fn the_system_gets_what_has_room_in_a_slot_the_lowest_of_equal_ranges_first() {
    let (_root, directory, mut file) = real();
    let whole = checkpoint(scattered(2000, 700));
    file.write(&whole, Persist::Os).unwrap();
    assert_eq!(large(&directory), None);
    let found = reopen(&directory).1.unwrap().ledger;
    assert_eq!(ranges(&found), &ranges(&whole.ledger)[..SLOT_RANGES]);
    assert_eq!(found.counters().acknowledged, 10 + SLOT_RANGES as u64);
    let failures = whole.ledger.all_failures().iter().take(SLOT_FAILURES);
    assert!(found.all_failures().iter().eq(failures));
}

#[test]
fn the_shortest_ranges_are_left_out_first() {
    let (_root, directory, mut file) = real();
    let mut ledger = scattered(2000, 0);
    ledger.finish(9000..9500, Outcome::Acknowledged);
    ledger.finish(9600..9602, Outcome::Acknowledged);
    file.write(&checkpoint(ledger.clone()), Persist::Os)
        .unwrap();
    let mut expected = ranges(&ledger)[..SLOT_RANGES - 2].to_vec();
    expected.extend([9000..9500, 9600..9602]);
    assert_eq!(ranges(&reopen(&directory).1.unwrap().ledger), expected);
}

#[test]
fn the_file_goes_when_a_slot_on_the_device_has_room_for_all() {
    let (_root, directory, mut file) = real();
    let mut ledger = scattered(SLOT_RANGES as u64 + 1, 0);
    file.write(&checkpoint(ledger.clone()), Persist::Device)
        .unwrap();
    ledger.finish(10..11, Outcome::Acknowledged);
    file.write(&checkpoint(ledger.clone()), Persist::Os)
        .unwrap();
    assert!(large(&directory).is_some(), "the slot isn't on the device");
    file.write(&checkpoint(ledger.clone()), Persist::Device)
        .unwrap();
    assert_eq!((large(&directory), file.large_bytes()), (None, 0));
    assert_eq!(reopen(&directory).1, Some(checkpoint(ledger)));
}

#[test]
fn slots_tell_what_came_since_and_the_file_is_not_written_for_every_number() {
    let (_root, directory, mut file) = real();
    let mut ledger = scattered(3000, 300);
    let mut random = Random(7);
    let mut written = Vec::new();
    for _ in 0..2000 {
        let seq = 10_000 + random.below(10_000) as u64;
        ledger.finish(seq..seq + 1, Outcome::Acknowledged);
        file.write(&checkpoint(ledger.clone()), Persist::Device)
            .unwrap();
        let bytes = large(&directory).unwrap();
        if written.last() != Some(&bytes) {
            written.push(bytes);
        }
    }
    assert!((2..=3).contains(&written.len()), "{} times", written.len());
    assert_eq!(reopen(&directory).1, Some(checkpoint(ledger)));
}

#[test]
fn a_damaged_file_is_ignored_and_the_slot_still_counts() {
    let (_root, directory, mut file) = real();
    let mut ledger = scattered(1000, 0);
    file.write(&checkpoint(ledger.clone()), Persist::Device)
        .unwrap();
    ledger.finish(5000..5010, Outcome::Acknowledged);
    ledger.note_failure(10);
    file.write(&checkpoint(ledger.clone()), Persist::Device)
        .unwrap();
    let whole = large(&directory).unwrap();
    let slots = std::fs::read(directory.checkpoint()).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    let longer = [&whole[..], &[0]].concat();
    let damaged = [0, 8, 12, 130, 140, whole.len() - 1].map(flipped);
    let cut = [0, 1, 139, whole.len() - 1].map(|len| whole[..len].to_vec());
    for bytes in damaged.into_iter().chain(cut).chain([longer]) {
        std::fs::write(directory.checkpoint_large(), bytes).unwrap();
        std::fs::write(directory.checkpoint(), &slots).unwrap();
        let (mut file, found) = reopen(&directory);
        let found = found.unwrap().ledger;
        assert_eq!(
            (found.cursor(), found.above().len(), found.end()),
            (10, 10, 5010)
        );
        assert_eq!(found.failures(10), 1);
        assert_eq!(found.counters().finished_numbers(), 20);
        // What is there tells nothing, so nothing is left out for its sake.
        file.write(&checkpoint(ledger.clone()), Persist::Device)
            .unwrap();
        assert_eq!(reopen(&directory).1, Some(checkpoint(ledger.clone())));
    }
}

#[test]
fn a_file_of_another_channel_is_ignored() {
    let (_root, directory, mut file) = real();
    let other = Checkpoint {
        channel: [7; 16],
        ..checkpoint(scattered(1000, 0))
    };
    let details = Details::all(&other.ledger);
    let bytes = encode_large(&other, 9, &details);
    file.write(&checkpoint(scattered(2, 0)), Persist::Device)
        .unwrap();
    std::fs::write(directory.checkpoint_large(), bytes).unwrap();
    assert_eq!(reopen(&directory).1, Some(checkpoint(scattered(2, 0))));
    // It is the slots' channel that counts where nothing else tells.
    let (_, found) = CheckpointFile::open(&directory, None).unwrap().unwrap();
    assert_eq!(found, Some(checkpoint(scattered(2, 0))));
}

#[test]
fn contents_that_make_no_sense_are_damage_even_under_a_valid_checksum() {
    let good = checkpoint(scattered(3, 2));
    let good = encode_large(&good, 4, &Details::all(&good.ledger));
    assert!(decode(&good, LARGE_MAGIC).is_ok());
    let failures = good.len() - 4 - 8 - 2 * 12 - 4;
    for (at, lie) in [
        (12, u32::MAX),
        (12, 4),
        (136, 9),
        (failures, u32::MAX),
        (failures, 3),
        (failures + 4, 11),
        (failures + 12, 0),
    ] {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(
            decode(&bytes, LARGE_MAGIC),
            Err(Unreadable::Damaged),
            "{at}: {lie}"
        );
    }
}

#[test]
fn without_a_slot_the_file_says_what_is_finished_and_slots_follow_it() {
    for slots in [Some(vec![0; 3 << 14]), None] {
        let (_root, directory, mut file) = real();
        for _ in 0..5 {
            file.write(&checkpoint(scattered(1000, 300)), Persist::Device)
                .unwrap();
        }
        let mut file = if let Some(slots) = slots {
            std::fs::write(directory.checkpoint(), slots).unwrap();
            let (file, found) = reopen(&directory);
            assert_eq!(found, None);
            file
        } else {
            std::fs::remove_file(directory.checkpoint()).unwrap();
            CheckpointFile::create(&directory, &checkpoint(Ledger::default())).unwrap()
        };
        let mut header = Ledger::default();
        header.acknowledge(0, 12);
        let mut expected = scattered(1000, 300);
        expected.acknowledge(10, 1);
        let united = file.with_large(&header);
        assert_eq!((united.cursor(), ranges(&united)), (12, ranges(&expected)));
        assert_eq!(united.all_failures(), expected.all_failures());
        assert_eq!(united.counters().finished_numbers(), 12 + 999);
        let next = Checkpoint {
            incarnation: 5,
            ..checkpoint(united)
        };
        file.write(&next, Persist::Device).unwrap();
        assert_eq!(reopen(&directory).1, Some(next));
    }
}

// Slots used to take 1,015 ranges, and no failures.
#[test]
fn a_fuller_slot_of_an_earlier_writer_is_kept_whole() {
    let (_root, directory, _) = real();
    let old = checkpoint(scattered(1015, 0));
    let slot = encode_slot(&old, 4, &Details::all(&old.ledger));
    std::fs::write(directory.checkpoint(), slot).unwrap();
    let (mut file, found) = reopen(&directory);
    assert_eq!(found, Some(old.clone()));
    let mut ledger = scattered(1015, 1);
    ledger.finish(5000..6000, Outcome::Acknowledged);
    for _ in 0..5 {
        file.write(&checkpoint(ledger.clone()), Persist::Os)
            .unwrap();
        let found = reopen(&directory).1.unwrap().ledger;
        assert_eq!(ranges(&found), ranges(&old.ledger));
    }
}

#[test]
fn a_full_disk_is_told_and_keeps_nothing_half_made() {
    let disk = SimDisk::default();
    let sim: DiskRef = Arc::new(disk.clone());
    let (directory, mut file) = start(&sim, Path::new("/spool"));
    let before = fs::entries(directory.disk(), directory.path()).unwrap();
    let used = fs::tree_bytes(directory.disk(), directory.path()).unwrap();
    disk.set_capacity(used + 1000);
    let mut ledger = scattered(1000, 0);
    ledger.finish(4000..5000, Outcome::Acknowledged);
    let error = file
        .write(&checkpoint(ledger.clone()), Persist::Device)
        .unwrap_err();
    assert!(error.is_full(), "{error}");
    let told = file
        .write_what_fits(&checkpoint(ledger.clone()))
        .unwrap()
        .unwrap();
    assert!(told.covers(&(4000..5000)) && !told.covers(&(2009..2010)));
    assert_eq!(
        fs::entries(directory.disk(), directory.path()).unwrap(),
        before
    );
    assert_eq!(reopen(&directory).1.unwrap().ledger, told);
    disk.set_capacity(1 << 40);
    assert_eq!(
        file.write_what_fits(&checkpoint(ledger.clone())).unwrap(),
        None
    );
    assert_eq!(reopen(&directory).1, Some(checkpoint(ledger)));
}

#[test]
fn what_a_crash_left_of_a_file_in_the_making_is_removed() {
    let (_root, directory, file) = real();
    drop(file);
    let temporary = directory.checkpoint_large_temporary();
    std::fs::write(&temporary, b"half").unwrap();
    let (_, unknown) = Directory::prepare(&crate::disk::real(), directory.path()).unwrap();
    assert!(unknown.is_empty() && temporary.exists(), "{unknown:?}");
    reopen(&directory);
    assert!(!temporary.exists());
}
