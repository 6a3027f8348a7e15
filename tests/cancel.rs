//! Every async verb, dropped at every poll: nothing is lost, nothing is doubled, and no wake-up goes with it.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Alarm, FOR_EVER, Item, assert_conserved, block_on, wait_until};
use futures::{SinkExt, StreamExt};
use overspill::{
    Builder, DiskBufferedChannel, Durability, RecvError, RecvTimeoutError, SendError, WhenFull,
};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tempfile::TempDir;

const LEVELS: [Durability; 2] = [Durability::Spill, Durability::Process];
/// More polls than any of these futures takes.
const POLLS_MAX: usize = 50;

/// What a channel holds when the future begins.
#[derive(Clone, Copy, Debug)]
enum Filled {
    Empty,
    /// Front is full, nothing is behind it.
    Front,
    /// Items wait in front, on disk and in staging.
    Spilling,
    /// A new incarnation: everything waits on disk.
    Backlog,
}

const FILLED: [Filled; 4] = [
    Filled::Empty,
    Filled::Front,
    Filled::Spilling,
    Filled::Backlog,
];

impl Filled {
    fn items(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Front => 2,
            Self::Spilling | Self::Backlog => 13,
        }
    }
}

/// A channel with numbered items in it.
struct Bench {
    channel: DiskBufferedChannel<Item>,
    filled: u64,
    level: Durability,
    dir: TempDir,
}

fn tiny(dir: &Path, level: &Durability) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(2)
        .block_bytes(64)
        .durability(level.clone())
}

impl Bench {
    fn new(filled: Filled, level: &Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut channel = tiny(dir.path(), level).open().unwrap();
        channel
            .sender()
            .send_all(&mut (0..filled.items()).map(item))
            .unwrap();
        if let Filled::Backlog = filled {
            channel.halt().unwrap();
            channel = tiny(dir.path(), level).open().unwrap();
        }
        Self {
            channel,
            filled: filled.items(),
            level: level.clone(),
            dir,
        }
    }

    /// The rest, in order, after a restart.
    fn rest_after_restart(self) -> Vec<u64> {
        let stats = self.channel.stats();
        assert_conserved(&stats);
        self.channel.halt().unwrap();
        drop(self.channel);
        let channel = tiny(self.dir.path(), &self.level).open().unwrap();
        channel.close();
        let rest = channel.receiver().iter().map(Item::intact).collect();
        assert_conserved(&channel.stats());
        rest
    }
}

fn item(id: u64) -> Item {
    Item::new(id, usize::try_from(id % 4).unwrap() * 9)
}

/// Polls `future` up to `polls` times, each time when it was woken, and drops it.
fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let (mut future, alarm) = (pin!(future), Alarm::new());
    for poll in 0..polls {
        if poll > 0 {
            alarm.wait();
        }
        if let Poll::Ready(output) = alarm.poll(future.as_mut()) {
            return Some(output);
        }
    }
    None
}

/// Every combination, and every number of polls before the drop, until `scenario` says that its future was ready.
fn at_every_poll(filled: &[Filled], mut scenario: impl FnMut(Bench, usize) -> bool) {
    for level in LEVELS {
        for filled in filled {
            let ready = (0..POLLS_MAX).any(|polls| scenario(Bench::new(*filled, &level), polls));
            assert!(ready, "{filled:?} {level:?}: never ready");
        }
    }
}

/// The numbers from 0 on, without a gap; how many.
fn count_of(rest: &[u64], context: &str) -> u64 {
    let count = rest.len() as u64;
    assert_eq!(rest, (0..count).collect::<Vec<_>>(), "{context}");
    count
}

// ---- sending ------------------------------------------------------------------------------------

#[test]
fn a_cancelled_send_leaves_its_item_in_the_channel_or_drops_it() {
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let sent = drop_after(bench.channel.sender().send_async(item(filled)), polls);
        let accepted = bench.channel.stats().accepted;
        let count = count_of(&bench.rest_after_restart(), "after a cancelled send");
        assert_eq!(count, accepted, "what was admitted stays");
        assert_eq!(
            count,
            filled + u64::from(polls > 0),
            "there was room: the first poll admits"
        );
        sent.map(Result::unwrap).is_some()
    });
}

