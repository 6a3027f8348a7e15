//! Dead letters: what is set aside, is kept, can be looked at, put back and removed, and is always in exactly one place.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{FOR_EVER, LEVELS, assert_conserved, block_on, drain, send, wait_until};
use overspill::{
    Codec, CodecError, DeadLetter, DeadLetterError, Delivery, DiskBufferedChannel, Durability,
    Event, FailOn, RecvError, RecvTimeoutError, Storage, TryRecvError,
};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;

type Channel = DiskBufferedChannel<u64>;

/// Eight bytes an item. It refuses to decode the items from `bad.0` to `bad.1`.
#[derive(Clone, Default)]
struct Picky {
    bad: Arc<(AtomicU64, AtomicU64)>,
}

impl Picky {
    fn refuse(&self, items: std::ops::Range<u64>) {
        self.bad.0.store(items.start, Ordering::SeqCst);
        self.bad.1.store(items.end, Ordering::SeqCst);
    }
}

impl Codec<u64> for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn encode(&self, item: &u64, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        buffer.extend_from_slice(&item.to_le_bytes());
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<u64, CodecError> {
        let item = u64::from_le_bytes(record.try_into().map_err(CodecError::new)?);
        let bad = self.bad.0.load(Ordering::SeqCst)..self.bad.1.load(Ordering::SeqCst);
        if bad.contains(&item) {
            return Err(CodecError::new("not today"));
        }
        Ok(item)
    }
}

/// A directory, and how the channel in it is opened.
struct Spool {
    dir: TempDir,
    storage: Storage,
    durability: Durability,
    codec: Picky,
}

impl Spool {
    fn new(storage: Storage, durability: Durability) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            storage,
            durability,
            codec: Picky::default(),
        }
    }

    fn builder(&self) -> overspill::Builder<u64, Picky> {
        Channel::builder(self.dir.path().join("spool"))
            .storage(self.storage)
            .durability(self.durability.clone())
            .memory_items(3)
            // Three records.
            .block_bytes(36)
            .codec(self.codec.clone())
    }

    fn open(&self) -> Channel {
        self.builder().open().unwrap()
    }
}

fn with_each_kind(scenario: impl Fn(&Spool)) {
    for (storage, durability) in LEVELS {
        scenario(&Spool::new(storage, durability));
    }
}

fn a_log() -> Spool {
    Spool::new(Storage::Log, Durability::Spill)
}

/// Sets the next `count` items aside.
fn bury(channel: &Channel, count: u64) {
    let rx = channel.acking_receiver();
    for _ in 0..count {
        rx.recv_timeout(FOR_EVER).unwrap().dead_letter("unwanted");
    }
}

fn letters(channel: &Channel) -> Vec<DeadLetter> {
    let mut letters = channel.dead_letters();
    let all: Vec<_> = letters.by_ref().collect();
    assert_eq!(letters.error(), None);
    assert_eq!(letters.damaged_bytes(), 0);
    all
}

fn items(letters: &[DeadLetter]) -> Vec<u64> {
    let item = |letter: &DeadLetter| u64::from_le_bytes(letter.bytes.clone().try_into().unwrap());
    letters.iter().map(item).collect()
}

#[test]
fn what_is_set_aside_is_kept_with_all_that_is_known_of_it() {
    with_each_kind(|spool| {
        let channel = spool.open();
        let rx = channel.acking_receiver();
        send(&channel, 0..10);
        rx.recv().unwrap().ack().unwrap();
        rx.recv().unwrap().nack();
        rx.recv().unwrap().dead_letter("not a line");
        let first = letters(&channel);
        assert_eq!(items(&first), [1]);
        assert_eq!((first[0].seq, first[0].attempts), (1, 1));
        assert_eq!(first[0].reason, "not a line");
        assert!(first[0].at.elapsed().unwrap() < FOR_EVER);
        bury(&channel, 7);
        assert_eq!(letters(&channel).len(), 8);
        let stats = channel.stats();
        assert_eq!((stats.dead_lettered, stats.in_flight), (8, 0));
        assert_conserved(&stats);
        drop(rx);
        channel.halt().unwrap();
        drop(channel);

        let channel = spool.open();
        let kept = letters(&channel);
        assert_eq!(kept[0], first[0]);
        assert_eq!(items(&kept), (1..9).collect::<Vec<_>>());
        assert_eq!(drain(&channel), [9]);
        assert_conserved(&channel.stats());
    });
}

