//! Recovering what a crash left, and looking at every crash of a leg.

use super::letters::Breach;
use super::model::{Crash, Item, Outcome, Promise, item_of};
use crate::block::{Block, HEADER_LEN};
use crate::config::Settings;
use crate::disk::sim::{Change, Device, Sample, SimDisk};
use crate::ledger::Outcome as Finish;
use crate::queue::{Queue, Recovered};
use crate::seq::Seq;
use std::sync::Arc;

/// Bytes before a record that say which letter it was.
const ORIGIN_LEN: usize = 24;

/// How a queue is opened on a simulated disk.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) settings: Settings,
    /// How often a step is tried before the disk is mended.
    pub(super) tries: usize,
    /// How many ranges a slot of the checkpoint takes, and no failures, where these are few.
    pub(super) slot_ranges: Option<usize>,
    /// What the caller of letters does wrong.
    pub(super) breach: Option<Breach>,
}

impl Setup {
    pub(super) fn open(&self, disk: &SimDisk) -> Result<(Queue, Recovered), String> {
        let mut settings = self.settings.clone();
        settings.disk = Arc::new(disk.clone());
        let (mut queue, recovered) =
            Queue::open(&settings, "none").map_err(|error| format!("open: {error}"))?;
        if let Some(ranges) = self.slot_ranges {
            queue.file.shrink(ranges, 0);
        }
        Ok((queue, recovered))
    }

    /// Opens what is on `disk` and reads all of it.
    pub(super) fn recover(&self, disk: &SimDisk) -> Result<Outcome, String> {
        let (mut queue, recovered) = self.open(disk)?;
        let mut outcome = Outcome {
            finished: recovered.ledger.clone(),
            was_clean: recovered.report.clean_shutdown,
            delivered: Vec::new(),
            letters: letters(&mut queue)?,
            ledger: recovered.ledger,
            next_seq: recovered.next_seq,
        };
        let end = outcome.next_seq;
        let mut at = outcome.ledger.next_unfinished(0);
        while at < end {
            let read = queue
                .read(at, end)
                .map_err(|error| format!("read at {at}: {error}"))?;
            for (range, finish) in read.missing {
                outcome.ledger.finish(range, finish);
            }
            let Some(block) = read.block else { break };
            for (seq, item) in items(&block)? {
                if seq >= at && outcome.ledger.finish(seq..seq + 1, Finish::Acknowledged) > 0 {
                    outcome.delivered.push((seq, item));
                }
            }
            at = outcome.ledger.next_unfinished(block.end());
        }
        Ok(outcome)
    }
}

/// The items of a block, each of them looked at.
pub(super) fn items(block: &Block) -> Result<Vec<(Seq, Item)>, String> {
    let mut items = Vec::new();
    let mut offset = 0;
    for seq in block.first()..block.end() {
        let (record, next) = block.record_at(offset).ok_or("a block of few records")?;
        let item = if block.header().has_origins() {
            item_of(record.get(ORIGIN_LEN..).unwrap_or_default())?
        } else {
            item_of(record).and_then(|item| match item {
                (own, _) if own == seq => Ok(item),
                other => Err(format!("{seq} is {other:?}")),
            })?
        };
        items.push((seq, item));
        offset = next;
    }
    debug_assert_eq!(block.len(), HEADER_LEN + offset);
    Ok(items)
}

/// All letters, each of them looked at.
fn letters(queue: &mut Queue) -> Result<Vec<Item>, String> {
    let mut letters = queue.letters().map_err(|error| error.to_string())?.iter();
    let found: Result<_, _> = letters
        .by_ref()
        .map(|letter| item_of(&letter.bytes))
        .collect();
    match letters.error() {
        Some(error) => Err(format!("letters: {error}")),
        None => found,
    }
}

/// What was done to a disk between an opening and a crash, and what was promised meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) start: Device,
    pub(super) changes: Vec<Change>,
    /// With the number of changes after which each began to hold.
    pub(super) promises: Vec<(usize, Promise)>,
    /// What was done, in words, with the number of changes before it.
    pub(super) steps: Vec<(usize, String)>,
}

