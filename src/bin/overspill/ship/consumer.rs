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
//! order. Nothing counts as failed by that: an outage says nothing about a line. A line that is refused for itself fails; one
//! that has failed too often becomes a dead letter, and the next one has its turn.

use crate::failure::Failure;
use crate::ship::deliverer::Deliverer;
use crate::ship::destination::Outcome;
use crate::ship::ends::Ends;
use crate::ship::frame::{BATCH_BYTES, BATCH_RECORDS};
use crate::ship::patience::Outage;
use crate::ship::record::{Line, LogRecord};
use overspill::{AckReceiver, Delivery, RecvError};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often a consumer that waits for a dead letter looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Consumer {
    pub(crate) rx: AckReceiver<LogRecord>,
    pub(crate) dir: PathBuf,
    pub(crate) deliverer: Deliverer,
    pub(crate) outage: Outage,
    /// Lines that are received at a time.
    pub(crate) most: usize,
    /// The numbers of dead letters, as they are written down.
    pub(crate) set_aside: Receiver<u64>,
}

impl Consumer {
    /// Delivers until the channel is closed and empty, or halted, or the destination is given up.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        while let Some(batch) = self.receive()? {
            let lines: Vec<_> = batch.iter().map(Line::delivered).collect();
            match self.deliverer.deliver(&lines)? {
                Outcome::Taken => {
                    self.outage.is_over();
                    self.most = (2 * self.most).min(BATCH_RECORDS);
                    acknowledge(batch);
                }
                Outcome::Away(error) => {
                    drop(batch);
                    if self.outage.wait(&error) {
                        return Ok(());
                    }
                }
                Outcome::Refused(reason) => {
                    if self.refused(batch, &reason)? {
                        return Ok(());
                    }
                }
            }
        }
        self.deliverer.destination.finish();
        Ok(())
    }

    /// Halves what is sent until the refused line is alone; then that has failed. Says whether to end.
    fn refused(
        &mut self,
        mut batch: Vec<Delivery<LogRecord>>,
        reason: &str,
    ) -> Result<bool, Failure> {
        self.most = (batch.len() / 2).max(1);
        if batch.len() > 1 {
            return Ok(false);
        }
        let Some(delivery) = batch.pop() else {
            return Ok(false);
        };
        let most = self.deliverer.max_attempts;
        if most.is_none_or(|most| delivery.attempt() < most) {
            // Without a back-off of the channel's it comes again before everything else.
            delivery.nack();
            return Ok(self.outage.wait(&io::Error::other(reason)));
        }
        self.outage.is_over();
        self.set_aside(delivery, reason)
    }

    /// Makes a dead letter of it. The position passes it after it is written down, so no crash takes it from both.
    fn set_aside(&mut self, delivery: Delivery<LogRecord>, reason: &str) -> Result<bool, Failure> {
        let (id, ends) = (delivery.id(), Ends::after(&[Line::delivered(&delivery)]));
        delivery.dead_letter(reason);
        let around = &self.deliverer.around;
        loop {
            match self.set_aside.recv_timeout(LOOK_INTERVAL) {
                Ok(seq) if seq == id.seq => break,
                Err(_) if around.abandon.is_up() => return Ok(true),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
            }
        }
        around.position.lock().pass(&ends)?;
        let reporter = &around.reporter;
        reporter.say(format!("{reason}: line {id} is set aside as a dead letter"));
        Ok(false)
    }

    /// As many as a frame holds, or what there is; `None` at the end.
    fn receive(&self) -> Result<Option<Vec<Delivery<LogRecord>>>, Failure> {
        let batch = self
            .rx
            .recv_batch(self.most, BATCH_BYTES as u64, Duration::ZERO);
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
