//! What a process leaves to the next one, and that one's sync to a power cut.

use super::*;
use crate::block::{BlockBuilder, Seal};
use crate::disk::sim::{Device, Sample, SimDisk};

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
