//! Where lines go: each destination says when it has taken a batch.

use crate::args::{Endpoint, Framing};
use crate::failure::Failure;
use crate::ship::file::FileDestination;
use crate::ship::position::Shared;
use crate::ship::record::LogRecord;
use crate::ship::report::Reporter;
use crate::ship::tcp::TcpDestination;
use crate::stop::Flag;
use std::io::{self, Write};

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination has the whole batch, as far as it can tell.
    Taken,
    /// The shipper is to end, and the destination may have any part of the batch.
    Abandoned,
}

pub(crate) trait Destination: Send {
    /// Returns when the destination has taken the batch, however long it is away.
    fn deliver(&mut self, batch: &[LogRecord]) -> Result<Outcome, Failure>;

    /// Called once, after the last batch.
    fn finish(&mut self) {}
}

/// What every destination is given.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) position: Shared,
    pub(crate) reporter: Reporter,
    /// Ends all waiting.
    pub(crate) abandon: Flag,
}

pub(crate) fn open(
    to: &Endpoint,
    framing: Framing,
    around: Surroundings,
) -> Result<Box<dyn Destination>, Failure> {
    Ok(match to {
        Endpoint::Standard => Box::new(StandardOutput),
        Endpoint::File(path) => Box::new(FileDestination::open(path, around)?),
        Endpoint::Tcp(address) => Box::new(TcpDestination::new(address, framing, around)),
    })
}

/// The bytes of a batch, one line each.
pub(crate) fn lines(batch: &[LogRecord]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.iter().map(|record| record.line.len() + 1).sum());
    for record in batch {
        record.append_to(&mut bytes);
    }
    bytes
}

struct StandardOutput;

impl Destination for StandardOutput {
    fn deliver(&mut self, batch: &[LogRecord]) -> Result<Outcome, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(&lines(batch))
            .and_then(|()| stdout.flush())
        {
            Ok(()) => Ok(Outcome::Taken),
            Err(error) => Err(Failure::of(
                "write to",
                "stdout",
                error,
                "start again with a reader: what it has not taken waits",
            )),
        }
    }
}
