//! A tail against everything that a rotation does to its file.

use super::*;
use crate::ship::position::Position;
use std::fs::{self, OpenOptions};
use std::io::Write;

struct Log {
    dir: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy_and_truncate(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
        OpenOptions::new()
            .write(true)
            .open(self.path(from))
            .unwrap()
            .set_len(0)
            .unwrap();
    }

    fn tail(&self) -> Tail {
        Tail::open(
            &self.path("log"),
            Position::open(&self.path("spool")).unwrap().share(),
        )
        .unwrap()
    }
}

/// Everything that is there, as lines. Lines touch: none is skipped and none comes twice.
fn read(tail: &mut Tail) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..3 * QUIET_LOOKS {
        for record in tail.poll().unwrap() {
            let end = record.place.unwrap().end;
            tail.position.lock().accepted(end).unwrap();
            lines.push((
                end - record.line.len() as u64,
                end,
                String::from_utf8(record.line).unwrap(),
            ));
        }
    }
    for pair in lines.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "{pair:?}");
    }
    lines.into_iter().map(|(_, _, line)| line).collect()
}

fn first_lines(day: &str) -> String {
    let line = |n| format!("2026-11-{day} 04:17:18 host app[{n}]: one of the first lines\n");
    (0..8).map(line).collect::<Vec<_>>().concat()
}

#[test]
fn a_partial_line_waits_for_its_newline() {
    let log = Log::new();
    let mut tail = log.tail();
    assert!(read(&mut tail).is_empty(), "no file yet");
    log.append("log", "one\ntw");
    assert_eq!(read(&mut tail), ["one\n"]);
    log.append("log", "o\n");
    assert_eq!(read(&mut tail), ["two\n"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_its_successor() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\n");
    assert_eq!(read(&mut tail), ["one\n"]);
    log.rename("log", "log.1");
    log.append("log.1", "two\n");
    assert_eq!(
        read(&mut tail),
        ["two\n"],
        "the writer has not reopened yet"
    );
    log.append("log.1", "three");
    log.append("log", "four\n");
    assert_eq!(read(&mut tail), ["three", "four\n"]);
}

#[test]
fn an_empty_successor_does_not_end_the_file_before_it() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\n");
    assert_eq!(read(&mut tail), ["one\n"]);
    log.rename("log", "log.1");
    log.append("log", "");
    assert!(read(&mut tail).is_empty());
    log.append("log.1", "two\n");
    assert_eq!(read(&mut tail), ["two\n"]);
}

#[test]
fn two_rotations_in_a_row_lose_no_file() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\n");
    assert_eq!(tail.poll().unwrap().len(), 1);
    log.rename("log", "log.1");
    log.append("log", "two\n");
    assert!(tail.poll().unwrap().is_empty());
    log.rename("log.1", "log.2");
    log.rename("log", "log.1");
    log.append("log", "three\n");
    assert_eq!(read(&mut tail), ["two\n", "three\n"]);
}

#[test]
fn a_copied_and_truncated_file_goes_on_at_its_start() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", &first_lines("21"));
    assert_eq!(read(&mut tail).len(), 8);
    log.append("log", "not read before the copy\n");
    log.copy_and_truncate("log", "log.1");
    log.append("log", &first_lines("22"));
    let lines = read(&mut tail);
    assert_eq!(lines[0], "not read before the copy\n");
    assert_eq!(lines[1..].concat(), first_lines("22"));
}

#[test]
fn a_truncated_file_that_has_grown_again_is_noticed() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\n");
    assert_eq!(read(&mut tail), ["one\n"]);
    fs::write(log.path("log"), "a new and longer beginning\n").unwrap();
    assert_eq!(read(&mut tail), ["a new and longer beginning\n"]);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let log = Log::new();
    log.append("log", "one\ntwo\nthr");
    assert_eq!(read(&mut log.tail()), ["one\n", "two\n"]);
    log.append("log", "ee\n");
    assert_eq!(read(&mut log.tail()), ["three\n"]);
    assert!(read(&mut log.tail()).is_empty());
}

