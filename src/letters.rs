//! Dead letters, as the worker deals with them: written down, listed, put back, removed.

use crate::block::BlockBuilder;
use crate::core::Shared;
use crate::dir::{DeadLetter, DeadLetters, Piece};
use crate::error::{DeadLetterError, StoreError};
use crate::event::{Event, Listener};
use crate::ledger::Outcome;
use crate::seq::Seq;
use crate::state::{Phase, State};
use crate::stats::ErrorReport;
use crate::wait::{Ticket, Wakes, block_until};
use crate::worker::{Room, Work};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

/// Bytes of letters that are written down in one piece.
const WRITE_BYTES: usize = 1 << 20;

/// What somebody wants done with the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    List,
    Requeue,
    Purge,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Reply {
    Letters(DeadLetters),
    Count(u64),
}

impl Reply {
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Letters(_) => 0,
        }
    }
}

/// Errands that wait for the worker, and replies that wait for whoever asked.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    waiting: VecDeque<(u64, Errand)>,
    replies: BTreeMap<u64, Option<Result<Reply, StoreError>>>,
    next: u64,
}

impl Errands {
    fn add(&mut self, errand: Errand) -> u64 {
        self.next += 1;
        self.waiting.push_back((self.next, errand));
        self.replies.insert(self.next, None);
        self.next
    }

    /// The next one. While a requeue is under way nothing else may change the letters.
    pub(crate) fn next(&self, is_requeueing: bool) -> Option<(u64, Errand)> {
        let mut waiting = self.waiting.iter().copied();
        waiting.find(|(_, errand)| !is_requeueing || *errand == Errand::List)
    }

    fn reply(&mut self, id: u64, reply: Result<Reply, StoreError>) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        // Nobody may be there any more who asked.
        if let Some(slot) = self.replies.get_mut(&id) {
            *slot = Some(reply);
        }
    }

    fn take_reply(&mut self, id: u64) -> Option<Result<Reply, StoreError>> {
        let reply = self.replies.get_mut(&id)?.take()?;
        self.replies.remove(&id);
        Some(reply)
    }

    fn cancel(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.replies.remove(&id);
    }
}

/// An errand that somebody waits for. One that was begun is finished whether somebody does or not.
pub(crate) struct Asked<'a, T> {
    shared: &'a Arc<Shared<T>>,
    id: u64,
    ticket: Ticket,
}

impl<'a, T> Asked<'a, T> {
    pub(crate) fn new(shared: &'a Arc<Shared<T>>, errand: Errand) -> Result<Self, DeadLetterError> {
        if Listener::is_running_here() {
            return Err(DeadLetterError::FromCallback);
        }
        let id = shared.enter(|state, wakes| {
            state.kick(wakes);
            state.errands.add(errand)
        });
        Ok(Self {
            shared,
            id,
            ticket: Ticket::default(),
        })
    }

    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Reply, DeadLetterError>> {
        let (id, ticket) = (self.id, &mut self.ticket);
        self.shared.enter(|state, wakes| {
            let outcome = match state.errands.take_reply(id) {
                Some(reply) => reply.map_err(DeadLetterError::Store),
                None if state.phase != Phase::Open => Err(DeadLetterError::Halted),
                None => {
                    if let Some(fault) = &state.fault {
                        Err(DeadLetterError::Store(fault.clone()))
                    } else {
                        state.life_waiters.register(ticket, waker, wakes);
                        return Poll::Pending;
                    }
                }
            };
            state.life_waiters.leave(ticket, wakes);
            Poll::Ready(outcome)
        })
    }
}

impl<T> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        let (id, ticket) = (self.id, &mut self.ticket);
        self.shared.enter(|state, wakes| {
            state.errands.cancel(id);
            state.life_waiters.leave(ticket, wakes);
        });
    }
}

impl<T> Shared<T> {
    /// Has an errand run, and waits for what comes of it.
    pub(crate) fn ask(self: &Arc<Self>, errand: Errand) -> Result<Reply, DeadLetterError> {
        let mut asked = Asked::new(self, errand)?;
        block_until(None, |waker| asked.poll(waker)).unwrap_or(Err(DeadLetterError::Halted))
    }

