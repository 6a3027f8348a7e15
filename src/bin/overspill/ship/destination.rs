//! Where lines go: each destination says when it has taken a batch.

use crate::args::{Endpoint, Framing};
use crate::failure::Failure;
use crate::ship::file::FileDestination;
use crate::ship::http::HttpDestination;
use crate::ship::position::Shared;
use crate::ship::record::Line;
use crate::ship::report::Reporter;
use crate::ship::tcp::TcpDestination;
use crate::stop::Flag;
use std::io::{self, Write};

/// How an attempt to deliver ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The destination has the whole batch, as far as it can tell.
    Taken,
    /// It can't take anything now, and may have any part of the batch.
    Away(io::Error),
    /// It has none of the batch, and will never take some of its lines.
    Refused(String),
}

pub(crate) trait Destination: Send {
    /// Tries once, for as long as a destination that is there needs.
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure>;

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
        Endpoint::Http(url) => Box::new(HttpDestination::new(url)),
        Endpoint::Tcp(address) => Box::new(TcpDestination::new(address, framing, around.abandon)),
    })
}

/// The bytes of a batch, one line each.
pub(crate) fn lines(batch: &[Line<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.iter().map(|line| line.text.len() + 1).sum());
    for line in batch {
        line.append_to(&mut bytes);
    }
    bytes
}

struct StandardOutput;

impl Destination for StandardOutput {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
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
