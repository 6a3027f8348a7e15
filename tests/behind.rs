//! Who sends faster than can be written waits for the writer, whatever the policy for a full disk, and learns from what it
//! has written whether the disk is full.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Alarm, FOR_EVER, Item, block_on, take_exactly};
use futures::SinkExt;
use overspill::{Builder, DiskBufferedChannel, FailOn, SendError, Sender, WhenFull};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Mutex, mpsc};
use std::task::Poll;

const MIB: u64 = 1 << 20;
/// What an item's bytes come to, about.
const PAD: usize = 2000;
const FRONT: usize = 16;

fn builder(dir: &Path, policy: WhenFull) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(FRONT)
        .disk_bytes_max(4 * MIB)
        .disk_free_min(0)
        .when_full(policy)
}

/// Staging takes fewer than a batch of [`item`]s.
fn small_staging(dir: &Path, policy: WhenFull) -> Builder<Item> {
    builder(dir, policy).memory_bytes_max(64 << 10)
}

fn item(id: u64) -> Item {
    Item::new(id, PAD)
}

/// A channel whose writer stops at its first event, and says so, until the gate is dropped.
struct Held {
    channel: DiskBufferedChannel<Item>,
    has_stopped: mpsc::Receiver<()>,
    gate: mpsc::Sender<()>,
}

fn held(builder: Builder<Item>) -> Held {
    let (gate, held) = mpsc::channel::<()>();
    let (stopping, has_stopped) = mpsc::channel();
    let held = Mutex::new(held);
    let channel = builder.on_event(move |_| {
        let _ = stopping.send(());
        let _ = held.lock().unwrap().recv();
    });
    Held {
        channel: channel.open().unwrap(),
        has_stopped,
        gate,
    }
}

/// So many small items that the writer has met its first event: what comes after them is staged.
const SMALL: u64 = 64;

/// As [`held`], with small items in it, so that those that come are larger than thought.
fn held_with_small_items(builder: Builder<Item>) -> Held {
    let held = held(builder);
    for id in 0..SMALL {
        held.channel.sender().send(Item::new(id, 50)).unwrap();
    }
    held.has_stopped.recv_timeout(FOR_EVER).unwrap();
    held
}

/// 200 items, and how far they were taken.
fn items(taken: &Cell<u64>) -> impl Iterator<Item = Item> {
    (SMALL..SMALL + 200).map(|id| {
        taken.set(id + 1);
        item(id)
    })
}

/// Polls a future that then waits with items of its batch.
fn assert_some_are_left<F: Future>(
    sending: Pin<&mut F>,
    taken: &Cell<u64>,
    channel: &DiskBufferedChannel<Item>,
) {
    assert!(Alarm::new().poll(sending).is_pending());
    let stats = channel.stats();
    assert!(
        stats.accepted < taken.get() && stats.dropped.full == 0,
        "{stats:?}"
    );
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError<Item>>> + 'a>>;

/// Sends from `next` on until a send waits.
fn send_until_one_waits<'a>(tx: &'a Sender<Item>, next: &mut u64, alarm: &Alarm) -> Sending<'a> {
    loop {
        let mut sending: Sending = Box::pin(tx.send_async(item(*next)));
        *next += 1;
        alarm.rang();
        match alarm.poll(sending.as_mut()) {
            Poll::Ready(sent) => sent.unwrap(),
            Poll::Pending => return sending,
        }
    }
}

#[test]
fn a_sender_that_is_faster_than_the_writer_has_not_met_a_full_disk() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let Held { channel, gate, .. } = held(builder(dir.path(), policy));
        let (tx, mut sent) = (channel.sender(), 0);
        let waiting = send_until_one_waits(&tx, &mut sent, &Alarm::new());
        drop(gate);
        block_on(waiting).unwrap();
        // The room that was vouched for at first is a part of what there is.
        for id in sent..2 * sent {
            tx.send(item(id)).unwrap();
        }
        let stats = channel.stats();
        assert_eq!((stats.dropped.full, stats.stalled), (0, None), "{stats:?}");
        take_exactly(&channel, 0..2 * sent);
    }
}

#[test]
fn a_sender_that_waits_for_the_writer_is_told_when_the_disk_is_full() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let builder = small_staging(dir.path(), policy);
        let Held {
            channel,
            has_stopped,
            gate,
        } = held(builder);
        let (tx, mut sent, alarm) = (channel.sender(), FRONT as u64 + 2, Alarm::new());
        for id in 0..sent {
            tx.send(item(id)).unwrap();
        }
        has_stopped.recv_timeout(FOR_EVER).unwrap();
        let waiting = send_until_one_waits(&tx, &mut sent, &alarm);
        for _ in 0..10_000 {
            channel.fail_next(FailOn::Append, ErrorKind::StorageFull);
        }
        drop(gate);
        alarm.wait();
        match block_on(waiting) {
            Err(SendError::Full(back)) => assert_eq!(back.intact(), sent - 1),
            answer => assert!(answer.is_ok() && channel.stats().dropped.full == 1),
        }
        take_exactly(&channel, 0..sent - 1);
        channel.halt().unwrap();
    }
}

