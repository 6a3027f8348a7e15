//! Many items with few lock rounds: `send_all` and the sink.
//!
//! The iterator is foreign code, so it runs outside the lock; and an item that was taken from it must
//! find a place. So places are reserved first, items are taken into a [`Batch`] that belongs to the channel
//! (a halt that comes meanwhile saves what is in it), and then all of it is admitted in one look. What finds no room by
//! then stays in the batch, and goes past the limits only where its caller goes away: at most [`BATCH_ITEMS`] items.

mod batch;

pub(crate) use self::batch::Batch;

use crate::config::WhenFull;
use crate::core::{Patience, Shared};
use crate::error::{SendError, StoreError};
use crate::placing::{Admitted, Misfits};
use crate::route::Route;
use crate::seq::Seq;
use crate::state::{Intake, State, Writer};
use crate::sync;
use crate::wait::{Ticket, Wakes, block_until};
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

/// The most items that one look at the state admits: they fill a block of the log when they are of the size of a line.
const BATCH_ITEMS: usize = 256;
/// So many it is as long as nobody knows how fast they come.
const FIRST_BATCH_ITEMS: usize = 64;
/// Nobody sees an item before its batch is full, so a slow source gets small ones.
const BATCH_TIME: Duration = Duration::from_millis(1);

/// What a caller that brings items finds.
pub(crate) enum Grant {
    /// So many items may be brought.
    Places(Places),
    /// No place, and no use in waiting: [`Shared::send_refused`] says why.
    Refused,
}

/// A permission to bring items, and how much of front is kept for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    pub(crate) count: usize,
    pub(crate) in_front: usize,
}

/// A batch that the channel knows of. However it ends, what is in it is admitted: also when the iterator panics.
struct Open<'a, T> {
    shared: &'a Arc<Shared<T>>,
    places: Places,
    batch: Option<Arc<Batch<T>>>,
}

impl<'a, T> Open<'a, T> {
    /// Makes a batch while the intake is open, in one look: a close or a halt that comes later waits for it, and
    /// one that came before has nobody who would collect it.
    fn new(shared: &'a Arc<Shared<T>>, places: Places) -> Result<Self, Intake> {
        let batch = shared.enter(|state, wakes| match state.intake() {
            Intake::Open => Ok(state.open_batch()),
            intake => {
                state.unreserve(places.in_front, wakes);
                Err(intake)
            }
        })?;
        Ok(Self {
            shared,
            places,
            batch: Some(batch),
        })
    }

    /// Gives the item back when a halt has come.
    fn push(&self, item: T) -> Result<(), T> {
        match &self.batch {
            Some(batch) => batch.push(item),
            None => Err(item),
        }
    }

    fn admit(mut self, writer: Writer) -> Result<Admitted<T>, SendError<T>> {
        let nothing = Admitted {
            last: None,
            left: None,
        };
        let batch = self.batch.take();
        batch.map_or(Ok(nothing), |batch| {
            self.shared
                .admit_batch(&batch, self.places, writer, Misfits::Wait)
        })
    }
}

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            let writer = Writer::Worker;
            let _ = self
                .shared
                .admit_batch(&batch, self.places, writer, Misfits::Go);
        }
    }
}

