//! What the hostile proofs share: child processes that can be killed, chance that can be repeated, and directories
//! that are measured, copied and damaged.
#![allow(dead_code, reason = "each test uses its own part")]

pub(crate) mod bytes;
pub(crate) mod mount;

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A child that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);
/// What a child says begins with this; the test harness says things of its own.
const MARK: &str = "@ ";
const TASK: &str = "OVERSPILL_CHILD_TASK";
const DIR: &str = "OVERSPILL_CHILD_DIR";
const ARG: &str = "OVERSPILL_CHILD_ARG";
/// Runs the ignored test `child` of this binary and nothing else.
const AS_CHILD: [&str; 5] = [
    "--exact",
    "child",
    "--ignored",
    "--nocapture",
    "--test-threads=1",
];

/// What a child process is told to do.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) arg: u64,
}

impl Task {
    /// `None` in a process that isn't a child.
    pub(crate) fn from_parent() -> Option<Self> {
        Some(Self {
            name: std::env::var(TASK).ok()?,
            dir: std::env::var_os(DIR)?.into(),
            arg: std::env::var(ARG).ok()?.parse().ok()?,
        })
    }
}

/// The shell command of a child, for a program that starts it in our place and fills in `dir` and `arg`.
pub(crate) fn command_line(name: &str, dir: &str, arg: &str) -> String {
    let binary = std::env::current_exe().expect("a running program has a file");
    format!(
        "env {TASK}={name} {DIR}={dir} {ARG}={arg} '{}' {}",
        binary.display(),
        AS_CHILD.join(" ")
    )
}

/// Says a line to the parent; it is out of the process when this returns.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{MARK}{line}")
        .and_then(|()| out.flush())
        .expect("the parent listens");
}

/// Prints a line that is seen even where the test passes.
pub(crate) fn note(line: &str) {
    // Written past the harness, which keeps what a passing test prints.
    writeln!(io::stderr(), "{line}").expect("there is a standard error");
}

/// This test binary again, doing one task.
pub(crate) struct Child {
    process: process::Child,
    complaints: File,
    lines: mpsc::Receiver<String>,
}

impl Child {
    /// Starts the ignored test `child` of this binary, which does what [`Task`] says.
    pub(crate) fn start(name: &str, dir: &Path, arg: u64) -> Self {
        let binary = std::env::current_exe().expect("a running program has a file");
        let complaints = tempfile::tempfile().expect("a temporary file can be made");
        let mut process = Command::new(binary)
            .args(AS_CHILD)
            .env(TASK, name)
            .env(DIR, dir)
            .env(ARG, arg.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(complaints.try_clone().expect("it is open"))
            .spawn()
            .expect("this test can be started once more");
        let out = process.stdout.take().expect("it was asked for");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The harness may leave its own line unfinished before the first of ours.
                let said = line.split_once(MARK).map(|(_, said)| said.to_owned());
                if said.is_some_and(|said| sender.send(said).is_err()) {
                    return;
                }
            }
        });
        Self {
            process,
            complaints,
            lines,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line; `None` when the child has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the child hangs: {}", self.complaints()),
        }
    }

    /// What it wrote to its standard error.
    fn complaints(&self) -> String {
        let mut text = String::new();
        let mut file = &self.complaints;
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_string(&mut text))
            .map_or_else(|error| error.to_string(), |_| text)
    }

    /// Kills the child as `kill -9` does, and returns what it had still said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
        self.lines.iter().collect()
    }

    /// Waits until it has done what it was told to, and returns the lines that it said. `what` it was about stands
    /// in the panic if it hasn't.
    pub(crate) fn finish(mut self, what: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(SILENCE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "{what}: the child hangs after {lines:?}: {}",
                        self.complaints()
                    )
                }
            }
        }
        let status = self.process.wait().expect("it ends");
        assert!(
            status.success(),
            "{what}: failed after {lines:?}: {}",
            self.complaints()
        );
        lines
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Numbers without a pattern, the same for the same seed.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Another one in every run: for what can't be repeated anyway.
    pub(crate) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(process::id()))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

/// A number from the environment, or `default`.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number"))
    })
}

/// Every file at and below `dir`, by name.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        // What vanishes meanwhile was given back.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

/// Bytes of all files at and below `dir`.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    let len = |path: &PathBuf| fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    files(dir).iter().map(len).sum()
}

/// Names and contents of everything below `dir`.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("it can be read");
        (path, bytes)
    };
    files(dir).into_iter().map(read).collect()
}

/// Copies a whole directory.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let inside = file.strip_prefix(from).expect("it was found there");
        let dest = to.join(inside);
        fs::create_dir_all(dest.parent().expect("it has one")).expect("it can be made");
        fs::copy(&file, &dest).expect("it can be copied");
    }
}

/// A directory for files that need not survive anything: in memory, where the system has such a place.
pub(crate) fn fast_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
    made.expect("a temporary directory can be made")
}

/// Ends the process with the name of the case that hangs.
pub(crate) struct Watchdog {
    cases: u64,
    running: mpsc::Sender<String>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (running, cases) = mpsc::channel::<String>();
        thread::spawn(move || {
            let mut last = "before the first case".to_owned();
            loop {
                match cases.recv_timeout(SILENCE) {
                    Ok(case) => last = case,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        note(&format!("hangs: {last}"));
                        process::abort();
                    }
                }
            }
        });
        Self { cases: 0, running }
    }

    /// The next case begins.
    pub(crate) fn case(&mut self, what: &str) {
        self.cases += 1;
        self.running.send(what.to_owned()).expect("it listens");
    }

    pub(crate) fn cases(&self) -> u64 {
        self.cases
    }
}
