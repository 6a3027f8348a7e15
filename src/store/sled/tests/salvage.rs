use super::*;
use crate::store::sled::salvage::Salvage;

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
