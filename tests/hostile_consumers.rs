//! Consumers that hold on to deliveries, forget them, panic or ask too much: whatever they do, everybody else gets on.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Alarm, FOR_EVER, assert_conserved, block_on, send, wait_until};
use overspill::{
    AckReceiver, Builder, Codec, CodecError, Delivery, DiskBufferedChannel, Durability, Event,
    FailOn, HaltFault, RecvError, SendError, Storage, TryRecvError, WhenFull,
};
use std::convert::identity;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tempfile::TempDir;

type Channel = DiskBufferedChannel<u64>;

/// It refuses to encode items from 1000 on.
#[derive(Clone, Copy, Debug)]
struct Shy;

impl Codec<u64> for Shy {
    fn name(&self) -> &'static str {
        "shy"
    }

    fn encode(&self, item: &u64, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        if *item >= 1000 {
            return Err(CodecError::new("not this one"));
        }
        buffer.extend_from_slice(&item.to_le_bytes());
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(
            record.try_into().map_err(CodecError::new)?,
        ))
    }
}

fn builder(dir: &TempDir) -> Builder<u64, Shy> {
    Channel::builder(dir.path().join("spool"))
        .storage(Storage::Log)
        .memory_items(5)
        .block_bytes(40)
        .codec(Shy)
}

/// A channel whose disk is soon full.
fn narrow(dir: &TempDir, disk_bytes_max: u64) -> Builder<u64, Shy> {
    builder(dir)
        .block_bytes(4096)
        .disk_bytes_max(disk_bytes_max)
        .disk_free_min(0)
        .when_full(WhenFull::Reject)
}

fn drain(channel: &Channel) -> Vec<u64> {
    channel.close();
    let rx = channel.acking_receiver();
    let mut taken = Vec::new();
    while let Ok(delivery) = rx.recv_timeout(FOR_EVER) {
        taken.push(delivery.ack_and_take());
    }
    taken
}

/// What `work` comes to on a thread of its own; a thread that hangs fails the test.
fn in_time<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(FOR_EVER).expect("it ends")
}

#[test]
fn a_halt_wakes_a_receiver_that_has_as_many_out_as_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).in_flight_max(1).open().unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..2);
    let _out = rx.recv().unwrap();
    let waiting = rx.clone();
    let told = in_time(move || {
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| waiting.recv().unwrap_err());
            channel.halt().unwrap();
            receiving.join().unwrap()
        })
    });
    assert_eq!(told, RecvError::Halted);
    assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Halted);
}

#[test]
fn an_item_that_is_out_and_can_not_be_saved_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).open().unwrap();
    let rx = channel.acking_receiver();
    channel.sender().send(1000).unwrap();
    let out = rx.recv().unwrap();
    let error = channel.halt().unwrap_err();
    assert!(
        matches!(error.source, HaltFault::Encode { count: 1, .. }),
        "{error:?}"
    );
    let stats = channel.stats();
    assert_eq!((stats.dropped.unencodable, stats.pending), (1, 0));
    assert_conserved(&stats);
    assert_eq!(*out, 1000, "its consumer has it still");
}

#[test]
fn a_disk_that_fails_at_a_halt_gives_back_what_is_out_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).open().unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..3);
    let out = rx.recv().unwrap();
    rx.recv().unwrap().release();
    std::fs::remove_dir_all(dir.path().join("spool")).unwrap();
    let error = channel.halt().unwrap_err();
    assert_eq!(error.into_items(), [0, 1, 2]);
    let stats = channel.stats();
    assert_eq!(stats.pending, 0);
    assert_conserved(&stats);
    drop(out);
}

/// Polls the future once, and leaves it waiting.
fn wait_in<F: Future>(alarm: &Alarm, future: Pin<&mut F>) {
    assert!(alarm.poll(future).is_pending());
}