#[test]
fn a_cancelled_send_all_has_placed_exactly_what_it_took() {
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let mut source = (filled..filled + 20).map(item);
        let sent = drop_after(bench.channel.sender().send_all_async(&mut source), polls);
        let left = source.count() as u64;
        let count = count_of(&bench.rest_after_restart(), "after a cancelled send_all");
        assert_eq!(count + left, filled + 20);
        sent.map(|sent| assert_eq!(sent.unwrap(), 20)).is_some()
    });
}

#[test]
fn an_item_that_a_sink_took_stays_when_feed_or_flush_is_cancelled() {
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let mut sink = bench.channel.sender().sink();
        let fed = drop_after(sink.feed(item(filled)), polls);
        let flushed = drop_after(sink.flush(), polls);
        drop(sink);
        let count = count_of(&bench.rest_after_restart(), "after a cancelled feed");
        assert_eq!(count, filled + u64::from(fed.is_some()));
        fed.is_some() && flushed.map(Result::unwrap).is_some()
    });
}

// ---- receiving ----------------------------------------------------------------------------------

const NOT_EMPTY: [Filled; 3] = [Filled::Front, Filled::Spilling, Filled::Backlog];

/// Receives in the way of `receive`, cancelled after so many polls; what it didn't return is still there.
fn assert_receive_is_cancel_safe(receive: impl Fn(&Bench, usize) -> Option<Vec<u64>>) {
    at_every_poll(&NOT_EMPTY, |bench, polls| {
        let filled = bench.filled;
        let received = receive(&bench, polls);
        let ready = received.is_some();
        let mut all = received.unwrap_or_default();
        assert_eq!(bench.channel.stats().acknowledged, all.len() as u64);
        all.extend(bench.rest_after_restart());
        assert_eq!(count_of(&all, "after a cancelled receive"), filled);
        ready
    });
}

#[test]
fn a_cancelled_receive_takes_nothing() {
    assert_receive_is_cancel_safe(|bench, polls| {
        let received = drop_after(bench.channel.receiver().recv_async(), polls)?;
        Some(vec![received.unwrap().intact()])
    });
}

#[test]
fn a_cancelled_receive_of_many_takes_nothing() {
    assert_receive_is_cancel_safe(|bench, polls| {
        let mut items = Vec::new();
        let rx = bench.channel.receiver();
        let received = drop_after(rx.recv_many_async(&mut items, 5), polls);
        assert_eq!(received.clone().map_or(0, Result::unwrap), items.len());
        received.map(|_| items.into_iter().map(Item::intact).collect())
    });
}

#[test]
fn a_stream_that_is_dropped_between_polls_takes_nothing() {
    assert_receive_is_cancel_safe(|bench, polls| {
        let mut stream = bench.channel.receiver().stream();
        let received = drop_after(stream.next(), polls)?;
        Some(vec![received.unwrap().intact()])
    });
}

// ---- life ---------------------------------------------------------------------------------------

#[test]
fn a_cancelled_sync_loses_nothing() {
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let synced = drop_after(bench.channel.sync_async(), polls);
        let risk = bench.channel.stats().at_risk_items;
        bench.channel.sender().send(item(filled)).unwrap();
        assert_eq!(
            count_of(&bench.rest_after_restart(), "after a cancelled sync"),
            filled + 1
        );
        synced
            .map(|synced| assert_eq!((synced, risk), (Ok(()), 0)))
            .is_some()
    });
}