#[test]
fn an_item_that_failed_too_often_is_set_aside_and_an_outage_sets_nothing_aside() {
    with_each_kind(|spool| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let channel = spool
            .builder()
            .max_attempts(3)
            .on_event(move |event| {
                if let Event::DeadLettered { seq, reason } = event {
                    heard.lock().unwrap().push((*seq, reason.clone()));
                }
            })
            .open()
            .unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..5);
        for _ in 0..10 {
            rx.recv().unwrap().release();
            drop(rx.recv().unwrap());
        }
        assert_eq!(channel.stats().dead_lettered, 0);
        for _ in 0..3 {
            rx.recv().unwrap().nack();
        }
        assert_eq!(*rx.recv().unwrap(), 1);
        let kept = letters(&channel);
        assert_eq!((items(&kept), kept[0].attempts), (vec![0], 3));
        wait_until("the event is told", || !told.lock().unwrap().is_empty());
        assert_eq!(told.lock().unwrap()[0].0, 0);
        assert_eq!(drain(&channel), [1, 2, 3, 4]);
        assert_conserved(&channel.stats());
    });
}

#[test]
fn records_that_can_not_be_decoded_are_set_aside_and_delivery_goes_on() {
    with_each_kind(|spool| {
        let channel = spool.open();
        send(&channel, 0..30);
        channel.halt().unwrap();
        drop(channel);
        spool.codec.refuse(7..9);
        let channel = spool.open();
        assert_eq!(channel.receiver().recv(), Ok(0));
        let expected: Vec<u64> = (1..30).filter(|n| !(7..9).contains(n)).collect();
        assert_eq!(drain(&channel), expected);
        let kept = letters(&channel);
        assert_eq!(items(&kept), [7, 8]);
        assert!(kept[0].reason.contains("not today"), "{kept:?}");
        let stats = channel.stats();
        assert_eq!((stats.dead_lettered, stats.lost), (2, 0));
        assert_conserved(&stats);
    });
}

#[test]
fn the_last_records_are_set_aside_although_nothing_comes_behind_them() {
    with_each_kind(|spool| {
        let channel = spool.open();
        send(&channel, 0..8);
        channel.halt().unwrap();
        drop(channel);
        spool.codec.refuse(3..8);
        let channel = spool.open();
        assert_eq!(drain(&channel), [0, 1, 2]);
        assert_eq!(items(&letters(&channel)), [3, 4, 5, 6, 7]);
        assert_conserved(&channel.stats());
    });
}

#[test]
fn a_backlog_of_which_nothing_can_be_decoded_is_not_emptied_into_dead_letters() {
    with_each_kind(|spool| {
        let channel = spool.open();
        send(&channel, 0..30);
        channel.halt().unwrap();
        drop(channel);
        spool.codec.refuse(0..30);
        let channel = spool.open();
        let rx = channel.receiver();
        let stopped = rx.recv_timeout(FOR_EVER).unwrap_err();
        assert!(
            matches!(
                stopped,
                RecvTimeoutError::Failed(RecvError::Undecodable { seq: 0, .. })
            ),
            "{stopped:?}"
        );
        assert_eq!(letters(&channel), []);
        let stats = channel.stats();
        assert_eq!((stats.pending, stats.dead_lettered), (30, 0));
        assert_conserved(&stats);
        channel.halt().unwrap();
        drop((rx, channel));
        spool.codec.refuse(0..0);
        assert_eq!(drain(&spool.open()), (0..30).collect::<Vec<_>>());
    });
}

