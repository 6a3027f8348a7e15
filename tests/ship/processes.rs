//! Shippers as real processes, and the files that they work on.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The options of a shipper that waits for receipts, or gives them.
pub(crate) const ACK: [&str; 2] = ["--framing", "ack"];

/// A running shipper, and what it has said.
pub(crate) struct Ship(pub(crate) Child, Vec<String>);

impl Ship {
    fn start(args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_overspill"))
            .arg("ship")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child, Vec::new())
    }

    pub(crate) fn kill(mut self) {
        assert!(
            self.0.try_wait().unwrap().is_none(),
            "it ended by itself: {}",
            self.message()
        );
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits until it handles signals: before that, a SIGTERM just ends it.
    fn terminate(&mut self) {
        let mut said = BufReader::new(self.0.stderr.as_mut().unwrap());
        while !self.1.iter().any(|line| line.starts_with("shipping ")) {
            let mut line = String::new();
            assert_ne!(
                said.read_line(&mut line).unwrap(),
                0,
                "it has ended: {:?}",
                self.1
            );
            self.1.push(line);
        }
        let buffered = String::from_utf8(said.buffer().to_vec()).unwrap();
        self.1.push(buffered);
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it as its user would. It ends well, and has said this.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let (ended_well, _, message) = self.end();
        assert!(ended_well, "{message}");
        message
    }

    /// What it says until it ends, and whether it ends well.
    pub(crate) fn end(mut self) -> (bool, String, String) {
        drop(self.0.stdin.take());
        let mut output = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        let message = self.message();
        (self.0.wait().unwrap().success(), output, message)
    }

    /// All that it says.
    fn message(&mut self) -> String {
        let mut message = self.1.concat();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut message)
            .unwrap();
        message
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn file(&self, name: &str) -> String {
        format!("file:{}", self.text(name))
    }

    /// Starts a shipper whose channel is in the directory `name`.
    pub(crate) fn ship(&self, name: &str, from: &str, to: &str, options: &[&str]) -> Ship {
        let dir = self.text(name);
        let route = ["--dir", &dir, "--from", from, "--to", to];
        Ship::start(&[&route, options].concat())
    }

    /// Appends numbered lines to `in`.
    pub(crate) fn write(&self, numbers: std::ops::Range<usize>) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("in"))
            .unwrap();
        let line = |n| format!("{n:07} a line of some length, as logs have them\n");
        let lines = numbers.map(line).collect::<Vec<_>>();
        file.write_all(lines.concat().as_bytes()).unwrap();
    }

    /// Appends numbered lines to `in`, at least one and fewer than `end`.
    pub(crate) fn write_more(&self, written: &mut usize, end: usize) {
        let more = fastrand::usize(1..end);
        self.write(*written..*written + more);
        *written += more;
    }

    pub(crate) fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).map_or(0, |text| text.matches('\n').count())
    }

    /// Every line once and in order; says which one is not.
    pub(crate) fn assert_same(&self, expected: &str, found: &str) {
        let read = |name: &str| {
            let file = BufReader::new(fs::File::open(self.path(name)).unwrap());
            file.lines().map(Result::unwrap).collect::<Vec<_>>()
        };
        let (expected, found) = (read(expected), read(found));
        let differs = expected
            .iter()
            .zip(&found)
            .position(|(expected, found)| expected != found);
        assert_eq!(differs.map(|at| (at, &expected[at], &found[at])), None);
        assert_eq!(expected.len(), found.len());
    }
}

pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        // It is about files of other processes, and nobody tells when they change.
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

pub(crate) fn rounds() -> usize {
    std::env::var("OVERSPILL_KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap())
}

pub(crate) fn a_moment() {
    // Not a wait for anything: the moment of a kill is what these tests are random in.
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
}

/// A figure of a shipper's channel, as its file says. Whenever that is read, every accepted item is counted in one place.
pub(crate) fn figure(stats_file: &str, name: &str) -> Option<u64> {
    let json = fs::read(stats_file).ok()?;
    let figures: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let channel = &figures["channel"];
    let of = |name: &str| channel[name].as_u64().unwrap();
    let dropped = channel["dropped"].as_object().unwrap().values();
    let dropped: u64 = dropped.map(|count| count.as_u64().unwrap()).sum();
    let places = [
        "acknowledged",
        "pending",
        "in_flight",
        "dead_lettered",
        "lost",
        "unaccounted",
    ];
    let accounted = places.map(of).iter().sum::<u64>() + dropped;
    assert_eq!(of("accepted"), accounted, "{channel}");
    Some(of(name))
}
