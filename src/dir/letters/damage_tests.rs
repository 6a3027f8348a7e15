//! Files that were changed, cut or removed, or that aren't ours.

use super::position::SLOT_LEN;
use super::tests::{
    FIRST, LIMITS, POSITION, disk_with, letter, names, open, read, requeue_all, seqs, try_open,
    write,
};
use super::*;
use crate::dir::bytes::seal;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;

#[test]
fn damage_at_any_byte_costs_the_letter_that_it_touches_and_is_told() {
    let whole = disk_with(0..3);
    let bytes = read(&whole, FIRST);
    for at in 0..bytes.len() {
        let disk = SimDisk::of(whole.device());
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        write(&disk, FIRST, &damaged);
        let mut store = open(&disk);
        let hit = (at / 126) as u64;
        let left: Vec<u64> = (0..3).filter(|seq| *seq != hit).collect();
        let mut found = Vec::new();
        let scan = store.scan(|id| found.push(id.seq)).unwrap();
        assert_eq!(found, left, "byte {at}");
        assert_eq!(
            scan,
            Scan {
                letters: 2,
                damaged_bytes: 126
            },
            "byte {at}"
        );
        // New ones go behind it, and a requeue keeps the file.
        store.append(&[letter(3)]).unwrap();
        let piece = store.next_piece(5000).unwrap().unwrap();
        assert_eq!(piece.damaged_bytes(), 126, "byte {at}");
        assert_eq!(piece.letters().len(), 3);
        store.begin_requeue(&piece, 100, 4).unwrap();
        store.resolve(true).unwrap();
        assert_eq!(names(&disk)[0], "00000000000000000000.damaged");
        assert!(store.bytes() > 8192 + 3 * 126 - 1);
        assert_eq!(store.purge().unwrap(), 0);
        assert_eq!(names(&disk), ["position"]);
    }
}

#[test]
fn a_file_that_ends_anywhere_gives_what_is_whole_and_takes_no_more() {
    let whole = disk_with(0..3);
    let bytes = read(&whole, FIRST);
    for len in 0..bytes.len() {
        let disk = SimDisk::of(whole.device());
        write(&disk, FIRST, &bytes[..len]);
        let mut store = open(&disk);
        let left: Vec<u64> = (0..(len / 126) as u64).collect();
        assert_eq!(seqs(&store), left, "{len} bytes");
        assert_eq!(store.scan(|_| {}).unwrap().damaged_bytes, 0, "{len} bytes");
        store.append(&[letter(7)]).unwrap();
        assert_eq!(read(&disk, FIRST)[..len], bytes[..len]);
        let all = [&left[..], &[7]].concat();
        assert_eq!(seqs(&store), all, "{len} bytes");
        assert_eq!(requeue_all(&mut store, 5000), [all], "{len} bytes");
        // What was never confirmed is no damage that anybody wants to see.
        assert_eq!(names(&disk), ["position"]);
    }
}

#[test]
fn letters_within_an_item_are_not_believed() {
    let inner = read(&disk_with(0..1), FIRST);
    let disk = SimDisk::default();
    let mut store = open(&disk);
    let outer = DeadLetter {
        bytes: inner.repeat(2),
        ..letter(1)
    };
    store.append(&[outer, letter(2)]).unwrap();
    let mut bytes = read(&disk, FIRST);
    bytes[20] ^= 1;
    write(&disk, FIRST, &bytes);
    assert_eq!(seqs(&open(&disk)), [2]);
}

#[test]
fn a_position_that_nobody_can_read_brings_letters_back_and_says_so() {
    let disk = disk_with(0..6);
    let mut store = open(&disk);
    let piece = store.next_piece(126).unwrap().unwrap();
    store.begin_requeue(&piece, 100, 4).unwrap();
    store.resolve(true).unwrap();
    assert!(!store.is_position_lost());
    let mut bytes = read(&disk, POSITION);
    bytes[30] ^= 1;
    bytes[SLOT_LEN + 30] ^= 1;
    write(&disk, POSITION, &bytes);
    let mut store = open(&disk);
    assert!(store.is_position_lost());
    assert_eq!(seqs(&store), [0, 1, 2, 3, 4, 5]);
    assert_eq!(requeue_all(&mut store, 5000).len(), 1);
    assert!(!open(&disk).is_position_lost());
}