impl<T> Shared<T> {
    /// Reserves places for at most `wanted` items.
    pub(crate) fn poll_reserve(
        self: &Arc<Self>,
        wanted: usize,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<Grant> {
        self.enter(|state, wakes| {
            let grant = match (state.intake(), state.route(0)) {
                (Intake::Closed | Intake::Halted, _) => Grant::Refused,
                (Intake::Open, route) if state.fault_on(route).is_some() => Grant::Refused,
                (Intake::Open, Route::Front | Route::Staging) => {
                    Grant::Places(state.reserve(wanted))
                }
                (Intake::Open, Route::Full) if !self.waits_when_full(state, wakes) => {
                    Grant::Refused
                }
                (Intake::Open, route) => {
                    if route == Route::Behind {
                        state.note_behind(wakes);
                    }
                    state.send_waiters.register(ticket, waker, wakes);
                    return Poll::Pending;
                }
            };
            state.send_waiters.leave(ticket, wakes);
            Poll::Ready(grant)
        })
    }

    fn waits_when_full(&self, state: &mut State<T>, wakes: &mut Wakes) -> bool {
        match self.settings.when_full {
            WhenFull::Reject | WhenFull::DropNewest => false,
            WhenFull::Block => {
                state.note_full(0, wakes);
                true
            }
            WhenFull::DropOldest => {
                state.note_full(0, wakes);
                state.drop_oldest_wanted = true;
                state.kick(wakes);
                true
            }
        }
    }

    /// Takes items from `source` and admits them. With an error, the worker writes those that were admitted.
    fn feed(
        self: &Arc<Self>,
        source: &mut dyn Iterator<Item = T>,
        places: Places,
        writer: Writer,
    ) -> Result<Fed<T>, SendError<T>> {
        let mut fed = Fed {
            count: 0,
            last: None,
            left: None,
            exhausted: false,
        };
        // The next reservation is refused then, and says why.
        let Ok(open) = Open::new(self, places) else {
            return Ok(fed);
        };
        for _ in 0..places.count {
            let Some(item) = source.next() else {
                fed.exhausted = true;
                break;
            };
            if let Err(item) = open.push(item) {
                return Err(SendError::Halted(item));
            }
            fed.count += 1;
        }
        let admitted = open.admit(writer)?;
        fed.last = admitted.last;
        fed.left = admitted.left;
        Ok(fed)
    }

    /// Deals with one item for which no place could be had: gives it back with the reason, drops it if that is
    /// the policy, or admits it if there is room by now.
    pub(crate) fn send_refused(self: &Arc<Self>, item: T) -> Result<Admitted<T>, SendError<T>> {
        let full = self.enter(|state, wakes| match (state.intake(), state.route(0)) {
            (Intake::Closed, _) => Some(Refusal::Closed),
            (Intake::Halted, _) => Some(Refusal::Halted),
            (Intake::Open, route) if state.fault_on(route).is_some() => {
                state.fault_on(route).cloned().map(Refusal::Store)
            }
            (Intake::Open, Route::Full) if !self.waits_when_full(state, wakes) => {
                state.note_full(0, wakes);
                if self.settings.when_full == WhenFull::DropNewest {
                    state.ledger.drop_newest();
                    Some(Refusal::Dropped)
                } else {
                    Some(Refusal::Full)
                }
            }
            (Intake::Open, _) => None,
        });
        match full {
            Some(Refusal::Closed) => Err(SendError::Closed(item)),
            Some(Refusal::Halted) => Err(SendError::Halted(item)),
            Some(Refusal::Full) => Err(SendError::Full(item)),
            Some(Refusal::Store(source)) => Err(SendError::Store { item, source }),
            Some(Refusal::Dropped) => Ok(Admitted {
                last: None,
                left: None,
            }),
            None => self.send_reserved(
                item,
                Places {
                    count: 1,
                    in_front: 0,
                },
            ),
        }
    }

    /// Admits one item into a place that was reserved for it.
    pub(crate) fn send_reserved(
        self: &Arc<Self>,
        item: T,
        places: Places,
    ) -> Result<Admitted<T>, SendError<T>> {
        match Open::new(self, places) {
            Ok(open) => match open.push(item) {
                Ok(()) => open.admit(Writer::Worker),
                Err(item) => Err(SendError::Halted(item)),
            },
            Err(Intake::Halted) => Err(SendError::Halted(item)),
            Err(Intake::Open | Intake::Closed) => Err(SendError::Closed(item)),
        }
    }

    /// `send_all`, blocking.
    pub(crate) fn send_all(
        self: &Arc<Self>,
        source: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError<T>> {
        let mut feeder = Feeder::new(self, Patience::MayBlock);
        block_until(None, |waker| feeder.poll(source, waker)).unwrap_or(Ok(0))
    }
}

/// Why an item found no place.
enum Refusal {
    Closed,
    Halted,
    Full,
    Dropped,
    Store(StoreError),
}

/// What one batch came to.
struct Fed<T> {
    /// Items taken and accepted.
    count: usize,
    /// The last number given out.
    last: Option<Seq>,
    left: Option<Arc<Batch<T>>>,
    /// The source has no more.
    exhausted: bool,
}

/// A `send_all` in progress.
pub(crate) struct Feeder<'a, T> {
    shared: &'a Arc<Shared<T>>,
    writer: Writer,
    room: Ticket,
    confirmed: Ticket,
    accepted: usize,
    /// How many items the source gives in about [`BATCH_TIME`].
    batch_items: usize,
    /// The number whose durability is awaited.
    confirming: Option<Seq>,
    left: Option<Arc<Batch<T>>>,
    exhausted: bool,
}

impl<'a, T> Feeder<'a, T> {
    pub(crate) fn new(shared: &'a Arc<Shared<T>>, patience: Patience) -> Self {
        Self {
            shared,
            writer: shared.writer(patience),
            room: Ticket::default(),
            confirmed: Ticket::default(),
            accepted: 0,
            batch_items: FIRST_BATCH_ITEMS,
            confirming: None,
            left: None,
            exhausted: false,
        }
    }

