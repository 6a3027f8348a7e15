use super::*;
use crate::store::sled::salvage::Salvage;
use std::slice;

/// Every block that can be read from the raw bytes of the database in `dir`.
fn salvaged(dir: &Path) -> Vec<Block> {
    let mut salvage = Salvage::open(dir).unwrap();
    let mut found: Vec<Block> = Vec::new();
    let mut at = 0;
    while let Some(block) = salvage.read(at, Seq::MAX).unwrap() {
        at = block.end();
        found.push(block);
    }
    found
}

/// Blocks of `bytes` bytes each, or, with 0, of very different sizes.
fn some_blocks(number: u64, bytes: usize) -> Vec<Arc<Block>> {
    let sizes = [1, 60, 700, 14_000, 40_000, 300_000];
    let size = |n: u64| match bytes {
        0 => sizes[usize::try_from(n).unwrap() % sizes.len()],
        bytes => bytes,
    };
    (0..number).map(|n| block(n, 1, size(n))).collect()
}

#[test]
fn every_block_of_an_undamaged_database_is_found_in_its_raw_bytes() {
    for (quota, number, bytes) in [
        (None, 60, 0),
        (None, 900, 14_000),
        (None, 3000, 20),
        (Some(1 << 20), 100, 700),
        (Some(1 << 20), 500, 3),
    ] {
        let mut spool = Spool::new();
        let (dir, identity) = (spool.options.dir.clone(), spool.options.identity.clone());
        spool.options = SledOptions::new(dir, identity, quota);
        let expected = some_blocks(number, bytes);
        // Each reopen makes sled begin anew, and rewrite what it had.
        for chunk in expected.chunks(expected.len() / 3 + 1) {
            let mut store = spool.open();
            for few in chunk.chunks(7) {
                store.append(few).unwrap();
            }
            store.close().unwrap();
        }
        let units = spool.units();
        let found: Vec<Block> = units
            .iter()
            .flat_map(|unit| salvaged(&spool.unit_dir(*unit)))
            .collect();
        assert_same(&found, &expected);
    }
}

/// A block of records of one byte, as that opening of the directory wrote it.
fn sealed(first: Seq, count: u8, incarnation: u64, prev_end: Seq) -> Block {
    let mut builder = BlockBuilder::new(first, 0, 64);
    (0..count).for_each(|n| builder.push(&[n]));
    builder.seal(&Seal {
        prev_end,
        incarnation,
        ..Seal::default()
    })
}

/// What is read back from a log in which `values` stand among other bytes.
fn salvaged_from(values: &[impl AsRef<[u8]>]) -> Vec<Block> {
    let dir = tempfile::tempdir().unwrap();
    let between = b"OVSPBLO OVSPBLOK and what sled has to say".as_slice();
    let log: Vec<u8> = values
        .iter()
        .flat_map(|value| [between, value.as_ref()].concat())
        .collect();
    fs::write(dir.path().join("db"), log).unwrap();
    salvaged(dir.path())
}

#[test]
fn numbers_that_were_given_out_again_are_those_of_the_newer_block() {
    let kept = [sealed(0, 5, 1, 0), sealed(5, 5, 1, 5)];
    // Not kept by sled over a crash after number 9, and still in the bytes.
    let gone = [
        sealed(10, 5, 1, 10),
        sealed(15, 5, 1, 15),
        sealed(20, 5, 1, 20),
    ];
    let newer = [sealed(10, 2, 2, 10), sealed(12, 5, 2, 12)];
    let all = [&newer[..], &gone, &kept].concat();
    let all: Vec<_> = all.iter().map(Block::as_bytes).collect();
    assert_eq!(salvaged_from(&all), [&kept[..], &newer].concat());
}

#[test]
fn a_block_that_memory_saved_behind_younger_ones_takes_nothing_from_them() {
    let younger = [sealed(10, 5, 1, 4), sealed(15, 5, 2, 15)];
    let older = sealed(4, 6, 2, 0);
    let all = [&younger[0], &younger[1], &older].map(Block::as_bytes);
    let [first, second] = younger.clone();
    assert_eq!(salvaged_from(&all), [older, first, second]);
}

#[test]
fn an_item_that_is_a_block_itself_is_never_taken_for_one_of_the_channel() {
    let inner = sealed(7, 1, 9, 0);
    let mut builder = BlockBuilder::new(0, 0, 1000);
    builder.push(&inner.as_bytes());
    builder.push(b"its neighbour");
    let outer = builder.seal(&Seal::default());
    assert_eq!(salvaged_from(&[outer.as_bytes()]), slice::from_ref(&outer));
    let mut damaged = outer.as_bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(salvaged_from(&[&damaged]), []);
}

#[test]
fn a_magic_is_found_wherever_a_piece_of_the_log_ends() {
    let block = sealed(3, 1, 1, 0);
    let piece = 256 << 10;
    for before in piece - 160..piece + 10 {
        let dir = tempfile::tempdir().unwrap();
        let log = [&vec![0; before], &*block.as_bytes()].concat();
        fs::write(dir.path().join("db"), log).unwrap();
        assert_eq!(salvaged(dir.path()), slice::from_ref(&block), "{before}");
    }
}