    /// An error as an iterator over letters can show it.
    pub(crate) fn why_no_letters(&self, error: DeadLetterError) -> StoreError {
        match error {
            DeadLetterError::Store(error) => error,
            other => StoreError::io(
                "read the dead letters of",
                &self.settings.dir,
                io::Error::other(other),
            ),
        }
    }
}

impl<T> Work<'_, T> {
    /// Writes down what is to be a dead letter.
    pub(crate) fn set_aside(&mut self) {
        if let Err(error) = self.write_letters() {
            self.desk.setting_aside.later();
            if error.is_full() && !matches!(error, StoreError::DeadLettersFull { .. }) {
                // Delivery goes on: it is what makes room. It pauses when too much waits to be written.
                self.note_trouble(&error);
            } else {
                self.note_letters_trouble(&error);
            }
        } else {
            self.desk.setting_aside.reset();
        }
    }

    /// Writes down a piece of what is to be a dead letter, on the device, and finishes its items then.
    pub(crate) fn write_letters(&mut self) -> Result<(), StoreError> {
        let mut letters = self.shared.enter(|state, _| state.next_letters());
        let mut written = self.desk.queue.append_letters(&letters);
        let is_full = |error: &StoreError| error.kind() == io::ErrorKind::StorageFull;
        if letters.len() > 1 && written.as_ref().is_err_and(is_full) {
            // All of them may be too many, and one of them not.
            letters.truncate(1);
            written = self.desk.queue.append_letters(&letters);
        }
        written?;
        let seqs: Vec<Seq> = letters.iter().map(|letter| letter.seq).collect();
        let figures = self.desk.queue.figures();
        self.shared.enter(|state, wakes| {
            state.finish_doomed(&seqs, wakes);
            state.take_figures(&figures);
        });
        Ok(())
    }

    fn note_letters_trouble(&mut self, error: &StoreError) {
        let is_limit = matches!(error, StoreError::DeadLettersFull { .. });
        self.shared.enter(|state, _| {
            state.are_letters_full = is_limit;
            if state.letters_error.is_none() {
                state.letters_error = Some(ErrorReport::new(error));
                state.events.push(Event::Trouble(error.clone()));
            }
        });
    }

    pub(crate) fn run_errand(&mut self, id: u64, errand: Errand) {
        let reply = match errand {
            Errand::List => self
                .desk
                .queue
                .letters()
                .map(|letters| Reply::Letters(letters.iter())),
            Errand::Requeue => self.requeue().map(Reply::Count),
            Errand::Purge => self.purge().map(Reply::Count),
        };
        // There may be room for more letters now.
        self.desk.setting_aside.reset();
        let figures = self.desk.queue.figures();
        let room = self.room();
        self.shared.enter(|state, wakes| {
            state.take_figures(&figures);
            state.set_room(room, wakes);
            state.errands.reply(id, reply);
            state.life_waiters.wake_all(wakes);
        });
    }

    fn purge(&mut self) -> Result<u64, StoreError> {
        self.make_letters_final()?;
        self.desk.queue.letters()?.purge()
    }

    /// That their items are finished must not be forgotten when the letters are gone.
    fn make_letters_final(&mut self) -> Result<(), StoreError> {
        let ledger = self.shared.enter(|state, _| state.told());
        self.desk.queue.checkpoint_durably(&ledger)
    }

    /// Turns all letters into new items, a block at a time; how many.
    fn requeue(&mut self) -> Result<u64, StoreError> {
        self.make_letters_final()?;
        let mut count = 0;
        let mut left = self.desk.queue.letters()?.count()?;
        // Items that become letters meanwhile are not among those that were meant.
        while left > 0 {
            if self.shared.enter(|state, _| state.phase != Phase::Open) {
                // Whoever asked was told. The rest are letters still.
                let dir = &self.shared.settings.dir;
                let halted = io::ErrorKind::Interrupted.into();
                return Err(StoreError::io("requeue the dead letters of", dir, halted));
            }
            let Some(piece) = self.next_piece()? else {
                break;
            };
            let letters = piece.letters().len() as u64;
            self.requeue_piece(&piece)?;
            count += letters;
            left = left.saturating_sub(letters);
        }
        Ok(count)
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, StoreError> {
        let bytes = self.desk.queue.limits().block_bytes as u64;
        let letters = self.desk.queue.letters()?;
        if letters.pending_intent().is_some() {
            // It came to nothing: its block was taken back.
            letters.resolve(false)?;
        }
        letters.next_piece(bytes)
    }

    /// Makes items of some letters. In this order: the numbers that they get, on the device; their block, on the device; the
    /// letters gone. So a process that dies in between leaves them letters or items, and the next one knows which.
    fn requeue_piece(&mut self, piece: &Piece) -> Result<(), StoreError> {
        // Nothing of ours is written before the intent: only this thread writes, and nobody reads such a block before.
        let first = self.shared.enter(|state, _| state.stage_letters(piece));
        let end = first + piece.letters().len() as u64;
        let incarnation = self.desk.queue.incarnation();
        let letters = self.desk.queue.letters();
        let begun = letters.and_then(|letters| letters.begin_requeue(piece, first, incarnation));
        if let Err(error) = begun {
            self.take_back_letters(first, end);
            return Err(error);
        }
        let bytes = piece.damaged_bytes();
        if bytes > 0 {
            self.shared
                .enter(|state, _| state.events.push(Event::DeadLettersDamaged { bytes }));
        }
        self.desk.requeueing = Some(end);
        while self.shared.enter(|state, _| state.disk_end() < end) {
            self.write_batch(Room::WithinLimits)?;
        }
        self.finish_requeue()
    }

    /// The letters stay what they are.
    fn take_back_letters(&mut self, first: Seq, end: Seq) {
        self.shared.enter(|state, wakes| {
            state.staging.take_block(first);
            // The new items are what their letters say.
            state.finish(first..end, Outcome::DeadLettered, wakes);
        });
    }

    /// As [`finish_requeue`](Self::finish_requeue), after a write that had to be tried again.
    pub(crate) fn finish_requeue_later(&mut self) {
        match self.finish_requeue() {
            Ok(()) => {
                self.desk.finishing.reset();
                self.shared.enter(State::end_letters_trouble);
            }
            Err(error) => {
                self.desk.finishing.later();
                self.note_letters_trouble(&error);
            }
        }
    }

    /// The block of a piece is written: its letters go.
    pub(crate) fn finish_requeue(&mut self) -> Result<(), StoreError> {
        if self.desk.requeueing.is_some() {
            self.desk.queue.sync_data()?;
            self.desk.queue.letters()?.resolve(true)?;
            self.desk.requeueing = None;
        }
        Ok(())
    }
}