#[test]
fn a_halt_that_was_polled_goes_on_to_its_end() {
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let halted = drop_after(bench.channel.halt_async(), polls);
        if polls > 0 {
            let refused = bench.channel.sender().send(item(filled)).unwrap_err();
            assert!(matches!(refused, SendError::Halted(_)));
            assert_eq!(bench.channel.halt().unwrap().saved, filled);
        }
        assert_eq!(
            count_of(&bench.rest_after_restart(), "after a cancelled halt"),
            filled
        );
        halted.map(Result::unwrap).is_some()
    });
}

#[test]
fn a_cancelled_drain_leaves_the_channel_closed_and_its_items_receivable() {
    for level in LEVELS {
        for filled in NOT_EMPTY {
            let bench = Bench::new(filled, &level);
            let drained = drop_after(bench.channel.drain_async(FOR_EVER), 1);
            assert!(drained.is_none(), "nobody has taken the items");
            assert!(bench.channel.is_closed());
            let rx = bench.channel.receiver();
            for n in 0..bench.filled {
                assert_eq!(rx.recv().unwrap().intact(), n, "{filled:?} {level:?}");
            }
            assert_eq!(rx.recv(), Err(RecvError::Closed));
            assert!(bench.rest_after_restart().is_empty());
        }
    }
    at_every_poll(&FILLED, |bench, polls| {
        let filled = bench.filled;
        let drained = drop_after(bench.channel.drain_async(Duration::ZERO), polls);
        assert_eq!(
            count_of(&bench.rest_after_restart(), "after a cancelled drain"),
            filled
        );
        drained.map(Result::unwrap).is_some()
    });
}

#[test]
fn a_cancelled_open_leaves_the_directory_to_the_next() {
    for level in LEVELS {
        let mut ready = false;
        for polls in 0..POLLS_MAX {
            let bench = Bench::new(Filled::Spilling, &level);
            bench.channel.halt().unwrap();
            let opened = drop_after(tiny(bench.dir.path(), &level).open_async(), polls);
            ready = opened.is_some();
            drop(opened.map(Result::unwrap));
            let mut channel = None;
            wait_until("the abandoned opening let go of the directory", || {
                channel = tiny(bench.dir.path(), &level).open().ok();
                channel.is_some()
            });
            let channel = channel.unwrap();
            channel.close();
            let rest: Vec<u64> = channel.receiver().iter().map(Item::intact).collect();
            assert_eq!(count_of(&rest, "after a cancelled open"), bench.filled);
            if ready {
                break;
            }
        }
        assert!(ready);
    }
}

// ---- wake-ups -----------------------------------------------------------------------------------

/// Polls once, and finds it waiting.
macro_rules! assert_waits {
    ($future:expr) => {{
        let alarm = Alarm::new();
        assert!(alarm.poll($future).is_pending());
        alarm
    }};
}

#[test]
fn a_receiver_that_was_woken_and_dropped_passes_the_wake_up_on() {
    for level in LEVELS {
        let bench = Bench::new(Filled::Empty, &level);
        let channel = &bench.channel;
        let (tx, rx) = (channel.sender(), channel.receiver());
        let (mut buffer, mut stream) = (Vec::new(), rx.stream());
        let mut first = Box::pin(rx.recv_async());
        let mut second = Box::pin(rx.recv_many_async(&mut buffer, 3));
        let mut third = Box::pin(stream.next());
        let mut last = Box::pin(rx.recv_async());
        let alarms = [
            assert_waits!(first.as_mut()),
            assert_waits!(second.as_mut()),
            assert_waits!(third.as_mut()),
            assert_waits!(last.as_mut()),
        ];
        tx.send(item(0)).unwrap();
        assert!(alarms[0].rang(), "the first in line is woken");
        drop(first);
        assert!(alarms[1].rang(), "and hands it on");
        drop(second);
        assert!(alarms[2].rang());
        drop(third);
        drop(stream);
        assert!(alarms[3].rang());
        assert!(matches!(alarms[3].poll(last.as_mut()), Poll::Ready(Ok(got)) if got == item(0)));
        assert!(buffer.is_empty());
    }
}

