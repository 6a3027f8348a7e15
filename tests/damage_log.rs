//! Damage at every byte of a log: each file is flipped at each byte, cut at each length and removed, and what is
//! undamaged still comes out, in order, each item once, with every missing one named exactly.
#![cfg(all(feature = "test-util", feature = "lz4"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved};
use hostile::bytes::{Damage, damage};
use hostile::{Watchdog, copy_tree, fast_dir, files, note, setting};
use overspill::{
    Builder, Compression, DiskBufferedChannel, Durability, Event, Quarantined, Storage,
};
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const ITEMS: u64 = 60;
/// Taken before the directory is damaged.
const TAKEN: u64 = 5;
/// What a block looks like (docs/format.md).
const BLOCK_MAGIC: &[u8] = b"OVSPBLOK";
const BLOCK_HEADER: usize = 144;
/// What the checkpoint looks like.
const SLOT: usize = 16 << 10;
const SLOTS: usize = 3;
const SLOT_FIELDS: usize = 136;

fn builder(dir: &Path, durability: Durability) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(1)
        .block_bytes(50)
        .segment_bytes(500)
        .disk_free_min(0)
        .storage(Storage::Log)
        .durability(durability)
}

/// How the directory that is damaged came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Halted,
    /// With compressed blocks.
    Packed,
    Crashed,
}

impl End {
    /// A crash costs items in `Spill`, and then nobody could say what the damage did.
    fn durability(self) -> Durability {
        match self {
            Self::Halted | Self::Packed => Durability::Spill,
            Self::Crashed => Durability::Process,
        }
    }

    fn builder(self, dir: &Path) -> Builder<Item> {
        let builder = builder(dir, self.durability());
        match self {
            Self::Packed => builder
                .block_bytes(400)
                .segment_bytes(1100)
                .compression(Compression::Lz4),
            Self::Halted | Self::Crashed => builder,
        }
    }

    /// What an item carries beside its number: enough for a block that is worth compressing.
    fn pad(self, id: u64) -> usize {
        let least = if self == Self::Packed { 120 } else { 0 };
        least + usize::try_from(id % 5 * 3).unwrap()
    }
}

/// A directory with several segments, and where in it the items are.
struct Log {
    dir: TempDir,
    end: End,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    file: PathBuf,
    bytes: Range<u64>,
    is_packed: bool,
    seqs: Range<u64>,
}

impl Log {
    fn written(end: End) -> Self {
        let dir = fast_dir();
        let channel = end.builder(dir.path()).open().unwrap();
        let mut items = (0..ITEMS).map(|id| Item::new(id, end.pad(id)));
        for _ in 0..ITEMS / 4 {
            let sent = channel
                .sender()
                .send_all(&mut items.by_ref().take(4))
                .unwrap();
            assert_eq!(sent, 4);
        }
        let rx = channel.receiver();
        for id in 0..TAKEN {
            assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
        }
        match end {
            End::Halted | End::Packed => {
                channel.halt().unwrap();
            }
            End::Crashed => channel.crash(),
        }
        let blocks = files(&dir.path().join("log"))
            .iter()
            .flat_map(|file| blocks_in(file))
            .collect();
        let log = Self { dir, end, blocks };
        assert!(log.segments().len() >= 4, "{:?}", log.blocks);
        let packed = log.blocks.iter().filter(|block| block.is_packed).count();
        assert_eq!(packed * 2 > log.blocks.len(), end == End::Packed);
        let all: BTreeSet<u64> = log
            .blocks
            .iter()
            .flat_map(|block| block.seqs.clone())
            .collect();
        assert!(all.is_superset(&(TAKEN..ITEMS).collect()), "{all:?}");
        log
    }

    fn segments(&self) -> Vec<PathBuf> {
        files(&self.dir.path().join("log"))
    }

