//! Letters come, stay and leave.

use super::*;
use crate::disk::sim::{Fault, Sample, SimDisk, View};
use crate::disk::{Disk, How};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub(super) const CHANNEL: ChannelId = [9; 16];
pub(super) const LIMITS: LetterLimits = LetterLimits {
    bytes_max: 4000,
    file_bytes: 300,
};
pub(super) const FIRST: &str = "/dead-letters/00000000000000000000.letters";
pub(super) const POSITION: &str = "/dead-letters/position";

pub(super) fn try_open(disk: &SimDisk, limits: LetterLimits) -> Result<Letters, OpenError> {
    let directory = Directory {
        disk: Arc::new(disk.clone()),
        path: "/".into(),
    };
    Letters::open(&directory, CHANNEL, limits)
}

pub(super) fn open(disk: &SimDisk) -> Letters {
    try_open(disk, LIMITS).unwrap()
}

pub(super) fn letter(seq: u64) -> DeadLetter {
    DeadLetter {
        seq,
        incarnation: 3,
        encoded_in: 4,
        attempts: 5,
        reason: format!("refused by the far end, {seq:02}"),
        bytes: vec![u8::try_from(seq).unwrap(); 32],
        at: UNIX_EPOCH + Duration::from_millis(1_763_000_000_123),
    }
}

pub(super) fn letters(seqs: std::ops::Range<u64>) -> Vec<DeadLetter> {
    seqs.map(letter).collect()
}

/// A disk with letters of these numbers, each of them appended alone.
pub(super) fn disk_with(seqs: std::ops::Range<u64>) -> SimDisk {
    let disk = SimDisk::default();
    let mut store = open(&disk);
    seqs.for_each(|seq| store.append(&[letter(seq)]).unwrap());
    disk
}

pub(super) fn seqs(letters: &Letters) -> Vec<u64> {
    letters.iter().map(|letter| letter.seq).collect()
}

