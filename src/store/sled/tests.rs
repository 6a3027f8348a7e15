mod damage;
mod salvage;

use super::*;
use crate::block::{BlockBuilder, Seal};
use std::fs;
use tempfile::TempDir;

/// A block of `count` items from `first` on, of about `bytes` bytes that depend on `first`.
fn block(first: Seq, count: u32, bytes: usize) -> Arc<Block> {
    let mut builder = BlockBuilder::new(first, 0, bytes);
    let mut state = first.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for _ in 0..count {
        let record: Vec<u8> = (0..bytes / count as usize)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        builder.push(&record);
    }
    Arc::new(builder.seal(&Seal::default()))
}

/// `number` blocks in a row from `first` on.
fn blocks(first: Seq, number: u64, bytes: usize) -> Vec<Arc<Block>> {
    (0..number)
        .map(|n| block(first + 3 * n, 3, bytes))
        .collect()
}

struct Spool {
    dir: TempDir,
    options: SledOptions,
}

impl Spool {
    /// Small databases: a few dozen blocks of a kilobyte each.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SledOptions {
            dir: dir.path().join("sled"),
            identity: b"whose it is".to_vec(),
            database_bytes: 128 << 10,
            segment_bytes: 64 << 10,
        };
        Self { dir, options }
    }

    fn open(&self) -> SledStore {
        SledStore::open(self.options.clone()).unwrap()
    }

    fn units(&self) -> Vec<Seq> {
        let mut units: Vec<Seq> = fs::read_dir(&self.options.dir)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok())
            .collect();
        units.sort_unstable();
        units
    }

    fn unit_dir(&self, unit: Seq) -> PathBuf {
        self.options.dir.join(format!("{unit:020}"))
    }

    fn bytes_on_disk(&self) -> u64 {
        bytes_under(&self.options.dir)
    }
}

fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                bytes_under(&entry.path())
            } else {
                metadata.len()
            }
        })
        .sum()
}

/// Reads on from `at`, past damage; returns the blocks and the damage met.
fn drain(store: &mut SledStore, mut at: Seq) -> (Vec<Block>, Vec<ReadError>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    let mut told = None;
    while at < store.end() {
        match store.read(at) {
            Ok(None) => break,
            Ok(Some(block)) => {
                assert!(block.end() > at, "reading goes forward");
                at = block.end();
                found.push(block);
            }
            Err(error) => {
                let ReadError::Damaged { unit, resume, .. } = &error else {
                    panic!("unexpected: {error:?}");
                };
                match *resume {
                    Some(resume) => {
                        assert!(resume >= at, "reading goes forward");
                        assert!(told.replace(resume) != Some(at), "damage is told once");
                        at = resume;
                    }
                    None => store.exclude(*unit),
                }
                damage.push(error);
            }
        }
    }
    (found, damage)
}

fn finished_below(end: Seq) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.acknowledge(0, end);
    ledger
}

fn assert_same(found: &[Block], expected: &[Arc<Block>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected.as_ref());
    }
}

#[test]
fn an_unused_store_makes_no_files() {
    let spool = Spool::new();
    let mut store = spool.open();
    assert_eq!(store.end(), 0);
    assert!(store.read(0).unwrap().is_none());
    assert_eq!(store.disk_bytes(), 0);
    store.close().unwrap();
    assert!(!spool.options.dir.exists());
}

#[test]
fn blocks_come_back_in_order_across_databases_and_reopens() {
    let spool = Spool::new();
    let expected: Vec<_> = blocks(0, 400, 900);
    for (step, chunk) in expected.chunks(37).enumerate() {
        let mut store = spool.open();
        assert_eq!(store.end(), chunk[0].first());
        store.append(chunk).unwrap();
        assert_eq!(store.end(), chunk.last().unwrap().end());
        let (found, damage) = drain(&mut store, 0);
        assert!(damage.is_empty(), "{damage:?}");
        assert_same(&found, &expected[..(37 * (step + 1)).min(400)]);
        assert_eq!(store.disk_bytes(), spool.bytes_on_disk());
        store.close().unwrap();
    }
    assert!(spool.units().len() > 2, "{:?}", spool.units());
}

#[test]
fn a_read_finds_the_block_that_holds_a_number_or_the_first_after_it() {
    let spool = Spool::new();
    let mut store = spool.open();
    let stored = [block(10, 5, 100), block(15, 1, 5000), block(30, 5, 100)];
    store.append(&stored).unwrap();
    let cases = [
        (0, Some(10)),
        (10, Some(10)),
        (14, Some(10)),
        (15, Some(15)),
        (16, Some(30)),
        (34, Some(30)),
        (35, None),
    ];
    for (at, expected) in cases {
        let found = store.read(at).unwrap().map(|block| block.first());
        assert_eq!(found, expected, "at {at}");
    }
}

