//! The way into the channel, for every source.

use crate::failure::Failure;
use crate::ship::record::LogRecord;
use overspill::{SendError, Sender};
use std::path::PathBuf;

/// Why a batch was not accepted whole. What the channel took of it stays in the channel.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The shipper is to end. Hands back what was not accepted.
    Stopped(Vec<LogRecord>),
    /// The directory is full, and `--when-full reject` was asked for.
    Full,
    /// The store failed.
    Failed(Failure),
}

#[derive(Clone, Debug)]
pub(crate) struct Intake {
    tx: Sender<LogRecord>,
    dir: PathBuf,
}

impl Intake {
    pub(crate) fn new(tx: Sender<LogRecord>, dir: PathBuf) -> Self {
        Self { tx, dir }
    }

    /// Returns when the channel has accepted all of them, at its durability.
    pub(crate) fn admit(&self, records: Vec<LogRecord>) -> Result<(), Refused> {
        let mut records = records.into_iter();
        match self.tx.send_all(&mut records) {
            Ok(_) => Ok(()),
            Err(SendError::Closed(item) | SendError::Halted(item)) => Err(Refused::Stopped(
                std::iter::once(item).chain(records).collect(),
            )),
            Err(SendError::Full(_)) => Err(Refused::Full),
            Err(error) => Err(Refused::Failed(Failure::of(
                "send to the channel in",
                self.dir.display(),
                error,
                "check the disk and start again: what was accepted is kept",
            ))),
        }
    }

    pub(crate) fn full(&self) -> Failure {
        Failure::new(format!(
            "{} is full and --when-full is reject; make room or raise --disk-max, and start again",
            self.dir.display()
        ))
    }
}
