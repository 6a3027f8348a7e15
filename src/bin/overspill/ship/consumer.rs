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
use crate::ship::destination::{Destination, Outcome, Surroundings};
use crate::ship::frame::{BATCH_BYTES, BATCH_RECORDS};
use crate::ship::in_hand::InHand;
use crate::ship::record::{Ends, LogRecord, SourceId};
use crate::ship::report::Counters;
use crate::ship::reread::Reread;
use overspill::{Receiver, RecvError};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// How many records are received at a time.
const RECEIVE: usize = 1024;

pub(crate) struct Consumer {
    pub(crate) rx: Receiver<LogRecord>,
    pub(crate) dir: PathBuf,
    pub(crate) destination: Box<dyn Destination>,
    pub(crate) in_hand: InHand,
    pub(crate) around: Surroundings,
    /// The source whose gaps are read again.
    pub(crate) followed: Option<SourceId>,
    /// Gaps that begin at or after this place are lines dropped on purpose.
    pub(crate) gaps_before: u64,
}

/// A batch in the making.
struct Ready {
    records: Vec<LogRecord>,
    bytes: usize,
    /// Where each source will be once the batch is delivered.
    ends: Ends,
}

impl Consumer {
    /// Delivers until the channel is closed and empty, or halted, or the destination was abandoned. Says how
    /// many of the lines in hand the destination may not have: they are delivered first by the next run.
    pub(crate) fn run(mut self, left: Vec<LogRecord>) -> Result<usize, Failure> {
        let mut in_hand = left;
        loop {
            let (count, before) = (in_hand.len(), self.delivered());
            if self.deliver(in_hand)? == Outcome::Abandoned {
                return Ok(count.saturating_sub(self.delivered() - before));
            }
            in_hand = Vec::with_capacity(RECEIVE);
            match self.rx.recv_many(&mut in_hand, RECEIVE) {
                Ok(_) => self.in_hand.save(&in_hand, &self.around.reporter),
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
        self.destination.finish();
        Ok(0)
    }

    fn delivered(&self) -> usize {
        let delivered = &self.around.reporter.counters().delivered;
        usize::try_from(delivered.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn deliver(&mut self, records: Vec<LogRecord>) -> Result<Outcome, Failure> {
        let mut ready = Ready {
            records: Vec::new(),
            bytes: 0,
            ends: self.around.position.lock().delivered().clone(),
        };
        for record in records {
            let end = ready.ends.of(record.source);
            let is_followed = Some(record.source) == self.followed;
            let gap_ends = record.start().min(self.gaps_before);
            if is_followed && end < gap_ends {
                if self.flush(&mut ready)? == Outcome::Abandoned
                    || self.fill(end, gap_ends)? == Outcome::Abandoned
                {
                    return Ok(Outcome::Abandoned);
                }
                ready.ends.advance(record.source, record.start());
            }
            if self.add(&mut ready, record)? == Outcome::Abandoned {
                return Ok(Outcome::Abandoned);
            }
        }
        self.flush(&mut ready)
    }

    /// Adds a record to the batch, unless it was delivered before.
    fn add(&mut self, ready: &mut Ready, record: LogRecord) -> Result<Outcome, Failure> {
        if record.end <= ready.ends.of(record.source) {
            // The mark that a run begins with is no line.
            if !record.line.is_empty() {
                Counters::add(&self.around.reporter.counters().repeated, 1);
            }
            return Ok(Outcome::Taken);
        }
        ready.ends.advance(record.source, record.end);
        ready.bytes += record.line.len();
        ready.records.push(record);
        if ready.bytes >= BATCH_BYTES || ready.records.len() >= BATCH_RECORDS {
            return self.flush(ready);
        }
        Ok(Outcome::Taken)
    }

    fn flush(&mut self, ready: &mut Ready) -> Result<Outcome, Failure> {
        if ready.records.is_empty() {
            return Ok(Outcome::Taken);
        }
        let outcome = self.destination.deliver(&ready.records)?;
        if outcome == Outcome::Taken {
            self.around.position.lock().confirm(&ready.records)?;
            Counters::add(
                &self.around.reporter.counters().delivered,
                ready.records.len(),
            );
        }
        ready.records.clear();
        ready.bytes = 0;
        Ok(outcome)
    }

    /// Delivers what the followed file held between two places.
    fn fill(&mut self, from: u64, to: u64) -> Result<Outcome, Failure> {
        let Some(followed) = self.around.position.lock().followed().cloned() else {
            return Ok(Outcome::Taken);
        };
        let path = followed.path.clone();
        let unreadable = |error| {
            Failure::of(
                "read again from",
                path.display(),
                error,
                "make it readable and start again",
            )
        };
        let mut reread = Reread::new(followed, from, to);
        loop {
            let records = reread.next().map_err(unreadable)?;
            if records.is_empty() {
                break;
            }
            let mut ready = Ready {
                records: Vec::new(),
                bytes: 0,
                ends: self.around.position.lock().delivered().clone(),
            };
            Counters::add(&self.around.reporter.counters().reread, records.len());
            for record in records {
                if self.add(&mut ready, record)? == Outcome::Abandoned {
                    return Ok(Outcome::Abandoned);
                }
            }
            if self.flush(&mut ready)? == Outcome::Abandoned {
                return Ok(Outcome::Abandoned);
            }
        }
        if reread.missing > 0 {
            self.around.reporter.say(format!(
                "{} bytes of {} are gone: the file was removed or truncated before a crash, and they were not delivered",
                reread.missing,
                path.display()
            ));
        }
        Ok(Outcome::Taken)
    }
}