    fn newest(&self) -> PathBuf {
        let tail = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "segment");
        self.segments().into_iter().rfind(tail).unwrap()
    }

    /// The numbers of the blocks that are not as they were any more.
    fn hit(&self, copy: &Path) -> BTreeSet<u64> {
        let is_whole = |block: &&Block| {
            let inside = block.file.strip_prefix(self.dir.path()).unwrap();
            let range = block.bytes.start.try_into().unwrap()..block.bytes.end.try_into().unwrap();
            let was = fs::read(&block.file).unwrap();
            let now = fs::read(copy.join(inside)).unwrap_or_default();
            now.get(range.clone()) == was.get(range)
        };
        let hit = self.blocks.iter().filter(|block| !is_whole(block));
        hit.flat_map(|block| block.seqs.clone()).collect()
    }

    /// Cut elsewhere, there is nothing in what is left of the file that nobody can read.
    fn is_within_a_block(&self, file: &Path, at: u64) -> bool {
        let mut blocks = self.blocks.iter().filter(|block| block.file == file);
        blocks.any(|block| block.bytes.start < at && at < block.bytes.end)
    }

    /// A copy with something done to it.
    fn with(&self, change: impl FnOnce(&Path)) -> TempDir {
        let copy = fast_dir();
        copy_tree(self.dir.path(), copy.path());
        change(copy.path());
        copy
    }

    /// A copy in which `file` is damaged.
    fn damaged(&self, file: &Path, way: &Damage) -> TempDir {
        let inside = file.strip_prefix(self.dir.path()).unwrap();
        self.with(|copy| damage(&copy.join(inside), way))
    }

    fn open(&self, dir: &Path, what: &str) -> Outcome {
        Outcome::of(dir, self.end.durability(), what)
    }
}

/// The blocks of a segment, found by their magic.
fn blocks_in(file: &Path) -> Vec<Block> {
    let bytes = fs::read(file).unwrap();
    let number = |at: usize, len: usize| {
        let mut wide = [0; 8];
        wide[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(wide)
    };
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(BLOCK_MAGIC));
    let blocks = starts.map(|at| {
        let first = number(at + 16, 8);
        let len = BLOCK_HEADER as u64 + number(at + 56, 4);
        Block {
            file: file.to_owned(),
            bytes: at as u64..at as u64 + len,
            is_packed: number(at + 10, 2) == 1,
            seqs: first..first + number(at + 12, 4),
        }
    });
    blocks.collect()
}

/// What came of a damaged directory.
#[derive(Debug)]
struct Outcome {
    ids: Vec<u64>,
    /// As events and the open report said.
    lost: BTreeSet<u64>,
    unaccounted: u64,
    quarantined: Vec<Quarantined>,
    /// What wasn't given back.
    left: Vec<PathBuf>,
}

