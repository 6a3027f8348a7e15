//! The bytes of a checkpoint. It has two forms: a slot, which takes some of what there is to tell, and the large form,
//! which takes all.
//!
//! All integers are little-endian.
//!
//! ```text
//! offset size
//!      0    8  magic: "OVSPCKPT" in a slot, "OVSPCKPL" in the large form
//!      8    2  format version (1)
//!     10    1  1 after a clean stop, otherwise 0
//!     11    1  reserved (0)
//!     12    4  number of finished ranges below
//!     16    8  generation: one more with every write
//!     24   16  channel id
//!     40    8  incarnation
//!     48    8  tail
//!     56    8  tail at the last clean stop
//!     64    8  cursor
//!     72   64  the eight counters of the conservation law
//!    136    …  finished ranges above the cursor, ascending: first number and end (one past the last), 8 bytes each
//!      …    4  number of failures below
//!      …    …  failures, ascending: an unfinished number (8 bytes), and how often a delivery of it failed (4 bytes)
//!      …    8  memory end: unfinished numbers below may be in memory only
//!      …    …  in a slot zeros
//!      …    4  CRC-32C of everything before; in a slot at 16380
//! ```

use super::bytes::{Fields, Unreadable, seal, unseal};
use super::checkpoint::Checkpoint;
use super::{ChannelId, FORMAT_VERSION};
use crate::ledger::{Counters, Ledger};
use crate::seq::{Seq, SeqSet};
use std::collections::BTreeMap;
use std::ops::Range;

pub(super) const SLOT_MAGIC: [u8; 8] = *b"OVSPCKPT";
pub(super) const LARGE_MAGIC: [u8; 8] = *b"OVSPCKPL";
pub(super) const SLOT_LEN: usize = 16 << 10;
/// Magic and version in front, checksum behind.
#[cfg(feature = "test-util")]
pub(super) const FRAME_LEN: usize = 14;
pub(super) const CRC_AT: usize = SLOT_LEN - 4;
pub(super) const RANGES_AT: usize = 136;
pub(super) const RANGE_LEN: usize = 16;
pub(super) const FAILURE_LEN: usize = 12;
const COUNT_LEN: usize = 4;
const MEMORY_END_LEN: usize = 8;

/// Failures for which a slot keeps room, however many ranges there are.
pub(super) const SLOT_FAILURES: usize = 199;
/// Ranges that a slot takes beside them. One with fewer failures has room for more, and need not use it.
pub(super) const SLOT_RANGES: usize =
    (CRC_AT - RANGES_AT - COUNT_LEN - SLOT_FAILURES * FAILURE_LEN - MEMORY_END_LEN) / RANGE_LEN;

/// Ranges, and failures, in the large form: several times as many as there are deliveries out at once. More are left
/// out from the top.
pub(super) const LARGE_ENTRIES: usize = 1 << 18;
/// The longest large form.
pub(super) const LARGE_LEN_MAX: usize =
    RANGES_AT + LARGE_ENTRIES * (RANGE_LEN + FAILURE_LEN) + MEMORY_END_LEN + 2 * COUNT_LEN;

/// More than anybody has ever counted to: what is higher would overflow soon, and makes no sense.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// What a checkpoint tells of single numbers, or as much of it as has room.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) ranges: Vec<Range<Seq>>,
    pub(super) failures: Vec<(Seq, u32)>,
}

impl Details {
    pub(super) fn all(ledger: &Ledger) -> Self {
        let failures = ledger.all_failures().iter();
        Self {
            ranges: ledger.above().ranges().cloned().collect(),
            failures: failures.map(|(seq, count)| (*seq, *count)).collect(),
        }
    }

    /// Leaves failures out, the highest first, until the rest has room in a slot.
    pub(super) fn cut_failures(&mut self, most: usize) {
        let used = RANGES_AT + COUNT_LEN + self.ranges.len() * RANGE_LEN + MEMORY_END_LEN;
        let room = CRC_AT.saturating_sub(used) / FAILURE_LEN;
        self.failures.truncate(room.min(most));
    }
}

pub(super) fn encode_slot(checkpoint: &Checkpoint, generation: u64, details: &Details) -> Vec<u8> {
    let mut out = encode(SLOT_MAGIC, checkpoint, generation, details);
    // A slot that must tell again what a fuller one told has no room for what comes last.
    let most = CRC_AT + MEMORY_END_LEN;
    debug_assert!(out.len() <= most, "{} ranges", details.ranges.len());
    out.resize(CRC_AT, 0);
    seal(&mut out);
    out
}

pub(super) fn encode_large(checkpoint: &Checkpoint, generation: u64, details: &Details) -> Vec<u8> {
    let mut out = encode(LARGE_MAGIC, checkpoint, generation, details);
    seal(&mut out);
    out
}

fn encode(magic: [u8; 8], checkpoint: &Checkpoint, generation: u64, details: &Details) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_LEN);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&[checkpoint.clean.into(), 0]);
    out.extend_from_slice(&count(details.ranges.len()));
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&checkpoint.channel);
    let counters = checkpoint.ledger.counters();
    let fields = [
        checkpoint.incarnation,
        checkpoint.tail,
        checkpoint.clean_tail,
        checkpoint.ledger.cursor(),
        counters.accepted_unnumbered,
        counters.acknowledged,
        counters.dropped_full,
        counters.dropped_expired,
        counters.dropped_unencodable,
        counters.dead_lettered,
        counters.lost,
        counters.unaccounted,
    ];
    let ranges = details.ranges.iter();
    for field in fields
        .into_iter()
        .chain(ranges.flat_map(|range| [range.start, range.end]))
    {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&count(details.failures.len()));
    for (seq, failures) in &details.failures {
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&failures.to_le_bytes());
    }
    out.extend_from_slice(&checkpoint.ledger.memory_end().to_le_bytes());
    out
}

