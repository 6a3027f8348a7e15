//! Items that are out but not finished: how they go out, and what may become of them.

use crate::clock::to_ms;
use crate::copies::{Bundle, Copies};
use crate::core::Shared;
use crate::dead::Doomed;
use crate::error::{AckError, RecvError, SendError};
use crate::event::Event;
use crate::held::{Parcel, Slip};
use crate::ledger::Outcome;
use crate::refill::encode_item;
use crate::seq::Seq;
use crate::state::{Phase, State};
use crate::take::Places;
use crate::take_out::{Asker, Haul};
use crate::wait::{Ticket, Wakes};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Why an item comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Nobody looked at it as a consumer would: it was never out.
    Unseen,
    /// An outage, a cancelled future: it is not the item's fault.
    Released,
    /// The item can't be handled, now or never. It waits as long as is said, or as the back-off says.
    Failed(Option<Duration>),
}

impl<T> Shared<T> {
    /// The next item, which stays unfinished.
    pub(crate) fn poll_deliver(
        self: &Arc<Self>,
        asker: Asker,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<Parcel<T>, RecvError>> {
        let taken = self.poll_take(places, waker, |state, wakes| state.take_out(asker, wakes));
        taken.map_ok(|(mut parcel, bundle)| {
            if let Some(mut bundle) = bundle {
                let slip = &mut parcel.slip;
                slip.bytes = self.encode_out(&parcel.item, slip, &mut bundle);
                self.leave_records(|copies| slip.copy = Some(copies.keep(bundle)));
            }
            parcel
        })
    }

    /// At least one and at most `max` items, appended to `into`; of `max_bytes` together, or one. By way of `haul`, which is
    /// empty before and after.
    pub(crate) fn poll_deliver_many(
        self: &Arc<Self>,
        haul: &mut Haul<T>,
        into: &mut Vec<Parcel<T>>,
        max: usize,
        max_bytes: u64,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<(), RecvError>> {
        let taken = self.poll_take(places, waker, |state, wakes| {
            state.take_out_many(haul, max, max_bytes, wakes)
        });
        taken.map_ok(|()| self.unpack(haul, into))
    }

    /// Gives each item its slip, and leaves the encodings of those that only memory has.
    fn unpack(self: &Arc<Self>, haul: &mut Haul<T>, into: &mut Vec<Parcel<T>>) {
        into.append(&mut haul.again);
        let first = into.len();
        into.reserve(haul.items.len());
        let mut items = haul.items.drain(..);
        let mut empty = std::mem::take(&mut haul.bundles);
        let mut filled: Vec<Bundle> = Vec::new();
        for (run, failures) in haul.runs.drain(..) {
            let mut slip = Slip::new(&run, run.bytes / run.len);
            for (seq, item) in (run.first..run.first + run.len).zip(items.by_ref()) {
                slip.seq = seq;
                if !failures.is_empty() {
                    slip.failures = failures.get(&seq).copied().unwrap_or_default();
                }
                if run.origin.is_memory_only() {
                    let takes = |bundle: &Bundle| bundle.takes(seq, run.latest_ms);
                    if !filled.last().is_some_and(takes) {
                        filled.push(empty.pop().unwrap_or_default());
                    }
                    if let Some(bundle) = filled.last_mut() {
                        slip.bytes = self.encode_out(&item, &slip, bundle);
                    }
                }
                into.push(Parcel { item, slip });
            }
        }
        if filled.is_empty() {
            return;
        }
        let new = into.get_mut(first..).unwrap_or_default();
        let mut awaiting = new.iter_mut().filter(|parcel| parcel.slip.awaits_record());
        self.leave_records(|copies| {
            for bundle in filled {
                let count = bundle.len();
                let place = copies.keep(bundle);
                for parcel in awaiting.by_ref().take(count) {
                    parcel.slip.copy = Some(place);
                }
            }
            for bundle in empty {
                copies.give_back(bundle);
            }
        });
    }

    /// Encodes an item that goes out, outside the lock; how many bytes that are.
    fn encode_out(&self, item: &T, slip: &Slip, bundle: &mut Bundle) -> u32 {
        let max = self.settings.item_bytes_max;
        bundle.push(slip.seq, slip.latest_ms, |buffer| {
            let before = buffer.len();
            encode_item(item, self.codec.as_ref(), buffer).is_ok() && buffer.len() - before <= max
        })
    }

    /// Leaves encodings with the channel: what only memory has must be saved by a halt, whatever its consumer does meanwhile.
    fn leave_records(self: &Arc<Self>, leave: impl FnOnce(&mut Copies)) {
        let is_awaited = {
            let mut state = self.state.lock();
            leave(state.held.copies());
            state.handing -= 1;
            state.phase == Phase::Halting || state.sync.wanted > state.sync.done
        };
        if is_awaited {
            self.enter(State::kick);
        }
    }

    /// Whether a receiver may wait for items with good reason.
    pub(crate) fn has_more_to_come(&self) -> bool {
        let state = self.state.lock();
        !(state.is_drained() && (state.intake_closed || state.senders == 0))
    }

    /// Finishes deliveries.
    pub(crate) fn acknowledge(
        self: &Arc<Self>,
        slips: impl IntoIterator<Item = Slip>,
    ) -> Result<(), AckError> {
        self.enter(|state, wakes| {
            if !state.minds_deliveries() {
                return Err(AckError::TooLate);
            }
            let mut slips = slips.into_iter();
            let Some(mut first) = slips.next() else {
                return Ok(());
            };
            let (mut count, mut bytes) = (1, u64::from(first.bytes));
            for slip in slips {
                if first.is_continued_by(count, &slip) {
                    count += 1;
                    bytes += u64::from(slip.bytes);
                } else {
                    state.acknowledge_out(&first, count, bytes, wakes);
                    (first, count, bytes) = (slip, 1, slip.bytes.into());
                }
            }
            state.acknowledge_out(&first, count, bytes, wakes);
            Ok(())
        })
    }

    /// Takes deliveries back, to go out again ahead of everything that was never out.
    pub(crate) fn take_back(
        self: &Arc<Self>,
        parcels: impl IntoIterator<Item = Parcel<T>>,
        back: Back,
    ) {
        let mut parcels = parcels.into_iter();
        let hopeless = self.enter(|state, wakes| {
            if !state.minds_deliveries() {
                // It is saved, or will be: from its encoding, or it is on disk.
                return Vec::new();
            }
            parcels
                .by_ref()
                .filter_map(|parcel| state.take_back(parcel, back, wakes))
                .collect()
        });
        for parcel in hopeless {
            let reason = format!("failed {} times", parcel.slip.failures);
            self.set_aside(parcel, reason);
        }
        // Whatever is left of them is dropped here, outside the lock.
        drop(parcels);
    }

    /// Has the worker write an item that is out down as a dead letter.
    pub(crate) fn set_aside(self: &Arc<Self>, parcel: Parcel<T>, reason: String) {
        let Parcel { item, slip } = parcel;
        let (bytes, reason) = match self.encode_item(item) {
            Ok((item, bytes)) => {
                drop(item);
                (bytes, reason)
            }
            Err(SendError::Encode { source, .. }) => (
                Vec::new(),
                format!("{reason} (it can't be encoded: {source})"),
            ),
            Err(error) => (Vec::new(), format!("{reason} ({error})")),
        };
        self.enter(|state, wakes| {
            if state.minds_deliveries() {
                let doomed = Doomed {
                    seq: slip.seq,
                    incarnation: slip.incarnation,
                    encoded_in: state.incarnation,
                    attempts: slip.failures,
                    at_ms: state.clock.wall_ms(),
                    reason,
                    bytes,
                    origin: state.held.origin(&slip),
                    latest_ms: slip.latest_ms,
                };
                state.held.finish(&slip, 1);
                state.doom(vec![doomed], wakes);
                state.limit_waiters.wake_one(wakes);
            }
        });
    }

    /// Asks for what is acknowledged to be put on the device; the number to wait for.
    pub(crate) fn request_persist(self: &Arc<Self>) -> u64 {
        self.enter(|state, wakes| {
            state.persist.wanted += 1;
            state.kick(wakes);
            state.persist.wanted
        })
    }

    /// Ready when that was done.
    pub(crate) fn poll_persist(
        self: &Arc<Self>,
        request: u64,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<Result<(), AckError>> {
        self.enter(|state, wakes| {
            let outcome = if state.persist.done >= request {
                state
                    .persist
                    .result
                    .clone()
                    .map_or(Ok(()), |error| Err(AckError::Unconfirmed(error)))
            } else if let Some(fault) = state.failure() {
                Err(AckError::Unconfirmed(fault))
            } else if state.halted.is_some() {
                // A halt whose store works puts everything on the device, also where items could not be encoded.
                Ok(())
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
    /// What becomes of deliveries still makes a difference: a halt has not begun to save.
    fn minds_deliveries(&self) -> bool {
        self.phase != Phase::Halted && !self.is_saving
    }

    /// Puts one back; gives it up where it has failed too often.
    fn take_back(
        &mut self,
        mut parcel: Parcel<T>,
        back: Back,
        wakes: &mut Wakes,
    ) -> Option<Parcel<T>> {
        let slip = &mut parcel.slip;
        if back == Back::Unseen {
            self.held.note_unseen(slip);
        } else {
            slip.is_repeat = true;
        }
        let mut due = None;
        if let Back::Failed(delay) = back {
            slip.failures = self.ledger.note_failure(slip.seq);
            let most = self.limits.max_attempts;
            if most.is_some_and(|most| slip.failures >= most) {
                return Some(parcel);
            }
            let delay = delay.unwrap_or_else(|| self.limits.backoff.after(slip.failures));
            due = (!delay.is_zero()).then(|| self.clock.run_ms().saturating_add(to_ms(delay)));
        }
        self.held.put_back(parcel, due);
        if due.is_some() {
            // The worker is the one timer.
            self.kick(wakes);
        } else {
            self.wake_for_ready(1, wakes);
        }
        None
    }

    /// What waited long enough is ready; when the next one will be.
    pub(crate) fn release_due(&mut self, wakes: &mut Wakes) -> Option<u64> {
        if self.held.waiting() > 0 {
            let released = self.held.release_due(self.clock.run_ms());
            self.wake_for_ready(released, wakes);
        }
        self.held.next_due()
    }

    /// Dead letters are written down: their items are finished.
    pub(crate) fn finish_doomed(&mut self, seqs: &[Seq], wakes: &mut Wakes) {
        for seq in seqs {
            self.finish(*seq..*seq + 1, Outcome::DeadLettered, wakes);
            self.held.forget_origins(*seq..*seq + 1);
        }
        for doomed in self.doomed.remove(seqs.len()) {
            if !doomed.origin.is_memory_only() {
                self.note_acknowledged(doomed.bytes.len() as u64, wakes);
            }
            self.events.push(Event::DeadLettered {
                seq: doomed.seq,
                reason: doomed.reason,
            });
        }
        self.letters_error = None;
        self.are_letters_full = false;
        self.recv_waiters.wake_all(wakes);
    }
}
