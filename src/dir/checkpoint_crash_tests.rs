//! What every crash leaves of checkpoints that are now larger than a slot and now smaller.
//!
//! Slots take a range or three here, so that short histories cross every edge. These mutants of the code fail within the
//! histories, each by itself: a large file that isn't synced, or its name isn't, when it is written or when it is found
//! at an open; one that is written after the slot that relies on it, or removed before the slot that doesn't, or with one
//! that only the system has; a slot that leaves out what was promised; a slot that isn't synced on a full disk; an open
//! that doesn't unite the two, takes the older one for the newest, or adds failures up.

use super::crash_tests::open;
use super::*;
use crate::disk::sim::{Change, Device, Fault, Random, Sample, SimDisk, View};
use crate::ledger::{Ledger, Outcome};

const HISTORIES: u64 = 16;
const LEGS: usize = 3;
const STEPS: usize = 12;

/// What holds from some change on until the next promise.
#[derive(Clone, Debug, Default)]
struct Promise {
    /// How many changes had been made.
    at: usize,
    /// What a crash of any kind must find.
    safe: Ledger,
    /// What it may find at most.
    now: Ledger,
    /// What the end of the process must find, where that is known to the last number.
    written: Option<Checkpoint>,
    /// The same for the end of the power.
    durable: Option<Checkpoint>,
}

/// A checkpoint file in use, with a note of every promise.
struct History {
    disk: SimDisk,
    file: CheckpointFile,
    checkpoint: Checkpoint,
    random: Random,
    promise: Promise,
    promises: Vec<Promise>,
    steps: Vec<String>,
}

impl History {
    /// Opens what a crash left of an earlier history, or begins the first one.
    fn open(device: Device, before: Promise, capacity: (usize, usize), random: Random) -> Self {
        let disk = SimDisk::of(device);
        let contents = open(&disk).unwrap();
        let mut file = contents.checkpoint_file;
        file.shrink(capacity.0, capacity.1);
        let checkpoint = contents.checkpoint.unwrap();
        let promise = Promise {
            at: disk.changes(),
            safe: checkpoint.ledger.clone(),
            now: checkpoint.ledger.clone(),
            written: Some(checkpoint.clone()),
            durable: Some(checkpoint.clone()),
        };
        let before = Promise {
            at: 0,
            written: None,
            durable: None,
            ..before
        };
        let promises = vec![before, promise.clone()];
        Self {
            disk,
            file,
            checkpoint,
            random,
            promise,
            promises,
            steps: Vec::new(),
        }
    }

    /// Some of the next numbers are finished, or fail.
    fn advance(&mut self) {
        let ledger = &mut self.checkpoint.ledger;
        for _ in 0..self.random.below(6) {
            let from = ledger.cursor() + self.random.below(12) as u64;
            let acked = match self.random.below(8) {
                0 => {
                    ledger.finish(from..from + 4, Outcome::Lost);
                    continue;
                }
                1 | 2 => {
                    ledger.note_failure(from);
                    continue;
                }
                3 => ledger.cursor()..from,
                _ => from..from + 1,
            };
            ledger.finish(acked, Outcome::Acknowledged);
        }
        self.checkpoint.tail = self.checkpoint.tail.max(ledger.end());
    }

    /// From here on a crash may find what is on its way.
    fn begin(&mut self, what: String) {
        self.steps.push(what);
        self.promise.at = self.disk.changes();
        self.promise.now = self.checkpoint.ledger.clone();
        self.promise.written = None;
        self.promise.durable = None;
        self.promises.push(self.promise.clone());
    }

    fn note(&mut self) {
        self.promise.at = self.disk.changes();
        self.promises.push(self.promise.clone());
    }

    fn step(&mut self) {
        self.advance();
        let whole = Some(self.checkpoint.clone());
        match self.random.below(7) {
            0..3 => {
                self.begin(format!("os {:?}", self.checkpoint.ledger));
                let has_room = self.file.has_room(&self.checkpoint.ledger);
                self.file.write(&self.checkpoint, Persist::Os).unwrap();
                self.promise.written = whole.filter(|_| has_room);
            }
            3 | 4 => {
                self.begin(format!("device {:?}", self.checkpoint.ledger));
                self.file.write(&self.checkpoint, Persist::Device).unwrap();
                self.promise.safe = self.checkpoint.ledger.clone();
                self.promise.written.clone_from(&whole);
                self.promise.durable = whole;
            }
            5 => self.step_on_a_full_disk(),
            _ => self.step_on_a_faulty_disk(),
        }
        self.note();
    }

