//! `overspill demo`: two shippers, an outage, kills on both sides, and a proof.
//!
//! Every stage ends when something is true, never when some time is over.

mod lines;
mod process;
mod table;
mod verdict;
mod watch;

use crate::args::Demo;
use crate::failure::Failure;
use crate::stop::{Flag, on_signal};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use lines::Lines;
use process::{Shipper, stats_file};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use table::Table;
use tempfile::TempDir;
use verdict::Verdict;
use watch::Watch;

/// A stage that gets nowhere for so long has failed: far longer than any pause of a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &Demo) -> Result<(), Failure> {
    let interrupted = Flag::default();
    let raise = interrupted.clone();
    on_signal(move || raise.raise())?;
    let lines = Lines::collect(args.input.as_deref(), args.lines)?;
    let dir = tempfile::Builder::new()
        .prefix("overspill-demo-")
        .tempdir()
        .map_err(|error| {
            Failure::of(
                "create",
                "a temporary directory",
                error,
                "set TMPDIR to a writable one",
            )
        })?;
    let over = Flag::default();
    let stage = Stage::new(dir.path(), args.lines, lines, interrupted)?;
    let watch = Watch::default();
    let result = std::thread::scope(|scope| {
        let (spool, stats) = (stage.spool(), stats_file(&stage.spool()));
        let (watch_there, over_there) = (watch.clone(), over.clone());
        scope.spawn(move || watch_there.run(&spool, &stats, &over_there));
        let result = stage.play(&watch);
        over.raise();
        result
    });
    if args.keep {
        stage.say(&format!("kept: {}", TempDir::keep(dir).display()));
    }
    result
}

/// Where the story takes place.
struct Stage {
    dir: PathBuf,
    address: String,
    count: u32,
    lines: Lines,
    bar: ProgressBar,
    interrupted: Flag,
}

impl Stage {
    fn new(dir: &Path, count: u32, lines: Lines, interrupted: Flag) -> Result<Self, Failure> {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| {
                Failure::of(
                    "find",
                    "a free port on 127.0.0.1",
                    error,
                    "check the loopback interface",
                )
            })?;
        let shows = io::stderr().is_terminal();
        let bar = if shows {
            ProgressBar::new(u64::from(count))
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("    {bar:40} {human_pos} of {human_len} lines arrived")
        {
            bar.set_style(style);
        }
        Ok(Self {
            dir: dir.to_owned(),
            address: address.to_string(),
            count,
            lines,
            bar,
            interrupted,
        })
    }

    fn log(&self) -> PathBuf {
        self.dir.join("app.log")
    }

    fn rotated(&self) -> PathBuf {
        self.dir.join("app.log.1")
    }

    fn received(&self) -> PathBuf {
        self.dir.join("received.log")
    }

    fn spool(&self) -> PathBuf {
        self.dir.join("shipper")
    }

    fn start_shipper(&self, watch: &Watch) -> Result<Shipper, Failure> {
        let (from, to) = (
            format!("file:{}", self.log().display()),
            format!("tcp:{}", self.address),
        );
        let shipper = Shipper::start("shipper", &self.spool(), &from, &to)?;
        watch.look_at(shipper.pid());
        Ok(shipper)
    }

    fn start_receiver(&self) -> Result<Shipper, Failure> {
        let (from, to) = (
            format!("tcp:{}", self.address),
            format!("file:{}", self.received().display()),
        );
        Shipper::start("receiver", &self.dir.join("receiver"), &from, &to)
    }

    fn play(&self, watch: &Watch) -> Result<(), Failure> {
        let began = Instant::now();
        let mut arrived = Arrived::default();
        self.say(&format!("lines      {}", self.lines.origin));
        self.say(&format!("directory  {}", self.dir.display()));

        let mut receiver = self.start_receiver()?;
        let mut shipper = self.start_shipper(watch)?;
        self.say(&format!(
            "1  a shipper follows app.log, a receiver listens on {}",
            self.address
        ));
        self.write(0..self.part(20))?;
        self.wait_for_arrival(&mut shipper, &mut receiver, &mut arrived, self.part(10))?;
        receiver.kill()?;
        self.say(&format!(
            "2  {} lines are through; the receiver is killed with SIGKILL in the middle of its work",
            HumanCount(self.arrived(&mut arrived)?)
        ));

        self.suffer(shipper)?;
        let (rate, shipper, receiver) = self.recover(watch, &mut arrived)?;
        self.say(
            "7  everything has arrived; both are stopped, and the files are compared line by line",
        );

        shipper.stop(PATIENCE)?;
        receiver.stop(PATIENCE)?;
        self.bar.finish_and_clear();
        let verdict = Verdict::of(&[&self.rotated(), &self.log()], &self.received())
            .map_err(|error| self.failed("compare the files in", &error))?;
        let figures = watch::figures(&stats_file(&self.spool()));
        let table = Table {
            verdict,
            figures,
            peaks: watch.peaks(),
            rate,
            took: began.elapsed(),
        };
        self.say(&table.to_string());
        if table.verdict.keeps_the_promise() {
            self.say("Every line arrived once, in order.");
            return Ok(());
        }
        Err(Failure::new(
            "a promise was broken: see the table; run it with --keep and report it",
        ))
    }

