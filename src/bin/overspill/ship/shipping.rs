//! A running shipper, as its main thread sees it: three threads, and the order in which they end.

use crate::args::Ship;
use crate::failure::Failure;
use crate::ship::consumer::Consumer;
use crate::ship::intake::Intake;
use crate::ship::position::Shared;
use crate::ship::record::LogRecord;
use crate::ship::report::Reporter;
use crate::ship::source::Source;
use crate::stop::Flag;
use overspill::DiskBufferedChannel;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a thread may take to notice that it is to end.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// What the main thread waits for.
pub(crate) enum Happened {
    Signal,
    /// With lines that were read and not accepted.
    SourceEnded(Result<Vec<LogRecord>, Failure>),
    ConsumerEnded(Result<(), Failure>),
}

pub(crate) struct Shipping {
    args: Ship,
    channel: DiskBufferedChannel<LogRecord>,
    position: Shared,
    reporter: Reporter,
    happened: Receiver<Happened>,
    /// Ends the source.
    stop: Flag,
    /// Ends the destination's waiting.
    abandon: Flag,
    signalled: bool,
    source_runs: bool,
    consumer_runs: bool,
    failure: Option<Failure>,
    left: Vec<LogRecord>,
}

impl Shipping {
    pub(crate) fn new(
        args: Ship,
        channel: DiskBufferedChannel<LogRecord>,
        position: Shared,
        reporter: Reporter,
        abandon: Flag,
        happened: Receiver<Happened>,
    ) -> Self {
        Self {
            args,
            channel,
            position,
            reporter,
            happened,
            stop: Flag::default(),
            abandon,
            signalled: false,
            source_runs: true,
            consumer_runs: true,
            failure: None,
            left: Vec::new(),
        }
    }

    /// Ships until the source has ended and everything is delivered, or until a signal and the drain after it.
    pub(crate) fn run(
        mut self,
        source: Source,
        consumer: Consumer,
        events: &Sender<Happened>,
    ) -> Result<(), Failure> {
        let over = Flag::default();
        let progress = {
            let (over, reporter, channel) =
                (over.clone(), self.reporter.clone(), self.channel.clone());
            let stats_file = self.args.stats_file.clone();
            spawn("progress", move || {
                reporter.run(&channel, stats_file.as_deref(), &over);
            })?
        };
        let source_can_stop = source.can_be_stopped();
        self.start(source, consumer, events)?;

        while self.consumer_runs && !self.signalled && self.failure.is_none() && self.step(None) {}
        self.drain(source_can_stop);
        let saved = self.save();
        over.raise();
        let _ = progress.join();
        match self.failure {
            Some(failure) => Err(failure),
            None => saved,
        }
    }

    fn start(
        &self,
        source: Source,
        consumer: Consumer,
        events: &Sender<Happened>,
    ) -> Result<(), Failure> {
        let around = consumer.deliverer.around.clone();
        let ended = events.clone();
        spawn("consumer", move || {
            drop(ended.send(Happened::ConsumerEnded(consumer.run())));
        })?;

        let (ended, stop) = (events.clone(), self.stop.clone());
        let intake = Intake::new(self.channel.sender(), self.args.dir.clone());
        let read =
            move || drop(ended.send(Happened::SourceEnded(source.run(&intake, &around, &stop))));
        spawn("source", read).map(drop)
    }

    /// Waits for one event; false when there is none until the deadline.
    fn step(&mut self, deadline: Option<Instant>) -> bool {
        let event = match deadline {
            None => self.happened.recv().ok(),
            Some(deadline) => self
                .happened
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok(),
        };
        match event {
            None => return false,
            Some(Happened::Signal) => self.signalled = true,
            Some(Happened::SourceEnded(ended)) => {
                self.source_runs = false;
                match ended {
                    Ok(left) => self.left = left,
                    Err(failure) => self.failure = self.failure.take().or(Some(failure)),
                }
                self.channel.close();
            }
            Some(Happened::ConsumerEnded(ended)) => {
                self.consumer_runs = false;
                self.failure = self.failure.take().or(ended.err());
            }
        }
        true
    }

    /// Stops the source, then gives the destination until the end of `--drain` to take what waits.
    fn drain(&mut self, source_can_stop: bool) {
        let deadline = Instant::now() + self.args.drain;
        self.stop.raise();
        let source_ends = Instant::now()
            + if source_can_stop {
                ENDS_WITHIN
            } else {
                Duration::ZERO
            };
        while self.source_runs && self.step(Some(source_ends)) {}
        // Wakes a source that waits for room: it hands back what it has.
        self.channel.close();
        while self.consumer_runs && self.step(Some(deadline)) {}
        self.abandon.raise();
        let consumer_ends = Instant::now() + ENDS_WITHIN;
        while self.consumer_runs && self.step(Some(consumer_ends)) {}
    }

    fn save(&mut self) -> Result<(), Failure> {
        let dir = self.args.dir.display();
        let report = self
            .channel
            .halt_with(std::mem::take(&mut self.left))
            .map_err(|error| {
                Failure::of(
                    "save the rest to",
                    &dir,
                    error,
                    "make room and start again: what was saved before is kept",
                )
            })?;
        self.position.lock().sync()?;
        self.reporter.say(match report.saved {
            0 => "stopped; nothing waits".to_owned(),
            lines => format!("stopped; {lines} lines wait in {dir} for the next start"),
        });
        Ok(())
    }
}

pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map_err(|error| {
        Failure::of(
            "start",
            "a thread",
            error,
            "check the system's thread limit",
        )
    })
}
