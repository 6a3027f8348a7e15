//! Items that can't be encoded, are too large, or can't be decoded: each is given back, counted or kept.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{FOR_EVER, assert_conserved};
use overspill::{Builder, DiskBufferedChannel, Durability, HaltFault, SendError, SyncError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::Path;

const LEVELS: [Durability; 2] = [Durability::Spill, Durability::Process];

fn tiny<T>(dir: &Path, level: &Durability) -> Builder<T> {
    DiskBufferedChannel::builder(dir)
        .memory_items(2)
        .block_bytes(64)
        .durability(level.clone())
}

/// Encodes, unless it is 13; decodes, unless it is 66.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moody(u32);

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("not this one"));
        }
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            66 => Err(serde::de::Error::custom("not this one")),
            number => Ok(Self(number)),
        }
    }
}

#[test]
fn an_item_that_cannot_be_encoded_comes_back_from_the_send_that_encodes() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel = tiny(dir.path(), &level).open().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        tx.send_all(&mut (0..3).map(Moody)).unwrap();
        let refused = tx.send(Moody(13)).unwrap_err();
        assert!(
            matches!(
                refused,
                SendError::Encode {
                    item: Moody(13),
                    ..
                }
            ),
            "{refused}"
        );
        let refused = tx.try_send(Moody(13)).unwrap_err();
        assert_eq!(refused.into_inner(), Some(Moody(13)));
        let refused = tx.send_all(&mut [Moody(13)].into_iter()).unwrap_err();
        assert_eq!(refused.into_inner(), Some(Moody(13)));
        tx.send(Moody(3)).unwrap();
        assert_conserved(&channel.stats());
        for n in 0..4 {
            assert_eq!(rx.recv_timeout(FOR_EVER), Ok(Moody(n)), "{level:?}");
        }
    }
}

#[test]
fn an_item_that_is_too_large_comes_back_with_both_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let channel: DiskBufferedChannel<Vec<u8>> = tiny(dir.path(), &Durability::Process)
        .item_bytes_max(100)
        .open()
        .unwrap();
    match channel.sender().send(vec![0; 100]).unwrap_err() {
        SendError::TooLarge { item, bytes, max } => {
            assert_eq!((item.len(), bytes, max), (100, 101, 100));
        }
        error => panic!("{error}"),
    }
    channel.sender().send(vec![0; 99]).unwrap();
}

#[test]
fn what_cannot_be_encoded_at_a_halt_comes_back_in_the_error_and_the_rest_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || tiny::<Moody>(dir.path(), &Durability::Spill).memory_items(5);
    let channel = builder().open().unwrap();
    channel
        .sender()
        .send_all(&mut [1, 13, 2, 13, 3].map(Moody).into_iter())
        .unwrap();
    let error = channel.halt_with([Moody(4), Moody(13)]).unwrap_err();
    assert!(
        matches!(error.source, HaltFault::Encode { count: 3, .. }),
        "{error}"
    );
    assert_eq!(error.report.saved, 4);
    assert_eq!(error.into_items(), [Moody(13); 3]);
    assert_conserved(&channel.stats());
    let channel = builder().open().unwrap();
    channel.close();
    assert_eq!(
        channel.receiver().iter().collect::<Vec<_>>(),
        [1, 2, 3, 4].map(Moody)
    );
    assert_conserved(&channel.stats());
}

#[test]
fn what_cannot_be_encoded_at_the_last_drop_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || tiny::<Moody>(dir.path(), &Durability::Spill);
    let channel = builder().open().unwrap();
    channel
        .sender()
        .send_all(&mut [13, 1].map(Moody).into_iter())
        .unwrap();
    drop(channel);
    let channel = builder().open().unwrap();
    assert_eq!(channel.receiver().recv(), Ok(Moody(1)));
    let stats = channel.stats();
    assert_conserved(&stats);
    assert_eq!((stats.dropped.unencodable, stats.accepted), (1, 2));
}

#[test]
fn a_sync_names_the_item_that_it_cannot_encode_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let channel = tiny(dir.path(), &Durability::Spill).open().unwrap();
    channel
        .sender()
        .send_all(&mut [1, 13].map(Moody).into_iter())
        .unwrap();
    let refused = channel.sync().unwrap_err();
    assert!(
        matches!(refused, SyncError::Encode { seq: 1, .. }),
        "{refused}"
    );
    let rx = channel.receiver();
    assert_eq!(rx.recv(), Ok(Moody(1)));
    assert_eq!(rx.recv(), Ok(Moody(13)), "an item in memory needs no codec");
}

#[test]
fn a_record_that_cannot_be_decoded_is_set_aside_with_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let channel = tiny(dir.path(), &Durability::Spill).open().unwrap();
    channel
        .sender()
        .send_all(&mut [1, 66, 2].map(Moody).into_iter())
        .unwrap();
    channel.halt().unwrap();
    let channel = tiny(dir.path(), &Durability::Spill).open().unwrap();
    let rx = channel.receiver();
    assert_eq!((rx.recv(), rx.recv()), (Ok(Moody(1)), Ok(Moody(2))));
    let letters: Vec<_> = channel.dead_letters().collect();
    assert_eq!((letters.len(), letters[0].seq), (1, 1));
    assert_eq!(channel.stats().dead_lettered, 1);
    assert_conserved(&channel.stats());
}

#[test]
fn always_encode_shows_in_memory_what_a_spill_would_do() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        line: String,
        #[serde(skip)]
        cached: u32,
    }
    let record = Record {
        line: "disk 3 is hot".to_owned(),
        cached: 7,
    };
    let dir = tempfile::tempdir().unwrap();
    let channel = tiny(dir.path(), &Durability::Spill)
        .always_encode()
        .open()
        .unwrap();
    channel.sender().send(record.clone()).unwrap();
    assert_eq!(
        channel.receiver().recv(),
        Ok(Record {
            cached: 0,
            ..record
        })
    );
}
