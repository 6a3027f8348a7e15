//! The fixed scenarios whose instructions `benches/counts.sh` counts: one of them, by name, with so many items. Without items only
//! what surrounds them is left, for the script to subtract.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]
#![allow(clippy::print_stdout, reason = "for whoever starts it by hand")]

use overspill::{Builder, DiskBufferedChannel, Storage};
use serde::{Serialize, de::DeserializeOwned};
use std::hint::black_box;
use std::path::Path;

const ITEM_BYTES: usize = 256;
/// What memory holds while the rest waits on disk.
const MEMORY_ITEMS: usize = 128;
/// Fits into memory, so that no thread is needed.
const TURN: u64 = 100;
const BATCH: usize = 256;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [name, items] = args.as_slice() else {
        println!("counts: started by benches/counts.sh");
        return;
    };
    let items = items.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    match name.as_str() {
        "pass-through" => pass_through(dir.path(), items),
        "spill-and-replay" => spill_and_replay(dir.path(), items),
        "acknowledged" => acknowledged(dir.path(), items),
        other => panic!("no scenario is called {other}"),
    }
}

fn builder<T: Serialize + DeserializeOwned + Send + 'static>(dir: &Path) -> Builder<T> {
    // How full the machine's disk is must not change the way of an item.
    DiskBufferedChannel::builder(dir)
        .storage(Storage::Log)
        .disk_free_min(0)
}

/// In and out of memory, one by one, in turns on one thread.
fn pass_through(dir: &Path, items: u64) {
    let channel = builder::<u64>(dir).open().unwrap();
    let (tx, rx) = (channel.sender(), channel.receiver());
    for turn in 0..items / TURN {
        (0..TURN).for_each(|n| tx.send(black_box(turn + n)).unwrap());
        (0..TURN).for_each(|n| assert_eq!(rx.recv().unwrap(), turn + n));
    }
    assert_eq!(channel.stats().passed_through, items);
    channel.halt().unwrap();
}

/// Everything to disk, a halt, and everything back. All of it fits between sender and worker, so neither waits for the other.
fn spill_and_replay(dir: &Path, items: u64) {
    let open = || {
        let builder = builder::<Vec<u8>>(dir).memory_items(MEMORY_ITEMS);
        builder.open().unwrap()
    };
    let channel = open();
    let mut all = (0..items).map(|_| black_box(vec![7; ITEM_BYTES]));
    channel.sender().send_all(&mut all).unwrap();
    assert_eq!(channel.halt().unwrap().saved, items);

    let channel = open();
    channel.close();
    let (rx, mut got, mut batch) = (channel.receiver(), 0, Vec::new());
    while let Ok(more) = rx.recv_many(&mut batch, BATCH) {
        got += more as u64;
        black_box(&batch);
        batch.clear();
    }
    assert_eq!(got, items);
    channel.halt().unwrap();
}

/// As `pass_through`, each item acknowledged before the next is received.
fn acknowledged(dir: &Path, items: u64) {
    let channel = builder::<u64>(dir).open().unwrap();
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    for turn in 0..items / TURN {
        (0..TURN).for_each(|n| tx.send(black_box(turn + n)).unwrap());
        for n in 0..TURN {
            let delivery = rx.recv().unwrap();
            assert_eq!(*delivery, turn + n);
            delivery.ack().unwrap();
        }
    }
    assert_eq!(channel.stats().acknowledged, items);
    channel.halt().unwrap();
}