impl Outcome {
    /// Opens, takes everything, halts, and uses the directory again.
    fn of(dir: &Path, durability: Durability, what: &str) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let channel = builder(dir, durability.clone())
            .on_event(move |event| {
                if let Event::Lost { seqs } = event {
                    // As many as there can be: whoever says more is found out by the figures.
                    tell.lock().unwrap().extend(seqs.clone().take(1000));
                }
            })
            .open()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let before = channel.stats();
        assert_conserved(&before);
        let mut lost: BTreeSet<u64> = BTreeSet::new();
        lost.extend(channel.open_report().lost.iter().cloned().flatten());
        channel.close();
        let rx = channel.receiver();
        let mut ids: Vec<u64> = Vec::new();
        loop {
            match rx.recv_timeout(FOR_EVER) {
                Ok(item) => ids.push(item.intact()),
                Err(overspill::RecvTimeoutError::Closed) => break,
                Err(error) => panic!("{what}: {error}: {:?}", channel.stats()),
            }
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "{what}: {ids:?}");
        channel
            .halt()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        lost.extend(told.lock().unwrap().drain(..));
        let after = channel.stats();
        assert_conserved(&after);
        assert_eq!(after.pending, 0, "{what}: {after:?}");
        assert_eq!(after.lost, lost.len() as u64, "{what}: {lost:?} {after:?}");
        let quarantined = channel.quarantined();
        for set_aside in &quarantined {
            let place = dir.join("quarantine");
            assert!(set_aside.path.starts_with(&place), "{what}: {set_aside:?}");
            assert!(set_aside.path.is_file(), "{what}: {set_aside:?}");
            assert!(!set_aside.reason.is_empty(), "{what}: {set_aside:?}");
        }
        drop((rx, channel));
        let left = files(&dir.join("log"));
        use_again(dir, durability, what);
        Self {
            ids,
            lost,
            unaccounted: after.unaccounted,
            quarantined,
            left,
        }
    }

    /// Of what wasn't taken exactly `hit` is missing, and it is named with the file that was set aside, if that is
    /// still there. What was taken is finished, as far as that is written down: only a clean stop saw to it.
    fn assert_lost(&self, hit: &BTreeSet<u64>, is_there: bool, log: &Log, what: &str) {
        self.assert_delivered(hit, what);
        assert!(self.left.is_empty(), "{what}: {self:?}");
        let open: BTreeSet<u64> = hit.range(TAKEN..).copied().collect();
        let exact = match log.end {
            End::Halted | End::Packed => self.lost == open,
            End::Crashed => self.lost.is_superset(&open) && self.lost.is_subset(hit),
        };
        assert!(exact && self.unaccounted == 0, "{what}: {hit:?} {self:?}");
        if is_there && !self.lost.is_empty() {
            let [set_aside] = &self.quarantined[..] else {
                panic!("{what}: {self:?}");
            };
            let named: BTreeSet<u64> = set_aside.seqs.clone().collect();
            assert_eq!(named, self.lost, "{what}: {self:?}");
        }
    }

    /// Nothing is missing; what was taken may come once more.
    fn assert_repeats_only(&self, what: &str) {
        self.assert_delivered(&BTreeSet::new(), what);
        // Numbers below were taken. Where nothing says so any more, nobody knows what became of those that no disk had.
        let gone = self.lost.len() as u64 + self.unaccounted;
        assert!(
            gone <= TAKEN && self.quarantined.is_empty(),
            "{what}: {self:?}"
        );
    }

    fn assert_delivered(&self, missing: &BTreeSet<u64>, what: &str) {
        let expected: Vec<u64> = (TAKEN..ITEMS).filter(|id| !missing.contains(id)).collect();
        let ids: Vec<u64> = self.ids.iter().copied().filter(|id| *id >= TAKEN).collect();
        assert_eq!(ids, expected, "{what}: {self:?}");
    }
}

/// The directory works as any other.
fn use_again(dir: &Path, durability: Durability, what: &str) {
    let channel = builder(dir, durability).open().unwrap();
    assert_eq!(channel.stats().pending, 0, "{what}");
    let (tx, rx) = (channel.sender(), channel.receiver());
    for id in 0..3 {
        tx.send(Item::new(id, 9)).unwrap();
    }
    for id in 0..3 {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id, "{what}");
    }
    assert_conserved(&channel.stats());
    channel.halt().unwrap();
}

#[test]
fn a_flipped_byte_of_a_segment_costs_the_items_of_its_block() {
    for end in [End::Halted, End::Packed] {
        flip_every_byte(end);
    }
}

fn flip_every_byte(end: End) {
    let log = Log::written(end);
    let mut watchdog = Watchdog::new();
    let mut set_aside = 0;
    for file in log.segments() {
        for at in 0..fs::metadata(&file).unwrap().len() {
            let mask = 1 << (at % 8);
            let what = format!("{} flipped at {at}", file.display());
            watchdog.case(&what);
            let copy = log.damaged(&file, &Damage::Flip { at, mask });
            let hit = log.hit(copy.path());
            let outcome = log.open(copy.path(), &what);
            outcome.assert_lost(&hit, true, &log, &what);
            set_aside += outcome.quarantined.len();
        }
    }
    note(&format!(
        "flipped each byte of a log, {end:?}: {} cases, {set_aside} segments set aside",
        watchdog.cases()
    ));
}

