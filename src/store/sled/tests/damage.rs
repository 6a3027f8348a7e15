use super::*;
use crate::store::sled::frame;
use crate::store::sled::limits::value_bytes_max;
use std::borrow::Cow;

#[test]
fn a_damaged_snapshot_costs_nothing() {
    let spool = Spool::new();
    for _ in 0..2 {
        let mut store = spool.open();
        store.append(&blocks(0, 40, 900)).unwrap();
        store.close().unwrap();
    }
    let is_snapshot = |path: &PathBuf| path.to_string_lossy().contains("snap.");
    let files = fs::read_dir(spool.unit_dir(0))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let snapshots: Vec<_> = files.filter(is_snapshot).collect();
    assert!(!snapshots.is_empty());
    for snapshot in snapshots {
        fs::write(snapshot, b"no snapshot at all").unwrap();
    }
    assert_same(&drain(&mut spool.open(), 0).0, &blocks(0, 40, 900));
}

#[test]
fn a_log_that_is_gone_costs_what_was_in_it_and_settings_that_are_gone_cost_nothing() {
    let spool = Spool::new();
    let expected = blocks(0, 400, 900);
    let mut store = spool.open();
    store.append(&expected).unwrap();
    store.close().unwrap();
    let units = spool.units();
    for (unit, file) in [(units[1], "db"), (*units.last().unwrap(), "conf")] {
        fs::remove_file(spool.unit_dir(unit).join(file)).unwrap();
    }
    let mut store = spool.open();
    assert_eq!(store.end(), 1200);
    let (found, damage) = drain(&mut store, 0);
    let kept: Vec<_> = expected
        .into_iter()
        .filter(|block| !(units[1]..units[2]).contains(&block.first()))
        .collect();
    assert_same(&found, &kept);
    let told: Vec<_> = damage.iter().map(told).collect();
    let last = *units.last().unwrap();
    assert_eq!(told, [(units[1], Some(units[2])), (last, Some(last))]);
}

fn told(error: &ReadError) -> (Seq, Option<Seq>) {
    match error {
        ReadError::Damaged { unit, resume, .. } => (*unit, *resume),
        ReadError::Store(error) => panic!("{error}"),
    }
}

#[test]
fn no_number_is_given_out_again_behind_a_newest_database_that_is_gone() {
    // A mark knows how far it went; without one, at least its name was a number.
    for (marked, end) in [(true, 30), (false, 1)] {
        let spool = Spool::new();
        let mut store = spool.open();
        store.append(&blocks(0, 10, 900)).unwrap();
        store.close().unwrap();
        fs::remove_file(spool.unit_dir(0).join("db")).unwrap();
        if !marked {
            fs::remove_file(spool.unit_dir(0).join("mark")).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(spool.open().end(), end, "marked: {marked}");
        }
        let mut store = spool.open();
        store.append(&blocks(end, 10, 900)).unwrap();
        let (found, damage) = drain(&mut store, 0);
        assert_same(&found, &blocks(end, 10, 900));
        let told: Vec<_> = damage.iter().map(told).collect();
        assert_eq!(told, [(0, Some(end))]);
    }
}

/// A closed store of one database, with blocks of different kinds and where they stand in its log.
struct Closed {
    spool: Spool,
    blocks: Vec<(Arc<Block>, Vec<Copies>)>,
    log: Vec<u8>,
}

/// A value, and where it stands: sled writes some more than once.
struct Copies {
    value: Vec<u8>,
    at: Vec<usize>,
}

impl Copies {
    fn of(value: Vec<u8>, log: &[u8]) -> Self {
        let at = (0..log.len()).filter(|at| log[*at] == value[0] && log[*at..].starts_with(&value));
        let at: Vec<usize> = at.collect();
        Self { value, at }
    }

    fn is_in(&self, log: &[u8]) -> bool {
        let is_at = |at: &usize| {
            log.get(*at..)
                .is_some_and(|log| log.starts_with(&self.value))
        };
        self.at.iter().any(is_at)
    }
}

impl Closed {
    fn new() -> Self {
        let spool = Spool::new();
        let large = block(90, 1, 6000);
        let blocks = [blocks(0, 30, 900), vec![large], blocks(91, 30, 700)].concat();
        let mut store = spool.open();
        store.append(&blocks).unwrap();
        store.close().unwrap();
        let value_bytes_max = value_bytes_max(spool.options.segment_bytes);
        let log = fs::read(spool.unit_dir(0).join("db")).unwrap();
        let copies = |block: &Block| {
            let values = frame::values(block, value_bytes_max).into_iter();
            let values = values.map(|value| Copies::of(value.into_owned(), &log));
            values.collect::<Vec<_>>()
        };
        let blocks = blocks.into_iter();
        let blocks = blocks
            .map(|block| (block.clone(), copies(&block)))
            .collect();
        Self { spool, blocks, log }
    }

    /// Replaces the log, and checks that every block comes back of which all values are left, and no
    /// other. Returns how many are lost.
    fn check(&self, log: &[u8], what: &str) -> usize {
        fs::write(self.spool.unit_dir(0).join("db"), log).unwrap();
        let kept: Vec<_> = self
            .blocks
            .iter()
            .filter(|(_, values)| values.iter().all(|value| value.is_in(log)))
            .map(|(block, _)| block.clone())
            .collect();
        let mut store = self.spool.open();
        assert_eq!(store.end(), 181, "{what}");
        let (found, damage) = drain(&mut store, 0);
        assert_same(&found, &kept);
        assert!(!damage.is_empty(), "{what}");
        store.close().unwrap();
        self.blocks.len() - kept.len()
    }
}