/// One item may be out. As it comes back, it is for who waits for room, although somebody has been `waiting` for it
/// longer: he doesn't look, or goes, as `then` says.
fn assert_comes_back_past<W, R>(
    channel: &Channel,
    rx: &AckReceiver<u64>,
    waiting: impl FnOnce() -> W,
    then: impl FnOnce(W) -> R,
) {
    let (first, last) = (Alarm::new(), Alarm::new());
    let mut taking = pin!(rx.recv_async());
    wait_in(&first, taking.as_mut());
    let waiting = waiting();
    send(channel, 0..1);
    let Poll::Ready(Ok(out)) = first.poll(taking.as_mut()) else {
        panic!("it was sent")
    };
    let mut for_room = pin!(rx.recv_async());
    wait_in(&last, for_room.as_mut());
    out.release();
    let _kept = then(waiting);
    assert!(last.rang(), "it may have it");
}

#[test]
fn a_stream_that_nobody_polls_keeps_no_receiver_from_what_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).in_flight_max(1).open().unwrap();
    let rx = channel.acking_receiver();
    let idle = || {
        let mut stream = rx.stream();
        let mut context = Context::from_waker(Waker::noop());
        let polled = futures_core::Stream::poll_next(Pin::new(&mut stream), &mut context);
        assert!(polled.is_pending(), "it waits where items come");
        stream
    };
    assert_comes_back_past(&channel, &rx, idle, identity);
}

#[test]
fn a_future_that_is_dropped_passes_on_what_came_back_to_one_that_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).in_flight_max(1).open().unwrap();
    let rx = channel.acking_receiver();
    let waiting = || {
        let mut future = Box::pin(rx.recv_async());
        wait_in(&Alarm::new(), future.as_mut());
        future
    };
    assert_comes_back_past(&channel, &rx, waiting, drop);
}

#[test]
fn receivers_that_sleep_get_what_another_one_saw_to_be_due() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).open().unwrap();
    let rx = channel.acking_receiver();
    for _ in 0..50 {
        send(&channel, 0..2);
        let delay = Duration::from_millis(3);
        let both = [rx.recv().unwrap(), rx.recv().unwrap()];
        let sleeping = rx.clone();
        let (tell, told) = mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(()).unwrap();
            sleeping.recv_timeout(FOR_EVER).map(Delivery::ack_and_take)
        });
        told.recv().unwrap();
        for delivery in both {
            delivery.nack_after(delay);
        }
        let mut mine = None;
        wait_until("one of them is due", || {
            mine = mine.take().or_else(|| rx.try_recv().ok());
            mine.is_some() || sleeper.is_finished()
        });
        let theirs = sleeper.join().unwrap();
        assert!(theirs.is_ok(), "nobody woke it");
        let mine = mine.or_else(|| rx.recv().ok());
        mine.unwrap().ack().unwrap();
    }
}

#[test]
fn delivery_goes_on_after_a_requeue_that_took_several_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).open().unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..4);
    rx.recv().unwrap().dead_letter("later");
    wait_until("it is written", || channel.stats().dead_lettered == 1);
    for _ in 0..3 {
        channel.fail_next(FailOn::Sync, ErrorKind::Other);
    }
    assert!(channel.requeue_dead_letters().is_err());
    assert_eq!(drain(&channel), [1, 2, 3, 0]);
    wait_until("the letter is gone, too", || {
        channel.stats().last_error.is_none()
    });
    assert_eq!(channel.dead_letters().count(), 0);
    assert_conserved(&channel.stats());
}

#[test]
fn a_full_disk_takes_a_requeue_back_up_as_it_is_drained() {
    let dir = tempfile::tempdir().unwrap();
    let channel = narrow(&dir, 1 << 20).open().unwrap();
    let (tx, rx) = (channel.sender(), channel.acking_receiver());
    let mut sent = 0_u64;
    for _ in 0..3 {
        tx.send(sent % 1000).unwrap();
        sent += 1;
        rx.recv().unwrap().dead_letter("later");
    }
    wait_until("they are written", || channel.stats().dead_lettered == 3);
    let mut is_full = false;
    let mut expected = Vec::new();
    while !is_full {
        match tx.send(sent % 1000) {
            Ok(()) => expected.push(sent % 1000),
            Err(SendError::Full(_)) => is_full = true,
            Err(error) => panic!("{error}"),
        }
        sent += 1;
    }
    let requeued = channel.requeue_dead_letters();
    expected.extend([0, 1, 2]);
    let taken = drain(&channel);
    assert_eq!(
        taken.len(),
        expected.len(),
        "{requeued:?} {:?}",
        channel.stats()
    );
    assert_eq!(taken, expected);
    assert_conserved(&channel.stats());
}

