//! Takes lines from the channel and hands them to the destination: each once, in order, without a gap.
//!
//! A plain receive acknowledges when it returns, before the destination has the lines. What keeps a crash from
//! losing them is that lines know their place, and that a file can be read again:
//!
//! | after a crash right after …                      | it stands in             | what the next run does                      |
//! |--------------------------------------------------|--------------------------|---------------------------------------------|
//! | the source read a line                           | the file                 | reads on from `accepted`, which is before it |
//! | the channel accepted it                          | the channel (`process`)  | replays it; the source may send it again    |
//! | `accepted` was saved; `spill` lost the line      | the file                 | sees the gap, reads it again                |
//! | a receive returned it, its acknowledgement is on disk | the file            | sees the gap, reads it again                |
//! | it was written to the in-hand file               | the in-hand file         | delivers it first                           |
//! | the destination took it                          | the destination          | delivers it again: a receiver with receipts and a file drop it, others have it twice |
//! | `delivered` was saved                            | nowhere else             | drops it wherever it still comes from       |
//!
//! The one rule for a followed file: a line is delivered only if it starts where the last delivered one of its
//! source ended. One that ends there or before is a repeat and is dropped; one that starts later shows a gap,
//! which is read from the file first. So the position that counts is `delivered`, and it never passes a line
//! that the destination doesn't have.
//!
//! Lines of other sources can't be read again. For them there is the in-hand file, and one window that it can't
//! close: between the return of a receive and the end of the write of the in-hand file, some ten
//! microseconds, a kill loses the batch if the channel's worker has just then persisted the acknowledgement.

use crate::failure::Failure;
use crate::ship::deliverer::Deliverer;
use crate::ship::destination::Outcome;
use crate::ship::in_hand::InHand;
use crate::ship::record::LogRecord;
use overspill::{Receiver, RecvError};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// How many records are received at a time.
const RECEIVE: usize = 1024;

pub(crate) struct Consumer {
    pub(crate) rx: Receiver<LogRecord>,
    pub(crate) dir: PathBuf,
    pub(crate) in_hand: InHand,
    pub(crate) deliverer: Deliverer,
}

impl Consumer {
    /// Delivers until the channel is closed and empty, or halted, or the destination was abandoned. Says how
    /// many of the lines in hand the destination may not have: they are delivered first by the next run.
    pub(crate) fn run(mut self, left: Vec<LogRecord>) -> Result<usize, Failure> {
        let mut in_hand = left;
        loop {
            let (count, before) = (in_hand.len(), self.delivered());
            if self.deliverer.deliver(in_hand)? == Outcome::Abandoned {
                return Ok(count.saturating_sub(self.delivered() - before));
            }
            in_hand = Vec::with_capacity(RECEIVE);
            match self.rx.recv_many(&mut in_hand, RECEIVE) {
                Ok(_) => self.in_hand.save(&in_hand, &self.deliverer.around.reporter),
                Err(RecvError::Closed | RecvError::Halted) => break,
                Err(error) => {
                    let remedy = "start again; if it stays, keep the directory and report it";
                    return Err(Failure::of(
                        "receive from the channel in",
                        self.dir.display(),
                        error,
                        remedy,
                    ));
                }
            }
        }
        self.deliverer.destination.finish();
        Ok(0)
    }

    fn delivered(&self) -> usize {
        let delivered = &self.deliverer.around.reporter.counters().delivered;
        usize::try_from(delivered.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}
