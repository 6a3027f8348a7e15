//! Halt, drop and open again: what was accepted and not received is exactly what comes back, in order.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{FOR_EVER, Item, LEVELS, Level, assert_conserved, wait_until};
use overspill::{Builder, DiskBufferedChannel, FailOn, RecvError, RecvTimeoutError, SendError};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

fn tiny<T>(dir: &Path, memory_items: usize, level: &Level) -> Builder<T> {
    DiskBufferedChannel::builder(dir)
        .memory_items(memory_items)
        .block_bytes(64)
        .storage(level.0)
        .durability(level.1.clone())
}

/// One step of the fixed history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u64),
    Recv(u64),
    Sync,
}

/// Passes through every regime: memory only, spill, half read back, drained, spill again, synced.
const HISTORY: [Step; 16] = [
    Step::Send(1),
    Step::Recv(1),
    Step::Send(3),
    Step::Recv(1),
    Step::Send(9),
    Step::Recv(4),
    Step::Send(2),
    Step::Recv(3),
    Step::Sync,
    Step::Send(4),
    Step::Recv(10),
    Step::Send(3),
    Step::Sync,
    Step::Recv(1),
    Step::Send(5),
    Step::Recv(2),
];

/// The history, one item at a time.
fn single_steps() -> Vec<Step> {
    let single = |step: &Step| match *step {
        Step::Send(count) => vec![Step::Send(1); usize::try_from(count).unwrap()],
        Step::Recv(count) => vec![Step::Recv(1); usize::try_from(count).unwrap()],
        Step::Sync => vec![Step::Sync],
    };
    HISTORY.iter().flat_map(single).collect()
}

#[derive(Clone, Copy, Debug)]
enum End {
    Halt,
    Drop,
}

/// Does `steps`, and says which numbers are left.
fn play(channel: &DiskBufferedChannel<Item>, steps: &[Step]) -> std::ops::Range<u64> {
    let (tx, rx) = (channel.sender(), channel.receiver());
    let (mut sent, mut received) = (0, 0);
    for step in steps {
        match step {
            Step::Send(_) => {
                tx.send(Item::new(sent, usize::try_from(sent % 5 * 7).unwrap()))
                    .unwrap();
                sent += 1;
            }
            Step::Recv(_) => {
                assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), received);
                received += 1;
            }
            Step::Sync => channel.sync().unwrap(),
        }
        assert_conserved(&channel.stats());
    }
    received..sent
}

fn all_that_waits(channel: &DiskBufferedChannel<Item>) -> Vec<u64> {
    channel.close();
    channel.receiver().iter().map(Item::intact).collect()
}

#[test]
fn an_end_at_any_step_of_a_history_brings_back_exactly_what_was_left() {
    let steps = single_steps();
    let mut ends = 0;
    for level in LEVELS {
        for memory_items in [1, 3] {
            for end in [End::Halt, End::Drop] {
                for at in 0..=steps.len() {
                    let dir = tempfile::tempdir().unwrap();
                    let open = || tiny(dir.path(), memory_items, &level).open().unwrap();
                    let channel = open();
                    let left = play(&channel, &steps[..at]);
                    if let End::Halt = end {
                        let report = channel.halt().unwrap();
                        assert_eq!(report.saved, left.end - left.start);
                    }
                    drop(channel);
                    let channel = open();
                    let context = format!("{level:?} {memory_items} {end:?} after {at}");
                    assert_eq!(
                        channel.open_report().replayed,
                        left.end - left.start,
                        "{context}"
                    );
                    assert!(channel.open_report().clean_shutdown, "{context}");
                    let stats = channel.stats();
                    assert_eq!((stats.accepted, stats.acknowledged), (left.end, left.start));
                    assert_eq!(
                        all_that_waits(&channel),
                        left.collect::<Vec<_>>(),
                        "{context}"
                    );
                    ends += 1;
                }
            }
        }
    }
    eprintln!("{ends} ends");
}