#[test]
fn a_block_far_larger_than_a_value_survives_a_reopen() {
    let spool = Spool::new();
    let expected = [block(0, 1, 300_000), block(1, 2, 100), block(3, 1, 50_000)];
    let mut store = spool.open();
    store.append(&expected).unwrap();
    store.close().unwrap();
    let mut store = spool.open();
    assert_eq!(store.end(), 4);
    assert_same(&drain(&mut store, 0).0, &expected);
    assert!(
        fs::read_dir(spool.unit_dir(0).join("blobs"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn appending_the_same_blocks_again_stores_each_once() {
    let spool = Spool::new();
    let expected = [blocks(0, 50, 900), vec![block(150, 1, 9000)]].concat();
    let mut store = spool.open();
    store.append(&expected[..40]).unwrap();
    store.append(&expected).unwrap();
    let bytes = store.disk_bytes();
    store.append(&expected).unwrap();
    assert_eq!(store.disk_bytes(), bytes);
    store.close().unwrap();
    let mut store = spool.open();
    store.append(&expected).unwrap();
    assert_same(&drain(&mut store, 0).0, &expected);
}

#[test]
fn a_different_block_with_the_same_number_is_refused() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&[block(0, 3, 100)]).unwrap();
    assert!(matches!(
        store.append(&[block(0, 2, 90)]),
        Err(StoreError::Damaged { .. })
    ));
    assert_same(&drain(&mut store, 0).0, &[block(0, 3, 100)]);
}

#[test]
fn blocks_older_than_everything_go_to_a_database_with_a_lower_name() {
    let spool = Spool::new();
    let newer = blocks(300, 300, 900);
    let older = blocks(30, 80, 900);
    let mut store = spool.open();
    store.append(&newer).unwrap();
    store.append(&older).unwrap();
    assert_eq!(store.end(), newer.last().unwrap().end());
    assert_eq!(spool.units()[0], 30);
    store.close().unwrap();
    let mut store = spool.open();
    assert_same(&drain(&mut store, 0).0, &[older, newer].concat());
}

#[test]
fn blocks_for_a_gap_inside_a_full_database_go_into_it() {
    let spool = Spool::new();
    let (before, after) = (blocks(0, 10, 900), blocks(300, 300, 900));
    let between = blocks(30, 90, 900);
    let mut store = spool.open();
    store.append(&before).unwrap();
    store.append(&after).unwrap();
    let units = spool.units();
    store.append(&between).unwrap();
    assert_eq!(spool.units(), units);
    store.close().unwrap();
    assert_same(
        &drain(&mut spool.open(), 0).0,
        &[before, between, after].concat(),
    );
}

#[test]
fn finished_databases_give_their_space_back_and_the_newest_only_with_all_others() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 400, 900)).unwrap();
    let units = spool.units();
    assert_eq!(store.reclaimable(&finished_below(units[2])), units[..2]);
    assert_eq!(
        store.reclaimable(&finished_below(1199)),
        units[..units.len() - 1]
    );
    let before = store.disk_bytes();
    store.remove(units[0]).unwrap();
    assert_eq!(spool.units(), units[1..]);
    assert!(store.disk_bytes() < before);
    assert_eq!(store.disk_bytes(), spool.bytes_on_disk());
    assert_eq!(store.read(0).unwrap().unwrap().first(), units[1]);
    for unit in store.reclaimable(&finished_below(1200)) {
        store.remove(unit).unwrap();
    }
    assert_eq!(
        (store.end(), store.disk_bytes(), spool.bytes_on_disk()),
        (0, 0, 0)
    );
    store.append(&blocks(1200, 2, 100)).unwrap();
    assert_eq!(store.end(), 1206);
}

#[test]
fn the_oldest_unit_is_named_with_the_numbers_in_it() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 400, 900)).unwrap();
    let units = spool.units();
    assert_eq!(store.oldest_unit(0), Some((0, 0..units[1])));
    assert_eq!(store.oldest_unit(1), Some((units[1], units[1]..units[2])));
    assert_eq!(store.oldest_unit(1200), None);
}

#[test]
fn what_a_crash_left_half_made_or_half_removed_is_gone_after_an_open() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 10, 100)).unwrap();
    store.close().unwrap();
    let outside = spool.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"kept").unwrap();
    for name in [".new-00000000000000000030", ".old-00000000000000000000"] {
        let leftover = spool.options.dir.join(name);
        fs::create_dir(&leftover).unwrap();
        fs::write(leftover.join("db"), b"half").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, leftover.join("blobs")).unwrap();
    }
    let unfinished = spool.unit_dir(0).join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, b"half").unwrap();
    fs::write(spool.options.dir.join("a file of somebody else"), b"kept").unwrap();
    let mut store = spool.open();
    assert_same(&drain(&mut store, 0).0, &blocks(0, 10, 100));
    assert!(!unfinished.exists());
    let names = fs::read_dir(&spool.options.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["00000000000000000000", "a file of somebody else", "reserve"]
    );
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"kept");
}

