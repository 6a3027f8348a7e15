//! What every handle shares: the lock around the state, and the steps of sending and receiving.
//!
//! Each operation is written once, as a poll: "do it, or register this waker and say `Pending`".
//! The blocking verbs poll with a waker that unparks their thread (see `wait`).

use crate::buffers::{keep_buffer, take_buffer};
use crate::codec::Codec;
use crate::config::{Settings, WhenFull};
use crate::dir::{ChannelId, Quarantined};
use crate::error::{CodecError, RecvError, SendError, StoreError, SyncError};
use crate::gate::Gate;
use crate::refill::{decode_record, encode_item};
use crate::route::Route;
use crate::schema::Earlier;
use crate::seq::Seq;
use crate::state::{Halted, Intake, Phase, State, Worker, Writer};
use crate::stats::OpenReport;
use crate::sync::{JoinHandle, Mutex};
use crate::take::{Places, RefillJob, Take};
use crate::wait::{Ticket, Wakes};
use crate::worker::Desk;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

pub(crate) struct Shared<T> {
    pub(crate) state: Gate<T>,
    pub(crate) settings: Settings,
    pub(crate) codec: Box<dyn Codec<T>>,
    /// For records that were written when the schema was another one.
    pub(crate) earlier: Earlier<T>,
    /// The durable queue and what belongs to it, while nobody works with it.
    pub(crate) desk: Mutex<Option<Box<Desk>>>,
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
    /// Starts the worker thread; a pointer, so that handles need no bounds on `T`.
    pub(crate) start_worker: fn(&Arc<Self>),
    /// Waits for the end of a halt on a thread of its own.
    pub(crate) watch_halt: fn(&Arc<Self>),
    pub(crate) report: OpenReport,
    pub(crate) channel: ChannelId,
    pub(crate) quarantined: Mutex<Vec<Quarantined>>,
    /// Empty: room for the items of the next piece that is decoded.
    pub(crate) decoding: Mutex<VecDeque<T>>,
}

/// One item on its way in.
pub(crate) struct SendOp<T> {
    item: Option<T>,
    record: Option<Vec<u8>>,
    admitted: Option<Seq>,
    room: Ticket,
    confirmed: Ticket,
    patience: Patience,
}

/// Whether a sender may do I/O itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A thread that would wait anyway.
    MayBlock,
    /// A task: a runtime has other things to do.
    NeverBlocks,
}

impl<T> SendOp<T> {
    pub(crate) fn new(item: T, patience: Patience) -> Self {
        Self {
            patience,
            item: Some(item),
            record: None,
            admitted: None,
            room: Ticket::default(),
            confirmed: Ticket::default(),
        }
    }

    /// The item, if it was not admitted.
    pub(crate) fn take_item(&mut self) -> Option<T> {
        self.item.take()
    }

    /// The item is back.
    pub(crate) fn give_item(&mut self, item: T) {
        self.item = Some(item);
    }

    /// Many others wait for the durability of their items, too.
    pub(crate) fn is_in_crowd(&self) -> bool {
        self.confirmed.is_in_crowd()
    }

    /// True once the item can't be withdrawn any more.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.is_some()
    }
}

/// What one look at the state came to.
enum Placed<T> {
    /// The item must be encoded first.
    Encode,
    Admitted(Seq, Option<T>),
    Wait,
    Refused(SendError<T>),
    Dropped(T),
}

