//! The one rule of delivery: the lines of a source touch.
//!
//! A line that ends where the last delivered one of its source ended, or before, is a repeat and is dropped. A line
//! of the followed file that starts later shows a gap, which is read from the file first. `consumer` has
//! the crashes that make repeats and gaps.

use crate::failure::Failure;
use crate::ship::destination::{Destination, Outcome, Surroundings};
use crate::ship::frame::{BATCH_BYTES, BATCH_RECORDS};
use crate::ship::record::{Ends, LogRecord, SourceId};
use crate::ship::report::Counters;
use crate::ship::reread::Reread;

pub(crate) struct Deliverer {
    pub(crate) destination: Box<dyn Destination>,
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

impl Deliverer {
    /// Returns when the destination has taken all of them.
    pub(crate) fn deliver(&mut self, records: Vec<LogRecord>) -> Result<Outcome, Failure> {
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

#[cfg(test)]
#[path = "deliverer_tests.rs"]
mod tests;