#[test]
fn a_position_cut_to_any_length_or_gone_never_hides_a_letter() {
    let disk = disk_with(0..6);
    let mut store = open(&disk);
    let piece = store.next_piece(126).unwrap().unwrap();
    store.begin_requeue(&piece, 100, 4).unwrap();
    store.resolve(true).unwrap();
    let bytes = read(&disk, POSITION);
    for len in (0..=bytes.len()).step_by(64) {
        write(&disk, POSITION, &bytes[..len]);
        let store = open(&disk);
        assert!(seqs(&store).ends_with(&[1, 2, 3, 4, 5]), "{len} bytes");
    }
    disk.remove_file(POSITION.as_ref()).unwrap();
    let mut store = open(&disk);
    assert_eq!(seqs(&store), [0, 1, 2, 3, 4, 5]);
    store.purge().unwrap();
    assert!(open(&disk).iter().next().is_none());
}

#[test]
fn new_letters_count_when_the_file_that_the_position_names_was_cut() {
    let disk = disk_with(0..3);
    let mut store = open(&disk);
    let piece = store.next_piece(2 * 126).unwrap().unwrap();
    store.begin_requeue(&piece, 100, 4).unwrap();
    store.resolve(true).unwrap();
    let bytes = read(&disk, FIRST);
    for cut in [0, 126, 200] {
        let disk = SimDisk::of(disk.device());
        write(&disk, FIRST, &bytes[..cut]);
        open(&disk).append(&[letter(9)]).unwrap();
        assert_eq!(seqs(&open(&disk)), [9], "{cut}");
        disk.remove_file(FIRST.as_ref()).unwrap();
        open(&disk).append(&[letter(10)]).unwrap();
        assert_eq!(seqs(&open(&disk)), [9, 10], "{cut}");
    }
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_touched() {
    let whole = disk_with(0..6);
    let newer = |bytes: &[u8]| {
        let mut bytes = bytes[..bytes.len() - 4].to_vec();
        bytes[8] = 2;
        seal(&mut bytes);
        bytes
    };
    for (path, len) in [(FIRST, HEADER_LEN), (POSITION, SLOT_LEN)] {
        let disk = SimDisk::of(whole.device());
        let mut bytes = read(&disk, path);
        bytes.splice(..len, newer(&bytes[..len]));
        write(&disk, path, &bytes);
        write(&disk, "/dead-letters/position.new", b"left by a crash");
        let before = disk.changes();
        match try_open(&disk, LIMITS) {
            Err(OpenError::Format {
                found: Some(2),
                supported: 1,
                ..
            }) => {}
            other => panic!("{path}: {other:?}"),
        }
        assert_eq!(disk.changes(), before);
    }
}

#[test]
fn foreign_files_among_letters_are_left_alone() {
    let disk = disk_with(0..2);
    write(&disk, "/dead-letters/notes", b"mine");
    write(&disk, "/dead-letters/99999999999999999999.letters", b"mine");
    write(&disk, "/dead-letters/7.letters", b"mine");
    let mut store = open(&disk);
    assert_eq!(store.purge().unwrap(), 2);
    store.append(&[letter(2)]).unwrap();
    assert_eq!(seqs(&open(&disk)), [2]);
    assert!(names(&disk).contains(&"notes".to_owned()));
    assert!(names(&disk).contains(&"7.letters".to_owned()));
}

#[test]
fn letters_are_read_although_they_are_all_that_is_left_of_the_channel() {
    let root = tempfile::tempdir().unwrap();
    let open = || {
        let (directory, _) = Directory::prepare(&crate::disk::real(), root.path()).unwrap();
        let lock = crate::dir::DirLock::acquire(&directory).unwrap();
        let tag = crate::dir::tests::wanted("bincode2", None);
        let contents = directory.load(&lock, crate::dir::StoreKind::Log, &tag);
        let contents = contents.unwrap();
        let letters = Letters::open(&directory, contents.identity.channel, LIMITS);
        (contents.origin, letters.unwrap())
    };
    open().1.append(&[letter(1)]).unwrap();
    for name in ["channel", "checkpoint"] {
        std::fs::remove_file(root.path().join(name)).unwrap();
    }
    let (origin, letters) = open();
    assert_eq!(origin, crate::dir::Origin::Rebuilt);
    assert_eq!(seqs(&letters), [1]);
}
