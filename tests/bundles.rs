//! What goes out together is kept together: the channel knows all the same what became of each item.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::assert_conserved;
use overspill::{
    AckReceiver, Bincode, Builder, Codec, CodecError, Delivery, DiskBufferedChannel, Storage,
};
use std::mem::forget;
use std::path::Path;
use std::time::Duration;

/// Lengths on both sides of what one bundle of encodings takes, many short ones in a row among them.
fn item(number: u64) -> Vec<u8> {
    let length = match number % 100 {
        0 => 9_000,
        50..55 => 3_000,
        _ => 8,
    };
    let mut item = number.to_le_bytes().to_vec();
    item.resize(length, 0xA5);
    item
}

fn number(item: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*item.first_chunk().unwrap());
    assert_eq!(item, self::item(number));
    number
}

/// A codec that has no encoding for some items, and finds out late.
#[derive(Clone, Debug)]
struct Picky;

impl Codec<Vec<u8>> for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn encode(&self, item: &Vec<u8>, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        Bincode.encode(item, buffer)?;
        match number(item) {
            60 => Err(CodecError::new("not sixty")),
            70 => panic!("least of all seventy"),
            _ => Ok(()),
        }
    }

    fn decode(&self, record: &[u8]) -> Result<Vec<u8>, CodecError> {
        Bincode.decode(record)
    }
}

fn builder(dir: &Path, storage: Storage) -> Builder<Vec<u8>> {
    let builder = DiskBufferedChannel::builder(dir.join("spool"));
    builder.storage(storage).memory_items(1000)
}

/// All items out, in batches of the given size.
fn take(rx: &AckReceiver<Vec<u8>>, batch_items: usize, count: usize) -> Vec<Delivery<Vec<u8>>> {
    let mut out = Vec::new();
    while out.len() < count {
        let batch = rx.recv_batch(batch_items, u64::MAX, Duration::ZERO);
        out.extend(batch.unwrap().into_deliveries());
    }
    assert_eq!(out.len(), count);
    out
}

fn drain(channel: &DiskBufferedChannel<Vec<u8>>) -> Vec<u64> {
    channel.close();
    let items = channel.receiver().into_iter();
    items.map(|item| number(&item)).collect()
}

/// An order that looks like none: each of `0..count` once, for a count that 7 doesn't divide.
fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| index * 7 % count)
}

#[test]
fn what_is_left_of_batches_is_what_a_halt_saves_however_the_rest_was_finished() {
    for (storage, batch_items) in [(Storage::Sled, 600), (Storage::Log, 600), (Storage::Log, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let channel = builder(dir.path(), storage).open().unwrap();
        let rx = channel.acking_receiver();
        let tx = channel.sender();
        tx.send_all(&mut (0..600).map(item)).unwrap();
        let mut out: Vec<_> = take(&rx, batch_items, 600).into_iter().map(Some).collect();
        let mut left: Vec<u64> = (0..600).collect();
        for index in shuffled(600).take(400) {
            let delivery = out[index].take().unwrap();
            match index % 8 {
                0 => delivery.release(),
                1 => delivery.nack(),
                _ => {
                    delivery.ack().unwrap();
                    left.retain(|number| *number != index as u64);
                }
            }
            assert_eq!(channel.stats().at_risk_items, left.len() as u64);
        }
        let mut batch = rx.recv_batch(20, u64::MAX, Duration::ZERO).unwrap();
        let again: Vec<u64> = batch.iter().map(|item| number(item)).collect();
        batch.ack_first(13).unwrap();
        left.retain(|number| !again[..13].contains(number));
        assert_eq!(channel.stats().at_risk_items, left.len() as u64);
        assert_conserved(&channel.stats());
        forget(batch);
        assert_eq!(channel.halt().unwrap().saved, left.len() as u64);
        drop((out, rx, tx, channel));

        let channel = builder(dir.path(), storage).open().unwrap();
        assert_eq!(drain(&channel), left);
        assert_conserved(&channel.stats());
    }
}

#[test]
fn a_synced_batch_is_not_at_risk_and_its_items_are_finished_one_by_one_all_the_same() {
    for storage in [Storage::Sled, Storage::Log] {
        let dir = tempfile::tempdir().unwrap();
        let channel = builder(dir.path(), storage).open().unwrap();
        let rx = channel.acking_receiver();
        let tx = channel.sender();
        tx.send_all(&mut (0..300).map(item)).unwrap();
        let mut out: Vec<_> = take(&rx, 100, 200).into_iter().map(Some).collect();
        for index in shuffled(200).take(50) {
            out[index].take().unwrap().ack().unwrap();
        }
        channel.sync().unwrap();
        assert_eq!(channel.stats().at_risk_items, 0);
        for index in shuffled(100) {
            if let Some(delivery) = out[index].take() {
                delivery.ack().unwrap();
            }
        }
        // The places of the first batch are used again, by items that no disk has.
        tx.send_all(&mut (300..400).map(item)).unwrap();
        let late = rx.recv_batch(150, u64::MAX, Duration::ZERO).unwrap();
        assert_eq!(channel.stats().at_risk_items, 100);
        late.ack().unwrap();
        assert_eq!(channel.stats().at_risk_items, 50);
        assert_conserved(&channel.stats());
        channel.halt().unwrap();
        drop((out, rx, tx, channel));

        let channel = builder(dir.path(), storage).open().unwrap();
        let mut left: Vec<u64> = shuffled(200).skip(50).map(|n| n as u64).collect();
        left.retain(|number| *number >= 100);
        left.sort_unstable();
        left.extend(350..400);
        assert_eq!(drain(&channel), left);
        assert_conserved(&channel.stats());
    }
}

#[test]
fn an_item_without_an_encoding_costs_a_batch_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        builder(dir.path(), Storage::Log)
            .codec(Picky)
            .item_bytes_max(5_000)
            .open()
    };
    let channel = open().unwrap();
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    tx.send_all(&mut (0..200).map(item)).unwrap();
    let mut batch = rx.recv_batch(200, u64::MAX, Duration::ZERO).unwrap();
    assert!(batch.iter().map(|item| number(item)).eq(0..200));
    assert!(channel.sync().is_err());
    batch.ack_first(10).unwrap();
    assert_eq!(channel.stats().at_risk_items, 190);
    // 60, 70 and the one of 9,000 bytes that was not acknowledged.
    channel.halt().unwrap_err();
    assert_eq!(channel.stats().dropped.unencodable, 3);
    assert_conserved(&channel.stats());
    drop((batch, rx, tx, channel));

    let channel = open().unwrap();
    let left: Vec<u64> = (10..200).filter(|n| ![60, 70, 100].contains(n)).collect();
    assert_eq!(drain(&channel), left);
}