impl Leg {
    pub(super) fn promise_after(&self, changes: usize) -> &Promise {
        let since = self.promises.partition_point(|(at, _)| *at <= changes);
        &self.promises[since.max(1) - 1].1
    }

    pub(super) fn device_after(&self, changes: usize) -> Device {
        let mut device = self.start.clone();
        for change in &self.changes[..changes] {
            device.apply(change);
        }
        device
    }
}

/// Looks at crash states and counts them.
#[derive(Debug)]
pub(super) struct Checker {
    pub(super) setup: Setup,
    pub(super) sample: Sample,
    /// Of how many recoveries one is crashed in its turn.
    pub(super) nested_every: usize,
    pub(super) states: usize,
}

impl Checker {
    /// Recovers every state that a crash in this leg may leave.
    pub(super) fn check(&mut self, leg: &Leg) -> Result<(), String> {
        let mut device = leg.start.clone();
        for made in 0..=leg.changes.len() {
            let promise = leg.promise_after(made);
            self.check_all(&device, promise, self.sample)
                .map_err(|what| format!("after {made} changes: {what}"))?;
            if let Some(change) = leg.changes.get(made) {
                device.apply(change);
            }
        }
        Ok(())
    }

    /// Recovers what a crash may leave at the moments when the device was said to have something, from `since` on.
    pub(super) fn check_syncs(&mut self, leg: &Leg, since: usize) -> Result<(), String> {
        let mut device = leg.start.clone();
        let mut made = 0;
        for ((_, before), (at, promise)) in leg.promises.iter().zip(leg.promises.iter().skip(1)) {
            if before.safe == promise.safe && before.is_clean == promise.is_clean {
                continue;
            }
            for change in &leg.changes[made..*at] {
                device.apply(change);
            }
            made = *at;
            if made >= since {
                self.check_all(&device, promise, self.sample)
                    .map_err(|what| format!("after {made} changes: {what}"))?;
            }
        }
        Ok(())
    }

    fn check_all(
        &mut self,
        device: &Device,
        promise: &Promise,
        sample: Sample,
    ) -> Result<(), String> {
        let process = SimDisk::of(device.clone());
        self.check_one(&process, promise, Crash::Process)?;
        for image in device.images(sample) {
            let disk = SimDisk::of(image);
            self.check_one(&disk, promise, Crash::Power)?;
        }
        Ok(())
    }

    fn check_one(&mut self, disk: &SimDisk, promise: &Promise, crash: Crash) -> Result<(), String> {
        let before = disk.device();
        let said = |what: String| format!("{what} ({crash:?}: {:?})", before.listing());
        let outcome = self.setup.recover(disk).map_err(said)?;
        promise.check(crash, &outcome).map_err(said)?;
        self.states += 1;
        if self.states.is_multiple_of(self.nested_every) {
            self.check_nested(disk, promise, crash, &outcome)
                .map_err(|what| said(format!("recovered again: {what}")))?;
        }
        Ok(())
    }

    /// Crashes the recovery after each of its changes: the next one keeps the same promise. Undisturbed, it comes to
    /// the same.
    fn check_nested(
        &mut self,
        disk: &SimDisk,
        promise: &Promise,
        crash: Crash,
        outcome: &Outcome,
    ) -> Result<(), String> {
        // Opening makes it an unclean stop, and what a dead process left with the operating system may go with the
        // power now.
        let promise = Promise {
            is_clean: false,
            ..promise.clone()
        };
        let (mut device, changes) = disk.history();
        for change in changes {
            device.apply(&change);
            for image in device.images(self.sample) {
                let outcome = self.setup.recover(&SimDisk::of(image))?;
                promise.check(Crash::Power, &outcome)?;
                self.states += 1;
            }
        }
        let again = self.setup.recover(&SimDisk::of(disk.device()))?;
        promise.check(crash, &again)?;
        let is_same = again.delivered == outcome.delivered && again.letters == outcome.letters;
        if !is_same || again.next_seq < outcome.next_seq {
            return Err(format!(
                "{:?} before {}, then {:?} before {}",
                outcome.delivered, outcome.next_seq, again.delivered, again.next_seq
            ));
        }
        Ok(())
    }
}