#[test]
fn a_unit_that_was_set_aside_or_excluded_is_never_read_again() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 400, 900)).unwrap();
    let units = spool.units();
    let aside = spool.dir.path().join("aside");
    store.set_aside(units[0], &aside).unwrap();
    assert!(aside.join("db").exists() && aside.join("identity").exists());
    assert_eq!(store.read(0).unwrap().unwrap().first(), units[1]);
    store.exclude(units[1]);
    assert_eq!(store.read(0).unwrap().unwrap().first(), units[2]);
    assert!(spool.unit_dir(units[1]).exists());
    assert_eq!(store.disk_bytes(), spool.bytes_on_disk());
    // A block that needs the excluded one's name still finds a place.
    store.append(&[block(units[1], 1, 100)]).unwrap();
    assert_eq!(store.read(0).unwrap().unwrap(), *block(units[1], 1, 100));
    assert_eq!(store.disk_bytes(), spool.bytes_on_disk());
}

#[test]
fn closing_and_opening_at_once_works_two_hundred_times() {
    let spool = Spool::new();
    for n in 0..200 {
        let mut store = spool.open();
        assert_eq!(store.end(), 3 * n);
        store.append(&blocks(3 * n, 1, 100)).unwrap();
        store.close().unwrap();
    }
    assert_eq!(drain(&mut spool.open(), 0).0.len(), 200);
}

#[test]
fn a_store_opens_again_under_another_quota() {
    let mut spool = Spool::new();
    spool.open().append(&blocks(0, 200, 900)).unwrap();
    let (dir, identity) = (spool.options.dir.clone(), spool.options.identity.clone());
    spool.options = SledOptions::new(dir, identity, None);
    let mut store = spool.open();
    store.append(&blocks(600, 200, 900)).unwrap();
    assert_same(&drain(&mut store, 0).0, &blocks(0, 400, 900));
}

#[test]
fn a_store_dropped_without_a_close_loses_nothing_that_was_appended() {
    let spool = Spool::new();
    let expected = blocks(0, 60, 900);
    for chunk in expected.chunks(20) {
        spool.open().append(chunk).unwrap();
    }
    assert_same(&drain(&mut spool.open(), 0).0, &expected);
}

#[test]
fn appends_within_the_headroom_never_exceed_the_limit() {
    let limits = [1 << 20, (1 << 20) + 77_777, 2 << 20, 5 << 20];
    for (limit, bytes) in limits.into_iter().zip([60, 14_000, 700, 40_000]) {
        let mut spool = Spool::new();
        let (dir, identity) = (spool.options.dir.clone(), spool.options.identity.clone());
        spool.options = SledOptions::new(dir, identity, Some(limit));
        let mut store = spool.open();
        let (mut at, mut payload) = (0, 0);
        for step in 0.. {
            let block = block(at, 1, bytes);
            let needed = block.as_bytes().len() as u64;
            if store.headroom(limit) < needed {
                break;
            }
            store.append(&[block]).unwrap();
            (at, payload) = (at + 1, payload + needed);
            if step % 61 == 0 {
                store.close().unwrap();
                store = spool.open();
            }
            assert!(
                spool.bytes_on_disk() <= limit,
                "{} of {limit}",
                spool.bytes_on_disk()
            );
        }
        println!(
            "limit {limit}, blocks of {bytes}: payload {payload}, disk {}",
            spool.bytes_on_disk()
        );
        // Reading opens every database, which adds to it.
        store.close().unwrap();
        assert_eq!(drain(&mut spool.open(), 0).0.len() as u64, at);
        assert!(
            spool.bytes_on_disk() <= limit,
            "{} of {limit}",
            spool.bytes_on_disk()
        );
        assert!(payload > limit / 8);
    }
}

#[test]
fn what_was_admitted_together_finds_room_piece_by_piece() {
    for (limit, bytes) in [
        (1 << 20, 60),
        (1 << 20, 8000),
        (2 << 20, 700),
        (5 << 20, 14_000),
    ] {
        let mut spool = Spool::new();
        let (dir, identity) = (spool.options.dir.clone(), spool.options.identity.clone());
        spool.options = SledOptions::new(dir, identity, Some(limit));
        let mut store = spool.open();
        let needed = block(0, 1, bytes).as_bytes().len() as u64;
        let mut at = 0;
        // The first time everything is begun anew, later only what is due.
        for _ in 0..3 {
            let count = store.headroom(limit - store.slack()) / needed;
            for left in (1..=count).rev() {
                assert!(
                    store.headroom(limit) >= left * needed,
                    "{left} of {count} blocks of {bytes} in {limit}"
                );
                store.append(&[block(at, 1, bytes)]).unwrap();
                at += 1;
            }
        }
        assert!(at > 0);
    }
}
