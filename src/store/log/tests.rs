//! The log on the disk of the machine: order, rolling, reopening, damage, space.

use super::*;
use crate::block::{BlockBuilder, Seal};
use crate::disk;
use crate::ledger::Outcome;
use crate::store::ReadError;

struct Spool {
    _root: tempfile::TempDir,
    dir: PathBuf,
    segment_bytes: u64,
}

impl Spool {
    fn new(segment_bytes: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        Self {
            _root: root,
            dir,
            segment_bytes,
        }
    }

    fn open(&self) -> LogStore {
        LogStore::open(LogOptions {
            disk: disk::real(),
            dir: self.dir.clone(),
            channel: [7; 16],
            identity: b"who it is".to_vec(),
            segment_bytes: self.segment_bytes,
            keep_unsynced: false,
        })
        .unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }
}

/// A block of `count` records that say their numbers.
fn block(first: Seq, count: u64, prev_end: Seq) -> Arc<Block> {
    let mut builder = BlockBuilder::new(first, 1, 64);
    for seq in first..first + count {
        builder.push(format!("record {seq}").as_bytes());
    }
    Arc::new(builder.seal(&Seal {
        prev_end,
        ..Seal::default()
    }))
}

/// The numbers of all blocks from `at` on, and how often damage was met on the way.
fn read_all(store: &mut LogStore, mut at: Seq) -> (Vec<Seq>, usize) {
    let (mut numbers, mut damages) = (Vec::new(), 0);
    loop {
        match store.read(at) {
            Ok(Some(block)) => {
                let mut offset = 0;
                for seq in block.first()..block.end() {
                    let (record, next) = block.record_at(offset).unwrap();
                    assert_eq!(record, format!("record {seq}").as_bytes());
                    offset = next;
                    if seq >= at {
                        numbers.push(seq);
                    }
                }
                at = block.end();
            }
            Ok(None) => return (numbers, damages),
            Err(ReadError::Damaged { resume, .. }) => {
                assert_eq!(resume, Some(at));
                damages += 1;
                assert!(damages < 1000, "the same damage again and again");
            }
            Err(ReadError::Store(error)) => panic!("{error}"),
        }
    }
}

fn fill(store: &mut LogStore, blocks: u64) {
    for n in 0..blocks {
        store.append(&[block(n * 3, 3, n * 3)]).unwrap();
    }
}

#[test]
fn what_a_failed_write_left_behind_the_last_block_is_not_taken_for_the_next_one() {
    let spool = Spool::new(1 << 20);
    let mut store = spool.open();
    store.append(&[block(0, 2, 0)]).unwrap();
    let [segment] = spool.files().try_into().unwrap();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(segment)
        .unwrap();
    std::io::Write::write_all(&mut file, &[0xA5; 1000]).unwrap();
    assert_eq!(read_all(&mut store, 0), (vec![0, 1], 0));
    store.append(&[block(2, 2, 2)]).unwrap();
    assert_eq!(read_all(&mut store, 2), (vec![2, 3], 0));
}

#[test]
fn what_is_appended_is_read_in_order_from_any_number_and_after_a_reopen() {
    for segment_bytes in [1, 500, 1 << 20] {
        let spool = Spool::new(segment_bytes);
        let mut store = spool.open();
        assert!(store.read(0).unwrap().is_none());
        fill(&mut store, 10);
        for _ in 0..2 {
            for at in 0..31 {
                let (numbers, damages) = read_all(&mut store, at);
                assert_eq!(numbers, (at..30).collect::<Vec<_>>());
                assert_eq!(damages, 0);
            }
            assert_eq!(store.end(), 30);
            store.sync().unwrap();
            store.close().unwrap();
            store = spool.open();
        }
        store.append(&[block(30, 3, 30)]).unwrap();
        assert_eq!(read_all(&mut store, 28).0, [28, 29, 30, 31, 32]);
        let bytes: u64 = spool
            .files()
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum();
        assert_eq!(store.disk_bytes(), bytes);
    }
}

#[test]
fn blocks_that_are_older_than_the_tail_come_in_their_place() {
    for segment_bytes in [1, 1 << 20] {
        let spool = Spool::new(segment_bytes);
        let mut store = spool.open();
        store.append(&[block(0, 3, 0)]).unwrap();
        store.append(&[block(10, 3, 3), block(20, 3, 13)]).unwrap();
        store.append(&[block(3, 4, 0), block(15, 5, 0)]).unwrap();
        store.append(&[block(23, 2, 23)]).unwrap();
        for _ in 0..2 {
            let expected: Vec<Seq> = (0..7).chain(10..13).chain(15..25).collect();
            assert_eq!(read_all(&mut store, 0), (expected, 0));
            assert_eq!(store.end(), 25);
            store.close().unwrap();
            store = spool.open();
        }
    }
}

#[test]
fn segments_go_when_all_in_them_is_finished_wherever_they_stand() {
    let spool = Spool::new(1);
    let mut store = spool.open();
    fill(&mut store, 4);
    let mut ledger = Ledger::default();
    ledger.finish(3..6, Outcome::Acknowledged);
    assert_eq!(store.reclaimable(&ledger), [3]);
    store.remove(3).unwrap();
    ledger.finish(9..12, Outcome::Acknowledged);
    let none = store.reclaimable(&ledger).is_empty();
    assert!(none, "the newest is written to");
    assert_eq!(read_all(&mut store, 0).0, [0, 1, 2, 6, 7, 8, 9, 10, 11]);
    ledger.finish(0..12, Outcome::Acknowledged);
    assert_eq!(store.reclaimable(&ledger), [0, 6, 9]);
    for unit in [0, 6, 9] {
        store.remove(unit).unwrap();
    }
    assert_eq!((store.disk_bytes(), spool.files().len()), (0, 0));
    assert_eq!(store.end(), 12);
    store.append(&[block(12, 3, 12)]).unwrap();
    assert_eq!(read_all(&mut store, 0).0, [12, 13, 14]);
}

