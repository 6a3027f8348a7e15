use super::super::bytes::seal;
use super::super::checkpoint_format::{CRC_AT, FAILURE_LEN, RANGE_LEN, RANGES_AT};
use super::*;
use crate::ledger::Outcome;
use std::fs as std_fs;

/// Where the failures of a sample are: behind two ranges and their own number.
const FAILURES_AT: usize = RANGES_AT + 2 * RANGE_LEN + 4;

fn directory() -> (tempfile::TempDir, Directory) {
    let root = tempfile::tempdir().unwrap();
    let (directory, _) = Directory::prepare(&crate::disk::real(), root.path()).unwrap();
    (root, directory)
}

fn sample(tail: Seq) -> Checkpoint {
    let mut ledger = Ledger::default();
    ledger.acknowledge(0, 5);
    ledger.finish(8..10, Outcome::Acknowledged);
    ledger.finish(12..15, Outcome::Lost);
    ledger.drop_newest();
    ledger.note_failure(5);
    ledger.note_failure(10);
    ledger.note_failure(10);
    Checkpoint {
        channel: *b"sixteen bytes id",
        incarnation: 3,
        tail,
        clean_tail: 7,
        clean: false,
        ledger,
    }
}

fn reopen(directory: &Directory) -> (CheckpointFile, Option<Checkpoint>) {
    CheckpointFile::open(directory, None).unwrap().unwrap()
}

fn encode(checkpoint: &Checkpoint, generation: u64) -> Vec<u8> {
    encode_slot(checkpoint, generation, &Details::all(&checkpoint.ledger))
}

fn decoded(slot: &[u8]) -> Result<(u64, Checkpoint), Unreadable> {
    decode(slot, SLOT_MAGIC).map(|found| (found.generation, found.into_checkpoint()))
}

fn image(directory: &Directory) -> Vec<u8> {
    std_fs::read(directory.checkpoint()).unwrap()
}

/// The slots that differ between two images.
fn written(before: &[u8], after: &[u8]) -> Vec<usize> {
    assert_eq!((before.len(), after.len()), (FILE_LEN, FILE_LEN));
    (0..SLOTS)
        .filter(|slot| {
            let range = slot * SLOT_LEN..(slot + 1) * SLOT_LEN;
            before[range.clone()] != after[range]
        })
        .collect()
}

#[test]
fn a_write_takes_neither_the_newest_slot_nor_the_last_one_on_the_device() {
    let (_root, directory) = directory();
    let mut file = CheckpointFile::create(&directory, &sample(0)).unwrap();
    let (mut newest, mut durable) = (0, 0);
    for tail in 1..60 {
        let before = image(&directory);
        let persist = if tail % 7 < 2 {
            Persist::Device
        } else {
            Persist::Os
        };
        file.write(&sample(tail), persist).unwrap();
        let [slot] = written(&before, &image(&directory))[..] else {
            panic!("one slot is written");
        };
        assert!(slot != newest && slot != durable, "write {tail}");
        newest = slot;
        let (reopened, checkpoint) = reopen(&directory);
        assert_eq!(checkpoint, Some(sample(tail)));
        if tail % 11 == 0 {
            file = reopened;
            durable = slot;
        }
        if persist == Persist::Device {
            durable = slot;
        }
    }
}

// Two slots, written in turn, were not enough: two checkpoints in a row that only the operating system had were written
// over the one that a sync had put on the device. A power cut while they were on their way left an older one yet, and
// what had been taken and synced came again.
#[test]
fn a_power_cut_leaves_what_was_synced_whatever_was_written_since() {
    let (_root, directory) = directory();
    let mut file = CheckpointFile::create(&directory, &sample(0)).unwrap();
    file.write(&sample(1), Persist::Device).unwrap();
    let synced = image(&directory);
    for tail in 2..6 {
        file.write(&sample(tail), Persist::Os).unwrap();
    }
    let whole = image(&directory);
    // Of each slot that was written since, the device may have nothing, a part, or all.
    for mask in 0..3_usize.pow(3) {
        let mut image = synced.clone();
        for slot in 0..SLOTS {
            let part =
                [0, SLOT_LEN / 4, SLOT_LEN][mask / 3_usize.pow(slot.try_into().unwrap()) % 3];
            let range = slot * SLOT_LEN..slot * SLOT_LEN + part;
            image[range.clone()].copy_from_slice(&whole[range]);
        }
        std_fs::write(directory.checkpoint(), &image).unwrap();
        let tail = reopen(&directory).1.unwrap().tail;
        assert!((1..6).contains(&tail), "{mask}: {tail}");
    }
}

