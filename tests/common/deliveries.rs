//! Deliveries: how they are taken out, and what becomes of them.

use super::machine::Machine;
use super::model::Key;
use super::ops::{BatchEnd, Finish, HOUR, Verb, ms};
use super::{FOR_EVER, Item, block_on, poll_and_drop};
use futures::Stream;
use overspill::{AckReceiver, Batch, Delivery, RecvError, TryRecvError};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

impl Machine {
    // ---- out --------------------------------------------------------------------------------

    pub(super) fn deliver(&mut self, verb: Verb) {
        let rx = self.now().acking.clone();
        let is_sure = self.is_sure_to_come() && self.may_take_out();
        match verb {
            Verb::Recv if is_sure => {
                let delivery = rx.recv_timeout(FOR_EVER);
                let delivery =
                    delivery.unwrap_or_else(|error| panic!("{error}: {:?}", self.stats()));
                self.note_out(delivery);
            }
            Verb::Recv | Verb::TryRecv => match rx.try_recv() {
                Ok(delivery) => self.note_out(delivery),
                Err(error) => self.note_none(&error),
            },
            Verb::TryMany(max) => {
                let mut many = Vec::new();
                let max = usize::from(max);
                match rx.try_recv_many(&mut many, max) {
                    Ok(count) => assert!(count == many.len() && count <= max),
                    Err(error) => self.note_none(&error),
                }
                self.note_many_out(many);
            }
            Verb::Async(polls) => match poll_and_drop(rx.recv_async(), usize::from(polls)) {
                Some(Ok(delivery)) => self.note_out(delivery),
                Some(Err(error)) => self.note_ended(&error),
                None => {}
            },
            Verb::ManyAsync(max) => self.deliver_many_async(&rx, usize::from(max)),
            Verb::Stream => {
                let stream = self.now().deliveries.get_or_insert_with(|| rx.stream());
                match Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Some(delivery)) => self.note_out(delivery),
                    Poll::Ready(None) => self.note_ended(&RecvError::Closed),
                    Poll::Pending => {}
                }
            }
            Verb::Batch(arg) if is_sure => {
                let (max_items, max_bytes) = batch_limits(arg);
                let batch = rx.recv_batch(max_items, max_bytes, Duration::ZERO);
                let batch = batch.unwrap_or_else(|error| panic!("{error}: {:?}", self.stats()));
                self.note_batch(batch, max_items);
            }
            Verb::Batch(arg) | Verb::BatchAsync(arg) => self.deliver_batch_async(&rx, arg),
        }
    }

    /// True when the limit lets an item out.
    fn may_take_out(&self) -> bool {
        let held = self.model.held();
        held < self.setup.deliveries.in_flight_max as u64 || self.model.has_ready()
    }

    fn deliver_many_async(&mut self, rx: &AckReceiver<Item>, max: usize) {
        let mut many = Vec::new();
        match poll_and_drop(rx.recv_many_async(&mut many, max), 2) {
            Some(Ok(count)) => assert!(count == many.len() && count <= max),
            Some(Err(error)) => self.note_ended(&error),
            None => assert!(many.is_empty()),
        }
        self.note_many_out(many);
    }

    /// With time to linger it may be dropped while it holds items.
    fn deliver_batch_async(&mut self, rx: &AckReceiver<Item>, arg: u8) {
        let (max_items, max_bytes) = batch_limits(arg);
        let linger = if arg & 0x80 == 0 {
            Duration::ZERO
        } else {
            HOUR
        };
        let future = rx.recv_batch_async(max_items, max_bytes, linger);
        match poll_and_drop(future, usize::from(arg % 4)) {
            Some(Ok(batch)) => self.note_batch(batch, max_items),
            Some(Err(error)) => self.note_ended(&error),
            None => {}
        }
    }

    fn note_none(&mut self, error: &TryRecvError) {
        match error {
            TryRecvError::Empty => {}
            TryRecvError::Closed => self.note_ended(&RecvError::Closed),
            error => panic!("{error}"),
        }
    }

    fn note_out(&mut self, delivery: Delivery<Item>) {
        self.note_gone();
        let key = self.model.take_out(Item::clone(&delivery).intact());
        self.keep(key, delivery);
    }

    fn keep(&mut self, key: Key, delivery: Delivery<Item>) {
        let (name, attempt) = (delivery.id(), delivery.attempt());
        assert_eq!(delivery.seq(), name.seq);
        self.model
            .inspect(key, name, attempt, delivery.requeued_from());
        self.now().out.push((key, delivery));
    }

    fn note_many_out(&mut self, deliveries: Vec<Delivery<Item>>) {
        for delivery in deliveries {
            self.note_out(delivery);
        }
    }

    fn note_batch(&mut self, batch: Batch<Item>, max_items: usize) {
        assert!((1..=max_items).contains(&batch.len()));
        self.note_gone();
        let keys = batch
            .iter()
            .map(|item| self.model.take_out(item.clone().intact()))
            .collect();
        self.now().batches.push((keys, batch));
    }

    // ---- and back ---------------------------------------------------------------------------

    pub(super) fn finish(&mut self, finish: Finish, pick: u8) {
        if self.now().out.is_empty() {
            return;
        }
        let index = usize::from(pick) % self.now().out.len();
        let (key, delivery) = self.now().out.swap_remove(index);
        match finish {
            Finish::Ack => {
                assert_eq!(delivery.ack(), Ok(()));
                self.model.acknowledge(key);
            }
            Finish::AckSync => {
                let acked = if pick & 1 == 0 {
                    delivery.ack_sync()
                } else {
                    block_on(delivery.ack_sync_async())
                };
                assert_eq!(acked, Ok(()));
                self.model.acknowledge(key);
                self.model.persist();
            }
            Finish::AckAndTake => {
                delivery.ack_and_take().intact();
                self.model.acknowledge(key);
            }
            Finish::Release => {
                delivery.release();
                self.model.release(key);
            }
            Finish::DropPanicking => {
                drop_panicking(delivery);
                self.note_failed(key, None);
            }
            Finish::Nack => {
                delivery.nack();
                self.note_failed(key, None);
            }
            Finish::NackAfter => {
                let delay = HOUR * u32::from(pick % 12);
                delivery.nack_after(delay);
                self.note_failed(key, Some(ms(delay)));
            }
            Finish::DeadLetter if self.setup.takes_letters() => {
                delivery.dead_letter("unwanted");
                self.model.doom(key);
            }
            Finish::DeadLetter => {
                drop(delivery);
                self.model.release(key);
            }
        }
    }

    fn note_failed(&mut self, key: Key, delay: Option<u64>) {
        let slot = self.model.slot(key);
        slot.failures += 1;
        let failures = slot.failures;
        if self
            .setup
            .max_attempts()
            .is_some_and(|most| failures >= most)
        {
            self.model.doom(key);
        } else {
            let delay = delay.unwrap_or_else(|| self.setup.backoff_ms(failures));
            self.model.fail(key, delay);
        }
    }

    pub(super) fn finish_batch(&mut self, end: BatchEnd, arg: u8) {
        if self.now().batches.is_empty() {
            return;
        }
        let index = usize::from(arg) % self.now().batches.len();
        let (mut keys, mut batch) = self.now().batches.swap_remove(index);
        assert_eq!(batch.len(), keys.len());
        match end {
            BatchEnd::AckFirst => {
                let count = usize::from(arg >> 4).min(keys.len());
                assert_eq!(batch.ack_first(usize::from(arg >> 4)), Ok(()));
                for key in keys.drain(..count) {
                    self.model.acknowledge(key);
                }
                if !keys.is_empty() {
                    self.now().batches.push((keys, batch));
                }
            }
            BatchEnd::Ack => {
                assert_eq!(batch.ack(), Ok(()));
                for key in keys {
                    self.model.acknowledge(key);
                }
            }
            BatchEnd::DropPanicking if self.model.knows_failures(&keys) => {
                drop_panicking(batch);
                for key in keys {
                    self.note_failed(key, None);
                }
            }
            BatchEnd::Release | BatchEnd::DropPanicking => {
                batch.release();
                for key in keys {
                    self.model.release(key);
                }
            }
            BatchEnd::Split => {
                for (key, delivery) in keys.into_iter().zip(batch.into_deliveries()) {
                    self.keep(key, delivery);
                }
            }
        }
    }

    /// Nothing is out any more, and nothing waits for its time.
    pub(super) fn take_all_back(&mut self) {
        while !self.now().out.is_empty() {
            self.finish(Finish::Release, 0);
        }
        while !self.now().batches.is_empty() {
            self.finish_batch(BatchEnd::Release, 0);
        }
        if self.model.has_delayed() {
            self.advance(3);
        }
    }

    pub(super) fn advance(&mut self, times: u8) {
        let by = HOUR * 5 * u32::from(times);
        self.model.now += ms(by);
        self.now().channel.advance_clock(by);
    }
}

/// Small ones: an item has some five to a hundred bytes.
fn batch_limits(arg: u8) -> (usize, u64) {
    let bytes = match arg >> 2 & 3 {
        0 => 0,
        1 => 12,
        2 => 40,
        _ => u64::MAX,
    };
    (1 + usize::from(arg >> 4 & 7), bytes)
}

/// As a consumer does that panics with it in its hand.
fn drop_panicking<D>(held: D) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _held = held;
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
}