#[test]
fn a_flip_of_any_byte_costs_its_block_at_most() {
    for segment_bytes in [300, 1 << 20] {
        let spool = Spool::new(segment_bytes);
        let mut store = spool.open();
        fill(&mut store, 5);
        store.close().unwrap();
        for file in spool.files() {
            let whole = std::fs::read(&file).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                std::fs::write(&file, &bytes).unwrap();
                let mut store = spool.open();
                let (numbers, _) = read_all(&mut store, 0);
                let missing: Vec<Seq> = (0..15).filter(|seq| !numbers.contains(seq)).collect();
                assert!(numbers.is_sorted());
                assert!(
                    missing.is_empty() || (missing.len() == 3 && missing[0].is_multiple_of(3)),
                    "byte {at} of {file:?}: {missing:?}"
                );
            }
            std::fs::write(&file, &whole).unwrap();
        }
    }
}

#[test]
fn a_segment_that_ends_anywhere_holds_its_whole_blocks_and_is_not_written_to_again() {
    let spool = Spool::new(1 << 20);
    let mut store = spool.open();
    fill(&mut store, 3);
    store.close().unwrap();
    let file = spool.files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    for len in 0..=whole.len() {
        std::fs::write(&file, &whole[..len]).unwrap();
        let mut store = spool.open();
        let end = store.end();
        assert_eq!(end % 3, 0, "{len}");
        assert_eq!(read_all(&mut store, 0), ((0..end).collect(), 0), "{len}");
        store
            .append(&[block(end, 3, end), block(end + 3, 3, end + 3)])
            .unwrap();
        assert_eq!(read_all(&mut store, 0).0, (0..end + 6).collect::<Vec<_>>());
        store.close().unwrap();
        let mut store = spool.open();
        assert_eq!(read_all(&mut store, 0).0, (0..end + 6).collect::<Vec<_>>());
        drop(store);
        for file in spool.files() {
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_copy_of_a_segment_under_another_name_hides_nothing() {
    let spool = Spool::new(300);
    let mut store = spool.open();
    fill(&mut store, 5);
    store.close().unwrap();
    let files = spool.files();
    for other in [
        "00000000000000000001.segment",
        "00000000000000000099.segment",
        "00000000000000000004.older",
    ] {
        let copy = spool.dir.join(other);
        std::fs::copy(&files[0], &copy).unwrap();
        let mut store = spool.open();
        let (numbers, _) = read_all(&mut store, 0);
        assert_eq!(numbers, (0..15).collect::<Vec<_>>(), "{other}");
        std::fs::remove_file(copy).unwrap();
    }
}

#[test]
fn a_block_inside_an_item_is_never_taken_for_one() {
    let spool = Spool::new(1 << 20);
    let mut store = spool.open();
    store.append(&[block(0, 3, 0)]).unwrap();
    let inner = std::fs::read(&spool.files()[0]).unwrap();
    let mut builder = BlockBuilder::new(3, 1, 64);
    builder.push(&inner);
    store
        .append(&[Arc::new(builder.seal(&Seal::default()))])
        .unwrap();
    store.append(&[block(4, 3, 4)]).unwrap();
    store.close().unwrap();
    // The block with the copy is damaged, so that what is in it is searched.
    let file = &spool.files()[0];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[inner.len() + 20] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(read_all(&mut spool.open(), 0), (vec![0, 1, 2, 4, 5, 6], 1));
}

#[test]
fn a_set_aside_segment_is_gone_and_the_others_are_read() {
    let spool = Spool::new(1);
    let mut store = spool.open();
    fill(&mut store, 3);
    let dest = spool.dir.with_file_name("aside");
    store.set_aside(3, &dest).unwrap();
    assert!(dest.is_file());
    assert_eq!(read_all(&mut store, 0).0, [0, 1, 2, 6, 7, 8]);
    store.exclude(0);
    assert_eq!(read_all(&mut store, 0).0, [6, 7, 8]);
    assert_eq!(spool.files().len(), 2);
}

#[test]
fn headroom_is_never_more_than_what_fits() {
    for segment_bytes in [200, 1000, 1 << 20] {
        let spool = Spool::new(segment_bytes);
        let mut store = spool.open();
        let limit = 6000;
        let mut first = 0;
        loop {
            let next = block(first, 1 + first % 5, first);
            if next.as_bytes().len() as u64 > store.headroom(limit - store.slack()) {
                break;
            }
            store.append(std::slice::from_ref(&next)).unwrap();
            assert!(store.disk_bytes() <= limit);
            first = next.end();
        }
        assert!(store.disk_bytes() > limit / 2, "{segment_bytes}");
    }
}

#[test]
fn a_large_segment_that_was_removed_has_no_name_at_once_and_its_space_comes_back_by_settling() {
    let spool = Spool::new(8 << 20);
    let mut store = spool.open();
    let mut builder = BlockBuilder::new(0, 1, 64);
    builder.push(&vec![7; 8 << 20]);
    let large = Arc::new(builder.seal(&Seal::default()));
    store.append(&[large]).unwrap();
    store.append(&[block(1, 3, 1)]).unwrap();
    assert_eq!(spool.files().len(), 2);
    assert!(!store.settle());
    store.remove(0).unwrap();
    assert_eq!(spool.files().len(), 1);
    assert!(store.disk_bytes() < 1 << 20);
    assert!(store.settle());
    assert!(!store.settle());
    let next = store.read(0).unwrap().unwrap();
    assert_eq!((next.first(), next.end()), (1, 4));
}