    /// The receiver is away: the backlog grows, and then the shipper is killed while it reads.
    fn suffer(&self, mut shipper: Shipper) -> Result<(), Failure> {
        let (from, to) = (self.part(20), self.part(70));
        self.write(from..to)?;
        let stats = stats_file(&self.spool());
        let accepted = |_: &Self| Ok(watch::figures(&stats).channel.accepted);
        // The mark that the run began with is counted too.
        self.wait(&mut [&mut shipper], accepted, u64::from(to) + 1)?;
        let pending = watch::figures(&stats).channel.backlog();
        self.say(&format!(
            "3  {} more lines were written; {} wait on disk",
            HumanCount(u64::from(to - from)),
            HumanCount(pending)
        ));
        self.write(to..self.part(75))?;
        self.wait(&mut [&mut shipper], accepted, u64::from(to) + 2)?;
        shipper.kill()?;
        self.rotate()?;
        self.write(self.part(75)..self.part(80))?;
        self.say("4  the shipper is killed with SIGKILL while it reads on; the log is rotated and written on");
        Ok(())
    }

    /// Both come back, and are killed once more while the backlog drains. Returns them, and how many lines a second
    /// arrived until then.
    fn recover(
        &self,
        watch: &Watch,
        arrived: &mut Arrived,
    ) -> Result<(f64, Shipper, Shipper), Failure> {
        let mut shipper = self.start_shipper(watch)?;
        self.write(self.part(80)..self.count)?;
        let (before, back) = (arrived.lines, Instant::now());
        let mut receiver = self.start_receiver()?;
        self.say("5  the shipper is back, and so is the receiver");
        self.wait_for_arrival(&mut shipper, &mut receiver, arrived, self.part(60))?;
        let lines = u32::try_from(arrived.lines - before).unwrap_or(u32::MAX);
        let rate = f64::from(lines) / back.elapsed().as_secs_f64();

        receiver.kill()?;
        shipper.kill()?;
        self.say(&format!(
            "6  {} lines are through; both are killed while the rest is on its way, and start again",
            HumanCount(self.arrived(arrived)?)
        ));
        let mut shipper = self.start_shipper(watch)?;
        let mut receiver = self.start_receiver()?;
        self.wait_for_arrival(&mut shipper, &mut receiver, arrived, self.count)?;
        Ok((rate, shipper, receiver))
    }

    fn part(&self, percent: u32) -> u32 {
        u32::try_from(u64::from(self.count) * u64::from(percent) / 100).unwrap_or(self.count)
    }

    fn wait_for_arrival(
        &self,
        shipper: &mut Shipper,
        receiver: &mut Shipper,
        arrived: &mut Arrived,
        goal: u32,
    ) -> Result<(), Failure> {
        self.wait(
            &mut [shipper, receiver],
            |stage| stage.arrived(arrived),
            u64::from(goal),
        )
    }

    fn write(&self, numbers: std::ops::Range<u32>) -> Result<(), Failure> {
        let append = || {
            let mut file = BufWriter::new(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(self.log())?,
            );
            for number in numbers {
                self.lines.write(number, &mut file)?;
            }
            file.flush()
        };
        append().map_err(|error| self.failed("write the log in", &error))
    }

    fn rotate(&self) -> Result<(), Failure> {
        std::fs::rename(self.log(), self.rotated())
            .map_err(|error| self.failed("rotate the log in", &error))
    }

    fn arrived(&self, arrived: &mut Arrived) -> Result<u64, Failure> {
        let lines = arrived
            .count(&self.received())
            .map_err(|error| self.failed("read", &error))?;
        self.bar.set_position(lines);
        Ok(lines)
    }

    /// Waits until `figure` reaches `goal`. Fails when it doesn't move for too long, or when a shipper ends.
    fn wait(
        &self,
        running: &mut [&mut Shipper],
        mut figure: impl FnMut(&Self) -> Result<u64, Failure>,
        goal: u64,
    ) -> Result<(), Failure> {
        let (mut highest, mut moved) = (0, Instant::now());
        loop {
            let now = figure(self)?;
            if now >= goal {
                return Ok(());
            }
            if now > highest {
                (highest, moved) = (now, Instant::now());
            }
            for shipper in running.iter_mut() {
                shipper.check()?;
            }
            if self.interrupted.wait(LOOK_INTERVAL) {
                return Err(Failure::new("interrupted; the shippers were stopped"));
            }
            if moved.elapsed() > PATIENCE {
                return Err(Failure::new(format!(
                    "stuck at {now} of {goal} lines for {PATIENCE:?}; run it with --keep and report it"
                )));
            }
        }
    }

    fn failed(&self, operation: &str, error: &io::Error) -> Failure {
        Failure::of(
            operation,
            self.dir.display(),
            error,
            "check the space and permissions there",
        )
    }

    /// One line on stdout.
    fn say(&self, message: &str) {
        // Nobody listens any more: the exit code still tells.
        let _ = self.bar.suspend(|| writeln!(io::stdout(), "{message}"));
    }
}

/// Counts the lines of a growing file.
#[derive(Default)]
struct Arrived {
    file: Option<File>,
    lines: u64,
}

impl Arrived {
    fn count(&mut self, path: &Path) -> io::Result<u64> {
        if self.file.is_none() {
            match File::open(path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let mut chunk = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok(self.lines);
            }
            let newlines = chunk
                .iter()
                .take(read)
                .filter(|byte| **byte == b'\n')
                .count();
            self.lines += newlines as u64;
        }
    }
}
