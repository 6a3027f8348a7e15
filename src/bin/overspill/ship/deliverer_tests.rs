//! Deliveries of a followed file after every kind of crash: whatever comes, the destination gets its bytes once.

use super::*;
use crate::ship::follow::Tail;
use crate::ship::position::Position;
use crate::ship::report::Reporter;
use crate::stop::Flag;
use parking_lot::Mutex;
use std::fs;
use std::sync::Arc;

/// Takes everything, until it is told to be away.
struct Pile {
    taken: Arc<Mutex<Vec<u8>>>,
    is_away: bool,
}

impl Destination for Pile {
    fn deliver(&mut self, batch: &[LogRecord]) -> Result<Outcome, Failure> {
        if self.is_away {
            return Ok(Outcome::Abandoned);
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
            }),
            around: Surroundings {
                position,
                reporter: Reporter::new(true),
                abandon: Flag::default(),
            },
            followed: Some(tail.source()),
            gaps_before: u64::MAX,
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
        let records = numbers
            .into_iter()
            .map(|n| self.records[n].clone())
            .collect();
        assert_eq!(self.deliverer.deliver(records).unwrap(), Outcome::Taken);
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
    let end = story.records[6].end;
    let mark = LogRecord {
        source: story.records[6].source,
        end,
        line: Vec::new(),
    };
    story.deliverer.deliver(vec![mark]).unwrap();
    assert_eq!(story.taken().lines().count(), 7);
    story.deliver(5..10);
    assert_eq!(story.taken(), story.text);
}

#[test]
fn lines_dropped_on_purpose_are_not_read_again() {
    let mut story = Story::new();
    story.deliverer.gaps_before = story.records[4].end;
    story.deliver([0, 1, 3, 6, 9]);
    let numbers: Vec<_> = story
        .taken()
        .lines()
        .map(|line| line[5..].parse::<u32>().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 9]);
}

#[test]
fn repeats_of_other_sources_are_dropped_and_their_gaps_are_left() {
    let mut story = Story::new();
    story.deliverer.followed = None;
    story.deliver([0, 2, 2, 1, 5, 2, 9]);
    let numbers: Vec<_> = story
        .taken()
        .lines()
        .map(|line| line[5..].parse::<u32>().unwrap())
        .collect();
    assert_eq!(numbers, [0, 2, 5, 9]);
}

#[test]
fn an_abandoned_delivery_confirms_nothing() {
    let mut story = Story::new();
    story.deliver(0..2);
    story.deliverer.destination = Box::new(Pile {
        taken: Arc::default(),
        is_away: true,
    });
    let rest = story.records[2..].to_vec();
    assert_eq!(story.deliverer.deliver(rest).unwrap(), Outcome::Abandoned);
    let delivered = story
        .deliverer
        .around
        .position
        .lock()
        .delivered()
        .of(story.records[0].source);
    assert_eq!(delivered, story.records[1].end);
}