#[test]
fn a_chain_of_incarnations_carries_a_backlog_on_and_on() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let mut left = 0..0;
        for round in 0..12 {
            let channel: DiskBufferedChannel<Item> = tiny(dir.path(), 2, &level).open().unwrap();
            assert_eq!(channel.open_report().incarnation, round + 1);
            let (tx, rx) = (channel.sender(), channel.receiver());
            for _ in 0..5 {
                tx.send(Item::new(left.end, 3)).unwrap();
                left.end += 1;
            }
            for _ in 0..round % 7 {
                assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), left.start);
                left.start += 1;
            }
            let stats = channel.stats();
            assert_conserved(&stats);
            assert_eq!((stats.accepted, stats.acknowledged), (left.end, left.start));
        }
        let channel = tiny(dir.path(), 2, &level).open().unwrap();
        assert_eq!(all_that_waits(&channel), left.collect::<Vec<_>>());
    }
}

/// `OVERSPILL_REOPENS` asks for another number of rounds, and for all of them however long it takes.
#[test]
fn a_halt_followed_at_once_by_an_open_works_a_thousand_times_in_a_row() {
    let (sled, log) = LEVELS.split_at(2);
    halt_and_open(sled);
    halt_and_open(log);
}

/// The levels take turns in one directory.
fn halt_and_open(levels: &[Level]) {
    let wanted = std::env::var("OVERSPILL_REOPENS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let (began, budget) = (Instant::now(), Duration::from_secs(60));
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let mut rounds = 0;
    while rounds < wanted.unwrap_or(1_000) && (wanted.is_some() || began.elapsed() < budget) {
        let channel = tiny(dir.path(), 2, &levels[rounds % levels.len()])
            .open()
            .unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        if rounds == 0 {
            tx.send_all(&mut (0..7)).unwrap();
        }
        assert_eq!(channel.stats().pending, 7);
        tx.send(next + 7).unwrap();
        assert_eq!(rx.recv_timeout(FOR_EVER), Ok(next));
        next += 1;
        assert_eq!(channel.halt().unwrap().saved, 7);
        rounds += 1;
    }
    // Written past the harness, which keeps what a passing test prints.
    let (store, _) = &levels[0];
    writeln!(
        io::stderr(),
        "{store:?}: {rounds} halts, each followed by an open"
    )
    .expect("there is a standard error");
}

/// What one end of the threads' channel saw: for each producer, its numbers.
type Seen = BTreeMap<u64, Vec<u64>>;

const PRODUCERS: u64 = 3;

fn is_ascending(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[0] < pair[1])
}

/// Producers and consumers at full speed until a halt; what was accepted, what each consumer received.
fn run_until_halted(dir: &Path, level: &Level) -> (Seen, Vec<Seen>) {
    let channel: DiskBufferedChannel<(u64, u64)> = tiny(dir, 4, level).open().unwrap();
    let barrier = Barrier::new(usize::try_from(PRODUCERS).unwrap() + 3);
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (tx, barrier) = (channel.sender(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let refused = (0..).find_map(|n| Some((n, tx.send((producer, n)).err()?)));
                    let (accepted, error) = refused.unwrap();
                    assert!(
                        matches!(error, SendError::Halted(item) if item == (producer, accepted))
                    );
                    (producer, (0..accepted).collect::<Vec<_>>())
                })
            })
            .collect();
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let (rx, barrier) = (channel.receiver(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let mut seen = Seen::new();
                    loop {
                        match rx.recv() {
                            Ok((producer, n)) => seen.entry(producer).or_default().push(n),
                            Err(error) => break assert_eq!(error, RecvError::Halted),
                        }
                    }
                    seen
                })
            })
            .collect();
        barrier.wait();
        wait_until("enough was received", || channel.stats().acknowledged > 500);
        let report = channel.halt().unwrap();
        assert_conserved(&channel.stats());
        assert_eq!(report.saved, channel.stats().pending);
        (
            producers
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect(),
            consumers
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect(),
        )
    })
}