#[test]
fn a_flipped_byte_of_a_crashed_log_costs_the_items_of_its_block() {
    let log = Log::written(End::Crashed);
    let mut watchdog = Watchdog::new();
    for file in log.segments() {
        for at in 0..fs::metadata(&file).unwrap().len() {
            let what = format!("{} flipped at {at}", file.display());
            watchdog.case(&what);
            let copy = log.damaged(&file, &Damage::Flip { at, mask: 0x81 });
            let hit = log.hit(copy.path());
            let outcome = log.open(copy.path(), &what);
            outcome.assert_lost(&hit, true, &log, &what);
        }
    }
    note(&format!(
        "flipped each byte of a crashed log: {} cases",
        watchdog.cases()
    ));
}

#[test]
fn a_segment_that_is_cut_or_gone_costs_what_was_in_the_rest() {
    let mut watchdog = Watchdog::new();
    for end in [End::Halted, End::Crashed] {
        let log = Log::written(end);
        for file in log.segments() {
            let len = fs::metadata(&file).unwrap().len();
            let cuts = (0..len).map(|to| (to, Damage::Cut { to }));
            let zeros = (0..len).step_by(7).map(|at| (at, Damage::Zero { at }));
            for (from, way) in cuts.chain(zeros).chain([(0, Damage::Remove)]) {
                let what = format!("{end:?} {} {way:?}", file.display());
                watchdog.case(&what);
                let copy = log.damaged(&file, &way);
                let hit = log.hit(copy.path());
                let outcome = log.open(copy.path(), &what);
                if end == End::Crashed && file == log.newest() {
                    // How far the process had come is written nowhere else.
                    outcome.assert_delivered(&hit, &what);
                    assert!(outcome.lost.is_subset(&hit), "{what}: {outcome:?}");
                } else {
                    outcome.assert_lost(&hit, log.is_within_a_block(&file, from), &log, &what);
                }
            }
        }
    }
    note(&format!(
        "cut each segment at each length, zeroed it from there, and removed it: {} cases",
        watchdog.cases()
    ));
}

#[test]
fn a_damaged_checkpoint_repeats_items_and_loses_none() {
    let every = usize::try_from(setting("OVERSPILL_DAMAGE_EVERY", 61)).unwrap();
    let mut watchdog = Watchdog::new();
    for end in [End::Halted, End::Crashed] {
        let log = Log::written(end);
        let file = log.dir.path().join("checkpoint");
        let has_fields = |at: &usize| at % SLOT < SLOT_FIELDS || at % SLOT >= SLOT - 4;
        let flips = (0..SLOTS * SLOT).filter(|at| has_fields(at) || at.is_multiple_of(every));
        let flips = flips.map(|at| Damage::Flip {
            at: at as u64,
            mask: 0x10,
        });
        let cuts = (0..SLOTS * SLOT)
            .step_by(509)
            .map(|to| Damage::Cut { to: to as u64 });
        for way in flips.chain(cuts).chain([Damage::Remove]) {
            let what = format!("{end:?} checkpoint {way:?}");
            watchdog.case(&what);
            let copy = log.damaged(&file, &way);
            log.open(copy.path(), &what).assert_repeats_only(&what);
        }
        let none = log.with(|copy| {
            for slot in 0..SLOTS {
                damage(
                    &copy.join("checkpoint"),
                    &Damage::Zero {
                        at: (slot * SLOT) as u64,
                    },
                );
            }
        });
        let what = format!("{end:?} all slots");
        log.open(none.path(), &what).assert_repeats_only(&what);
    }
    note(&format!(
        "damaged the checkpoint: {} cases",
        watchdog.cases()
    ));
}

