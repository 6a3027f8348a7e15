//! Where lines come from.

use crate::args::{Endpoint, Framing};
use crate::failure::Failure;
use crate::ship::destination::Surroundings;
use crate::ship::follow::Tail;
use crate::ship::intake::{Intake, Refused};
use crate::ship::listen::Listener;
use crate::ship::record::{LogRecord, Rest, take_lines};
use crate::ship::reread::end_of;
use crate::stop::Flag;
use std::io::{self, Read};
use std::time::Duration;

/// A followed file is looked at this often: no file system tells all of them apart, and five looks a second
/// cost nothing that can be measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) enum Source {
    StandardInput,
    File(Box<Tail>),
    Tcp(Listener),
}

impl Source {
    pub(crate) fn open(
        from: &Endpoint,
        framing: Framing,
        around: &Surroundings,
    ) -> Result<Self, Failure> {
        Ok(match from {
            Endpoint::Standard => Self::StandardInput,
            Endpoint::File(path) => {
                Self::File(Box::new(Tail::open(path, around.position.clone())?))
            }
            Endpoint::Http(url) => {
                return Err(Failure::new(format!("lines cannot be taken from {url}")));
            }
            Endpoint::Tcp(address) => {
                Self::Tcp(Listener::bind(address, framing, around.reporter.clone())?)
            }
        })
    }

    /// Reads until the source ends or `stop` is up. Hands back lines that were read, that the channel did
    /// not accept, and that nobody will send again.
    pub(crate) fn run(
        self,
        intake: &Intake,
        around: &Surroundings,
        stop: &Flag,
    ) -> Result<Vec<LogRecord>, Failure> {
        match self {
            Self::StandardInput => read_all(&mut io::stdin().lock(), intake),
            Self::File(tail) => follow(*tail, intake, around, stop).map(|()| Vec::new()),
            Self::Tcp(listener) => listener.run(intake, stop),
        }
    }

    /// True if a stop ends [`run`](Self::run): a read from stdin can't be ended.
    pub(crate) fn can_be_stopped(&self) -> bool {
        !matches!(self, Self::StandardInput)
    }
}

fn read_all(from: &mut impl Read, intake: &Intake) -> Result<Vec<LogRecord>, Failure> {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = match from.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::of(
                    "read",
                    "stdin",
                    error,
                    "start again with the rest",
                ));
            }
        };
        buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let rest = if read == 0 {
            Rest::IsALine
        } else {
            Rest::Waits
        };
        let lines = take_lines(&mut buffer, rest).into_iter();
        match intake.admit(lines.map(LogRecord::bare).collect()) {
            Ok(()) if read == 0 => return Ok(Vec::new()),
            Ok(()) => {}
            Err(Refused::Stopped(left)) => return Ok(left),
            Err(Refused::Full) => return Err(intake.full()),
            Err(Refused::Failed(failure)) => return Err(failure),
        }
    }
}

fn follow(
    mut tail: Tail,
    intake: &Intake,
    around: &Surroundings,
    stop: &Flag,
) -> Result<(), Failure> {
    let (position, reporter) = (&around.position, &around.reporter);
    // A line of no bytes, in the place where this run goes on: if a crash took the lines before it from
    // the channel, the consumer sees the gap now and not when the next line is written.
    let mut fails = false;
    let mut records = vec![LogRecord::read(tail.source(), tail.began_at(), Vec::new())];
    loop {
        if let Some(end) = end_of(&records) {
            match intake.admit(records) {
                Ok(()) => position.lock().accepted(end)?,
                // The position has not passed them.
                Err(Refused::Stopped(_)) => return Ok(()),
                Err(Refused::Full) => return Err(intake.full()),
                Err(Refused::Failed(failure)) => return Err(failure),
            }
        } else if stop.wait(LOOK_INTERVAL) {
            return Ok(());
        }
        if stop.is_up() {
            return Ok(());
        }
        records = match tail.poll() {
            Ok(records) => {
                fails = false;
                records
            }
            // A rotation may be under way, a mount may come back: a followed file is no reason to stop.
            Err(failure) => {
                if !fails {
                    reporter.say(format!("{failure}; trying again"));
                }
                fails = true;
                Vec::new()
            }
        };
    }
}
