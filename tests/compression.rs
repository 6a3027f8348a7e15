//! Blocks that are compressed, beside blocks that are not, and blocks that this build can't read.
#![cfg(all(feature = "test-util", feature = "lz4", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, assert_conserved};
use hostile::{contents, files};
use overspill::{
    Builder, Compression, DiskBufferedChannel, OpenError, RecvError, RecvTimeoutError, Storage,
    StoreError,
};
use std::fs;
use std::path::{Path, PathBuf};

const STORES: [Storage; 2] = [Storage::Sled, Storage::Log];
/// What a block looks like (docs/format.md).
const BLOCK_MAGIC: &[u8] = b"OVSPBLOK";
const BLOCK_HEADER: usize = 144;
const HEADER_CRC: usize = 140;
const OF_A_NEWER_VERSION: u16 = 1 << 15;

fn builder(dir: &Path, storage: Storage) -> Builder<String> {
    DiskBufferedChannel::builder(dir)
        .memory_items(1)
        .block_bytes(1000)
        .disk_free_min(0)
        .storage(storage)
}

fn line(n: u64) -> String {
    format!("2026-11-21T10:00:00Z GET /orders/{n} 200 in {} ms", n % 90)
}

fn write(dir: &Path, storage: Storage, compression: Compression, numbers: std::ops::Range<u64>) {
    let channel = builder(dir, storage)
        .compression(compression)
        .open()
        .unwrap();
    let tx = channel.sender();
    tx.send_all(&mut numbers.map(line)).unwrap();
    channel.halt().unwrap();
}

/// Takes everything that is left, which is this.
fn assert_holds(dir: &Path, storage: Storage, numbers: std::ops::Range<u64>) {
    let channel = builder(dir, storage).open().unwrap();
    channel.close();
    let lines: Vec<String> = channel.receiver().iter().collect();
    assert_eq!(lines, numbers.map(line).collect::<Vec<_>>());
    let stats = channel.stats();
    assert_conserved(&stats);
    assert_eq!((stats.lost, stats.unaccounted, stats.pending), (0, 0, 0));
    channel.halt().unwrap();
}

#[test]
fn lines_take_less_of_the_disk_and_the_statistics_say_how_much_less() {
    for storage in STORES {
        let root = tempfile::tempdir().unwrap();
        let mut written = Vec::new();
        for compression in [Compression::None, Compression::Lz4] {
            let dir = root.path().join(format!("{compression:?}"));
            let channel = builder(&dir, storage)
                .compression(compression)
                .open()
                .unwrap();
            assert_eq!(channel.stats().compression_ratio(), None);
            channel.sender().send_all(&mut (0..2000).map(line)).unwrap();
            channel.halt().unwrap();
            let stats = channel.stats();
            let ratio = stats.compression_ratio().unwrap();
            match compression {
                Compression::None => {
                    assert_eq!(stats.bytes_written, stats.uncompressed_bytes_written);
                }
                _ => assert!(ratio > 1.5 && ratio < 50.0, "{storage:?}: {ratio}"),
            }
            written.push(stats.bytes_written);

            let channel = builder(&dir, storage).open().unwrap();
            channel.close();
            assert_eq!(channel.receiver().iter().count(), 2000);
            // The blocks that are read are the ones that were written, as they stand there.
            let read = channel.stats().bytes_read;
            assert_eq!(read, stats.bytes_written, "{storage:?} {compression:?}");
            channel.halt().unwrap();
        }
        assert!(written[1] * 3 < written[0] * 2, "{storage:?}: {written:?}");
    }
}

#[test]
fn a_directory_may_change_its_compression_and_hold_both() {
    for (first, second) in [STORES, [Storage::Log; 2], [Storage::Sled; 2]].map(|[a, b]| (a, b)) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("spool");
        write(&dir, first, Compression::Lz4, 0..300);
        write(&dir, first, Compression::None, 300..600);
        write(&dir, second, Compression::Lz4, 600..900);
        assert_holds(&dir, second, 0..900);
    }
}

// ---- what this build can't read ----------------------------------------------------------------

/// A block in a file.
struct Place {
    file: PathBuf,
    at: usize,
    first: u64,
}