#[test]
fn a_restart_finds_the_file_that_was_rotated_meanwhile() {
    let log = Log::new();
    log.append("log", "one\n");
    assert_eq!(read(&mut log.tail()), ["one\n"]);
    log.append("log", "two\n");
    log.rename("log", "log.1");
    log.append("log", "three\n");
    assert_eq!(read(&mut log.tail()), ["two\n", "three\n"]);
}

#[test]
fn a_restart_finds_the_copy_of_a_file_that_was_truncated_meanwhile() {
    let log = Log::new();
    log.append("log", &first_lines("21"));
    assert_eq!(read(&mut log.tail()).len(), 8);
    log.append("log", "late\n");
    log.copy_and_truncate("log", "log.1");
    log.append("log", &first_lines("22"));
    let lines = read(&mut log.tail());
    assert_eq!((lines.len(), lines[0].as_str()), (9, "late\n"));
}

#[test]
fn a_file_that_was_replaced_by_an_unrelated_one_is_read_from_its_start() {
    let log = Log::new();
    log.append("log", "one\n");
    assert_eq!(read(&mut log.tail()), ["one\n"]);
    fs::remove_file(log.path("log")).unwrap();
    log.append("log.new", "another\n");
    log.rename("log.new", "log");
    assert_eq!(read(&mut log.tail()), ["another\n"]);
}

#[test]
fn files_that_begin_alike_are_told_apart_by_their_inode() {
    let log = Log::new();
    let banner = "#".repeat(300) + "\n";
    log.append("log", &format!("{banner}one\n"));
    assert_eq!(read(&mut log.tail()).len(), 2);
    log.rename("log", "log.1");
    log.append("log", &format!("{banner}two\n"));
    assert_eq!(read(&mut log.tail()), [banner, "two\n".into()]);
}

#[test]
fn what_was_read_can_be_read_again_through_all_files() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\ntwo\n");
    assert_eq!(read(&mut tail), ["one\n", "two\n"]);
    log.rename("log", "log.1");
    log.append("log", "three\n");
    assert_eq!(read(&mut tail), ["three\n"]);

    let followed = tail.position.lock().followed().unwrap().clone();
    let mut again = Reread::new(followed.clone(), 4, 14);
    let mut lines = Vec::new();
    loop {
        let records = again.next().unwrap();
        if records.is_empty() {
            break;
        }
        let line = |record: LogRecord| (record.place.unwrap().end, record.line);
        lines.extend(records.into_iter().map(line));
    }
    assert_eq!(lines, [(8, b"two\n".to_vec()), (14, b"three\n".to_vec())]);
    assert_eq!(again.missing, 0);

    fs::remove_file(log.path("log.1")).unwrap();
    let mut again = Reread::new(followed, 4, 14);
    assert_eq!(again.next().unwrap().len(), 1);
    assert_eq!(again.missing, 4);
}

#[test]
fn a_crash_between_two_files_reads_both() {
    let log = Log::new();
    let mut tail = log.tail();
    log.append("log", "one\ntwo\n");
    assert_eq!(tail.poll().unwrap().len(), 2);
    log.rename("log", "log.1");
    log.append("log", "three\n");
    // Everything is read, and nothing after the first line was ever accepted.
    for _ in 0..3 * QUIET_LOOKS {
        tail.poll().unwrap();
    }
    tail.position.lock().accepted(4).unwrap();
    drop(tail);
    assert_eq!(read(&mut log.tail()), ["two\n", "three\n"]);
}

#[test]
fn rotations_faster_than_restarts_lose_no_file() {
    let log = Log::new();
    log.append("log", "one\n");
    assert_eq!(log.tail().poll().unwrap().len(), 1);
    for n in 1..5 {
        log.rename("log", &format!("log.{n}"));
        log.append("log", &format!("after rotation {n}\n"));
        // Sees the new file, and is killed before the old one has been quiet for long enough.
        let mut tail = log.tail();
        tail.poll().unwrap();
        tail.poll().unwrap();
    }
    let lines = read(&mut log.tail());
    assert_eq!(
        lines.first().map(String::as_str),
        Some("one\n"),
        "never accepted"
    );
    assert_eq!(lines.len(), 5);
}
