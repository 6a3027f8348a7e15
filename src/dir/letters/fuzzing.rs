//! Letters as a fuzzer would like to write them: it doesn't guess a checksum, so they are made to fit.

use super::frame::{Home, MAGIC, reason};
use super::fuzzing_disk::HastyDisk;
use super::position::{self, SLOT_LEN};
use super::{DeadLetter, LetterLimits, Letters};
use crate::dir::checkpoint_format::FRAME_LEN;
use crate::dir::{ChannelId, Directory, bytes, letters_file, letters_position};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

const CHANNEL: ChannelId = [9; 16];
const LIMITS: LetterLimits = LetterLimits {
    bytes_max: 1 << 20,
    file_bytes: 300,
};

/// Bytes as two files of letters and as their position, and as a program that writes them.
pub(crate) fn letters(bytes: &[u8]) {
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let (second, slots) = rest.split_at(rest.len() / 2);
    try_letters(first, second, slots);
    let slots: Vec<u8> = slots.chunks(74).take(2).flat_map(sealed_slot).collect();
    try_letters(&sealed(0, first), &sealed(1, second), &slots);
}

/// A slot of the position with these fields behind the magic and the version.
fn sealed_slot(fields: &[u8]) -> Vec<u8> {
    let mut slot = fields.to_vec();
    slot.resize(SLOT_LEN - FRAME_LEN, 0);
    slot.splice(14..30, CHANNEL);
    // Numbers that nobody comes to are refused: small ones get further.
    for fields in [6..14, 30..78] {
        let numbers = slot.get_mut(fields).unwrap_or_default().chunks_mut(8);
        numbers.for_each(|number| number.iter_mut().skip(2).for_each(|byte| *byte = 0));
    }
    bytes::resealed(&slot, position::MAGIC)
}

/// What each three bytes of `program` say: a letter in its place or a little off, or rubbish.
fn sealed(number: u64, program: &[u8]) -> Vec<u8> {
    let home = Home::new(CHANNEL, number);
    let mut out = Vec::new();
    for step in program.as_chunks::<3>().0 {
        let [what, a, b] = *step;
        match what % 8 {
            0..4 => put_letter(&mut out, home, what, a, b),
            4 => out.extend_from_slice(&MAGIC),
            5 | 6 => out.resize(out.len() + usize::from(a % 32), b),
            _ => {
                let at = usize::from(a) * usize::from(b) % out.len().max(1);
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= what;
                }
            }
        }
    }
    out
}

fn put_letter(out: &mut Vec<u8>, home: Home, what: u8, a: u8, b: u8) {
    let mut letter = letter(a.into());
    letter.bytes = vec![b; usize::from(b % 64)];
    // An item may have the bytes of letters in it.
    if what & 16 != 0 {
        letter.bytes.extend_from_slice(out);
        letter.bytes.truncate(500);
    }
    let offset = out.len() as u64 + u64::from(what >> 7);
    out.extend_from_slice(&home.seal(&letter, offset));
    out.extend_from_slice(reason(&letter));
    out.extend_from_slice(&letter.bytes);
    if what & 32 != 0 {
        out.truncate(out.len().saturating_sub(b.into()));
    }
}

fn letter(seq: u64) -> DeadLetter {
    DeadLetter {
        seq,
        incarnation: 2,
        encoded_in: 2,
        attempts: 1,
        reason: "no".repeat(3),
        bytes: vec![7; 20],
        at: UNIX_EPOCH,
    }
}

fn try_letters(first: &[u8], second: &[u8], position: &[u8]) {
    let Ok(root) = tempfile::tempdir() else {
        return;
    };
    let directory = Directory {
        disk: Arc::new(HastyDisk),
        path: root.path().to_owned(),
    };
    let dir = directory.dead_letters();
    let files = [
        (letters_file(&dir, 0), first),
        (letters_file(&dir, 1), second),
        (letters_position(&dir), position),
    ];
    if std::fs::create_dir(&dir).is_err()
        || files
            .iter()
            .any(|(path, bytes)| std::fs::write(path, bytes).is_err())
    {
        return;
    }
    let Ok(mut store) = Letters::open(&directory, CHANNEL, LIMITS) else {
        return;
    };
    let mut found: Vec<DeadLetter> = store.iter().collect();
    let scan = store.scan(|_| {});
    assert!(scan.is_ok_and(|scan| scan.letters == found.len() as u64));
    let new = letter(1000);
    assert!(store.append(std::slice::from_ref(&new)).is_ok());
    found.push(new);
    for store in [&store, &reopen(&directory)] {
        assert_eq!(store.iter().collect::<Vec<_>>(), found);
    }
    let mut left = found.as_slice();
    if let Some(intent) = store.pending_intent().cloned() {
        assert!(store.resolve(intent.count % 2 == 0).is_ok());
        let now: Vec<DeadLetter> = store.iter().collect();
        assert!(left.ends_with(&now), "an intent takes from the front");
        assert!(!now.is_empty(), "what is new stays");
        left = left.get(left.len() - now.len()..).unwrap_or_default();
    }
    requeue_all(&mut store, left);
    assert!(reopen(&directory).iter().next().is_none());
    assert!(
        files_in(&dir)
            .iter()
            .all(|name| !name.ends_with(".letters"))
    );
}

fn reopen(directory: &Directory) -> Letters {
    match Letters::open(directory, CHANNEL, LIMITS) {
        Ok(letters) => letters,
        Err(error) => panic!("{error}"),
    }
}

fn requeue_all(store: &mut Letters, mut left: &[DeadLetter]) {
    while let Ok(Some(piece)) = store.next_piece(200) {
        let (now, later) = left.split_at(piece.letters().len());
        assert_eq!(piece.letters(), now);
        assert!(store.begin_requeue(&piece, 100, 3).is_ok());
        assert!(store.resolve(true).is_ok());
        left = later;
    }
    assert!(left.is_empty(), "{left:?}");
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