pub(super) fn names(disk: &SimDisk) -> Vec<String> {
    let files = disk.device().listing().into_iter();
    files
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

pub(super) fn read(disk: &SimDisk, path: &str) -> Vec<u8> {
    let mut file = disk.open(path.as_ref(), How::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(super) fn write(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let mut file = disk.open(path.as_ref(), How::Create).unwrap();
    file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
}

/// Requeues everything a piece at a time; the numbers of each piece's letters.
pub(super) fn requeue_all(store: &mut Letters, bytes_max: u64) -> Vec<Vec<u64>> {
    let mut pieces = Vec::new();
    while let Some(piece) = store.next_piece(bytes_max).unwrap() {
        assert!(pieces.len() < 1000, "the same piece again and again");
        pieces.push(piece.letters().iter().map(|letter| letter.seq).collect());
        store.begin_requeue(&piece, 100, 4).unwrap();
        store.resolve(true).unwrap();
    }
    pieces
}

#[test]
fn letters_come_back_whole_and_in_their_order_after_a_restart() {
    let disk = SimDisk::default();
    let mut store = open(&disk);
    store.append(&letters(0..3)).unwrap();
    store.append(&letters(3..20)).unwrap();
    assert_eq!(store.iter().collect::<Vec<_>>(), letters(0..20));
    let mut store = open(&disk);
    assert_eq!(store.iter().collect::<Vec<_>>(), letters(0..20));
    store.append(&letters(20..21)).unwrap();
    assert_eq!(store.iter().collect::<Vec<_>>(), letters(0..21));
    assert_eq!(store.count().unwrap(), 21);
}

#[test]
fn nothing_is_made_before_the_first_letter() {
    let disk = SimDisk::default();
    let mut store = open(&disk);
    store.append(&[]).unwrap();
    assert_eq!(store.count().unwrap(), 0);
    assert!(store.next_piece(100).unwrap().is_none());
    assert_eq!(store.purge().unwrap(), 0);
    assert_eq!((disk.changes(), store.bytes()), (0, 0));
}

#[test]
fn one_file_takes_letters_until_it_is_full_whoever_writes_them() {
    let disk = SimDisk::default();
    for seq in 0..8 {
        open(&disk).append(&[letter(seq)]).unwrap();
    }
    // Three letters of 126 bytes pass 300.
    let files = names(&disk);
    assert_eq!(files.len(), 4, "{files:?}");
    assert_eq!(seqs(&open(&disk)), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn opening_costs_the_same_however_many_letters_a_file_has() {
    let calls = |count| {
        let disk = SimDisk::default();
        let limits = LetterLimits {
            bytes_max: 1 << 20,
            file_bytes: 1 << 20,
        };
        let mut store = try_open(&disk, limits).unwrap();
        store.append(&letters(0..count)).unwrap();
        let before = disk.calls();
        try_open(&disk, limits).unwrap();
        disk.calls() - before
    };
    assert_eq!(calls(1), calls(200));
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    let disk = SimDisk::default();
    let mut store = try_open(
        &disk,
        LetterLimits {
            bytes_max: 1 << 20,
            ..LIMITS
        },
    )
    .unwrap();
    let long = DeadLetter {
        reason: format!("a{}", "é".repeat(5000)),
        ..letter(1)
    };
    store.append(&[long.clone(), letter(2)]).unwrap();
    let found: Vec<_> = store.iter().collect();
    assert_eq!(found[0].reason.len(), 4095);
    assert!(long.reason.starts_with(&found[0].reason));
    assert_eq!(found[1], letter(2));
}

#[test]
fn the_limit_is_an_error_that_names_it_and_writes_nothing() {
    let disk = disk_with(0..31);
    let mut store = open(&disk);
    let before = disk.changes();
    match store.append(&[letter(31)]) {
        Err(
            error @ StoreError::DeadLettersFull {
                limit: 4000,
                needed: 126,
                ..
            },
        ) => {
            assert!(error.is_full());
            assert_eq!(error.path(), Path::new("/dead-letters"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.changes(), before);
    requeue_all(&mut store, 100);
    store.append(&[letter(31)]).unwrap();
    assert_eq!(seqs(&store), [31]);
}

#[test]
fn a_full_disk_leaves_what_was_there_and_takes_letters_again_when_it_has_room() {
    let disk = disk_with(0..2);
    let held: usize = disk.device().listing().iter().map(|(_, len)| len).sum();
    for room in 0..260 {
        let disk = SimDisk::of(disk.device());
        let mut store = open(&disk);
        disk.set_capacity((held + room) as u64);
        let error = store.append(&letters(2..5)).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(seqs(&store), [0, 1]);
        assert_eq!(store.bytes(), held as u64);
        disk.set_capacity(1 << 20);
        store.append(&letters(2..3)).unwrap();
        assert_eq!(seqs(&store), [0, 1, 2]);
        assert_eq!(seqs(&open(&disk)), [0, 1, 2]);
    }
}

#[test]
fn a_sync_that_fails_is_never_believed_afterwards() {
    for view in [View::Memory, View::Device] {
        let disk = disk_with(0..1);
        let mut store = open(&disk);
        store.append(&[letter(1)]).unwrap();
        // The call after the write.
        let suspect = disk.open(FIRST.as_ref(), How::Read).unwrap();
        let sync = disk.calls() + 1;
        disk.fail(sync..sync + 1, Fault::LostSync(view));
        assert!(store.append(&letters(2..4)).is_err());
        assert_eq!(seqs(&store), [0, 1]);
        store.append(&letters(2..4)).unwrap();
        assert!(!suspect.is_at(FIRST.as_ref()).unwrap());
        assert_eq!(seqs(&store), [0, 1, 2, 3]);
        let sample = Sample {
            exhaustive: 256,
            random: 0,
            seed: 1,
        };
        for image in disk.device().images(sample) {
            assert_eq!(seqs(&open(&SimDisk::of(image))), [0, 1, 2, 3]);
        }
    }
}

#[test]
fn pieces_hold_what_fits_and_at_least_one_letter() {
    let disk = disk_with(0..5);
    let mut store = open(&disk);
    // A letter occupies 126 bytes.
    assert_eq!(
        requeue_all(&mut store, 2 * 126),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
    assert!(requeue_all(&mut store, 1000).is_empty());
    store.append(&letters(5..7)).unwrap();
    assert_eq!(requeue_all(&mut store, 1), [[5], [6]]);
}

#[test]
fn requeued_letters_give_their_space_back_a_file_at_a_time() {
    let disk = disk_with(0..9);
    let mut store = open(&disk);
    assert_eq!(store.count().unwrap(), 9);
    let all = store.bytes();
    let piece = store.next_piece(4 * 126).unwrap().unwrap();
    store.begin_requeue(&piece, 100, 4).unwrap();
    assert_eq!(store.bytes(), all);
    store.resolve(true).unwrap();
    assert_eq!(store.bytes(), all - 3 * 126);
    assert_eq!(store.count().unwrap(), 5);
    assert_eq!(seqs(&open(&disk)), [4, 5, 6, 7, 8]);
    requeue_all(&mut store, 1000);
    assert_eq!((store.count().unwrap(), store.bytes()), (0, 8192));
    assert_eq!(names(&disk), ["position"]);
    assert!(open(&disk).iter().next().is_none());
}

#[test]
fn letters_that_come_during_a_requeue_stay() {
    let disk = disk_with(0..2);
    let mut store = open(&disk);
    let piece = store.next_piece(1000).unwrap().unwrap();
    store.append(&[letter(2)]).unwrap();
    store.begin_requeue(&piece, 100, 4).unwrap();
    store.append(&[letter(3)]).unwrap();
    store.resolve(true).unwrap();
    assert_eq!(seqs(&store), [2, 3]);
    assert_eq!(seqs(&open(&disk)), [2, 3]);
}

#[test]
fn an_intent_outlives_the_process_and_is_resolved_either_way() {
    for was_stored in [false, true] {
        let disk = disk_with(0..4);
        let mut store = open(&disk);
        let piece = store.next_piece(2 * 126).unwrap().unwrap();
        store.begin_requeue(&piece, 77, 4).unwrap();
        let mut store = open(&disk);
        let intent = store.pending_intent().unwrap();
        assert_eq!(
            (intent.first_seq, intent.incarnation, intent.count),
            (77, 4, 2)
        );
        // Until then they are letters.
        assert_eq!(seqs(&store), [0, 1, 2, 3]);
        assert_eq!(store.count().unwrap(), 4);
        store.resolve(was_stored).unwrap();
        for mut store in [store, open(&disk)] {
            assert_eq!(store.pending_intent(), None);
            let left: &[u64] = if was_stored { &[2, 3] } else { &[0, 1, 2, 3] };
            assert_eq!(seqs(&store), left);
            assert_eq!(store.count().unwrap(), left.len() as u64);
        }
    }
}

#[test]
fn a_purge_takes_all_letters_and_says_how_many() {
    let disk = disk_with(0..9);
    let mut store = open(&disk);
    assert_eq!(store.purge().unwrap(), 9);
    assert_eq!(names(&disk), ["position"]);
    assert_eq!(store.purge().unwrap(), 0);
    store.append(&letters(9..11)).unwrap();
    assert_eq!(seqs(&open(&disk)), [9, 10]);
    assert_eq!(store.purge().unwrap(), 2);
}

#[test]
fn letters_can_leave_a_disk_that_is_full() {
    for purges in [false, true] {
        let disk = disk_with(0..5);
        disk.set_capacity(0);
        let mut store = open(&disk);
        if purges {
            store.purge().unwrap();
        } else {
            requeue_all(&mut store, 126);
        }
        assert_eq!(names(&disk), ["position"]);
    }
}

#[test]
fn whoever_reads_is_not_disturbed_by_a_purge() {
    let disk = disk_with(0..9);
    let mut store = open(&disk);
    let mut reader = store.iter();
    assert_eq!(reader.next(), Some(letter(0)));
    store.purge().unwrap();
    // The file that is open is read to its end; the others are gone.
    assert_eq!(
        reader.by_ref().map(|letter| letter.seq).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(reader.next().is_none() && reader.error().is_none());
    assert_eq!(reader.damaged_bytes(), 0);
}

#[test]
fn whoever_reads_is_told_of_a_disk_that_fails() {
    let disk = disk_with(0..9);
    let store = open(&disk);
    let mut reader = store.iter();
    reader.next();
    disk.fail(0..u64::MAX, Fault::Io);
    assert!(reader.next().is_none());
    assert!(reader.error().is_some());
    disk.heal();
    assert!(reader.next().is_none());
}

#[test]
fn a_file_that_somebody_removed_takes_no_letters() {
    let disk = disk_with(0..1);
    let mut store = open(&disk);
    store.append(&[letter(1)]).unwrap();
    disk.remove_file(FIRST.as_ref()).unwrap();
    assert!(store.append(&[letter(2)]).is_err());
    store.append(&[letter(2)]).unwrap();
    assert_eq!(seqs(&store), [2]);
    assert_eq!(seqs(&open(&disk)), [2]);
}
