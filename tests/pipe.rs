//! The adapters: whatever goes into the source comes out of the sink, in order, across halts.
#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![cfg(all(feature = "crossbeam", feature = "tokio", feature = "test-util"))]

mod common;

use common::assert_conserved;
use overspill::{Builder, DiskBufferedChannel, Durability, SendError, pipe};
use std::path::Path;
use std::time::Duration;

const LEVELS: [Durability; 2] = [Durability::Spill, Durability::Process];

fn tiny(dir: &Path, durability: &Durability) -> Builder<u32> {
    DiskBufferedChannel::builder(dir)
        .memory_items(3)
        .block_bytes(64)
        .durability(durability.clone())
}

#[test]
fn a_disconnected_source_delivers_everything_and_disconnects_the_sink() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let (source, items) = crossbeam_channel::bounded(5);
        let (channel, sink) =
            pipe::crossbeam(tiny(&dir.path().join("spool"), &level), items, 2).unwrap();
        let producer = std::thread::spawn(move || (0..500).for_each(|n| source.send(n).unwrap()));
        producer.join().unwrap();
        assert_eq!(
            sink.iter().collect::<Vec<_>>(),
            (0..500).collect::<Vec<_>>()
        );
        let report = channel.drain(Duration::from_secs(10)).unwrap();
        assert_eq!((report.saved, report.in_flight), (0, 0), "{level:?}");
        assert_conserved(&channel.stats());
    }
}

#[test]
fn a_sink_may_hold_more_than_consumers_may_have_out() {
    let dir = tempfile::tempdir().unwrap();
    let (source, items) = crossbeam_channel::bounded(5);
    let builder = tiny(&dir.path().join("spool"), &Durability::Spill).in_flight_max(2);
    let (channel, sink) = pipe::crossbeam(builder, items, 20).unwrap();
    for round in 0..5 {
        (0..20).for_each(|n| source.send(round * 20 + n).unwrap());
        let taken: Vec<u32> = sink.iter().take(20).collect();
        assert_eq!(taken, (round * 20..round * 20 + 20).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
    }
}

/// What a halt leaves: the items that came out after it, and those that a new start brings.
fn crossbeam_round(dir: &Path, level: &Durability, taken_before: usize) -> (Vec<u32>, Vec<u32>) {
    let (source, items) = crossbeam_channel::bounded(50);
    let (channel, sink) = pipe::crossbeam(tiny(dir, level), items, 4).unwrap();
    (0..40).for_each(|n| source.send(n).unwrap());
    let mut taken: Vec<u32> = sink.iter().take(taken_before).collect();
    channel.halt().unwrap();
    assert!(source.send(99).is_err(), "the source is closed");
    assert_conserved(&channel.stats());
    taken.extend(sink.iter());
    let (source, items) = crossbeam_channel::bounded(1);
    drop((source, channel));
    let (_channel, sink) = pipe::crossbeam(tiny(dir, level), items, 4).unwrap();
    (taken, sink.iter().collect())
}

#[test]
fn a_halt_loses_nothing_of_source_channel_and_sink() {
    for level in LEVELS {
        for taken_before in [0, 1, 3, 4, 7, 39, 40] {
            let dir = tempfile::tempdir().unwrap();
            let (taken, replayed) =
                crossbeam_round(&dir.path().join("spool"), &level, taken_before);
            assert_eq!(taken, (0..taken.len() as u32).collect::<Vec<_>>());
            let first = replayed.first().map_or(40, |first| *first);
            assert_eq!(
                replayed,
                (first..40).collect::<Vec<_>>(),
                "{level:?} {taken_before}"
            );
            let again = (taken.len() as u32).checked_sub(first);
            assert!(
                again.is_some_and(|again| again <= 4),
                "{taken:?} {replayed:?}"
            );
        }
    }
}

#[test]
fn a_sink_whose_consumer_is_gone_leaves_the_items_in_the_channel() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let (source, items) = crossbeam_channel::bounded(50);
    let (channel, sink) = pipe::crossbeam(tiny(&spool, &Durability::Spill), items, 0).unwrap();
    drop(sink);
    (0..10).for_each(|n| source.send(n).unwrap());
    channel.halt().unwrap();
    assert_conserved(&channel.stats());
    let channel = tiny(&spool, &Durability::Spill).open().unwrap();
    channel.close();
    assert_eq!(
        channel.receiver().iter().collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
}

#[test]
fn items_that_find_no_place_go_to_the_callback() {
    let dir = tempfile::tempdir().unwrap();
    let (rejected, seen) = crossbeam_channel::unbounded();
    let (source, items) = crossbeam_channel::bounded(50);
    let builder = tiny(&dir.path().join("spool"), &Durability::Spill)
        .on_rejected(move |error: SendError<u32>| rejected.send(error.into_inner()).unwrap());
    let (channel, sink) = pipe::crossbeam(builder, items, 1).unwrap();
    channel.close();
    (0..10).for_each(|n| source.send(n).unwrap());
    let back: Vec<_> = seen.iter().take(10).collect();
    assert_eq!(back, (0..10).map(Some).collect::<Vec<_>>());
    drop(source);
    assert_eq!(sink.iter().count(), 0);
    channel.halt().unwrap();
    assert_conserved(&channel.stats());
}

#[tokio::test]
async fn a_disconnected_tokio_source_delivers_everything_and_disconnects_the_sink() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let (source, items) = tokio::sync::mpsc::channel(5);
        let (channel, mut sink) = pipe::tokio(tiny(&dir.path().join("spool"), &level), items, 2)
            .await
            .unwrap();
        let producer = tokio::spawn(async move {
            for n in 0..500 {
                source.send(n).await.unwrap();
            }
        });
        producer.await.unwrap();
        for n in 0..500 {
            assert_eq!(sink.recv().await, Some(n));
        }
        assert_eq!(sink.recv().await, None);
        let report = channel.drain_async(Duration::from_secs(10)).await.unwrap();
        assert_eq!((report.saved, report.in_flight), (0, 0));
        assert_conserved(&channel.stats());
    }
}

#[tokio::test]
async fn a_halt_loses_nothing_between_tokio_channels() {
    for level in LEVELS {
        for taken_before in [0, 1, 3, 4, 7, 39, 40] {
            let dir = tempfile::tempdir().unwrap();
            let spool = dir.path().join("spool");
            let (source, items) = tokio::sync::mpsc::channel(50);
            let (channel, mut sink) = pipe::tokio(tiny(&spool, &level), items, 4).await.unwrap();
            for n in 0..40 {
                source.send(n).await.unwrap();
            }
            let mut taken = Vec::new();
            for _ in 0..taken_before {
                taken.extend(sink.recv().await);
            }
            channel.halt_async().await.unwrap();
            assert!(source.send(99).await.is_err(), "the source is closed");
            assert_conserved(&channel.stats());
            while let Some(item) = sink.recv().await {
                taken.push(item);
            }
            drop(channel);
            assert_eq!(taken, (0..taken.len() as u32).collect::<Vec<_>>());
            let channel = tiny(&spool, &level).open().unwrap();
            channel.close();
            let replayed: Vec<u32> = channel.receiver().iter().collect();
            let first = replayed.first().map_or(40, |first| *first);
            assert_eq!(replayed, (first..40).collect::<Vec<_>>());
            let again = (taken.len() as u32).checked_sub(first);
            assert!(
                again.is_some_and(|again| again <= 4),
                "{taken:?} {replayed:?}"
            );
        }
    }
}