#[test]
fn a_damaged_identity_or_lock_costs_nothing() {
    let mut watchdog = Watchdog::new();
    let log = Log::written(End::Halted);
    for name in ["channel", "LOCK"] {
        let file = log.dir.path().join(name);
        let original = fs::read(&file).unwrap();
        let flips = (0..original.len() as u64).map(|at| Damage::Flip { at, mask: 4 });
        let cuts = (0..original.len() as u64).map(|to| Damage::Cut { to });
        for way in flips.chain(cuts).chain([Damage::Remove]) {
            let what = format!("{name} {way:?}");
            watchdog.case(&what);
            let copy = log.damaged(&file, &way);
            let outcome = log.open(copy.path(), &what);
            outcome.assert_lost(&BTreeSet::new(), true, &log, &what);
            if name == "channel" {
                assert_eq!(
                    fs::read(copy.path().join(name)).unwrap(),
                    original,
                    "{what}"
                );
            }
        }
    }
    note(&format!(
        "damaged the identity and the lock: {} cases",
        watchdog.cases()
    ));
}

#[test]
fn a_foreign_or_a_duplicated_segment_costs_nothing() {
    let mut watchdog = Watchdog::new();
    for end in [End::Halted, End::Crashed] {
        let (log, other) = (Log::written(end), Log::written(end));
        let strangers: Vec<PathBuf> = [&log, &other]
            .iter()
            .flat_map(|log| log.segments())
            .collect();
        for stranger in strangers {
            // Where no segment begins, before all of them, between them, and behind all.
            let taken: BTreeSet<u64> = log.segments().iter().map(|path| first_of(path)).collect();
            let names = (0..=ITEMS + 3).chain([1 << 40]);
            for name in names.filter(|name| !taken.contains(name)) {
                for suffix in ["segment", "older"] {
                    let name = format!("log/{name:020}.{suffix}");
                    let what = format!("{end:?} {} as {name}", stranger.display());
                    watchdog.case(&what);
                    let copy = log.with(|copy| {
                        fs::copy(&stranger, copy.join(&name)).unwrap();
                    });
                    let mut outcome = log.open(copy.path(), &what);
                    // Nobody knows whose it is: it may stay.
                    outcome.left.retain(|left| !left.ends_with(&name));
                    outcome.assert_lost(&BTreeSet::new(), true, &log, &what);
                }
            }
        }
    }
    note(&format!(
        "added a foreign or a duplicated segment: {} cases",
        watchdog.cases()
    ));
}

fn first_of(segment: &Path) -> u64 {
    segment
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_segment_that_is_replaced_by_a_foreign_one_costs_what_was_in_it() {
    let (log, other) = (Log::written(End::Halted), Log::written(End::Halted));
    let mut watchdog = Watchdog::new();
    for file in log.segments() {
        for stranger in other.segments().iter().chain(&log.segments()) {
            if file == *stranger {
                continue;
            }
            let inside = file.strip_prefix(log.dir.path()).unwrap();
            let what = format!("{} instead of {}", stranger.display(), inside.display());
            watchdog.case(&what);
            let copy = log.with(|copy| {
                fs::copy(stranger, copy.join(inside)).unwrap();
            });
            let hit = log.hit(copy.path());
            let mut outcome = log.open(copy.path(), &what);
            // Either it is set aside, or it stays: nobody knows whose it is.
            let is_set_aside = outcome.left.is_empty();
            outcome.left.retain(|left| !left.ends_with(inside));
            outcome.assert_lost(&hit, is_set_aside, &log, &what);
        }
    }
    note(&format!("replaced a segment: {} cases", watchdog.cases()));
}

#[test]
fn an_older_checkpoint_repeats_items_and_loses_none() {
    let dir = fast_dir();
    let file = dir.path().join("checkpoint");
    let channel = builder(dir.path(), Durability::Spill).open().unwrap();
    for id in 0..ITEMS {
        channel.sender().send(Item::new(id, 9)).unwrap();
    }
    channel.halt().unwrap();
    let older = fs::read(&file).unwrap();
    let channel = builder(dir.path(), Durability::Spill).open().unwrap();
    let rx = channel.receiver();
    // All of the first segments' items stay on disk until the checkpoint says that they were taken.
    for id in 0..TAKEN {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    channel.crash();
    fs::write(&file, older).unwrap();
    let outcome = Outcome::of(dir.path(), Durability::Spill, "an older checkpoint");
    outcome.assert_repeats_only("an older checkpoint");
}