/// The blocks of a directory, in the order of their numbers.
fn blocks(dir: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for store in ["log", "sled"] {
        for (file, bytes) in contents(&dir.join(store)) {
            let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(BLOCK_MAGIC));
            places.extend(starts.map(|at| Place {
                file: file.clone(),
                at,
                first: u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap()),
            }));
        }
    }
    places.sort_by_key(|place| place.first);
    places
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = fs::read(&self.file).unwrap();
        let block = &mut bytes[self.at..];
        change(block);
        let crc = crc32c::crc32c(&block[..HEADER_CRC]);
        block[HEADER_CRC..BLOCK_HEADER].copy_from_slice(&crc.to_le_bytes());
        fs::write(&self.file, bytes).unwrap();
    }

    fn toggle_flags(&self, flags: u16) {
        self.change(|block| {
            let was = u16::from_le_bytes([block[10], block[11]]);
            block[10..12].copy_from_slice(&(was ^ flags).to_le_bytes());
        });
    }

    fn payload_len(&self) -> usize {
        let bytes = fs::read(&self.file).unwrap();
        let len = bytes[self.at + 56..self.at + 60].try_into().unwrap();
        u32::from_le_bytes(len) as usize
    }
}

fn assert_unsupported(error: &StoreError, dir: &Path, block: &Place) {
    match error {
        StoreError::Unsupported { path, seq, needs } => {
            assert_eq!((&**path, *seq), (dir, block.first));
            assert_eq!(*needs, "a newer version of overspill");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_log_that_ends_in_a_newer_block_is_refused_and_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("spool");
    write(&dir, Storage::Log, Compression::Lz4, 0..300);
    let last = blocks(&dir).pop().unwrap();
    last.toggle_flags(OF_A_NEWER_VERSION);
    let before = contents(&dir.join("log"));
    for _ in 0..2 {
        match builder(&dir, Storage::Log).open() {
            Err(OpenError::Store(error)) => assert_unsupported(&error, &dir, &last),
            other => panic!("{other:?}"),
        }
        assert_eq!(contents(&dir.join("log")), before);
    }
    last.toggle_flags(OF_A_NEWER_VERSION);
    assert_holds(&dir, Storage::Log, 0..300);
}

/// In sled the change is damage, too: what is salvaged from a database is no less out of reach.
#[test]
fn delivery_stops_at_a_newer_block_and_everything_else_goes_on() {
    for storage in STORES {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("spool");
        write(&dir, storage, Compression::Lz4, 0..300);
        let there = blocks(&dir);
        let newer = &there[there.len() / 2];
        newer.toggle_flags(OF_A_NEWER_VERSION);
        // Its checksum is blind to a change of ours: a block and its own checksum cancel out in it.
        let marks = files(&dir)
            .into_iter()
            .filter(|file| file.ends_with("mark"));
        marks.for_each(|mark| fs::remove_file(mark).unwrap());

        let channel = builder(&dir, storage).open().unwrap();
        let rx = channel.receiver();
        for n in 0..newer.first {
            assert_eq!(rx.recv_timeout(FOR_EVER), Ok(line(n)));
        }
        for _ in 0..2 {
            match rx.recv_timeout(FOR_EVER) {
                Err(RecvTimeoutError::Failed(RecvError::Store(error))) => {
                    assert_unsupported(&error, &dir, newer);
                }
                other => panic!("{storage:?}: {other:?} {:?}", channel.stats()),
            }
        }
        channel
            .sender()
            .send_all(&mut (300..400).map(line))
            .unwrap();
        let report = channel.halt().unwrap();
        assert_eq!(report.saved, 400 - newer.first);
        let stats = channel.stats();
        assert_conserved(&stats);
        assert_eq!((stats.lost, stats.unaccounted), (0, 0), "{stats:?}");
        assert!(
            stats
                .last_error
                .is_some_and(|error| error.message.contains("newer version"))
        );

        newer.toggle_flags(OF_A_NEWER_VERSION);
        assert_holds(&dir, storage, newer.first..400);
    }
}

#[test]
fn a_length_that_is_a_lie_costs_the_items_of_its_block() {
    for claimed in [0, 900, u32::MAX] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("spool");
        write(&dir, Storage::Log, Compression::Lz4, 0..300);
        let there = blocks(&dir);
        let [liar, next] = &there[5..7] else { panic!() };
        let payload = BLOCK_HEADER..BLOCK_HEADER + liar.payload_len();
        liar.change(|block| {
            block[BLOCK_HEADER..BLOCK_HEADER + 4].copy_from_slice(&u32::to_le_bytes(claimed));
            let crc = crc32c::crc32c(&block[payload]);
            block[60..64].copy_from_slice(&crc.to_le_bytes());
        });

        let channel = builder(&dir, Storage::Log).open().unwrap();
        channel.close();
        let lines: Vec<String> = channel.receiver().iter().collect();
        let intact = (0..300).filter(|n| !(liar.first..next.first).contains(n));
        assert_eq!(lines, intact.map(line).collect::<Vec<_>>(), "{claimed}");
        let stats = channel.stats();
        assert_eq!(stats.lost, next.first - liar.first);
        channel.halt().unwrap();
        assert_eq!(files(&dir.join("quarantine")).len(), 2);
    }
}