#[test]
fn a_batch_whose_items_are_larger_than_thought_waits_for_the_writer() {
    for policy in [WhenFull::Block, WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let Held { channel, gate, .. } = held_with_small_items(small_staging(dir.path(), policy));
        let (tx, taken) = (channel.sender(), Cell::new(0));
        let mut items = items(&taken);
        let mut sending = Box::pin(tx.send_all_async(&mut items));
        assert_some_are_left(sending.as_mut(), &taken, &channel);
        drop(gate);
        assert_eq!(block_on(sending).unwrap(), 200);
        take_exactly(&channel, 0..taken.get());
    }
}

#[test]
fn a_batch_that_comes_faster_than_the_writer_has_not_met_a_full_disk() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let builder = builder(dir.path(), policy).disk_bytes_max(MIB);
        let Held { channel, gate, .. } = held_with_small_items(builder);
        let (tx, taken) = (channel.sender(), Cell::new(0));
        let mut items = items(&taken).take(100);
        let mut sending = Box::pin(tx.send_all_async(&mut items));
        assert_some_are_left(sending.as_mut(), &taken, &channel);
        drop(gate);
        assert_eq!(block_on(sending).unwrap(), 100);
        assert_eq!(channel.stats().dropped.full, 0);
        take_exactly(&channel, 0..SMALL + 100);
    }
}

#[test]
fn what_a_batch_has_too_much_stays_when_its_future_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let Held { channel, gate, .. } =
        held_with_small_items(small_staging(dir.path(), WhenFull::Reject));
    let (tx, taken) = (channel.sender(), Cell::new(0));
    let mut items = items(&taken);
    let mut sending = Box::pin(tx.send_all_async(&mut items));
    assert_some_are_left(sending.as_mut(), &taken, &channel);
    drop(sending);
    assert_eq!(channel.stats().accepted, taken.get());
    drop(gate);
    take_exactly(&channel, 0..taken.get());
}

#[test]
fn what_a_batch_has_too_much_is_there_for_receivers_when_the_intake_closes() {
    let dir = tempfile::tempdir().unwrap();
    let Held { channel, gate, .. } =
        held_with_small_items(small_staging(dir.path(), WhenFull::Reject));
    let (tx, taken) = (channel.sender(), Cell::new(0));
    let mut items = items(&taken);
    let mut sending = Box::pin(tx.send_all_async(&mut items));
    assert_some_are_left(sending.as_mut(), &taken, &channel);
    drop(gate);
    // Nobody polls the future meanwhile.
    channel.close();
    let received = channel.receiver().into_iter().map(Item::intact);
    let received: Vec<u64> = received.collect();
    let refused = block_on(sending);
    assert_eq!(received, (0..taken.get() - 1).collect::<Vec<_>>());
    assert!(matches!(refused, Err(SendError::Closed(last)) if last.id == taken.get() - 1));
}

#[test]
fn what_a_batch_has_too_much_is_saved_by_a_halt() {
    let dir = tempfile::tempdir().unwrap();
    let Held { channel, gate, .. } =
        held_with_small_items(small_staging(dir.path(), WhenFull::Reject));
    let (tx, taken) = (channel.sender(), Cell::new(0));
    let mut items = items(&taken);
    let mut sending = Box::pin(tx.send_all_async(&mut items));
    assert_some_are_left(sending.as_mut(), &taken, &channel);
    drop(gate);
    let saved = channel.halt().unwrap().saved;
    let refused = block_on(sending);
    assert!(matches!(refused, Err(SendError::Halted(last)) if last.id == taken.get() - 1));
    assert_eq!(saved, taken.get() - 1);
    drop((tx, channel));
    let channel = builder(dir.path(), WhenFull::Reject).open().unwrap();
    take_exactly(&channel, 0..taken.get() - 1);
}

#[test]
fn an_item_that_is_too_large_for_its_place_in_a_sink_waits_for_the_writer() {
    for policy in [WhenFull::Block, WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let Held { channel, gate, .. } = held_with_small_items(small_staging(dir.path(), policy));
        let (mut sink, alarm) = (channel.sender().sink(), Alarm::new());
        let mut sent = SMALL;
        while alarm
            .poll(pin!(poll_fn(|cx| sink.poll_ready_unpin(cx))))
            .is_ready()
        {
            sink.start_send_unpin(item(sent)).unwrap();
            sent += 1;
        }
        let stats = channel.stats();
        assert!(
            stats.accepted < sent && stats.dropped.full == 0,
            "{stats:?}"
        );
        drop(gate);
        block_on(sink.send(item(sent))).unwrap();
        take_exactly(&channel, 0..=sent);
    }
}