#[test]
fn a_stream_that_nobody_polls_does_not_keep_a_wake_up_to_itself() {
    let bench = Bench::new(Filled::Empty, &Durability::Spill);
    let channel = &bench.channel;
    let rx = channel.receiver();
    let mut idle = rx.stream();
    let _asleep = assert_waits!(pin!(idle.next()));
    let mut waiting = Box::pin(rx.recv_async());
    let alarm = assert_waits!(waiting.as_mut());
    channel.sender().send(item(0)).unwrap();
    alarm.wait();
    assert!(matches!(alarm.poll(waiting.as_mut()), Poll::Ready(Ok(got)) if got == item(0)));
}

#[test]
fn a_blocked_thread_gets_the_item_of_a_future_that_was_dropped() {
    for level in LEVELS {
        let bench = Bench::new(Filled::Empty, &level);
        let channel = &bench.channel;
        let (tx, rx) = (channel.sender(), channel.receiver());
        std::thread::scope(|scope| {
            let mut future = Box::pin(rx.recv_async());
            let alarm = assert_waits!(future.as_mut());
            let thread = scope.spawn(|| rx.recv_timeout(FOR_EVER));
            tx.send(item(0)).unwrap();
            drop(future);
            assert_eq!(thread.join().unwrap(), Ok(item(0)));
            drop(alarm);
        });
    }
}

/// A channel with nothing but its front, which is full: whoever sends now waits for a receiver.
fn full_channel() -> (DiskBufferedChannel<Item>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let full = tiny(dir.path(), &Durability::Spill)
        .disk_free_min(u64::MAX)
        .when_full(WhenFull::Block);
    let channel = full.open().unwrap();
    channel.sender().send_all(&mut (0..2).map(item)).unwrap();
    (channel, dir)
}

#[test]
fn a_sender_that_was_woken_and_dropped_passes_the_wake_up_on() {
    let (channel, _dir) = full_channel();
    let (tx, rx) = (channel.sender(), channel.receiver());
    let mut source = (10..20).map(item);
    let mut sink = channel.sender().sink();
    let mut first = Box::pin(tx.send_async(item(100)));
    let mut second = Box::pin(tx.send_all_async(&mut source));
    let mut third = Box::pin(sink.feed(item(101)));
    let mut last = Box::pin(tx.send_async(item(2)));
    let alarms = [
        assert_waits!(first.as_mut()),
        assert_waits!(second.as_mut()),
        assert_waits!(third.as_mut()),
        assert_waits!(last.as_mut()),
    ];
    assert_eq!(rx.try_recv(), Ok(item(0)));
    // The worker may have looked for room meanwhile and woken everybody: what counts is that the last gets through.
    drop((first, second, third));
    drop(sink);
    alarms[3].wait();
    assert!(matches!(alarms[3].poll(last.as_mut()), Poll::Ready(Ok(()))));
    assert_eq!(source.count(), 10, "no item was taken from the iterator");
    let mut rest = Vec::new();
    rx.try_recv_many(&mut rest, 9).unwrap();
    assert_eq!(rest, [item(1), item(2)]);
}

#[test]
fn a_sink_that_reserved_a_place_and_is_dropped_gives_it_back() {
    let (channel, _dir) = full_channel();
    let (tx, rx) = (channel.sender(), channel.receiver());
    assert_eq!(rx.try_recv(), Ok(item(0)));
    let mut sink = channel.sender().sink();
    block_on(std::future::poll_fn(|cx| sink.poll_ready_unpin(cx))).unwrap();
    let mut waiting = Box::pin(tx.send_async(item(2)));
    let alarm = assert_waits!(waiting.as_mut());
    drop(sink);
    alarm.wait();
    assert!(matches!(alarm.poll(waiting.as_mut()), Poll::Ready(Ok(()))));
    drop(waiting);
    assert_eq!(rx.recv_timeout(FOR_EVER), Ok(item(1)));
    assert_eq!(rx.recv_timeout(FOR_EVER), Ok(item(2)));
    assert_eq!(
        rx.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Timeout)
    );
}