#[test]
fn a_letter_that_a_full_disk_has_no_room_for_does_not_keep_it_full() {
    for storage in [Storage::Sled, Storage::Log] {
        let dir = tempfile::tempdir().unwrap();
        let channel = narrow(&dir, 2 << 20).storage(storage).open().unwrap();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        let mut sent = 0_u64;
        let mut refused = 0;
        while refused < 100 {
            match tx.send(sent % 1000) {
                Ok(()) => sent += 1,
                Err(SendError::Full(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        for _ in 0..20 {
            rx.recv_timeout(FOR_EVER).unwrap().dead_letter("unwanted");
        }
        assert_eq!(drain(&channel).len() as u64, sent - 20);
        let stats = channel.stats();
        assert_eq!((stats.dead_lettered, stats.pending), (20, 0));
        assert_conserved(&stats);
    }
}

#[test]
fn a_halt_that_finds_an_item_that_can_not_be_saved_ends_every_wait_for_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let channel = builder(&dir)
        .on_event(move |event| {
            if matches!(event, Event::DeadLettered { .. }) {
                let _ = gone.lock().unwrap().recv();
            }
        })
        .open()
        .unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..2);
    channel.sender().send(1000).unwrap();
    rx.recv().unwrap().dead_letter("it keeps the worker busy");
    wait_until("it is busy", || channel.stats().dead_lettered == 1);
    let out = rx.recv().unwrap();
    let acked = in_time(move || {
        std::thread::scope(|scope| {
            let acking = scope.spawn(|| out.ack_sync());
            wait_until("it is acknowledged", || channel.stats().acknowledged == 1);
            let halting = scope.spawn(|| channel.halt());
            wait_until("both ends are stopped", || {
                rx.try_recv()
                    .is_err_and(|error| error == TryRecvError::Halted)
            });
            drop(go);
            assert!(halting.join().unwrap().is_err());
            acking.join().unwrap()
        })
    });
    assert_eq!(acked, Ok(()));
}

/// An item that looks at its channel as it is dropped.
#[derive(Debug)]
struct Curious;

static LOOKED_AT: OnceLock<DiskBufferedChannel<Curious>> = OnceLock::new();

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(channel) = LOOKED_AT.get() {
            channel.stats();
        }
    }
}

struct Empty;

impl Codec<Curious> for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    fn encode(&self, _: &Curious, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn decode(&self, _: &[u8]) -> Result<Curious, CodecError> {
        Ok(Curious)
    }
}

#[test]
fn a_halt_drops_what_came_back_outside_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let channel = DiskBufferedChannel::<Curious>::builder(dir.path().join("spool"))
        .storage(Storage::Log)
        .durability(Durability::Process)
        .codec(Empty);
    let channel = LOOKED_AT.get_or_init(|| channel.open().unwrap());
    let rx = channel.acking_receiver();
    for _ in 0..3 {
        channel.sender().send(Curious).unwrap();
    }
    rx.recv().unwrap().release();
    let saved = in_time(|| channel.halt().unwrap().saved);
    assert_eq!(saved, 3);
}

#[test]
fn a_drain_may_be_told_to_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).open().unwrap();
    send(&channel, 0..1);
    let rx = channel.acking_receiver();
    rx.recv().unwrap().ack().unwrap();
    assert_eq!(channel.drain(Duration::MAX).unwrap().saved, 0);

    let channel = builder(&dir).open().unwrap();
    assert_eq!(
        block_on(channel.drain_async(Duration::MAX)).unwrap().saved,
        0
    );
}