#[test]
fn a_halt_between_busy_threads_brings_back_exactly_what_was_accepted_and_not_received() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let (accepted, consumers) = run_until_halted(dir.path(), &level);
        let channel: DiskBufferedChannel<(u64, u64)> = tiny(dir.path(), 4, &level).open().unwrap();
        channel.close();
        let mut back = Seen::new();
        for (producer, n) in &channel.receiver() {
            back.entry(producer).or_default().push(n);
        }
        for (producer, sent) in accepted {
            let mut received: Vec<u64> = Vec::new();
            for seen in &consumers {
                let numbers = seen.get(&producer).cloned().unwrap_or_default();
                assert!(is_ascending(&numbers), "program order at each consumer");
                received.extend(numbers);
            }
            received.sort_unstable();
            let back = back.remove(&producer).unwrap_or_default();
            received.extend(&back);
            assert!(is_ascending(&back), "program order after the restart");
            assert_eq!(received, sent, "{level:?}: producer {producer}");
        }
    }
}

#[test]
fn leftovers_of_a_halt_come_back_behind_everything_else() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let channel: DiskBufferedChannel<u32> = tiny(dir.path(), 2, &level).open().unwrap();
        channel.sender().send_all(&mut (0..5)).unwrap();
        assert_eq!(channel.halt_with(5..8).unwrap().saved, 8);
        let late = channel.halt_with(8..9).unwrap_err();
        assert_eq!(
            late.into_items(),
            [8],
            "a leftover that comes too late is given back"
        );
        let channel: DiskBufferedChannel<u32> = tiny(dir.path(), 2, &level).open().unwrap();
        let rx = channel.receiver();
        for n in 0..8 {
            assert_eq!(rx.recv_timeout(FOR_EVER), Ok(n));
        }
        assert_eq!(
            rx.recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        );
    }
}

/// An unclean end of a channel from whose front an item had been received: the block with the rest of the front
/// claimed that everything below it had been written, so the received item counted as lost.
#[test]
fn an_item_that_was_received_from_memory_is_never_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let channel: DiskBufferedChannel<u32> = tiny(dir.path(), 2, &LEVELS[0]).open().unwrap();
    let (tx, rx) = (channel.sender(), channel.receiver());
    tx.send_all(&mut (0..2)).unwrap();
    assert_eq!(rx.recv(), Ok(0));
    channel.fail_next(FailOn::Sync, ErrorKind::Other);
    assert!(
        channel.halt().unwrap_err().into_items().is_empty(),
        "what was written is not given back"
    );
    let channel: DiskBufferedChannel<u32> = tiny(dir.path(), 2, &LEVELS[0]).open().unwrap();
    assert!(!channel.open_report().clean_shutdown);
    assert_eq!(channel.receiver().recv_timeout(FOR_EVER), Ok(1));
    let stats = channel.stats();
    assert_conserved(&stats);
    assert_eq!(
        (stats.lost, stats.unaccounted, stats.acknowledged),
        (0, 1, 1)
    );
}

/// A crash leaves a gap behind what is on disk, and a clean halt comes before anybody has read that far. The clean
/// halt vouches for everything below its end, so the gap counted as lost.
#[test]
fn what_a_crash_took_is_unaccounted_also_after_a_clean_halt() {
    let dir = tempfile::tempdir().unwrap();
    let open = || tiny(dir.path(), 3, &LEVELS[0]).open().unwrap();
    let channel: DiskBufferedChannel<Item> = open();
    let tx = channel.sender();
    tx.send(Item::new(0, 10)).unwrap();
    channel.sync().unwrap();
    tx.send_all(&mut (1..5).map(|id| Item::new(id, 100)))
        .unwrap();
    wait_until("what spills is written", || {
        channel.stats().staging_items == 0
    });
    assert_eq!(
        channel.stats().at_risk_items,
        2,
        "front is memory only, but for what was synced"
    );
    channel.crash();
    drop(channel);
    for _ in 0..2 {
        assert_eq!(open().halt().unwrap().saved, 5);
    }
    let channel = open();
    channel.close();
    let rest: Vec<u64> = channel.receiver().iter().map(Item::intact).collect();
    assert_eq!(rest, [0, 3, 4]);
    let stats = channel.stats();
    assert_conserved(&stats);
    assert_eq!((stats.lost, stats.unaccounted), (0, 2));
}