    /// No room for another file; what is told is then what was told before, and as much else as has room.
    fn step_on_a_full_disk(&mut self) {
        self.disk.set_capacity(0);
        self.begin(format!("full {:?}", self.checkpoint.ledger));
        let has_room = self.file.has_room(&self.checkpoint.ledger);
        let outcome = self.file.write(&self.checkpoint, Persist::Device);
        assert_eq!(outcome.is_ok(), has_room, "{outcome:?}");
        let told = self.file.write_what_fits(&self.checkpoint).unwrap();
        assert_eq!(told.is_none(), has_room);
        let told = told.unwrap_or_else(|| self.checkpoint.ledger.clone());
        assert!(is_within(&self.promise.safe, &told), "it tells less");
        assert!(is_within(&told, &self.checkpoint.ledger), "it tells more");
        self.promise.safe = told;
        self.disk.set_capacity(1 << 40);
    }

    fn step_on_a_faulty_disk(&mut self) {
        let call = self.disk.calls() + self.random.below(8) as u64;
        let faults = [
            Fault::Io,
            Fault::Full,
            Fault::ShortWrite,
            // If it went on showing what it lost, the next process couldn't tell.
            Fault::LostSync(View::Device),
        ];
        let fault = faults[self.random.below(faults.len())];
        self.disk.fail(call..call + 1, fault);
        self.begin(format!("{fault:?} {:?}", self.checkpoint.ledger));
        if self.file.write(&self.checkpoint, Persist::Device).is_ok() {
            self.promise.safe = self.checkpoint.ledger.clone();
        }
        self.disk.heal();
    }

    /// Looks at what every crash leaves. Returns how many that were, and one of them to go on from.
    fn check(&mut self) -> (usize, Device, Promise) {
        let (mut device, changes): (Device, Vec<Change>) = self.disk.history();
        let wanted = self.random.below(changes.len() + 1);
        let mut left = None;
        let mut states = 0;
        for made in 0..=changes.len() {
            let mut images = device.images(Sample {
                exhaustive: 8,
                random: 6,
                seed: made as u64,
            });
            let promise = self.promises.iter().rfind(|promise| promise.at <= made);
            let promise = promise.unwrap();
            for image in &images {
                self.check_one(image, promise, promise.durable.as_ref(), made);
            }
            let next = self.check_one(&device, promise, promise.written.as_ref(), made);
            // What a process has seen when it opened is there from then on.
            let seen = open(&next).unwrap().checkpoint.unwrap();
            for image in next.device().images(Sample {
                exhaustive: 2,
                random: 1,
                seed: 1,
            }) {
                let found = open(&SimDisk::of(image)).unwrap().checkpoint.unwrap();
                assert!(
                    is_within(&seen.ledger, &found.ledger),
                    "{made} {:#?}",
                    self.steps
                );
            }
            states += images.len() + 1;
            if made == wanted {
                images.push(device.clone());
                let image = images.swap_remove(self.random.below(images.len()));
                left = Some((image, promise.clone()));
            }
            if let Some(change) = changes.get(made) {
                device.apply(change);
            }
        }
        let (image, promise) = left.unwrap();
        (states, image, promise)
    }

    /// Looks at what a crash left, and returns the disk on which it was opened.
    fn check_one(
        &self,
        image: &Device,
        promise: &Promise,
        exactly: Option<&Checkpoint>,
        made: usize,
    ) -> SimDisk {
        let disk = SimDisk::of(image.clone());
        let found = open(&disk).unwrap().checkpoint.unwrap();
        let story = || {
            format!(
                "after {made} changes: {found:?}\n{promise:?}\n{:#?}",
                self.steps
            )
        };
        assert!(
            is_within(&promise.safe, &found.ledger),
            "forgotten {}",
            story()
        );
        assert!(is_within(&found.ledger, &promise.now), "ahead {}", story());
        for (seq, count) in found.ledger.all_failures() {
            let most = promise.now.failures(*seq);
            assert!(
                *count <= most || promise.now.is_finished(*seq),
                "overcounted {}",
                story()
            );
        }
        if let Some(exactly) = exactly {
            assert_eq!(&found, exactly, "{}", story());
        }
        disk
    }
}

/// Whether all that one ledger says is finished is so in the other one, too.
fn is_within(ledger: &Ledger, other: &Ledger) -> bool {
    other.covers(&(0..ledger.cursor())) && ledger.above().ranges().all(|range| other.covers(range))
}

#[test]
fn whatever_was_durable_is_never_forgotten_and_nothing_is_ahead() {
    let mut states = 0;
    let (mut large, mut gone) = (0, 0);
    for seed in 0..HISTORIES {
        let mut random = Random(seed);
        let capacity = (1 + random.below(3), random.below(3));
        let (mut device, mut promise) = (Device::default(), Promise::default());
        for _ in 0..LEGS {
            let steps = Random(random.next());
            let mut history = History::open(device, promise, capacity, steps);
            for _ in 0..STEPS {
                let had = history.file.large_bytes() > 0;
                history.step();
                let has = history.file.large_bytes() > 0;
                large += usize::from(has && !had);
                gone += usize::from(had && !has);
            }
            let seen;
            (seen, device, promise) = history.check();
            states += seen;
        }
    }
    println!("{states} crash states; {large} times a large file came, {gone} times it went");
    assert!(
        states > 10_000 && large > 30 && gone > 30,
        "{states} {large} {gone}"
    );
}