#[test]
fn a_torn_write_at_any_byte_leaves_the_older_checkpoint() {
    let (_root, directory) = directory();
    let mut file = CheckpointFile::create(&directory, &sample(0)).unwrap();
    file.write(&sample(1), Persist::Os).unwrap();
    let before = image(&directory);
    file.write(&sample(2), Persist::Device).unwrap();
    let after = image(&directory);
    let start = written(&before, &after)[0] * SLOT_LEN;
    let newest = written(&before, &vec![0; FILE_LEN])[1] * SLOT_LEN;
    // Past the last range both slots are zeros, so the only cuts left are those in the checksum.
    for len in (0..200).chain(CRC_AT..SLOT_LEN) {
        let mut torn = before.clone();
        torn[start..start + len].copy_from_slice(&after[start..start + len]);
        if torn == before || torn == after {
            continue;
        }
        std_fs::write(directory.checkpoint(), &torn).unwrap();
        let (mut file, checkpoint) = reopen(&directory);
        assert_eq!(checkpoint, Some(sample(1)), "{len} bytes written");
        file.write(&sample(3), Persist::Os).unwrap();
        let kept = newest..newest + SLOT_LEN;
        assert_eq!(image(&directory)[kept.clone()], before[kept]);
        assert_eq!(reopen(&directory).1, Some(sample(3)));
    }
}

#[test]
fn every_flipped_bit_is_damage() {
    let slot = encode(&sample(20), 4);
    assert_eq!(decoded(&slot), Ok((4, sample(20))));
    let used = FAILURES_AT + 2 * FAILURE_LEN;
    for at in (0..used)
        .chain((used..CRC_AT).step_by(509))
        .chain(CRC_AT..SLOT_LEN)
    {
        for bit in 0..8 {
            let mut damaged = slot.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(
                decoded(&damaged),
                Err(Unreadable::Damaged),
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn a_file_that_was_cut_keeps_the_slot_that_is_whole() {
    let (_root, directory) = directory();
    CheckpointFile::create(&directory, &sample(9)).unwrap();
    let whole = image(&directory);
    for len in [
        0,
        1,
        100,
        SLOT_LEN - 1,
        SLOT_LEN,
        SLOT_LEN + 1,
        2 * SLOT_LEN,
        FILE_LEN - 1,
    ] {
        std_fs::write(directory.checkpoint(), &whole[..len]).unwrap();
        let (mut file, checkpoint) = reopen(&directory);
        assert_eq!(
            checkpoint,
            (len >= SLOT_LEN).then(|| sample(9)),
            "cut at {len}"
        );
        assert_eq!(image(&directory).len(), FILE_LEN);
        file.write(&sample(10), Persist::Device).unwrap();
        assert_eq!(reopen(&directory).1, Some(sample(10)));
    }
}

#[test]
fn contents_that_make_no_sense_are_damage_even_under_a_valid_checksum() {
    let good = encode(&sample(20), 1);
    let lies: [(usize, u64); 13] = [
        (16, u64::MAX), // a generation, an incarnation, a tail that nobody has come to
        (40, u64::MAX),
        (48, u64::MAX / 2),
        (RANGES_AT + RANGE_LEN + 8, u64::MAX), // a range that never ends
        (72, 9),                               // more items without a number than dropped ones
        (80, u64::MAX),                        // counters that overflow
        (RANGES_AT, 5),                        // a range that begins at the cursor
        (RANGES_AT + 8, 8),                    // an empty range
        (RANGES_AT + RANGE_LEN, 9),            // a range that overlaps the one before
        (FAILURES_AT, 4), // failures of a number below the cursor, of one in a range
        (FAILURES_AT, 8),
        (FAILURES_AT, 10),                     // of the same number twice
        (FAILURES_AT + FAILURE_LEN, u64::MAX), // of the number after all others
    ];
    for (at, lie) in lies {
        let mut bytes = good[..CRC_AT].to_vec();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(decoded(&bytes), Err(Unreadable::Damaged), "byte {at}");
    }
    // So many ranges, so many failures; a number that never failed.
    for (at, lie) in [
        (12, u32::MAX),
        (FAILURES_AT - 4, u32::MAX),
        (FAILURES_AT + 8, 0),
    ] {
        let mut bytes = good[..CRC_AT].to_vec();
        bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(decoded(&bytes), Err(Unreadable::Damaged), "byte {at}");
    }
}

#[test]
fn an_error_of_the_device_is_not_damage() {
    let (_root, directory) = directory();
    std_fs::create_dir(directory.checkpoint()).unwrap();
    assert!(CheckpointFile::create(&directory, &sample(0)).is_err());
}
