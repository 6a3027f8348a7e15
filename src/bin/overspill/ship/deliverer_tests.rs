//! Deliveries of a followed file after every kind of crash: whatever comes, the destination gets its bytes once.

use super::*;
use crate::ship::follow::Tail;
use crate::ship::position::Position;
use crate::ship::record::LogRecord;
use crate::ship::report::Reporter;
use crate::ship::reread::end_of;
use crate::stop::Flag;
use overspill::ItemId;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::sync::Arc;

/// Takes everything but one line, until it is told to be away.
struct Pile {
    taken: Arc<Mutex<Vec<u8>>>,
    is_away: bool,
    refused: &'static [u8],
}

impl Destination for Pile {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
        if self.is_away {
            return Ok(Outcome::Away(io::ErrorKind::ConnectionRefused.into()));
        }
        if batch.iter().any(|line| line.text == self.refused) {
            return Ok(Outcome::Refused("bad line".to_owned()));
        }
        self.taken
            .lock()
            .extend(crate::ship::destination::lines(batch));
        Ok(Outcome::Taken)
    }
}

struct Story {
    _dir: tempfile::TempDir,
    text: String,
    records: Vec<LogRecord>,
    taken: Arc<Mutex<Vec<u8>>>,
    deliverer: Deliverer,
}

impl Story {
    /// A file of ten lines that was read to its end, and a deliverer that knows it.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = (0..10)
            .map(|n| format!("line {n}\n"))
            .collect::<Vec<_>>()
            .concat();
        fs::write(dir.path().join("log"), &text).unwrap();
        let position = Position::open(&dir.path().join("spool")).unwrap().share();
        let mut tail = Tail::open(&dir.path().join("log"), position.clone()).unwrap();
        let records = tail.poll().unwrap();
        let taken = Arc::default();
        let deliverer = Deliverer {
            destination: Box::new(Pile {
                taken: Arc::clone(&taken),
                is_away: false,
                refused: b"",
            }),
            around: Surroundings {
                position,
                reporter: Reporter::new(true),
                abandon: Flag::default(),
            },
            followed: Some(tail.source()),
            gaps_before: u64::MAX,
            max_attempts: None,
            refusals: 0,
        };
        Self {
            _dir: dir,
            text,
            records,
            taken,
            deliverer,
        }
    }

    fn deliver(&mut self, numbers: impl IntoIterator<Item = usize>) {
        let numbers = numbers.into_iter();
        let lines: Vec<_> = numbers.map(|n| Line::reread(&self.records[n])).collect();
        assert!(matches!(
            self.deliverer.deliver(&lines).unwrap(),
            Outcome::Taken
        ));
    }

    /// Where a line ends.
    fn end(&self, n: usize) -> u64 {
        end_of(&self.records[..=n]).unwrap()
    }

    /// The mark of a run that begins behind a line.
    fn mark(&mut self, n: usize) {
        let source = self.deliverer.followed.unwrap();
        let mark = LogRecord::read(source, self.end(n), Vec::new());
        self.deliverer.deliver(&[Line::reread(&mark)]).unwrap();
    }

    fn taken(&self) -> String {
        String::from_utf8(self.taken.lock().clone()).unwrap()
    }
}

#[test]
fn every_subset_in_order_with_any_repeats_is_delivered_whole() {
    for kept in 0..1_u32 << 9 {
        let mut story = Story::new();
        // The last line is always there: it shows the gaps before it.
        let kept: Vec<_> = (0..9).filter(|n| kept & (1 << n) != 0).chain([9]).collect();
        story.deliver(kept.clone());
        story.deliver(kept);
        assert_eq!(story.taken(), story.text);
    }
}

#[test]
fn the_mark_that_a_run_begins_with_shows_the_gap_before_it() {
    let mut story = Story::new();
    story.deliver(0..3);
    story.mark(6);
    assert_eq!(story.taken().lines().count(), 7);
    story.deliver(5..10);
    assert_eq!(story.taken(), story.text);
}

#[test]
fn lines_dropped_on_purpose_are_not_read_again() {
    let mut story = Story::new();
    story.deliverer.gaps_before = story.end(4);
    story.deliver([0, 1, 3, 6, 9]);
    let numbers: Vec<_> = story
        .taken()
        .lines()
        .map(|line| line[5..].parse::<u32>().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 9]);
}

#[test]
fn a_mark_behind_lines_dropped_on_purpose_is_no_line() {
    let mut story = Story::new();
    story.deliverer.gaps_before = 0;
    story.deliver([0, 1]);
    story.mark(5);
    story.deliver([6]);
    assert_eq!(story.taken(), "line 0\nline 1\nline 6\n");
}

#[test]
fn a_line_that_is_refused_when_it_is_read_again_is_passed_after_so_many_attempts() {
    let mut story = Story::new();
    story.deliverer.destination = Box::new(Pile {
        taken: Arc::clone(&story.taken),
        is_away: false,
        refused: b"line 5\n",
    });
    story.deliverer.max_attempts = Some(2);
    let last = story.records[9].clone();
    let first = story.deliverer.deliver(&[Line::reread(&last)]).unwrap();
    assert!(matches!(first, Outcome::Away(_)), "{first:?}");
    assert_eq!(story.taken().lines().count(), 5);
    story.deliver([9]);
    assert_eq!(story.taken(), story.text.replace("line 5\n", ""));
}

#[test]
fn repeats_of_other_sources_are_dropped_and_their_gaps_are_left() {
    let mut story = Story::new();
    story.deliverer.followed = None;
    story.deliver([0, 2, 2, 1, 5, 2, 9]);
    assert_eq!(story.taken(), "line 0\nline 2\nline 5\nline 9\n");
}

#[test]
fn lines_without_a_place_are_known_by_their_ids() {
    let mut story = Story::new();
    let texts: Vec<_> = (0..4).map(|n| format!("{n}\n")).collect();
    let line = |incarnation, seq: u64| Line {
        id: Some(ItemId {
            channel: [1; 16],
            incarnation,
            seq,
        }),
        came_as: None,
        place: None,
        text: texts[usize::try_from(seq).unwrap()].as_bytes(),
    };
    for batch in [
        [line(1, 0), line(1, 2)],
        [line(1, 2), line(1, 3)],
        [line(1, 3), line(2, 1)],
    ] {
        story.deliverer.deliver(&batch).unwrap();
    }
    assert_eq!(story.taken(), "0\n2\n3\n1\n");
}

#[test]
fn a_delivery_that_failed_confirms_nothing() {
    let mut story = Story::new();
    story.deliver(0..2);
    story.deliverer.destination = Box::new(Pile {
        taken: Arc::default(),
        is_away: true,
        refused: b"",
    });
    let rest: Vec<_> = story.records[2..].iter().map(Line::reread).collect();
    let outcome = story.deliverer.deliver(&rest).unwrap();
    assert!(matches!(outcome, Outcome::Away(_)));
    let position = story.deliverer.around.position.lock();
    assert_eq!(
        position.delivered().of(story.deliverer.followed.unwrap()),
        story.end(1)
    );
}
