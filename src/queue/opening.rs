//! How a queue is opened: what a clean stop or a crash has left, and where to go on.

use super::{Damage, Queue, schema, stores};
use crate::block::Block;
use crate::config::Settings;
use crate::dir::{ChannelId, Checkpoint, DirLock, Directory, Era, Letters, Origin, Quarantine, fs};
use crate::error::{OpenError, StoreError};
use crate::ledger::{Ledger, Outcome};
use crate::seq::Seq;
use crate::state::Figures;
use crate::stats::OpenReport;
use crate::store::ReadError;
use std::cell::Cell;
use std::collections::BTreeMap;

/// The default of `disk_free_min`: the smaller of this and a twentieth of the file system.
const FREE_BYTES: u64 = 1 << 30;

/// What opening a directory brings to light.
pub(crate) struct Recovered {
    pub(crate) ledger: Ledger,
    pub(crate) next_seq: Seq,
    pub(crate) disk_room: u64,
    pub(crate) report: OpenReport,
    pub(crate) channel: ChannelId,
    /// What records of earlier times are written in.
    pub(crate) eras: Vec<Era>,
}

impl Queue {
    /// Locks and opens the directory, finds out where to go on, and begins a new incarnation.
    pub(crate) fn open(settings: &Settings, codec: &str) -> Result<(Self, Recovered), OpenError> {
        stores::check(settings)?;
        let (directory, unknown_files) = Directory::prepare(&settings.disk, &settings.dir)?;
        let lock = DirLock::acquire(&directory)?;
        let wanted = schema::wanted(settings, codec);
        let contents = directory.load(&lock, stores::kind(settings), &wanted)?;
        let store = stores::open(settings, &directory, &contents.identity)?;
        let quarantine = Quarantine::new(&directory);
        let quarantined = quarantine.list()?;
        let quarantined_bytes = quarantine.bytes()?;
        let letters = Letters::open(
            &directory,
            contents.identity.channel,
            stores::letter_limits(settings),
        )?;
        let whole = fs::tree_bytes(directory.disk(), directory.path())?;
        let mut queue = Self {
            fixed_bytes: whole.saturating_sub(
                quarantined_bytes
                    + store.disk_bytes()
                    + contents.checkpoint_file.large_bytes()
                    + letters.bytes(),
            ),
            disk_bytes_max: settings.disk_bytes_max,
            disk_free_min: settings
                .disk_free_min
                .unwrap_or_else(|| free_min(&directory)),
            measured: Cell::new(None),
            base: Checkpoint::default(),
            stored_end: store.end(),
            unclean_end: 0,
            damaged: BTreeMap::new(),
            limits: stores::limits(settings),
            claims_synced_only: settings.is_sync(),
            figures: Figures::default(),
            lock: Some(lock),
            file: contents.checkpoint_file,
            directory,
            store,
            quarantine,
            quarantined_bytes,
            letters,
        };
        let mut was = match contents.checkpoint {
            Some(checkpoint) => checkpoint,
            None => queue.rebuild_checkpoint(contents.identity.channel),
        };
        let least = contents.identity.incarnation_least();
        was.incarnation = was.incarnation.max(least);
        let report = OpenReport {
            created: contents.origin == Origin::Created,
            clean_shutdown: was.clean,
            quarantined,
            unknown_files,
            dead_letters_uncertain: queue.letters.is_position_lost(),
            ..OpenReport::default()
        };
        let today = contents.changes_schema.then_some(wanted.schema);
        let recovered = queue.recover(was, report).and_then(|recovered| {
            queue.enter_schema(settings, contents.identity, today, recovered)
        });
        match recovered {
            Ok(recovered) => Ok((queue, recovered)),
            Err(error) => {
                // The next one to open it shall find it closed.
                let _ = queue.abandon();
                Err(error)
            }
        }
    }

    /// No slot is readable: the newest block says how far things had come when it was sealed.
    fn rebuild_checkpoint(&mut self, channel: [u8; 16]) -> Checkpoint {
        // Nobody knows how many incarnations there were; seconds are more than opens.
        let incarnation = crate::clock::system_ms() / 1000;
        let mut checkpoint = Checkpoint {
            channel,
            incarnation,
            ..Checkpoint::default()
        };
        // Where there is damage, the first look only tells of it.
        let newest = self.look_at_last().or_else(|_| self.look_at_last());
        let newest = newest.ok().flatten();
        if let Some(header) = newest.as_ref().map(Block::header) {
            checkpoint.incarnation = incarnation.max(header.incarnation);
            checkpoint.ledger = Ledger::restore(
                header.cursor,
                crate::seq::SeqSet::default(),
                header.counters,
            );
        }
        checkpoint.ledger = self.file.with_large(&checkpoint.ledger);
        checkpoint
    }