#[test]
fn requeued_letters_are_new_items_in_their_order_that_say_what_they_were() {
    with_each_kind(|spool| {
        let channel = spool.open();
        send(&channel, 0..12);
        let was: Vec<_> = (0..8)
            .map(|_| {
                let delivery = channel.acking_receiver().recv().unwrap();
                let id = delivery.id();
                delivery.nack();
                channel
                    .acking_receiver()
                    .recv()
                    .unwrap()
                    .dead_letter("later");
                id
            })
            .collect();
        assert_eq!(channel.requeue_dead_letters(), Ok(8));
        assert_eq!(letters(&channel), []);
        send(&channel, 20..22);
        let stats = channel.stats();
        assert_eq!(
            (stats.accepted, stats.dead_lettered, stats.pending),
            (22, 8, 14)
        );
        assert_conserved(&stats);
        channel.halt().unwrap();
        drop(channel);

        let channel = spool.open();
        channel.close();
        let rx = channel.acking_receiver();
        let all: Vec<_> = rx.stream_to_vec();
        let order: Vec<u64> = all.iter().map(|delivery| **delivery).collect();
        let expected: Vec<u64> = (8..12).chain(0..8).chain(20..22).collect();
        assert_eq!(order, expected);
        for delivery in &all {
            let from = delivery.requeued_from();
            let index = usize::try_from(**delivery).unwrap();
            assert_eq!(from, was.get(index).copied().filter(|_| index < 8));
            assert_ne!(from, Some(delivery.id()));
            assert_eq!(delivery.attempt(), 1);
        }
        for delivery in all {
            delivery.ack().unwrap();
        }
        assert_conserved(&channel.stats());
    });
}

/// All that is pending, out at once.
trait All {
    fn stream_to_vec(&self) -> Vec<Delivery<u64>>;
}

impl All for overspill::AckReceiver<u64> {
    fn stream_to_vec(&self) -> Vec<Delivery<u64>> {
        let mut all = Vec::new();
        while !self.is_empty() {
            all.push(self.recv_timeout(FOR_EVER).unwrap());
        }
        all
    }
}

#[test]
fn requeued_letters_go_round_again_without_growing() {
    let spool = a_log();
    let channel = spool.open();
    send(&channel, 0..4);
    bury(&channel, 4);
    for round in 1..4_u64 {
        assert_eq!(channel.requeue_dead_letters(), Ok(4));
        bury(&channel, 4);
        assert_eq!(items(&letters(&channel)), [0, 1, 2, 3]);
        assert_eq!(channel.stats().dead_lettered, 4 * (round + 1));
        assert_conserved(&channel.stats());
    }
}

#[test]
fn purged_letters_are_gone_for_good_and_their_space_with_them() {
    with_each_kind(|spool| {
        let channel = spool.open();
        send(&channel, 0..9);
        bury(&channel, 9);
        wait_until("they are written", || letters(&channel).len() == 9);
        let before = channel.stats().disk_bytes;
        assert_eq!(channel.purge_dead_letters(), Ok(9));
        assert!(channel.stats().disk_bytes < before);
        assert_eq!(letters(&channel), []);
        assert_eq!(block_on(channel.purge_dead_letters_async()), Ok(0));
        assert_eq!(block_on(channel.requeue_dead_letters_async()), Ok(0));
        channel.halt().unwrap();
        drop(channel);
        let channel = spool.open();
        assert_eq!(letters(&channel), []);
        assert_eq!(channel.stats().dead_lettered, 9);
        assert_eq!(drain(&channel), [0; 0]);
    });
}

#[test]
fn delivery_pauses_where_no_more_letters_fit_and_goes_on_when_there_is_room() {
    with_each_kind(|spool| {
        let channel = spool.builder().dead_letter_bytes_max(300).open().unwrap();
        let rx = channel.acking_receiver();
        send(&channel, 0..20);
        let mut buried = 0;
        wait_until("no more letters fit", || {
            if let Ok(delivery) = rx.try_recv() {
                delivery.dead_letter("unwanted");
                buried += 1;
            }
            channel.stats().last_error.is_some()
        });
        let stats = channel.stats();
        assert!(stats.last_error.unwrap().message.contains("dead letters"));
        assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(stats.dead_lettered < buried, "one at least waits");
        assert_conserved(&channel.stats());
        let mut purged = 0;
        wait_until("all of them were written", || {
            purged += channel.purge_dead_letters().unwrap();
            channel.stats().dead_lettered == buried
        });
        purged += channel.purge_dead_letters().unwrap();
        assert_eq!(purged, buried);
        send(&channel, 20..21);
        assert_eq!(*rx.recv_timeout(FOR_EVER).unwrap(), buried);
        assert!(channel.stats().last_error.is_none());
        assert_conserved(&channel.stats());
    });
}