impl<T> Shared<T> {
    /// Looks at the state under the lock; afterwards, outside it, starts the worker if it is
    /// wanted and wakes whom the look concerns.
    pub(crate) fn enter<R>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut State<T>, &mut Wakes) -> R,
    ) -> R {
        let mut wakes = Wakes::default();
        let (result, start, discarded) = {
            let mut state = self.state.lock();
            let result = look(&mut state, &mut wakes);
            let start = matches!(state.worker, Worker::Wanted);
            if start {
                state.worker = Worker::Running;
            }
            (result, start, std::mem::take(&mut state.discarded))
        };
        if start {
            (self.start_worker)(self);
        }
        drop(wakes);
        // Dropping an item is foreign code.
        drop(discarded);
        result
    }

    // ---- sending ----------------------------------------------------------------------------

    /// Brings the item of `op` into the channel and waits for its durability. Without a waker it doesn't wait.
    pub(crate) fn poll_send(
        self: &Arc<Self>,
        op: &mut SendOp<T>,
        waker: Option<&Waker>,
    ) -> Poll<Result<(), SendError<T>>> {
        loop {
            if let Some(seq) = op.admitted {
                return self.poll_confirm(seq, &mut op.confirmed, waker);
            }
            if op.record.is_none() && self.settings.is_write_ahead() {
                self.encode(op)?;
            }
            match self.enter(|state, wakes| self.place(state, wakes, op, waker)) {
                Placed::Encode => self.encode(op)?,
                Placed::Admitted(seq, discarded) => {
                    if let Some(record) = op.record.take() {
                        keep_buffer(record);
                    }
                    drop(discarded);
                    if !self.settings.is_write_ahead() {
                        return Poll::Ready(Ok(()));
                    }
                    op.admitted = Some(seq);
                    if self.writer(op.patience) == Writer::Sender {
                        self.lead(seq);
                    }
                }
                Placed::Wait => return Poll::Pending,
                Placed::Refused(error) => return Poll::Ready(Err(error)),
                Placed::Dropped(item) => {
                    drop(item);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn place(
        &self,
        state: &mut State<T>,
        wakes: &mut Wakes,
        op: &mut SendOp<T>,
        waker: Option<&Waker>,
    ) -> Placed<T> {
        let Some(item) = op.item.take() else {
            return Placed::Wait;
        };
        let writer = self.writer(op.patience);
        let placed = self.place_item(state, wakes, item, op.record.as_deref(), writer);
        match placed {
            Ok(placed) => {
                state.send_waiters.leave(&mut op.room, wakes);
                placed
            }
            Err((item, wait)) => {
                op.item = Some(item);
                match waker {
                    Some(waker) if wait => state.send_waiters.register(&mut op.room, waker, wakes),
                    _ => {}
                }
                if wait { Placed::Wait } else { Placed::Encode }
            }
        }
    }

    /// `Err`: the item and whether its sender must wait (or else encode it).
    fn place_item(
        &self,
        state: &mut State<T>,
        wakes: &mut Wakes,
        item: T,
        record: Option<&[u8]>,
        writer: Writer,
    ) -> Result<Placed<T>, (T, bool)> {
        match state.intake() {
            Intake::Halted => return Ok(Placed::Refused(SendError::Halted(item))),
            Intake::Closed => return Ok(Placed::Refused(SendError::Closed(item))),
            Intake::Open => {}
        }
        let len = record.map_or(0, <[u8]>::len);
        let route = state.route(len);
        if route == Route::Front && !state.limits.write_ahead {
            let seq = state.next_seq;
            state.admit_direct(item, wakes);
            return Ok(Placed::Admitted(seq, None));
        }
        if let Some(source) = state.fault_on(route) {
            return Ok(Placed::Refused(SendError::Store {
                item,
                source: source.clone(),
            }));
        }
        match (route, record) {
            (Route::Front | Route::Staging, None) => Err((item, false)),
            (Route::Front | Route::Staging, Some(record)) => {
                let (seq, left) = state.admit_encoded(item, record, route, writer, wakes);
                Ok(Placed::Admitted(seq, left))
            }
            (Route::Behind, _) => {
                state.note_behind(wakes);
                Err((item, true))
            }
            (Route::Full, _) => self.refuse_full(state, wakes, item, len),
        }
    }

    fn refuse_full(
        &self,
        state: &mut State<T>,
        wakes: &mut Wakes,
        item: T,
        len: usize,
    ) -> Result<Placed<T>, (T, bool)> {
        state.note_full(len, wakes);
        match self.settings.when_full {
            WhenFull::Block => Err((item, true)),
            WhenFull::Reject => Ok(Placed::Refused(SendError::Full(item))),
            WhenFull::DropNewest => {
                state.ledger.drop_newest();
                Ok(Placed::Dropped(item))
            }
            WhenFull::DropOldest => {
                state.drop_oldest_wanted = true;
                state.kick(wakes);
                Err((item, true))
            }
        }
    }

    /// Encodes the item of `op`, outside the lock.
    fn encode(&self, op: &mut SendOp<T>) -> Result<(), SendError<T>> {
        let Some(item) = op.item.take() else {
            return Ok(());
        };
        let (item, record) = self.encode_item(item)?;
        op.item = Some(item);
        op.record = Some(record);
        Ok(())
    }

    /// Encodes an item into a buffer that [`keep_buffer`] takes back.
    pub(crate) fn encode_item(&self, item: T) -> Result<(T, Vec<u8>), SendError<T>> {
        let mut buffer = take_buffer();
        let item = self.encode_into(item, &mut buffer)?;
        Ok((item, buffer))
    }

    /// Appends an item's encoding to `buffer`.
    pub(crate) fn encode_into(&self, item: T, buffer: &mut Vec<u8>) -> Result<T, SendError<T>> {
        let before = buffer.len();
        if let Err(source) = encode_item(&item, self.codec.as_ref(), buffer) {
            return Err(SendError::Encode { item, source });
        }
        let (bytes, max) = (buffer.len() - before, self.settings.item_bytes_max);
        if bytes > max {
            return Err(SendError::TooLarge {
                item,
                bytes: bytes as u64,
                max: max as u64,
            });
        }
        Ok(item)
    }

    /// The item as the other side of a spill would see it.
    pub(crate) fn through_the_codec(&self, item: T) -> Result<T, SendError<T>> {
        let (item, record) = self.encode_item(item)?;
        let decoded = decode_record(&record, self.codec.as_ref());
        keep_buffer(record);
        decoded.map_err(|source: CodecError| SendError::Encode { item, source })
    }

    /// Waits until everything up to `seq` is as durable as the channel promises.
    pub(crate) fn poll_confirm(
        self: &Arc<Self>,
        seq: Seq,
        ticket: &mut Ticket,
        waker: Option<&Waker>,
    ) -> Poll<Result<(), SendError<T>>> {
        self.enter(|state, wakes| {
            let outcome = if state.disk_end() > seq {
                Ok(())
            } else if let Some(source) = state.failure() {
                Err(SendError::Unconfirmed { seq, source })
            } else {
                if let Some(waker) = waker {
                    state
                        .confirm_waiters
                        .register_for(seq, ticket, waker, wakes);
                }
                return Poll::Pending;
            };
            state.confirm_waiters.leave(ticket, wakes);
            Poll::Ready(outcome)
        })
    }

    /// The future or call that waited to send ends here, whatever came of it.
    pub(crate) fn leave_send(self: &Arc<Self>, op: &mut SendOp<T>) {
        if op.room.is_held() || op.confirmed.is_held() {
            self.enter(|state, wakes| {
                state.leave_senders(&mut op.room, wakes);
                state.confirm_waiters.leave(&mut op.confirmed, wakes);
            });
        }
    }

    // ---- receiving --------------------------------------------------------------------------

    /// The next item. Without a waker it doesn't wait for one.
    pub(crate) fn poll_recv(
        self: &Arc<Self>,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<T, RecvError>> {
        self.poll_take(places, waker, |state, wakes| {
            let taken = state.take(wakes);
            if matches!(taken, Take::Item(_)) {
                self.state.lend(state);
            }
            taken
        })
    }

    /// At least one and at most `max` items, appended to `into`.
    pub(crate) fn poll_recv_many(
        self: &Arc<Self>,
        into: &mut Vec<T>,
        max: usize,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>> {
        let before = into.len();
        let taken = self.poll_take(places, waker, |state, wakes| {
            state.take_many(into, max, wakes)
        });
        taken.map_ok(|()| into.len() - before)
    }

    pub(crate) fn poll_take<R>(
        self: &Arc<Self>,
        places: &mut Places,
        waker: Option<&Waker>,
        mut take: impl FnMut(&mut State<T>, &mut Wakes) -> Take<R>,
    ) -> Poll<Result<R, RecvError>> {
        loop {
            let taken = self.enter(|state, wakes| {
                let taken = take(state, wakes);
                if matches!(taken, Take::Wait | Take::WaitForAcks) {
                    state.note_nothing();
                }
                match (&taken, waker) {
                    (Take::Wait, Some(waker)) => state.wait_for_items(places, waker, wakes),
                    (Take::WaitForAcks, Some(waker)) => state.wait_for_acks(places, waker, wakes),
                    (Take::Item(_) | Take::Ended(_), _) => state.stop_waiting(places, wakes),
                    _ => {}
                }
                taken
            });
            match taken {
                Take::Item(item) => return Poll::Ready(Ok(item)),
                Take::Ended(error) => return Poll::Ready(Err(error)),
                Take::Wait | Take::WaitForAcks => return Poll::Pending,
                Take::Refill(job) => self.refill(job),
            }
        }
    }

    /// Decodes a piece of the oldest block into front, on the receiver's thread.
    fn refill(self: &Arc<Self>, job: RefillJob) {
        let RefillJob { mut refill, wanted } = job;
        let room = std::mem::take(&mut *self.decoding.lock());
        let decoded = refill.decode(wanted, room, self.codec.as_ref(), &self.earlier);
        let room = self.enter(|state, wakes| state.finish_refill(refill, decoded, wakes));
        *self.decoding.lock() = room;
    }

    /// The future or call that waited to receive ends here.
    pub(crate) fn leave_recv(self: &Arc<Self>, places: &mut Places) {
        if places.are_held() {
            self.enter(|state, wakes| state.leave_receivers(places, wakes));
        }
    }

    // ---- life -------------------------------------------------------------------------------

    /// Ends the intake.
    pub(crate) fn close(self: &Arc<Self>) {
        self.enter(|state, wakes| {
            state.intake_closed = true;
            state.wake_everybody(wakes);
        });
        self.admit_all_left();
    }

    /// Asks for everything to be put on the device; the number to wait for.
    pub(crate) fn request_sync(self: &Arc<Self>) -> u64 {
        self.enter(|state, wakes| {
            state.sync.wanted += 1;
            state.kick(wakes);
            state.sync.wanted
        })
    }

    pub(crate) fn poll_sync(
        self: &Arc<Self>,
        request: u64,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<Result<(), SyncError>> {
        self.enter(|state, wakes| {
            let outcome = if state.sync.done >= request {
                state.sync.result.clone().map_or(Ok(()), Err)
            } else if state.phase != Phase::Open {
                Err(SyncError::Halted)
            } else if let Some(fault) = &state.fault {
                Err(SyncError::Store(fault.clone()))
            } else {
                state.life_waiters.register(ticket, waker, wakes);
                return Poll::Pending;
            };
            state.life_waiters.leave(ticket, wakes);
            Poll::Ready(outcome)
        })
    }
}

impl<T> State<T> {
    /// What keeps admitted items from becoming durable, if it can't heal.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        let halted = self.halted.as_ref().and_then(Halted::store_fault);
        self.fault.clone().or(halted)
    }

    pub(crate) fn wake_everybody(&mut self, wakes: &mut Wakes) {
        self.send_waiters.wake_all(wakes);
        self.recv_waiters.wake_all(wakes);
        self.limit_waiters.wake_all(wakes);
        self.confirm_waiters.wake_all(wakes);
        self.life_waiters.wake_all(wakes);
    }
}
