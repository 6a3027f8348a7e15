//! Doors for the fuzzer: bytes of any kind, as each reader of bytes meets them.
//!
//! Every function takes the bytes twice: as they are, and with magic, version and checksums made to fit, because a
//! fuzzer doesn't guess a checksum and would never come past it. None of them panics, whatever the bytes.

use crate::block::{self, Block};
use crate::dir;
use crate::store::log::fuzzing as log;

/// Bytes as a block: every number and every record that the block claims to have is looked at.
pub fn block(bytes: &[u8]) {
    walk_block(bytes.to_vec());
    // Plain, compressed, and as only a newer version knows how.
    for flags in [0, 1, 1 << 15] {
        walk_block(block::resealed(bytes, flags));
    }
}

/// Bytes as one slot of the checkpoint, and as the file beside it.
pub fn checkpoint(bytes: &[u8]) {
    dir::fuzz_checkpoint(bytes);
}

/// The `checkpoint` file with these slots, each without its magic, version and checksum.
pub fn sealed_checkpoint(slots: &[&[u8]]) -> Vec<u8> {
    dir::fuzz_slots(slots)
}

/// The `checkpoint.large` file with these contents but for its magic, version and checksum.
pub fn sealed_large_checkpoint(bytes: &[u8]) -> Vec<u8> {
    dir::fuzz_large(bytes)
}

/// Bytes as the only segment of a log, and as a program that writes one.
pub fn segment(bytes: &[u8]) {
    log::segment(bytes);
}

/// The segment that `program` describes, for the channel whose identity file this is.
pub fn sealed_segment(identity: &[u8], is_older: bool, name: u64, program: &[u8]) -> Vec<u8> {
    log::segment_of(identity, is_older, name, program)
}

/// The name of that segment's file.
pub fn segment_name(is_older: bool, name: u64) -> String {
    log::name_of(is_older, name)
}

/// Bytes as the `channel` file.
pub fn identity(bytes: &[u8]) {
    dir::fuzz_identity(bytes);
}

/// Bytes as files of dead letters, and as a program that writes them.
pub fn letters(bytes: &[u8]) {
    dir::fuzz_letters(bytes);
}

/// Bytes as a value of a sled database: one part of a large block.
#[cfg(feature = "sled")]
pub fn part(bytes: &[u8]) {
    crate::store::sled::fuzz_part(bytes);
}

fn walk_block(bytes: Vec<u8>) {
    let Ok(block) = Block::parse(bytes) else {
        return;
    };
    assert_eq!(Block::parse(block.as_bytes().to_vec()), Ok(block.clone()));
    if block.header().needs().is_some() {
        return;
    }
    let block = block.into_plain();
    let mut offset = 0;
    let mut records = 0;
    while let Some((_, next)) = block.record_at(offset) {
        offset = next;
        records += 1;
    }
    assert_eq!(records, block.end() - block.first());
    assert_eq!(Block::parse(block.as_bytes().to_vec()), Ok(block));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            small in proptest::collection::vec(0_u8..4, 0..300),
        ) {
            for bytes in [&bytes, &small] {
                block(bytes);
                checkpoint(bytes);
                identity(bytes);
                #[cfg(feature = "sled")]
                part(bytes);
            }
        }
    }

    proptest! {
        // Each case has files of its own.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_bytes_make_a_log_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            segment(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_bytes_make_dead_letters_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            letters(&bytes);
        }
    }

    #[test]
    fn a_block_whose_numbers_pass_the_last_one_is_no_block() {
        let mut bytes = vec![0; block::HEADER_LEN];
        // One record of no bytes, numbered 2^64 - 1: its end can't be told.
        bytes[12] = 1;
        bytes[16..24].fill(0xFF);
        bytes.extend([0; 4]);
        let bytes = block::resealed(&bytes, 0);
        assert_eq!(Block::parse(bytes.clone()), Err(block::BlockError::Numbers));
        super::block(&bytes);
    }
}