#[test]
fn the_largest_and_smallest_of_all_settings_work() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir)
        .durability(Durability::Interval(Duration::MAX))
        .max_age(Duration::MAX)
        .backoff(Duration::MAX, Duration::MAX)
        .in_flight_max(usize::MAX)
        .max_attempts(u32::MAX)
        .dead_letter_bytes_max(0)
        .open()
        .unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..9);
    rx.recv().unwrap().nack();
    rx.recv().unwrap().nack_after(Duration::MAX);
    rx.recv().unwrap().nack_after(Duration::ZERO);
    assert_eq!(rx.recv().unwrap().ack_and_take(), 2);
    let batch = rx.recv_batch(0, 0, Duration::MAX).unwrap();
    assert_eq!(batch.iter().copied().collect::<Vec<_>>(), [3]);
    batch.ack().unwrap();
    channel.close();
    let batch = rx.recv_batch(4, u64::MAX, Duration::MAX).unwrap();
    assert_eq!(batch.len(), 4);
    batch.ack().unwrap();
    let mut none = Vec::new();
    assert_eq!(rx.recv_many(&mut none, 0), Ok(0));
    rx.recv()
        .unwrap()
        .dead_letter("there is always room for one");
    wait_until("it is written", || channel.stats().dead_lettered == 1);
    assert_conserved(&channel.stats());
    assert_eq!(channel.halt().unwrap().saved, 2);
    drop((rx, channel));
    let channel = builder(&dir)
        .max_age(Duration::from_nanos(1))
        .open()
        .unwrap();
    assert_conserved(&channel.stats());
}

#[test]
fn no_back_off_stays_none_however_often_an_item_fails() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir)
        .backoff(Duration::ZERO, FOR_EVER)
        .manual_clock()
        .open()
        .unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    for attempt in 1..70 {
        let delivery = rx.try_recv().unwrap();
        assert_eq!(delivery.attempt(), attempt);
        delivery.nack();
    }
}

/// A waker that panics, as one may in a runtime that is being torn down.
struct Rude;

impl Wake for Rude {
    fn wake(self: Arc<Self>) {
        panic!("as a waker may");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep_and_ends_no_channel() {
    for durability in [Durability::Spill, Durability::Process] {
        let dir = tempfile::tempdir().unwrap();
        let channel = builder(&dir).durability(durability).open().unwrap();
        let rx = channel.acking_receiver();
        let waker = Arc::new(Rude).into();
        let mut context = Context::from_waker(&waker);
        let mut rude = [Box::pin(rx.recv_async()), Box::pin(rx.recv_async())];
        for waiting in &mut rude {
            assert!(waiting.as_mut().poll(&mut context).is_pending());
        }
        let alarm = Alarm::new();
        let mut polite = pin!(rx.recv_async());
        wait_in(&alarm, polite.as_mut());
        send(&channel, 0..3);
        alarm.wait();
        assert!(matches!(alarm.poll(polite.as_mut()), Poll::Ready(Ok(delivery)) if *delivery == 0));
        drop(rude);
        assert_eq!(drain(&channel), [0, 1, 2]);
        assert_eq!(channel.halt().unwrap().saved, 0);
    }
}

#[test]
fn a_requeue_of_many_letters_does_not_hold_up_a_halt() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).memory_items(3000).open().unwrap();
    let rx: AckReceiver<u64> = channel.acking_receiver();
    channel
        .sender()
        .send_all(&mut (0..3000).map(|n| n % 1000))
        .unwrap();
    for _ in 0..3000 {
        rx.recv().unwrap().dead_letter("later");
    }
    wait_until("they are written", || channel.stats().dead_lettered == 3000);
    std::thread::scope(|scope| {
        let requeueing = scope.spawn(|| channel.requeue_dead_letters());
        wait_until("it has begun", || channel.stats().accepted > 3000);
        channel.halt().unwrap();
        let _ = requeueing.join().unwrap();
    });
    let accepted = channel.stats().accepted;
    assert!(accepted < 6000, "it went on to the end");
    assert_conserved(&channel.stats());
    drop((rx, channel));
    let channel = builder(&dir).open().unwrap();
    let letters = channel.dead_letters().count() as u64;
    assert_eq!(letters + channel.stats().pending, 3000);
}

#[test]
fn the_age_of_what_came_back_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(&dir).manual_clock().open().unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..1);
    let minute = Duration::from_secs(60);
    channel.advance_clock(minute);
    let out = rx.recv().unwrap();
    let mut waiting = Box::pin(rx.recv_async());
    wait_in(&Alarm::new(), waiting.as_mut());
    drop(waiting);
    channel.advance_clock(minute);
    out.release();
    assert!(channel.stats().oldest_age.unwrap() >= 2 * minute);
    rx.recv().unwrap().nack_after(minute);
    assert!(channel.stats().oldest_age.unwrap() >= 2 * minute);
}
