use super::*;
use proptest::prelude::*;

fn sample(records: &[&[u8]]) -> Block {
    sample_as(Compression::None, records)
}

fn sample_as(compression: Compression, records: &[&[u8]]) -> Block {
    let mut builder = BlockBuilder::new(41, 7, 64);
    for record in records {
        builder.push(record);
    }
    let counters = Counters {
        acknowledged: 40,
        lost: 1,
        ..Counters::default()
    };
    builder.seal(&Seal {
        prev_end: 40,
        incarnation: 3,
        latest_ms: 9,
        cursor: 41,
        counters,
        compression,
    })
}

fn parsed(block: &Block) -> Result<Block, BlockError> {
    Block::parse(block.as_bytes().to_vec())
}

#[test]
fn a_block_reads_back_as_it_was_written() {
    let block = sample(&[b"first", b"", b"third"]);
    let again = parsed(&block).unwrap();
    assert_eq!(again, block);
    assert_eq!((again.first(), again.end()), (41, 44));
    assert_eq!(again.header().counters.acknowledged, 40);
    assert_eq!(
        {
            let (_, second) = again.record_at(0).unwrap();
            let (_, third) = again.record_at(second).unwrap();
            again.record_at(third).unwrap().0
        },
        b"third"
    );
}

fn assert_every_damage_is_noticed(block: &Block) {
    let bytes = block.as_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(Block::parse(damaged).is_err(), "bit {bit} of byte {at}");
        }
        assert!(Block::parse(bytes[..at].to_vec()).is_err(), "cut at {at}");
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    assert_every_damage_is_noticed(&sample(&[b"one record", b"and another"]));
}

#[test]
fn a_block_of_a_newer_version_is_whole_and_only_its_records_are_out_of_reach() {
    for flags in [4, 1 << 15, 5] {
        let bytes = resealed(&sample(&[b"as nobody knows yet"]).as_bytes(), flags);
        let block = Block::parse(bytes.clone()).unwrap();
        assert_eq!(block.header().needs(), Some("a newer version of overspill"));
        assert_eq!((block.first(), block.end()), (41, 42));
        assert_eq!(block.into_plain().as_bytes(), bytes);
    }
}

#[cfg(not(feature = "lz4"))]
#[test]
fn a_compressed_block_without_the_feature_is_whole_and_names_it() {
    let bytes = resealed(&sample(&[b"compressed, it says"]).as_bytes(), LZ4);
    let block = Block::parse(bytes).unwrap();
    assert_eq!(block.header().needs(), Some("the cargo feature `lz4`"));
}

#[cfg(feature = "lz4")]
mod lz4 {
    use super::*;

    fn packed() -> Block {
        let line: &[u8] = b"GET /index.html 200 in 7 ms, and again ";
        let block = sample_as(Compression::Lz4, &[line; 12]);
        assert!(block.as_bytes().len() * 2 < block.plain_len());
        block
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_compressed_block_is_noticed() {
        assert_every_damage_is_noticed(&packed());
    }

    #[test]
    fn what_is_small_or_does_not_shrink_is_written_as_it_is() {
        let mut random = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random.to_le_bytes()[7]
        })
        .take(4096)
        .collect();
        for records in [[&noise[..]], [&[0; 200][..]]] {
            assert_eq!(sample_as(Compression::Lz4, &records), sample(&records));
        }
    }

    #[test]
    fn a_length_that_the_bytes_do_not_have_is_damage() {
        let bytes = packed().as_bytes().to_vec();
        let len = claimed_len(&bytes[HEADER_LEN..]).unwrap();
        let len = u32::try_from(len).unwrap();
        for claimed in [0, 1, len - 1, len + 1, 1 << 30, u32::MAX] {
            let mut lying = bytes.clone();
            lying[HEADER_LEN..][..4].copy_from_slice(&claimed.to_le_bytes());
            let lying = resealed(&lying, LZ4);
            assert_eq!(Block::parse(lying), Err(BlockError::Packed), "{claimed}");
        }
    }

    #[test]
    fn bytes_that_are_no_lz4_are_damage() {
        for payload in [&b""[..], &[9], &[9, 0, 0, 0], &[9, 0, 0, 0, 0xFF, 0xFF]] {
            let mut bytes = vec![0; HEADER_LEN];
            bytes.extend(payload);
            assert_eq!(Block::parse(resealed(&bytes, LZ4)), Err(BlockError::Packed));
        }
    }

    #[test]
    fn records_that_do_not_add_up_are_damage_under_compression_too() {
        let mut bytes = packed().as_bytes().to_vec();
        bytes[12] += 1;
        assert_eq!(
            Block::parse(resealed(&bytes, LZ4)),
            Err(BlockError::Records)
        );
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let noise = prop::collection::vec(any::<u8>(), 0..300);
        let same = (any::<u8>(), 0_usize..3000).prop_map(|(byte, len)| vec![byte; len]);
        let line =
            (0_u32..50).prop_map(|n| format!("line {n} of a log, and its text").into_bytes());
        prop::collection::vec(prop_oneof![noise, same, line], 0..40)
    }

    proptest! {
        #[test]
        fn any_records_come_back_from_a_compressed_block(records in records()) {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let plain = sample(&records);
            let block = sample_as(Compression::Lz4, &records);
            prop_assert_eq!(block.plain_len(), plain.as_bytes().len());
            prop_assert!(block.as_bytes().len() <= plain.as_bytes().len());
            let read = parsed(&block).unwrap();
            prop_assert_eq!(read.as_bytes(), block.as_bytes());
            prop_assert_eq!(read.into_plain(), plain);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Block::parse(bytes);
    }
}
