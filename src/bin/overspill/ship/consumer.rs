//! Takes lines from the channel, hands them to the destination, and acknowledges what it has taken: each once, in
//! order, without a gap.
//!
//! | after a crash right after …                     | it stands in               | what the next run does                      |
//! |-------------------------------------------------|----------------------------|---------------------------------------------|
//! | the source read a line                          | the file                   | reads on from `accepted`, which is before it |
//! | the channel accepted it                         | the channel (`process`)    | delivers it; the source may read it again    |
//! | `accepted` was saved; `spill` lost the line     | the file                   | sees the gap, reads it again                |
//! | a receive returned it                           | as before: it is not acknowledged | as before                            |
//! | the destination took it                         | the destination, the channel | delivers it again: a receiver with receipts and a file drop it, others have it twice |
//! | `delivered` was saved                           | the channel                | drops it, and whatever else brings it again |
//! | the acknowledgement is on disk                  | nowhere else               | nothing                                     |
//!
//! So a line that can't be read again is never anywhere but in the channel until the destination has it.
//!
//! What the destination can't take now goes back to the channel and comes again, ahead of everything else, in the same
//! order. Nothing counts as failed by that: an outage says nothing about a line.

use crate::failure::Failure;
use crate::ship::deliverer::Deliverer;
use crate::ship::destination::Outcome;
use crate::ship::frame::{BATCH_BYTES, BATCH_RECORDS};
use crate::ship::patience::Outage;
use crate::ship::record::{Line, LogRecord};
use overspill::{AckReceiver, Delivery, RecvError};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) struct Consumer {
    pub(crate) rx: AckReceiver<LogRecord>,
    pub(crate) dir: PathBuf,
    pub(crate) deliverer: Deliverer,
    pub(crate) outage: Outage,
}

impl Consumer {
    /// Delivers until the channel is closed and empty, or halted, or the destination is given up.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        while let Some(batch) = self.receive()? {
            let lines: Vec<_> = batch.iter().map(Line::delivered).collect();
            match self.deliverer.deliver(&lines)? {
                Outcome::Taken => {
                    self.outage.is_over();
                    acknowledge(batch);
                }
                Outcome::Away(error) => {
                    drop(batch);
                    if self.outage.wait(&error) {
                        return Ok(());
                    }
                }
            }
        }
        self.deliverer.destination.finish();
        Ok(())
    }

    /// As many as a frame holds, or what there is; `None` at the end.
    fn receive(&self) -> Result<Option<Vec<Delivery<LogRecord>>>, Failure> {
        let batch = self
            .rx
            .recv_batch(BATCH_RECORDS, BATCH_BYTES as u64, Duration::ZERO);
        match batch {
            Ok(batch) => Ok(Some(batch.into_deliveries())),
            Err(RecvError::Closed | RecvError::Halted) => Ok(None),
            Err(error) => Err(Failure::of(
                "receive from the channel in",
                self.dir.display(),
                error,
                "start again; if it stays, keep the directory and report it",
            )),
        }
    }
}

fn acknowledge(batch: Vec<Delivery<LogRecord>>) {
    for delivery in batch {
        // Too late after a halt: it comes again, and the position knows it.
        let _ = delivery.ack();
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