#[test]
fn a_flipped_byte_costs_the_block_that_it_is_in() {
    let closed = Closed::new();
    let mut lost = 0;
    for step in 0..100 {
        let at = closed.log.len() / 100 * step + step % 89;
        let mut log = closed.log.clone();
        log[at] ^= 0x10;
        let cost = closed.check(&log, &format!("flip at {at}"));
        assert!(cost <= 1, "{cost} blocks for a byte at {at}");
        lost += cost;
    }
    assert!((20..100).contains(&lost), "{lost} of 100 flips hit a block");
}

#[test]
fn a_log_that_is_cut_short_costs_the_blocks_behind_the_cut() {
    let closed = Closed::new();
    for step in 0..24 {
        let len = closed.log.len() / 24 * step + step;
        closed.check(&closed.log[..len], &format!("cut at {len}"));
    }
    let len = closed.log.len() - 1;
    closed.check(&closed.log[..len], "one byte less");
}

#[test]
fn a_page_of_zeros_costs_the_blocks_that_it_is_in() {
    let closed = Closed::new();
    for at in (0..closed.log.len()).step_by(4096) {
        let mut log = closed.log.clone();
        let end = log.len().min(at + 4096);
        log[at..end].fill(0);
        if log != closed.log {
            closed.check(&log, &format!("zeros at {at}"));
        }
    }
}

#[test]
fn a_block_in_parts_is_lost_as_one() {
    let closed = Closed::new();
    let (large, parts) = &closed.blocks[30];
    assert!(parts.len() > 5);
    let mut log = closed.log.clone();
    for at in &parts[3].at {
        log[at + 200] ^= 1;
    }
    assert_eq!(closed.check(&log, "a part"), 1);
    let mut store = closed.spool.open();
    let (_, damage) = drain(&mut store, 0);
    assert_eq!(told(damage.last().unwrap()), (0, Some(large.end())));
}

#[test]
fn older_blocks_that_belong_into_a_damaged_database_hide_nothing_of_it() {
    let spool = Spool::new();
    let (before, between, after) = (blocks(0, 10, 500), blocks(30, 5, 500), blocks(60, 40, 500));
    let mut store = spool.open();
    store.append(&before).unwrap();
    store.append(&after).unwrap();
    store.close().unwrap();
    fs::remove_file(spool.unit_dir(0).join("conf")).unwrap();
    let mut store = spool.open();
    store.append(&between).unwrap();
    store.close().unwrap();
    assert_eq!(spool.units(), [0, 30]);
    let (found, damage) = drain(&mut spool.open(), 0);
    assert_same(&found, &[before, between, after].concat());
    assert!(damage.iter().all(|damage| told(damage).0 == 0));
}

#[test]
fn damage_that_was_found_once_is_kept_from_sled_for_ever() {
    let spool = Spool::new();
    spool.open().append(&blocks(0, 40, 900)).unwrap();
    let settings = spool.unit_dir(0).join("conf");
    let sound = fs::read(&settings).unwrap();
    fs::write(&settings, b"").unwrap();
    assert_eq!(spool.open().end(), 120);
    // As far as sled can tell, everything is well again.
    fs::write(&settings, sound).unwrap();
    let log = fs::read(spool.unit_dir(0).join("db")).unwrap();
    let mut store = spool.open();
    let (found, damage) = drain(&mut store, 0);
    assert_same(&found, &blocks(0, 40, 900));
    assert_eq!(damage.iter().map(told).collect::<Vec<_>>(), [(0, Some(0))]);
    assert_eq!(fs::read(spool.unit_dir(0).join("db")).unwrap(), log);
}

#[test]
fn what_a_crash_left_is_salvaged_where_sled_would_drop_it() {
    let log = |spool: &Spool| spool.unit_dir(0).join("db");
    let values = |block: &Block| {
        let values = frame::values(block, value_bytes_max(64 << 10)).into_iter();
        values.map(Cow::into_owned).collect::<Vec<_>>()
    };
    let expected = blocks(0, 90, 700);
    let mut costs = Vec::new();
    for step in 0..60 {
        let spool = Spool::new();
        spool.open().append(&expected).unwrap();
        let mut bytes = fs::read(log(&spool)).unwrap();
        if step < 48 {
            let at = (bytes.len() / 48) * step + step % 7;
            bytes[at] ^= 0x10;
        } else {
            bytes.truncate(bytes.len() / 12 * (step - 48));
        }
        fs::write(log(&spool), &bytes).unwrap();
        let is_left = |block: &&Arc<Block>| {
            let values = values(block);
            values
                .into_iter()
                .all(|value| !Copies::of(value, &bytes).at.is_empty())
        };
        let left: Vec<_> = expected.iter().filter(is_left).cloned().collect();
        let mut store = spool.open();
        let (found, _) = drain(&mut store, 0);
        assert_same(&found, &left);
        costs.push(90 - found.len());
        store.close().unwrap();
    }
    assert!(costs[..48].iter().all(|cost| *cost <= 1), "{costs:?}");
}