/// Either form has far fewer entries than 2³².
fn count(entries: usize) -> [u8; 4] {
    u32::try_from(entries).unwrap_or(u32::MAX).to_le_bytes()
}

/// A checkpoint as it was read. Its counters may count more than its ranges tell of, which are those that had room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) generation: u64,
    pub(super) channel: ChannelId,
    incarnation: u64,
    tail: Seq,
    clean_tail: Seq,
    clean: bool,
    cursor: Seq,
    pub(super) above: SeqSet,
    pub(super) failures: BTreeMap<Seq, u32>,
    memory_end: Seq,
    counters: Counters,
}

impl Found {
    /// Every number that it says is finished.
    pub(super) fn finished(&self) -> SeqSet {
        finished(SeqSet::default(), self.cursor, self.above.ranges())
    }

    /// What this one says together with what another one of the same channel said. Numbers stay finished and failures
    /// only become more, so whatever either of them tells is true.
    pub(super) fn united(mut self, other: &Self) -> Self {
        let mut all = finished(other.finished(), self.cursor, self.above.ranges());
        self.cursor = all.take_first_at(0).unwrap_or(0);
        self.above = all;
        for (seq, count) in &other.failures {
            let ours = self.failures.entry(*seq).or_default();
            *ours = (*ours).max(*count);
        }
        self
    }

    pub(super) fn into_checkpoint(self) -> Checkpoint {
        let ledger = Ledger::restore(self.cursor, self.above, self.counters);
        Checkpoint {
            channel: self.channel,
            incarnation: self.incarnation,
            tail: self.tail,
            clean_tail: self.clean_tail,
            clean: self.clean,
            ledger: ledger
                .with_failures(self.failures)
                .with_memory_end(self.memory_end),
        }
    }
}

/// Adds the numbers below `cursor` and those of `ranges` to a set.
pub(super) fn finished<'a>(
    mut set: SeqSet,
    cursor: Seq,
    ranges: impl IntoIterator<Item = &'a Range<Seq>>,
) -> SeqSet {
    set.insert(0..cursor);
    for range in ranges {
        set.insert(range.clone());
    }
    set
}

/// Reads either form.
pub(super) fn decode(bytes: &[u8], magic: [u8; 8]) -> Result<Found, Unreadable> {
    let mut fields = unseal(bytes, magic, FORMAT_VERSION)?;
    decode_fields(&mut fields).ok_or(Unreadable::Damaged)
}

fn decode_fields(fields: &mut Fields<'_>) -> Option<Found> {
    let [clean, _reserved] = fields.take()?;
    let ranges = fields.u32()?;
    let generation = fields.u64()?;
    let channel = fields.take()?;
    let (incarnation, tail, clean_tail) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let cursor = fields.u64()?;
    let counters = Counters {
        accepted_unnumbered: fields.u64()?,
        acknowledged: fields.u64()?,
        dropped_full: fields.u64()?,
        dropped_expired: fields.u64()?,
        dropped_unencodable: fields.u64()?,
        dead_lettered: fields.u64()?,
        lost: fields.u64()?,
        unaccounted: fields.u64()?,
    };
    let above = decode_ranges(fields, ranges, cursor)?;
    let failures = decode_failures(fields, cursor, &above)?;
    // An earlier writer said nothing of it, and a fuller slot has no room to.
    let memory_end = fields.u64().unwrap_or_default();
    let failed = failures.last_key_value().map_or(0, |(seq, _)| *seq);
    let end = above.end().max(cursor).max(failed);
    if [generation, incarnation, tail, clean_tail, end, memory_end]
        .into_iter()
        .any(|number| number > NUMBER_MAX)
    {
        return None;
    }
    Some(Found {
        generation,
        channel,
        incarnation,
        tail,
        clean_tail,
        clean: clean == 1,
        cursor,
        above,
        failures,
        memory_end,
        counters: sane(counters)?,
    })
}

fn decode_ranges(fields: &mut Fields<'_>, count: u32, cursor: Seq) -> Option<SeqSet> {
    let mut ranges = SeqSet::default();
    let mut least = cursor;
    for _ in 0..count {
        let range = fields.u64()?..fields.u64()?;
        if range.start <= least || range.is_empty() {
            return None;
        }
        least = range.end;
        ranges.insert(range);
    }
    Some(ranges)
}

/// Where an earlier writer knew of no failures, there are the zeros that fill the slot.
fn decode_failures(
    fields: &mut Fields<'_>,
    cursor: Seq,
    above: &SeqSet,
) -> Option<BTreeMap<Seq, u32>> {
    let mut failures = BTreeMap::new();
    let mut least = cursor;
    for _ in 0..fields.u32()? {
        let (seq, count) = (fields.u64()?, fields.u32()?);
        if seq < least || count == 0 || above.contains(seq) {
            return None;
        }
        least = seq.checked_add(1)?;
        failures.insert(seq, count);
    }
    Some(failures)
}

/// Counters whose sums can't overflow and which add up to no negative number.
fn sane(counters: Counters) -> Option<Counters> {
    [
        counters.acknowledged,
        counters
            .dropped_full
            .checked_sub(counters.accepted_unnumbered)?,
        counters.accepted_unnumbered,
        counters.dropped_expired,
        counters.dropped_unencodable,
        counters.dead_lettered,
        counters.lost,
        counters.unaccounted,
    ]
    .into_iter()
    .try_fold(0_u64, u64::checked_add)
    .filter(|sum| *sum <= NUMBER_MAX)
    .map(|_| counters)
}
