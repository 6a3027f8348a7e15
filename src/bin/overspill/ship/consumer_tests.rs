//! What an outage leaves of a batch, and what the destination gets in the end.

use super::*;
use crate::ship::destination::{Destination, Surroundings};
use crate::ship::position::Position;
use crate::ship::report::Reporter;
use crate::stop::Flag;
use overspill::{DiskBufferedChannel, Event};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};

/// Answers as it is told, then takes everything but what it never takes.
struct Scripted {
    answers: VecDeque<Answer>,
    never: &'static [&'static str],
    taken: Arc<Mutex<Vec<String>>>,
}

enum Answer {
    Taken,
    /// It took so many of the lines, and nobody heard of it.
    Away(usize),
}

impl Destination for Scripted {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
        let text = |line: &Line<'_>| String::from_utf8(line.text.to_vec()).unwrap();
        if batch
            .iter()
            .any(|line| self.never.contains(&text(line).as_str()))
        {
            return Ok(Outcome::Refused("bad line".to_owned()));
        }
        let answer = self.answers.pop_front().unwrap_or(Answer::Taken);
        let takes = match &answer {
            Answer::Taken => batch.len(),
            Answer::Away(taken) => *taken,
        };
        self.taken.lock().extend(batch.iter().take(takes).map(text));
        Ok(match answer {
            Answer::Taken => Outcome::Taken,
            Answer::Away(_) => Outcome::Away(io::ErrorKind::ConnectionReset.into()),
        })
    }
}

struct Story {
    /// Dropped before its directory is.
    channel: DiskBufferedChannel<LogRecord>,
    dir: tempfile::TempDir,
    taken: Arc<Mutex<Vec<String>>>,
    abandon: Flag,
    set_aside: Cell<Option<Receiver<u64>>>,
}

impl Story {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (written, set_aside) = mpsc::channel();
        let channel = DiskBufferedChannel::builder(dir.path().join("spool"))
            .on_event(move |event| {
                if let Event::DeadLettered { seq, .. } = event {
                    let _ = written.send(*seq);
                }
            })
            .open()
            .unwrap();
        Self {
            dir,
            channel,
            taken: Arc::default(),
            abandon: Flag::default(),
            set_aside: Cell::new(Some(set_aside)),
        }
    }

    fn send(&self, lines: std::ops::Range<u32>) {
        let mut records = lines.map(|n| LogRecord::bare(n.to_string().into_bytes()));
        self.channel.sender().send_all(&mut records).unwrap();
    }

    fn consumer(&self, answers: impl IntoIterator<Item = Answer>) -> Consumer {
        let spool = self.dir.path().join("spool");
        let reporter = Reporter::new(true);
        Consumer {
            rx: self.channel.acking_receiver(),
            dir: spool.clone(),
            deliverer: Deliverer {
                destination: Box::new(Scripted {
                    answers: answers.into_iter().collect(),
                    never: &["17", "18", "63"],
                    taken: Arc::clone(&self.taken),
                }),
                around: Surroundings {
                    position: Position::open(&spool).unwrap().share(),
                    reporter: reporter.clone(),
                    abandon: self.abandon.clone(),
                },
                followed: None,
                gaps_before: u64::MAX,
                max_attempts: Some(3),
                refusals: 0,
            },
            outage: Outage::none_yet("there".to_owned(), reporter, self.abandon.clone()),
            most: BATCH_RECORDS,
            set_aside: self.set_aside.take().unwrap_or_else(|| mpsc::channel().1),
        }
    }

    fn taken(&self) -> Vec<u32> {
        let taken = self.taken.lock();
        taken.iter().map(|line| line.parse().unwrap()).collect()
    }
}

#[test]
fn an_outage_gives_the_batch_back_and_nothing_counts_as_failed() {
    let story = Story::new();
    story.send(100..200);
    let consumer = story.consumer([Answer::Away(0), Answer::Away(0)]);
    story.channel.close();
    consumer.run().unwrap();
    assert_eq!(story.taken(), (100..200).collect::<Vec<_>>());
    let stats = story.channel.stats();
    assert_eq!((stats.acknowledged, stats.redelivered), (100, 200));
    assert_eq!(stats.dead_lettered, 0);
}

#[test]
fn a_batch_that_was_half_taken_comes_again_whole_and_in_order() {
    let story = Story::new();
    story.send(0..10);
    let consumer = story.consumer([Answer::Away(4)]);
    story.channel.close();
    consumer.run().unwrap();
    assert_eq!(
        story.taken(),
        (0..4).chain(0..10).collect::<Vec<_>>(),
        "without receipts nobody can know better"
    );
}

#[test]
fn a_destination_that_is_given_up_leaves_its_lines_in_the_channel() {
    let story = Story::new();
    story.send(0..10);
    let consumer = story.consumer([Answer::Away(0)]);
    story.abandon.raise();
    consumer.run().unwrap();
    let stats = story.channel.stats();
    assert_eq!(
        (stats.pending, stats.in_flight, stats.acknowledged),
        (10, 0, 0)
    );
    let again = story.channel.acking_receiver().recv().unwrap();
    assert_eq!((again.seq(), again.attempt()), (0, 1));
}

#[test]
fn what_is_delivered_and_not_acknowledged_is_dropped_when_it_comes_again() {
    let story = Story::new();
    story.send(0..10);
    let delivered = story.channel.acking_receiver();
    let mut consumer = story.consumer([]);
    let batch = delivered.recv_batch(6, u64::MAX, Duration::ZERO).unwrap();
    let deliveries = batch.into_deliveries();
    let lines: Vec<_> = deliveries.iter().map(Line::delivered).collect();
    assert!(matches!(
        consumer.deliverer.deliver(&lines).unwrap(),
        Outcome::Taken
    ));
    drop(deliveries);

    // Another run, which knows only what the position says.
    let consumer = story.consumer([]);
    story.channel.close();
    consumer.run().unwrap();
    assert_eq!(story.taken(), (0..10).collect::<Vec<_>>());
    assert_eq!(story.channel.stats().acknowledged, 10);
}

#[test]
fn refused_lines_are_found_and_set_aside_after_so_many_attempts_and_no_other() {
    let story = Story::new();
    story.send(0..100);
    let consumer = story.consumer([]);
    story.channel.close();
    consumer.run().unwrap();
    let expected = (0..100).filter(|n| ![17, 18, 63].contains(n));
    assert_eq!(story.taken(), expected.collect::<Vec<_>>());
    let letters: Vec<_> = story.channel.dead_letters().collect();
    let told = letters
        .iter()
        .map(|letter| (letter.seq, letter.attempts, letter.reason.as_str()));
    // Two that failed, and the one that became a dead letter.
    assert_eq!(
        told.collect::<Vec<_>>(),
        [17, 18, 63].map(|seq| (seq, 2, "bad line"))
    );
}

#[test]
fn without_a_limit_a_refused_line_is_waited_for() {
    let story = Story::new();
    story.send(16..20);
    let mut consumer = story.consumer([]);
    consumer.deliverer.max_attempts = None;
    let running = std::thread::spawn(move || consumer.run());
    while story.taken() != [16] || story.channel.stats().redelivered < 10 {
        std::thread::yield_now();
    }
    story.abandon.raise();
    running.join().unwrap().unwrap();
    let stats = story.channel.stats();
    assert_eq!(
        (stats.acknowledged, stats.pending, stats.dead_lettered),
        (1, 3, 0)
    );
}
