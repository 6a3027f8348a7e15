//! The lines that the demo ships: real ones, each with a running number, so that any two can be told apart.

use crate::failure::Failure;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Where a system keeps its logs.
const LOGS: &str = "/var/log";
/// Longer lines are cut: the demo is to end in half a minute.
const LINE_BYTES_MAX: u64 = 4096;

pub(crate) struct Lines {
    originals: Vec<Vec<u8>>,
    /// What they are, for the user.
    pub(crate) origin: String,
}

impl Lines {
    /// At most `count` lines of `input`, or of the largest log of this machine, or made up.
    pub(crate) fn collect(input: Option<&Path>, count: u32) -> Result<Self, Failure> {
        let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::of(
                "take lines from",
                path.display(),
                error,
                "choose another --input",
            )
        };
        let found = match input {
            Some(path) => Some(path.to_owned()),
            None => largest_log(Path::new(LOGS), 2).map(|(_, path)| path),
        };
        let Some(path) = found else {
            let origin =
                format!("this machine has no readable log under {LOGS}: the lines are made up");
            return Ok(Self {
                originals: (0..1000).map(plausible).collect(),
                origin,
            });
        };
        let originals = read_lines(&path, count).map_err(|error| unreadable(&path, &error))?;
        if originals.is_empty() {
            return Err(unreadable(&path, &"it has no lines"));
        }
        let times = if originals.len() < count as usize {
            ", again and again"
        } else {
            ""
        };
        let origin = format!(
            "{} lines of {}{times}, numbered",
            originals.len(),
            path.display()
        );
        Ok(Self { originals, origin })
    }

    /// Appends the line with that number, and its newline.
    pub(crate) fn write(&self, number: u32, out: &mut impl Write) -> io::Result<()> {
        let line = self.originals.get(number as usize % self.originals.len());
        write!(out, "{number:08} ")?;
        out.write_all(line.map_or(&[][..], Vec::as_slice))?;
        out.write_all(b"\n")
    }
}

/// The number of a line that [`Lines::write`] has written.
pub(crate) fn number(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line.get(..8)?).ok()?.parse().ok()
}

fn read_lines(path: &Path, count: u32) -> io::Result<Vec<Vec<u8>>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut lines = Vec::new();
    while lines.len() < count as usize {
        let mut line = Vec::new();
        if (&mut file)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        lines.push(line.trim_ascii_end().to_vec());
    }
    Ok(lines)
}

/// The largest readable text file, as far down as `depth` says.
fn largest_log(dir: &Path, depth: u32) -> Option<(u64, PathBuf)> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let log = |entry: fs::DirEntry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() && depth > 1 {
            return largest_log(&entry.path(), depth - 1);
        }
        let len = entry.metadata().ok()?.len();
        (kind.is_file() && len > 0 && is_text(&entry.path())).then(|| (len, entry.path()))
    };
    entries.filter_map(log).max()
}

fn is_text(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    read.is_ok()
        && start.contains(&b'\n')
        && !start.contains(&0)
        && std::str::from_utf8(&start).is_ok()
}

fn plausible(n: u32) -> Vec<u8> {
    let (minute, second) = (n / 60 % 60, n % 60);
    let message = match n % 4 {
        0 => format!(
            "nginx[812]: 10.0.{}.{} \"GET /item/{n} HTTP/1.1\" 200 {}",
            n % 7,
            n % 251,
            300 + n * 37 % 9000
        ),
        1 => format!(
            "sshd[{}]: Accepted publickey for deploy from 10.0.3.{} port {}",
            2000 + n,
            n % 251,
            40_000 + n
        ),
        2 => format!(
            "kernel: eth0: link up, {} Mbps, full duplex",
            10_u32.pow(1 + n / 4 % 3)
        ),
        _ => format!("app[4711]: order {n} stored in {} ms", 1 + n % 40),
    };
    format!("2026-01-01T00:{minute:02}:{second:02}Z host {message}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_told_by_its_number() {
        let lines = Lines {
            originals: vec![b"a".to_vec(), b"b".to_vec()],
            origin: String::new(),
        };
        let mut out = Vec::new();
        for n in 0..3 {
            lines.write(n, &mut out).unwrap();
        }
        assert_eq!(out, b"00000000 a\n00000001 b\n00000002 a\n");
        assert_eq!(number(b"00000002 a\n"), Some(2));
        assert_eq!(number(b"torn"), None);
    }

    #[test]
    fn the_largest_text_file_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("app")).unwrap();
        fs::write(dir.path().join("small"), "a\n").unwrap();
        fs::write(dir.path().join("app/large"), "a\nb\n".repeat(10)).unwrap();
        fs::write(dir.path().join("binary"), [0; 1000]).unwrap();
        assert_eq!(
            largest_log(dir.path(), 2).unwrap().1,
            dir.path().join("app/large")
        );
        assert_eq!(
            largest_log(dir.path(), 1).unwrap().1,
            dir.path().join("small")
        );
    }

    #[test]
    fn a_machine_without_logs_gets_plausible_ones() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(largest_log(dir.path(), 2), None);
        assert!(
            (0..1000)
                .map(plausible)
                .all(|line| line.starts_with(b"2026-01-01T00:"))
        );
    }
}
