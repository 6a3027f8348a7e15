//! How many allocations an item costs, whichever way it goes: those of all threads together, reallocations as well. What
//! the items that are sent were made of before is not counted.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::print_stdout,
    reason = "figures for whoever runs it with --nocapture"
)]

mod ends;

use ends::{Ends, Item, Record, Verbs, Way};
use overspill::{Builder, DiskBufferedChannel, Durability, Storage};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::path::Path;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ITEMS: u64 = 6_400;
/// Of items that are a block each.
const ITEMS_ALONE: u64 = 1_600;
/// What memory holds while the rest is on disk: less than a batch, which is then gathered in several rounds.
const MEMORY_ITEMS: usize = 16;
/// Less than one for each hundred items: a thread that is started, a queue that grows to its size, a checkpoint.
const HANDFUL: u64 = ITEMS / 100;
/// What a batch of deliveries is made of: its items, their runs, their slips, their encodings; twice what grows while it is
/// gathered.
const A_BATCH: u64 = 8;
/// Where it is filled, where it is sealed, and a write with its parts and its checkpoint, which may be for it alone.
const A_BLOCK_WRITTEN: u64 = 6;
/// Its bytes, and what its readers share.
const A_BLOCK_READ: u64 = 2;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let so_far = || {
        let stats = ALLOCATOR.stats();
        (stats.allocations + stats.reallocations) as u64
    };
    let before = so_far();
    work();
    so_far() - before
}

/// What was seen of one workload.
struct Seen {
    allocations: u64,
    blocks_written: u64,
    blocks_read: u64,
    replayed: u64,
    batches: u64,
}

fn watch<T: Item>(ends: &Ends<T>, work: impl FnOnce()) -> Seen {
    let (before, batches) = (ends.channel.stats(), ends.batches());
    let allocations = allocations_of(work);
    let after = ends.channel.stats();
    Seen {
        allocations,
        blocks_written: after.blocks_written - before.blocks_written,
        blocks_read: after.blocks_read - before.blocks_read,
        replayed: after.replayed - before.replayed,
        batches: ends.batches() - batches,
    }
}

/// Lines of what was more than is promised.
#[derive(Default)]
struct Excess(Vec<String>);

impl Excess {
    fn judge(&mut self, what: &str, items: u64, allocations: u64, most: u64) {
        let thousandths = allocations * 1000 / items;
        let (whole, rest) = (thousandths / 1000, thousandths % 1000);
        let line = format!("{what:<70} {whole}.{rest:03} an item, {allocations} of at most {most}");
        println!("{line}");
        if allocations > most {
            self.0.push(line);
        }
    }
}

fn builder<T: Item>(dir: &Path) -> Builder<T> {
    // How full the machine's disk is must not change the way of an item.
    DiskBufferedChannel::builder(dir).disk_free_min(0)
}

/// Everything through memory.
fn pass_through<T: Item>(excess: &mut Excess) {
    let dir = tempfile::tempdir().unwrap();
    let builder = builder::<T>(dir.path()).storage(Storage::Log);
    let ends = Ends::new(builder.open().unwrap());
    for (manner, travel) in [
        ("in turns", Ends::in_turns as fn(&_, _, _)),
        ("side by side", Ends::side_by_side),
    ] {
        for way in Way::all() {
            // Everything finds its size first.
            travel(&ends, way, ends.items(ITEMS / 8));
            let items = ends.items(ITEMS);
            let seen = watch(&ends, || travel(&ends, way, items));
            let most = HANDFUL + A_BATCH * seen.batches;
            let what = format!("pass-through, {}, {}, {manner}", T::NAME, way.name());
            excess.judge(&what, ITEMS, seen.allocations, most);
        }
    }
    let stats = ends.channel.stats();
    assert_eq!(stats.passed_through, stats.accepted);
}

/// What memory doesn't hold to disk, and everything back.
fn there_and_back<T: Item>(excess: &mut Excess, storage: Storage, durability: &Durability) {
    let dir = tempfile::tempdir().unwrap();
    let builder = builder::<T>(dir.path()).storage(storage);
    let builder = builder
        .durability(durability.clone())
        .memory_items(MEMORY_ITEMS);
    let ends = Ends::new(builder.open().unwrap());
    for way in Way::all() {
        let are_alone = *durability != Durability::Spill && way.verbs != Verbs::Batches;
        let count = if are_alone { ITEMS_ALONE } else { ITEMS };
        let name = format!("{storage:?}, {durability:?}, {}, {}", T::NAME, way.name());
        let send = |items| {
            ends.send(way, items);
            ends.channel.sync().unwrap();
        };
        send(ends.items(count / 8));
        ends.receive(way, count / 8);

        let items = ends.items(count);
        let there = watch(&ends, || send(items));
        if storage == Storage::Log {
            let most = HANDFUL + A_BLOCK_WRITTEN * there.blocks_written;
            // Some of it is read ahead meanwhile.
            let most = most + A_BLOCK_READ * there.blocks_read;
            excess.judge(&format!("to {name}"), count, there.allocations, most);
        }

        let back = watch(&ends, || ends.receive(way, count));
        let most = HANDFUL + A_BATCH * back.batches;
        let most = if storage == Storage::Log {
            most + A_BLOCK_READ * back.blocks_read
        } else {
            // sled allocates for itself, some twenty times for each of its small blocks.
            most + count
        };
        assert_eq!(back.replayed, count - MEMORY_ITEMS as u64);
        let beyond = back.allocations - T::OWN * back.replayed;
        excess.judge(&format!("from {name}"), count, beyond, most);
    }
}

#[test]
fn no_way_of_an_item_allocates_more_than_is_promised() {
    let mut excess = Excess::default();
    pass_through::<u64>(&mut excess);
    pass_through::<Record>(&mut excess);
    for durability in [Durability::Spill, Durability::Process] {
        there_and_back::<u64>(&mut excess, Storage::Log, &durability);
        there_and_back::<Record>(&mut excess, Storage::Log, &durability);
    }
    if cfg!(feature = "sled") {
        there_and_back::<u64>(&mut excess, Storage::Sled, &Durability::Spill);
        there_and_back::<Record>(&mut excess, Storage::Sled, &Durability::Spill);
    }
    assert!(excess.0.is_empty(), "{:#?}", excess.0);
}
