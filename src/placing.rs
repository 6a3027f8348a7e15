//! Placing a batch: what there is room for is admitted, the rest waits for the writer.
//!
//! Places are given out before sizes are known, so an item may be larger than what is left when its turn comes, or others
//! came first. Its caller took it from an iterator, so it is the channel's: a halt saves it, and where the caller goes away it is
//! admitted past the limits.

use crate::config::WhenFull;
use crate::core::Shared;
use crate::encoded::Encoded;
use crate::error::SendError;
use crate::feed::{Batch, Places};
use crate::route::Route;
use crate::seq::Seq;
use crate::state::{Intake, State, Writer};
use crate::wait::{Ticket, Wakes};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What becomes of items in a batch that there is no room for before the writer has made some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfits {
    /// They are left, with all that come after them.
    Wait,
    /// They are admitted, past the limits: nobody would come back for them.
    Go,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Admitted<T> {
    /// The last number given out.
    pub(crate) last: Option<Seq>,
    /// The batch, if some of it found no room.
    pub(crate) left: Option<Arc<Batch<T>>>,
}

/// On what terms items are placed.
#[derive(Clone, Copy, Debug)]
struct Terms {
    when_full: WhenFull,
    writer: Writer,
    misfits: Misfits,
}

/// What one look came to.
struct Placed<T> {
    /// The last number given out.
    last: Option<Seq>,
    refused: Option<SendError<T>>,
}

impl<T> Placed<T> {
    /// The last number given out, or the item that was refused.
    fn outcome(self) -> Result<Option<Seq>, SendError<T>> {
        self.refused.map_or(Ok(self.last), Err)
    }
}

impl<T> State<T> {
    /// Whether the writer makes room, and whoever waits for it keeps nobody from coming to an end.
    fn may_wait_for_writer(&self) -> bool {
        self.intake() == Intake::Open && self.fault.is_none()
    }

    /// Admits what there is room for; what has to wait is left.
    fn place(&mut self, encoded: &mut Encoded<T>, terms: Terms, wakes: &mut Wakes) -> Placed<T> {
        let mut placed = Placed {
            last: None,
            refused: None,
        };
        while let Some(len) = encoded.record().map(<[u8]>::len) {
            if self.stages_all(encoded.size()) {
                let (records, from) = encoded.take_all();
                placed.last = Some(self.stage_many(records, from, terms.writer, wakes));
                break;
            }
            let may_wait = terms.misfits == Misfits::Wait
                && placed.refused.is_none()
                && self.may_wait_for_writer();
            let route = match (self.route(len), terms.when_full) {
                (Route::Behind, _) if may_wait => {
                    self.note_behind(wakes);
                    break;
                }
                (Route::Front, _) => Route::Front,
                (Route::Full, WhenFull::DropNewest) => {
                    self.note_full(len, wakes);
                    self.ledger.drop_newest();
                    self.discarded.extend(encoded.take().map(|(item, _)| item));
                    continue;
                }
                (Route::Full, WhenFull::Reject) if may_wait => {
                    self.note_full(len, wakes);
                    let item = encoded.take().map(|(item, _)| item);
                    placed.refused = item.map(SendError::Full);
                    continue;
                }
                _ => Route::Staging,
            };
            let Some((item, record)) = encoded.take() else {
                break;
            };
            let (seq, rest) = self.admit_encoded(item, record, route, terms.writer, wakes);
            self.discarded.extend(rest);
            placed.last = Some(seq);
        }
        placed
    }

    /// As [`place`](Self::place), with what is left of `batch`. Others may have done it.
    fn place_left(&mut self, batch: &Arc<Batch<T>>, terms: Terms, wakes: &mut Wakes) -> Placed<T> {
        if !self.has_batch(batch) {
            return Placed {
                last: batch.last(),
                refused: None,
            };
        }
        let mut left = batch.take_left();
        let placed = self.place(&mut left, terms, wakes);
        if left.is_placed() {
            self.close_batch(batch);
        }
        batch.put_left(left, placed.last);
        if self.is_drained() {
            self.note_drained(wakes);
        }
        placed
    }
}

impl<T> Shared<T> {
    /// Admits what is in `batch`, and gives its places back.
    pub(crate) fn admit_batch(
        self: &Arc<Self>,
        batch: &Arc<Batch<T>>,
        places: Places,
        writer: Writer,
        misfits: Misfits,
    ) -> Result<Admitted<T>, SendError<T>> {
        let mut items = VecDeque::new();
        let mut last = None;
        self.enter(|state, wakes| {
            state.unreserve(places.in_front, wakes);
            if state.close_batch(batch) {
                state.placing += 1;
                items = batch.take().into();
                last = admit_direct(state, &mut items, wakes);
                if items.is_empty() {
                    state.end_placing(wakes);
                    state.keep_batch(batch, std::mem::take(&mut items));
                }
            }
        });
        if items.is_empty() {
            let left = None;
            Ok(Admitted { last, left })
        } else {
            self.admit_encoded(batch, items, writer, misfits)
        }
    }

    /// Encodes `items` of `batch` and admits them, and ends their placing. An item that can't be encoded comes back in
    /// the error, and then none is left; a second one in the same batch is counted in `dropped.unencodable`.
    fn admit_encoded(
        self: &Arc<Self>,
        batch: &Arc<Batch<T>>,
        items: VecDeque<T>,
        writer: Writer,
        misfits: Misfits,
    ) -> Result<Admitted<T>, SendError<T>> {
        let mut failure = None;
        let mut unencodable = 0;
        let mut encoded = Encoded::new(
            items,
            |item, buffer| self.encode_into(item, buffer),
            |error| match &failure {
                None => failure = Some(error),
                Some(_) => unencodable += 1,
            },
        );
        let misfits = failure.as_ref().map_or(misfits, |_| Misfits::Go);
        let (placed, done) = self.enter(|state, wakes| {
            let placed = state.place(&mut encoded, self.terms(writer, misfits), wakes);
            let done = if encoded.is_placed() {
                state.keep_batch(batch, VecDeque::new());
                Some(encoded)
            } else {
                batch.put_left(encoded, None);
                state.batches.push(Arc::clone(batch));
                None
            };
            state.ledger.drop_unencodable(unencodable);
            state.end_placing(wakes);
            if (failure.is_some() || placed.refused.is_some()) && placed.last.is_some() {
                // Its sender doesn't come to write it.
                state.kick(wakes);
            }
            (placed, done)
        });
        let left = done.is_none().then(|| Arc::clone(batch));
        if let Some(done) = done {
            // Items are foreign code, too: they are dropped outside the lock.
            batch.give_room(done.into_room());
        }
        let last = placed.outcome()?;
        failure.map_or(Ok(Admitted { last, left }), Err)
    }

    fn terms(&self, writer: Writer, misfits: Misfits) -> Terms {
        Terms {
            when_full: self.settings.when_full,
            writer,
            misfits,
        }
    }

    /// Goes on with what is left when there is room; the last number given out. Some may be left again.
    pub(crate) fn poll_left(
        self: &Arc<Self>,
        left: &mut Option<Arc<Batch<T>>>,
        writer: Writer,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<Result<Option<Seq>, SendError<T>>> {
        let Some(batch) = left.as_ref() else {
            return Poll::Ready(Ok(None));
        };
        let (placed, is_left) = self.enter(|state, wakes| {
            let placed = state.place_left(batch, self.terms(writer, Misfits::Wait), wakes);
            let is_left = state.has_batch(batch);
            if is_left && placed.last.is_none() {
                state.send_waiters.register(ticket, waker, wakes);
            } else {
                state.send_waiters.leave(ticket, wakes);
            }
            (placed, is_left)
        });
        if !is_left {
            *left = None;
        }
        match placed.outcome()? {
            None if is_left => Poll::Pending,
            last => Poll::Ready(Ok(last)),
        }
    }

    /// Its caller doesn't come back for what is left.
    pub(crate) fn admit_left(self: &Arc<Self>, left: Option<Arc<Batch<T>>>) {
        if let Some(batch) = left {
            let terms = self.terms(Writer::Worker, Misfits::Go);
            let placed = self.enter(|state, wakes| state.place_left(&batch, terms, wakes));
            let _ = placed.outcome();
        }
    }

    /// The intake is closed, and no receiver comes to its end before all that was taken is there. A caller may be a future
    /// that nobody polls.
    pub(crate) fn admit_all_left(self: &Arc<Self>) {
        let left: Vec<_> = self.enter(|state, _| {
            let left = state.batches.iter().filter(|batch| batch.has_left());
            left.cloned().collect()
        });
        for batch in left {
            self.admit_left(Some(batch));
        }
    }
}

/// Admits items directly for as long as they may go to front unencoded.
fn admit_direct<T>(
    state: &mut State<T>,
    items: &mut VecDeque<T>,
    wakes: &mut Wakes,
) -> Option<Seq> {
    let count = state.direct_room().min(items.len());
    if count == 0 {
        return None;
    }
    state.admit_many_direct(items.drain(..count), wakes);
    Some(state.next_seq - 1)
}
