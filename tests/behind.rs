//! Who sends faster than can be written waits for the writer, whatever the policy for a full disk, and learns from what it
//! has written whether the disk is full.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Alarm, FOR_EVER, Item, assert_conserved, block_on};
use overspill::{Builder, DiskBufferedChannel, FailOn, SendError, Sender, WhenFull};
use std::future::Future;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, mpsc};
use std::task::Poll;

const MIB: u64 = 1 << 20;
/// What an item's bytes come to, about.
const PAD: usize = 1000;
const FRONT: usize = 16;

fn builder(dir: &Path, policy: WhenFull) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(FRONT)
        .disk_bytes_max(4 * MIB)
        .disk_free_min(0)
        .when_full(policy)
}

fn item(id: u64) -> Item {
    Item::new(id, PAD)
}

/// Takes everything that is left, and checks that it is `expected`, in order.
fn drain(channel: &DiskBufferedChannel<Item>, expected: impl Iterator<Item = u64>) {
    channel.close();
    let rx = channel.receiver();
    for id in expected {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    assert!(rx.recv_timeout(FOR_EVER).is_err(), "nothing else comes");
    let stats = channel.stats();
    assert_eq!(stats.pending, 0);
    assert_conserved(&stats);
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
fn a_sender_that_waits_for_the_writer_is_told_when_the_disk_is_full() {
    for policy in [WhenFull::Reject, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let builder = builder(dir.path(), policy).memory_bytes_max(64 << 10);
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
        drain(&channel, 0..sent - 1);
        channel.halt().unwrap();
    }
}
