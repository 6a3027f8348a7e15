//! The one rule of delivery: a line goes out once, and the lines of the followed file touch.
//!
//! A line that came before, by its ids or by its place, is a repeat and is dropped. A line of the followed file that
//! starts behind the end of the last delivered one shows a gap, which is read from the file first. `consumer` has
//! the crashes that make repeats and gaps.

use crate::failure::Failure;
use crate::ship::destination::{Destination, Outcome, Surroundings};
use crate::ship::ends::Ends;
use crate::ship::frame::BATCH_RECORDS;
use crate::ship::record::{Line, LogRecord, SourceId};
use crate::ship::report::Counters;
use crate::ship::reread::Reread;
use std::io;

pub(crate) struct Deliverer {
    pub(crate) destination: Box<dyn Destination>,
    pub(crate) around: Surroundings,
    /// The source whose gaps are read again.
    pub(crate) followed: Option<SourceId>,
    /// Gaps that begin at or after this place are lines dropped on purpose.
    pub(crate) gaps_before: u64,
    /// How often a line may be refused.
    pub(crate) max_attempts: Option<u32>,
    /// How often the line that was read again last has been.
    pub(crate) refusals: u32,
}

/// A batch in the making.
struct Ready<'a> {
    lines: Vec<Line<'a>>,
    /// Where everything will be once the batch is delivered.
    ends: Ends,
}

/// Lines of the followed file that are missing.
struct Gap {
    source: SourceId,
    from: u64,
    to: u64,
    /// Where the line behind it starts.
    next: u64,
}

impl Deliverer {
    /// Whatever it returns, a part of them may be delivered: the next call knows which.
    pub(crate) fn deliver(&mut self, lines: &[Line<'_>]) -> Result<Outcome, Failure> {
        let mut ready = self.begin();
        for line in lines {
            if let Some(gap) = self.gap_before(line, &ready.ends) {
                match self.flush(&mut ready)? {
                    Outcome::Taken => {}
                    outcome => return Ok(outcome),
                }
                match self.fill(&gap)? {
                    Outcome::Taken => {}
                    outcome => return Ok(outcome),
                }
                ready.ends.reach(gap.source, gap.next);
            }
            self.add(&mut ready, *line);
        }
        self.flush(&mut ready)
    }

    fn begin<'a>(&self) -> Ready<'a> {
        Ready {
            lines: Vec::new(),
            ends: self.around.position.lock().delivered().clone(),
        }
    }

    fn gap_before(&self, line: &Line<'_>, ends: &Ends) -> Option<Gap> {
        let place = line
            .place
            .filter(|place| Some(place.source) == self.followed)?;
        let next = place.end.saturating_sub(line.text.len() as u64);
        let (from, to) = (ends.of(place.source), next.min(self.gaps_before));
        (from < to).then_some(Gap {
            source: place.source,
            from,
            to,
            next,
        })
    }

    /// Adds a line to the batch, unless it was delivered before.
    fn add<'a>(&self, ready: &mut Ready<'a>, line: Line<'a>) {
        // The mark that a run begins with is no line.
        if line.text.is_empty() {
            return;
        }
        if ready.ends.have(&line) {
            Counters::add(&self.around.reporter.counters().repeated, 1);
            return;
        }
        ready.ends.advance(&line);
        ready.lines.push(line);
    }

    fn flush(&mut self, ready: &mut Ready<'_>) -> Result<Outcome, Failure> {
        if ready.lines.is_empty() {
            return Ok(Outcome::Taken);
        }
        let outcome = self.destination.deliver(&ready.lines)?;
        if matches!(outcome, Outcome::Taken) {
            self.refusals = 0;
            self.around.position.lock().confirm(&ready.lines)?;
            let delivered = &self.around.reporter.counters().delivered;
            Counters::add(delivered, ready.lines.len());
        }
        ready.lines.clear();
        Ok(outcome)
    }

    /// Delivers what the followed file held in a gap.
    fn fill(&mut self, gap: &Gap) -> Result<Outcome, Failure> {
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
        let mut reread = Reread::new(followed, gap.from, gap.to);
        loop {
            let records = reread.next().map_err(unreadable)?;
            if records.is_empty() {
                break;
            }
            Counters::add(&self.around.reporter.counters().reread, records.len());
            for records in records.chunks(BATCH_RECORDS) {
                match self.deliver_again(records)? {
                    Outcome::Taken => {}
                    outcome => return Ok(outcome),
                }
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

    /// Delivers lines that were read from the file again. They aren't in the channel, so none can become a dead letter.
    fn deliver_again(&mut self, records: &[LogRecord]) -> Result<Outcome, Failure> {
        let mut ready = self.begin();
        for record in records {
            self.add(&mut ready, Line::reread(record));
        }
        match (self.flush(&mut ready)?, records) {
            (Outcome::Refused(reason), [] | [_]) => self.give_up(&ready.ends, reason),
            (Outcome::Refused(_), _) => {
                let (front, back) = records.split_at(records.len() / 2);
                match self.deliver_again(front)? {
                    Outcome::Taken => self.deliver_again(back),
                    outcome => Ok(outcome),
                }
            }
            (outcome, _) => Ok(outcome),
        }
    }

    /// Passes over a line that was refused too often: it still stands in its file.
    fn give_up(&mut self, ends: &Ends, reason: String) -> Result<Outcome, Failure> {
        self.refusals += 1;
        if self.max_attempts.is_none_or(|most| self.refusals < most) {
            return Ok(Outcome::Away(io::Error::other(reason)));
        }
        self.refusals = 0;
        self.around.position.lock().pass(ends)?;
        let place = self.followed.map_or(0, |source| ends.of(source));
        self.around.reporter.say(format!(
            "{reason}: the line that ends at byte {place} of all that was read is not delivered"
        ));
        Ok(Outcome::Taken)
    }
}

#[cfg(test)]
#[path = "deliverer_tests.rs"]
mod tests;