#[test]
fn letters_that_find_no_room_before_a_halt_come_again_as_items() {
    with_each_kind(|spool| {
        let channel = spool.builder().dead_letter_bytes_max(1).open().unwrap();
        send(&channel, 0..6);
        bury(&channel, 1);
        assert_eq!(items(&letters(&channel)), [0], "one always finds room");
        bury(&channel, 1);
        wait_until("it finds none", || channel.stats().last_error.is_some());
        assert_eq!(channel.halt().unwrap().saved, 5);
        drop(channel);
        let channel = spool.open();
        assert_eq!(drain(&channel), (1..6).collect::<Vec<_>>());
        assert_conserved(&channel.stats());
    });
}

#[test]
fn after_a_crash_every_item_is_a_letter_or_an_item_and_never_both() {
    with_each_kind(|spool| {
        for round in 0..4_u64 {
            let channel = spool.open();
            let accepted = channel.stats().accepted;
            send(&channel, 0..12);
            channel.sync().unwrap();
            let already = letters(&channel).len() as u64;
            bury(&channel, 5);
            wait_until("they are written", || {
                letters(&channel).len() as u64 == already + 5
            });
            if round % 2 == 1 {
                assert_eq!(channel.requeue_dead_letters(), Ok(already + 5));
            }
            channel.crash();
            drop(channel);
            let channel = spool.open();
            let stats = channel.stats();
            assert_conserved(&stats);
            assert_eq!((stats.lost, stats.unaccounted), (0, 0));
            let moved = if round % 2 == 1 { already + 5 } else { 0 };
            assert_eq!(stats.accepted, accepted + 12 + moved);
            assert_eq!(letters(&channel).len() as u64, already + 5 - moved);
            assert_eq!(stats.pending, 7 + moved);
            let rx = channel.acking_receiver();
            for delivery in rx.stream_to_vec() {
                delivery.ack().unwrap();
            }
            assert_conserved(&channel.stats());
            channel.halt().unwrap();
        }
    });
}

#[test]
fn a_requeue_that_meets_a_failing_disk_loses_and_doubles_nothing() {
    for failures in 0..6 {
        for on in [FailOn::Append, FailOn::Sync] {
            let spool = a_log();
            let channel = spool.open();
            send(&channel, 0..10);
            bury(&channel, 7);
            assert_eq!(letters(&channel).len(), 7);
            channel.fail_nth(on, failures, ErrorKind::Other);
            let first = channel.requeue_dead_letters();
            assert_conserved(&channel.stats());
            wait_until("it is requeued", || {
                channel.requeue_dead_letters().is_ok() && letters(&channel).is_empty()
            });
            let mut left = drain(&channel);
            left.sort_unstable();
            assert_eq!(
                left,
                (0..10).collect::<Vec<_>>(),
                "{on:?} {failures} {first:?}"
            );
            assert_conserved(&channel.stats());
        }
    }
}

#[test]
fn a_halted_channel_and_its_own_callback_are_told_so() {
    static CHANNEL: OnceLock<Channel> = OnceLock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let spool = a_log();
    let channel = spool.builder().on_event(move |_| {
        if let Some(channel) = CHANNEL.get() {
            heard.lock().unwrap().push(channel.purge_dead_letters());
        }
    });
    let channel = CHANNEL.get_or_init(|| channel.open().unwrap());
    send(channel, 0..3);
    bury(channel, 1);
    wait_until("it is told", || !told.lock().unwrap().is_empty());
    assert_eq!(told.lock().unwrap()[0], Err(DeadLetterError::FromCallback));
    channel.halt().unwrap();
    assert_eq!(channel.requeue_dead_letters(), Err(DeadLetterError::Halted));
    let mut none = channel.dead_letters();
    assert!(none.next().is_none() && none.error().is_some());
}