    fn recover(&mut self, was: Checkpoint, mut report: OpenReport) -> Result<Recovered, OpenError> {
        let mut ledger = was.ledger;
        if !was.clean {
            self.settle_letters(&mut ledger)?;
        }
        let named_end = self.stored_end;
        let last = self.look_at_last();
        if let Ok(Some(last)) = &last
            && !ledger.covers(&(last.first()..last.end()))
        {
            self.check_readable(last)?;
        }
        if matches!(last, Ok(None)) {
            // A process died between making a unit and writing to it: the name that it left is a number to go on
            // from, and says nothing about the numbers below, which may never have left memory.
            self.stored_end = 0;
        }
        self.stored_end = self.stored_end.max(was.tail);
        self.figures.synced_end = was.tail;
        // A number that the checkpoint tells of is never given out again.
        let told_end = ledger.end();
        let next_seq = self
            .stored_end
            .max(named_end)
            .max(was.clean_tail)
            .max(told_end);
        if !was.clean || was.clean_tail < next_seq {
            self.unclean_end = next_seq;
        }
        // Those from there on are given out again.
        ledger.limit_memory_end(next_seq);
        self.base = Checkpoint {
            incarnation: was.incarnation + 1,
            clean: false,
            ledger: ledger.clone(),
            ..was
        };
        let first = ledger.next_unfinished(ledger.cursor());
        if !report.clean_shutdown && first < next_seq {
            // What was in front when the process died left a gap here, and the report should not call it pending.
            let read = self.read(first, next_seq);
            if let Err(unsupported @ StoreError::Unsupported { .. }) = read {
                return Err(unsupported.into());
            }
            if let Ok(read) = read {
                for (range, outcome) in read.missing {
                    if ledger.finish(range.clone(), outcome) > 0 && outcome == Outcome::Lost {
                        report.lost.push(range.start..=range.end - 1);
                    }
                }
                report.quarantined.extend(read.quarantined);
            }
        }
        // The incarnation is on the device before anything is admitted under it.
        self.write_what_fits(&ledger)?;
        report.incarnation = self.base.incarnation;
        report.replayed = ledger.pending(next_seq);
        Ok(Recovered {
            disk_room: self.room(),
            ledger,
            next_seq,
            report,
            channel: self.base.channel,
            eras: Vec::new(),
        })
    }

    /// After a crash: what is a dead letter is no item any more, and letters that became items are none.
    fn settle_letters(&mut self, ledger: &mut Ledger) -> Result<(), StoreError> {
        let mut told = Vec::new();
        self.letters.scan(|letter| told.push(letter.seq))?;
        for seq in told {
            ledger.finish(seq..seq + 1, Outcome::DeadLettered);
        }
        let Some(intent) = self.letters.pending_intent().cloned() else {
            return Ok(());
        };
        // The answer is for good.
        self.store.sync()?;
        let was_stored = match self.store.read(intent.first_seq) {
            Ok(Some(block)) => {
                let header = block.header();
                header.has_origins()
                    && header.first == intent.first_seq
                    && header.incarnation == intent.incarnation
            }
            Ok(None) | Err(ReadError::Damaged { .. }) => false,
            Err(ReadError::Store(error)) => return Err(error),
        };
        self.letters.resolve(was_stored)
    }

    /// The block that holds the highest stored number. Damage may be told only once, so it is noted here, too.
    fn look_at_last(&mut self) -> Result<Option<Block>, ReadError> {
        let last = self.stored_end.saturating_sub(1);
        self.store.read(last).inspect_err(|error| {
            if let ReadError::Damaged {
                unit, path, reason, ..
            } = error
            {
                self.damaged.entry(*unit).or_insert(Damage {
                    path: path.clone(),
                    reason: reason.clone(),
                    lost: last..last,
                });
            }
        })
    }
}

fn free_min(directory: &Directory) -> u64 {
    let space = directory.disk().space(directory.path());
    space.map_or(0, |space| FREE_BYTES.min(space.total / 20))
}
