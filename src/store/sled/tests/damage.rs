use super::*;
use std::io::{Read, Seek, SeekFrom, Write};

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
fn a_database_whose_files_are_gone_is_damage_and_the_rest_is_read() {
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
    assert_eq!(store.end(), *units.last().unwrap() + 1);
    let (found, damage) = drain(&mut store, 0);
    assert_eq!(damage.len(), 2);
    assert!(found.iter().all(|block| {
        **expected
            .iter()
            .find(|e| e.first() == block.first())
            .unwrap()
            == *block
    }));
    let lost = 1200
        - found
            .iter()
            .map(|block| u64::from(block.header().count))
            .sum::<u64>();
    assert_eq!(lost, units[2] - units[1] + 1200 - units.last().unwrap());
}

#[test]
fn appending_behind_a_newest_database_that_cannot_be_opened_begins_a_new_one() {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 10, 900)).unwrap();
    store.close().unwrap();
    fs::remove_file(spool.unit_dir(0).join("db")).unwrap();
    let mut store = spool.open();
    let end = store.end();
    assert_eq!(end, 1, "its first number isn't given out again");
    store.append(&blocks(end, 10, 900)).unwrap();
    let (found, damage) = drain(&mut store, 0);
    assert_same(&found, &blocks(end, 10, 900));
    assert!(
        matches!(
            &damage[..],
            [ReadError::Damaged {
                unit: 0,
                resume: None,
                ..
            }]
        ),
        "{damage:?}"
    );
}

/// Damages a copy of a closed store in one place and reads all that is left.
fn damaged(change: impl Fn(&mut fs::File, u64)) -> (Vec<Block>, Vec<ReadError>, Seq) {
    let spool = Spool::new();
    let mut store = spool.open();
    store.append(&blocks(0, 90, 900)).unwrap();
    store.close().unwrap();
    let log = spool.unit_dir(0).join("db");
    let mut log = fs::File::options()
        .read(true)
        .write(true)
        .open(log)
        .unwrap();
    let len = log.metadata().unwrap().len();
    change(&mut log, len);
    let mut store = spool.open();
    let end = store.end();
    let (found, damage) = drain(&mut store, 0);
    let _ = store.close();
    (found, damage, end)
}

#[test]
fn a_flipped_byte_gives_damage_or_a_shortfall_and_never_wrong_data() {
    let expected = blocks(0, 90, 900);
    for step in 0..48 {
        let (found, damage, end) = damaged(|log, len| {
            let at = (len / 48) * step + step % 7;
            let mut byte = [0];
            log.seek(SeekFrom::Start(at)).unwrap();
            log.read_exact(&mut byte).unwrap();
            log.seek(SeekFrom::Start(at)).unwrap();
            log.write_all(&[byte[0] ^ 0x10]).unwrap();
        });
        for block in &found {
            assert!(expected.iter().any(|expected| **expected == *block));
        }
        assert!(
            found.len() == 90 || !damage.is_empty() || end < 270,
            "step {step}: {} blocks, end {end}",
            found.len()
        );
    }
}

#[test]
fn a_log_that_is_cut_short_gives_damage_or_a_shortfall_and_never_wrong_data() {
    let expected = blocks(0, 90, 900);
    for step in 0..24 {
        let (found, damage, end) = damaged(|log, len| log.set_len(len / 24 * step).unwrap());
        for block in &found {
            assert!(expected.iter().any(|expected| **expected == *block));
        }
        assert!(
            found.len() == 90 || !damage.is_empty() || end < 270,
            "step {step}: {} blocks, end {end}",
            found.len()
        );
    }
}