    /// Goes on until the source is exhausted. Holds no item while it is pending: what is left is the channel's.
    pub(crate) fn poll(
        &mut self,
        source: &mut dyn Iterator<Item = T>,
        waker: &Waker,
    ) -> Poll<Result<usize, SendError<T>>> {
        loop {
            if let Some(seq) = self.confirming {
                ready!(
                    self.shared
                        .poll_confirm(seq, &mut self.confirmed, Some(waker))
                )?;
                self.confirming = None;
            }
            if self.left.is_some() {
                let (left, room) = (&mut self.left, &mut self.room);
                let last = ready!(self.shared.poll_left(left, self.writer, room, waker))?;
                self.confirm(last);
                continue;
            }
            // A source that says that it is empty must not wait for a place that it has no use for.
            let most = source.size_hint().1.unwrap_or(usize::MAX);
            if self.exhausted || most == 0 {
                return Poll::Ready(Ok(self.accepted));
            }
            let wanted = most.min(self.batch_items);
            let last = match ready!(self.shared.poll_reserve(wanted, &mut self.room, waker)) {
                Grant::Places(places) => {
                    let began = sync::now();
                    let fed = self.shared.feed(source, places, self.writer)?;
                    self.batch_items =
                        next_batch_items(self.batch_items, fed.count, sync::now() - began);
                    self.accepted += fed.count;
                    self.exhausted = fed.exhausted;
                    self.left = fed.left;
                    fed.last
                }
                Grant::Refused => {
                    let item = source.next();
                    self.exhausted = item.is_none();
                    self.accepted += usize::from(item.is_some());
                    let admitted = item.map(|item| self.shared.send_refused(item));
                    let admitted = admitted.transpose()?;
                    admitted.and_then(|Admitted { last, left }| {
                        self.left = left;
                        last
                    })
                }
            };
            self.confirm(last);
        }
    }

    /// Everything up to `last` is to be as durable as was promised.
    fn confirm(&mut self, last: Option<Seq>) {
        self.confirming = last.filter(|_| self.shared.settings.is_write_ahead());
        if let (Some(seq), Writer::Sender) = (self.confirming, self.writer) {
            self.shared.lead(seq);
        }
    }
}

/// How many items the next batch should have where the last one should have had `items`, and `count` of them took so long.
fn next_batch_items(items: usize, count: usize, took: Duration) -> usize {
    let times = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let whole = took.saturating_mul(times(items)) / times(count.max(1));
    if whole > BATCH_TIME {
        (items / 2).max(1)
    } else if whole < BATCH_TIME / 2 {
        (items * 2).min(BATCH_ITEMS)
    } else {
        items
    }
}

impl<T> Drop for Feeder<'_, T> {
    fn drop(&mut self) {
        self.shared.admit_left(self.left.take());
        if self.room.is_held() || self.confirmed.is_held() {
            self.shared.enter(|state, wakes| {
                state.leave_senders(&mut self.room, wakes);
                state.confirm_waiters.leave(&mut self.confirmed, wakes);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskBufferedChannel;

    #[test]
    fn where_the_store_has_failed_for_good_many_items_are_refused_like_one() {
        let dir = tempfile::tempdir().unwrap();
        let builder = DiskBufferedChannel::<u64>::builder(dir.path());
        let channel = builder.memory_items(4).open().unwrap();
        let tx = channel.sender();
        tx.shared().enter(|state, _| {
            state.fault = Some(StoreError::Poisoned {
                path: dir.path().to_owned(),
                message: "a test".to_owned(),
            });
        });
        let mut items = 0_u64..10;
        let sent = tx.send_all(&mut items);
        assert!(
            matches!(sent, Err(SendError::Store { item: 4, .. })),
            "{sent:?}"
        );
        assert_eq!(items, 5..10);
        let sent = tx.send(5);
        assert!(
            matches!(sent, Err(SendError::Store { item: 5, .. })),
            "{sent:?}"
        );
        let rx = channel.receiver();
        let received: Vec<u64> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(received, [0, 1, 2, 3]);
    }

    #[test]
    fn a_batch_is_as_large_as_its_source_is_fast() {
        let after_many = |took: fn(usize) -> Duration| {
            (0..20).fold(64, |items, _| next_batch_items(items, items, took(items)))
        };
        assert_eq!(after_many(|_| Duration::ZERO), BATCH_ITEMS);
        assert_eq!(after_many(|_| Duration::from_secs(1)), 1);
        let each = |items| BATCH_TIME * u32::try_from(items).unwrap() / 20;
        assert_eq!(after_many(each), 16);
        // A single item says as much of its source as many do.
        let of_one = |items, _| next_batch_items(items, 1, BATCH_TIME / 20);
        assert_eq!((0..20).fold(64, of_one), 16);
    }
}