impl<T> State<T> {
    /// Letters can be dealt with again, unless some wait that could not be written.
    fn end_letters_trouble(&mut self, wakes: &mut Wakes) {
        if self.doomed.is_empty() && self.letters_error.take().is_some() {
            self.are_letters_full = false;
            self.recv_waiters.wake_all(wakes);
        }
    }

    /// What is written down next.
    fn next_letters(&self) -> Vec<DeadLetter> {
        let mut bytes = 0;
        let now = self.clock.wall_ms();
        self.doomed
            .iter()
            .take_while(|doomed| {
                let fits = bytes < WRITE_BYTES;
                bytes += doomed.bytes.len();
                fits
            })
            .map(|doomed| {
                let at_ms = if doomed.at_ms == 0 { now } else { doomed.at_ms };
                DeadLetter {
                    seq: doomed.seq,
                    incarnation: doomed.incarnation,
                    encoded_in: doomed.encoded_in,
                    attempts: doomed.attempts,
                    reason: doomed.reason.clone(),
                    bytes: doomed.bytes.clone(),
                    at: UNIX_EPOCH + Duration::from_millis(at_ms),
                }
            })
            .collect()
    }

    /// Stages a block of new items that were letters; its first number.
    fn stage_letters(&mut self, piece: &Piece) -> Seq {
        let first = self.next_seq;
        let mut block =
            BlockBuilder::with_origins(first, self.clock.wall_ms(), self.limits.block_bytes);
        for letter in piece.letters() {
            let id = (letter.incarnation, letter.seq);
            block.push_origin(id, letter.encoded_in, &letter.bytes);
        }
        self.next_seq = block.end();
        self.staging.push_block(block);
        first
    }
}
