//! `overspill ship` as its users run it: real processes, killed at random moments, compared line by line.
//!
//! `OVERSPILL_KILL_ROUNDS` sets the number of kills (5 by default).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at its first surprise"
)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Ship(Child, Vec<String>);

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

    fn kill(mut self) {
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
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What it says until it ends, and whether it ends well.
    fn end(mut self) -> (bool, String, String) {
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

    fn message(&mut self) -> String {
        let mut message = String::new();
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

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn file(&self, name: &str) -> String {
        format!("file:{}", self.text(name))
    }

    /// Appends numbered lines to `in`.
    fn write(&self, numbers: std::ops::Range<usize>) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("in"))
            .unwrap();
        let line = |n| format!("{n:07} a line of some length, as logs have them\n");
        let lines = numbers.map(line).collect::<Vec<_>>();
        file.write_all(lines.concat().as_bytes()).unwrap();
    }

    fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).map_or(0, |text| text.matches('\n').count())
    }

    /// Every line once and in order; says which one is not.
    fn assert_same(&self, expected: &str, found: &str) {
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

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn rounds() -> usize {
    std::env::var("OVERSPILL_KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap())
}

fn a_moment() {
    // Not a wait for anything: the moment of a kill is what these tests are random in.
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
}

#[test]
fn no_line_is_lost_or_repeated_when_either_side_is_killed_at_random_moments() {
    let place = Place::new();
    let address = free_address();
    let tcp = format!("tcp:{address}");
    let (log, out) = (place.file("in"), place.file("out"));
    let (sending, receiving) = (place.text("sending"), place.text("receiving"));
    let sender = || {
        Ship::start(&[
            "--dir",
            &sending,
            "--from",
            &log,
            "--to",
            &tcp,
            "--framing",
            "ack",
        ])
    };
    let receiver = || {
        Ship::start(&[
            "--dir",
            &receiving,
            "--from",
            &tcp,
            "--to",
            &out,
            "--framing",
            "ack",
        ])
    };

    let (mut one, mut other) = (sender(), receiver());
    // A file that is renamed before the shipper has ever seen it is nobody's to ship.
    let mut written = 1;
    place.write(0..written);
    until("the first line", || place.lines("out") >= written);
    for round in 0..rounds() {
        let more = fastrand::usize(1..3000);
        place.write(written..written + more);
        written += more;
        if round % 7 == 3 {
            fs::rename(place.path("in"), place.path(&format!("in.{round}"))).unwrap();
        }
        a_moment();
        if fastrand::bool() {
            one.kill();
            a_moment();
            one = sender();
        } else {
            other.kill();
            a_moment();
            other = receiver();
        }
    }
    until("every line", || place.lines("out") >= written);
    let mut parts: Vec<_> = (0..rounds())
        .map(|round| place.path(&format!("in.{round}")))
        .collect();
    parts.push(place.path("in"));
    let all: Vec<u8> = parts
        .iter()
        .filter_map(|part| fs::read(part).ok())
        .flatten()
        .collect();
    fs::write(place.path("all"), all).unwrap();
    place.assert_same("all", "out");
    for mut ship in [one, other] {
        ship.terminate();
        let (ended_well, _, message) = ship.end();
        assert!(ended_well, "{message}");
    }
    place.assert_same("all", "out");
}

#[test]
fn a_file_destination_has_every_line_once_whatever_is_killed() {
    for (store, durability) in [
        ("sled", "process"),
        ("sled", "spill"),
        ("log", "spill"),
        ("log", "interval=5ms"),
        ("log", "sync"),
    ] {
        let place = Place::new();
        let (dir, log, out) = (place.text("spool"), place.file("in"), place.file("out"));
        let start = || {
            Ship::start(&[
                "--dir",
                &dir,
                "--from",
                &log,
                "--to",
                &out,
                "--store",
                store,
                "--durability",
                durability,
            ])
        };
        let mut written = 0;
        for _ in 0..rounds() {
            let ship = start();
            let more = fastrand::usize(1..5000);
            place.write(written..written + more);
            written += more;
            a_moment();
            ship.kill();
        }
        let mut ship = start();
        until("every line", || place.lines("out") >= written);
        ship.terminate();
        let (ended_well, _, message) = ship.end();
        assert!(ended_well, "{message}");
        place.assert_same("in", "out");
    }
}

#[test]
fn lines_that_a_kill_takes_from_memory_are_read_from_the_file_again() {
    let place = Place::new();
    let address = free_address();
    let (dir, log, tcp) = (
        place.text("spool"),
        place.file("in"),
        format!("tcp:{address}"),
    );
    place.write(0..500);
    let stats = place.text("stats");
    let first = Ship::start(&[
        "--dir",
        &dir,
        "--from",
        &log,
        "--to",
        &tcp,
        "--framing",
        "ack",
        "--durability",
        "spill",
        "--stats-file",
        &stats,
    ]);
    until("all lines in memory", || {
        // Five hundred lines and the mark that the run begins with.
        fs::read_to_string(&stats).is_ok_and(|json| json.contains("\"accepted\":501,"))
    });
    first.kill();

    let out = place.file("out");
    let _second = Ship::start(&[
        "--dir",
        &dir,
        "--from",
        &log,
        "--to",
        &tcp,
        "--framing",
        "ack",
        "--durability",
        "spill",
    ]);
    let receiving = place.text("receiving");
    let _receiver = Ship::start(&[
        "--dir",
        &receiving,
        "--from",
        &tcp,
        "--to",
        &out,
        "--framing",
        "ack",
    ]);
    until("every line", || place.lines("out") >= 500);
    place.assert_same("in", "out");
}

#[test]
fn a_sigterm_during_an_outage_saves_and_exits_with_success() {
    let place = Place::new();
    let (dir, log, tcp) = (
        place.text("spool"),
        place.file("in"),
        format!("tcp:{}", free_address()),
    );
    place.write(0..2000);
    let stats = place.text("stats");
    let mut ship = Ship::start(&[
        "--dir",
        &dir,
        "--from",
        &log,
        "--to",
        &tcp,
        "--framing",
        "ack",
        "--drain",
        "100ms",
        "--stats-file",
        &stats,
    ]);
    until("all lines accepted", || {
        fs::read_to_string(&stats).is_ok_and(|json| json.contains("\"accepted\":2001,"))
    });
    ship.terminate();
    let (ended_well, _, message) = ship.end();
    assert!(ended_well, "{message}");
    assert!(message.contains("lines wait in"), "{message}");

    let out = place.file("out");
    let ship = Ship::start(&["--dir", &dir, "--from", &log, "--to", &out]);
    until("every line", || place.lines("out") >= 2000);
    drop(ship);
    place.assert_same("in", "out");
}

#[test]
fn stdin_goes_to_stdout_and_its_end_is_the_end() {
    let place = Place::new();
    let mut ship = Ship::start(&["--dir", &place.text("spool"), "--from", "-", "--to", "-"]);
    let mut stdin = ship.0.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\nthree").unwrap();
    drop(stdin);
    let (ended_well, output, message) = ship.end();
    assert!(ended_well, "{message}");
    assert_eq!(output, "one\ntwo\nthree\n");
    assert!(message.contains("nothing waits"), "{message}");
}

#[test]
fn plain_lines_of_several_connections_arrive() {
    let place = Place::new();
    let (address, dir, out) = (free_address(), place.text("spool"), place.file("out"));
    let tcp = format!("tcp:{address}");
    let mut ship = Ship::start(&["--dir", &dir, "--from", &tcp, "--to", &out]);
    for text in ["a1\na2\n", "b1\nb2"] {
        let mut connection = None;
        until("the listener", || {
            connection = TcpStream::connect(&address).ok();
            connection.is_some()
        });
        connection.unwrap().write_all(text.as_bytes()).unwrap();
    }
    until("four lines", || place.lines("out") >= 4);
    ship.terminate();
    assert!(ship.end().0);
    let text = fs::read_to_string(place.path("out")).unwrap();
    let of = |letter: char| {
        text.lines()
            .filter(|line| line.starts_with(letter))
            .collect::<Vec<_>>()
    };
    assert_eq!((of('a'), of('b')), (vec!["a1", "a2"], vec!["b1", "b2"]));
}

#[test]
fn a_failure_is_one_line_with_the_path_and_a_remedy() {
    let place = Place::new();
    let dir = place.text("spool");
    let holder = Ship::start(&[
        "--dir",
        &dir,
        "--from",
        &place.file("in"),
        "--to",
        &place.file("out"),
    ]);
    until("the first one to start", || {
        Path::new(&format!("{dir}.position")).exists()
    });
    let missing = place.text("no/such/directory/out");
    for (args, said) in [
        (
            ["--dir", &dir, "--from", "-", "--to", "-"],
            vec![dir.as_str(), "in use by process", "choose another --dir"],
        ),
        (
            [
                "--dir",
                &place.text("other"),
                "--from",
                "-",
                "--to",
                &format!("file:{missing}"),
            ],
            vec![&missing, "permissions"],
        ),
        (
            [
                "--dir",
                &place.text("third"),
                "--from",
                "tcp:192.0.2.1:1",
                "--to",
                "-",
            ],
            vec!["192.0.2.1:1", "free address"],
        ),
    ] {
        let (ended_well, output, message) = Ship::start(&args).end();
        assert!(!ended_well && output.is_empty());
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in said {
            assert!(message.contains(word), "{word:?} in {message}");
        }
    }
    drop(holder);
}
