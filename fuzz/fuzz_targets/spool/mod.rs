//! A log directory to damage, and what must hold whatever was done to it.
#![allow(dead_code, reason = "each target uses its own part")]

use overspill::{Builder, Bytes, DiskBufferedChannel, OpenError, RecvTimeoutError, Stats, Storage};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// Who waits this long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);
const SLOTS: usize = 3;
/// What a form of the checkpoint takes of the data: flags, the fields up to its ranges, up to two of these, and up to two
/// failures.
const FIELDS: usize = 24;

fn builder(dir: &Path) -> Builder<Vec<u8>, Bytes> {
    // Bytes are always an item, so what stops delivery is never their contents.
    DiskBufferedChannel::<Vec<u8>>::builder(dir)
        .memory_items(1)
        .block_bytes(40)
        .segment_bytes(400)
        .disk_free_min(0)
        .storage(Storage::Log)
        .codec(Bytes)
}

/// A directory with a few segments.
pub fn fresh() -> TempDir {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    let written = FILES.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let channel = builder(dir.path()).open().expect("it is empty");
        for n in 0..24 {
            channel.sender().send(vec![n; 9]).expect("there is room");
        }
        channel.halt().expect("there is room");
        let read = |path: PathBuf| {
            let inside = path
                .strip_prefix(dir.path())
                .expect("it is in there")
                .to_owned();
            (inside, fs::read(path).expect("it can be read"))
        };
        files(dir.path()).into_iter().map(read).collect()
    });
    let dir = tempfile::tempdir().expect("a directory can be made");
    fs::create_dir(dir.path().join("log")).expect("a directory can be made");
    for (inside, bytes) in written {
        fs::write(dir.path().join(inside), bytes).expect("there is room");
    }
    dir
}

/// The files of a channel's directory and of its log.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = [dir.to_owned(), dir.join("log")]
        .into_iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// A checkpoint in which each byte of `data` is a field: small, or as large as can be.
pub fn slots(data: &[u8]) -> Vec<u8> {
    let slots: Vec<Vec<u8>> = (0..SLOTS)
        .map(|slot| {
            let data = data.chunks(FIELDS).nth(slot);
            fields(data.unwrap_or_default(), [0; 16])
        })
        .collect();
    let slots: Vec<&[u8]> = slots.iter().map(Vec::as_slice).collect();
    overspill::fuzzing::sealed_checkpoint(&slots)
}

/// The large file beside it, for the channel of that directory, from the data behind the slots'.
pub fn large(dir: &Path, data: &[u8]) -> Vec<u8> {
    let identity = fs::read(dir.join("channel")).unwrap_or_default();
    let channel = identity.get(20..36).and_then(|id| id.try_into().ok());
    let data = data.get(SLOTS * FIELDS..).unwrap_or(data);
    overspill::fuzzing::sealed_large_checkpoint(&fields(data, channel.unwrap_or_default()))
}

fn fields(data: &[u8], channel: [u8; 16]) -> Vec<u8> {
    let mut data = data.iter().copied().chain(std::iter::repeat(0));
    let mut byte = || data.next().unwrap_or(0);
    let mut wide = || match byte() {
        small @ 0..200 => u64::from(small),
        large => u64::MAX - u64::from(255 - large),
    };
    let [clean, ranges, failures, generation] = [wide(), wide(), wide(), wide()];
    let (ranges, failures) = (ranges % 3, failures % 3);
    let mut out = vec![u8::from(clean % 2 == 1), 0];
    out.extend(u32::try_from(ranges).unwrap_or(0).to_le_bytes());
    out.extend(generation.to_le_bytes());
    out.extend(channel);
    for _ in 0..12 + 2 * ranges {
        out.extend(wide().to_le_bytes());
    }
    out.extend(u32::try_from(failures).unwrap_or(0).to_le_bytes());
    for _ in 0..failures {
        out.extend(wide().to_le_bytes());
        out.extend(u32::try_from(wide()).unwrap_or(u32::MAX).to_le_bytes());
    }
    out
}

/// Opens, takes everything, halts, and opens again. The figures of both times.
pub fn drain(dir: &Path) -> [Stats; 2] {
    let channel = match builder(dir).open() {
        Ok(channel) => channel,
        Err(OpenError::Format { .. } | OpenError::Schema { .. } | OpenError::Store(_)) => {
            return [Stats::default(), Stats::default()];
        }
        Err(error) => panic!("{error}"),
    };
    channel.close();
    let rx = channel.receiver();
    loop {
        match rx.recv_timeout(FOR_EVER) {
            Ok(_) => {}
            Err(RecvTimeoutError::Closed) => break,
            Err(error) => panic!("{error}: {:?}", channel.stats()),
        }
    }
    let stats = channel.stats();
    assert_eq!(stats.pending, 0, "{stats:?}");
    channel.halt().expect("there is room");
    drop((rx, channel));
    let channel = builder(dir).open().expect("it did before");
    let again = channel.stats();
    channel.halt().expect("there is room");
    [stats, again]
}

/// Every item is counted once, and nothing is left.
pub fn assert_conserved(both: &[Stats; 2]) {
    for stats in both {
        let dropped = stats.dropped.full + stats.dropped.expired + stats.dropped.unencodable;
        let accounted =
            stats.acknowledged + dropped + stats.dead_lettered + stats.lost + stats.unaccounted;
        assert_eq!((stats.accepted, stats.pending), (accounted, 0), "{stats:?}");
    }
}
