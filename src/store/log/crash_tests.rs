//! What a process leaves to the next one, and that one's sync to a power cut.

use super::*;
use crate::block::{BlockBuilder, Seal};
use crate::disk::sim::{Device, Fault, Sample, SimDisk, View};

const SAMPLE: Sample = Sample {
    exhaustive: 64,
    random: 8,
    seed: 5,
};

fn open(disk: &SimDisk) -> LogStore {
    LogStore::open(LogOptions {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from("/log"),
        channel: [7; 16],
        identity: b"who it is".to_vec(),
        segment_bytes: 1,
        keep_unsynced: false,
    })
    .unwrap()
}

fn block(first: Seq) -> Arc<Block> {
    let mut builder = BlockBuilder::new(first, 0, 16);
    builder.push(b"record");
    Arc::new(builder.seal(&Seal::default()))
}

fn numbers(device: Device) -> Vec<Seq> {
    let mut store = open(&SimDisk::of(device));
    let (mut numbers, mut at) = (Vec::new(), 0);
    while let Ok(Some(block)) = store.read(at) {
        numbers.push(block.first());
        at = block.end();
    }
    numbers
}

/// A new segment hid the one that a dead process had been writing to, which was then never synced, and neither was
/// the store's own directory, which that process had made: a sync that promised all of it lost it with the power.
#[test]
fn a_sync_covers_what_an_earlier_process_left_wherever_it_died() {
    let disk = SimDisk::default();
    let mut first = open(&disk);
    for seq in 0..3 {
        first.append(&[block(seq)]).unwrap();
    }
    let (mut device, changes) = disk.history();
    for change in &changes {
        device.apply(change);
        for begins_anew in [true, false] {
            let next = SimDisk::of(device.clone());
            let mut store = open(&next);
            if begins_anew {
                store.append(&[block(store.end())]).unwrap();
            }
            store.sync().unwrap();
            let promised = numbers(next.device());
            for image in next.device().images(SAMPLE) {
                assert_eq!(numbers(image), promised);
            }
        }
    }
}

/// A sync of what an earlier process had left failed, was tried again, and worked: on a file whose pages the system had
/// thrown away and went on to show.
#[test]
fn a_failed_sync_of_what_an_earlier_process_left_is_never_repeated_on_the_same_file() {
    let disk = SimDisk::default();
    open(&disk).append(&[block(0)]).unwrap();
    let next = SimDisk::of(disk.device());
    let mut store = open(&next);
    // The call after the one that opens the file.
    let sync = next.calls() + 1;
    next.fail(sync..sync + 1, Fault::LostSync(View::Memory));
    if store.sync().is_err() {
        store.sync().unwrap();
    }
    for image in next.device().images(SAMPLE) {
        assert_eq!(numbers(image), [0]);
    }
}
