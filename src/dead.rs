//! Items on their way to the dead letters, and records that may have to go there.

use crate::error::CodecError;
use crate::front::Origin;
use crate::seq::Seq;
use std::collections::VecDeque;

/// So many blocks in a row without one record that can be decoded are no accident: the type is wrong.
const HOPELESS_BLOCKS: u32 = 3;

/// An item that will be a dead letter once it is written down. Until then it is unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) seq: Seq,
    pub(crate) incarnation: u64,
    /// The incarnation that wrote `bytes`.
    pub(crate) encoded_in: u64,
    /// Deliveries that failed.
    pub(crate) attempts: u32,
    pub(crate) at_ms: u64,
    pub(crate) reason: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether a disk has the item.
    pub(crate) origin: Origin,
    /// Admission at the latest.
    pub(crate) latest_ms: u64,
}

/// What waits to be written down.
#[derive(Debug, Default)]
pub(crate) struct DoomedQueue {
    waiting: VecDeque<Doomed>,
    bytes: usize,
    bytes_max: usize,
}

impl DoomedQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    pub(crate) fn extend(&mut self, records: Vec<Doomed>) {
        self.bytes += records
            .iter()
            .map(|doomed| doomed.bytes.len())
            .sum::<usize>();
        self.waiting.extend(records);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nothing more should be taken out until some are written.
    pub(crate) fn are_too_many(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Doomed> {
        self.waiting.iter()
    }

    /// The first `count` are written.
    pub(crate) fn remove(&mut self, count: usize) -> Vec<Doomed> {
        let written: Vec<_> = self
            .waiting
            .drain(..count.min(self.waiting.len()))
            .collect();
        self.bytes -= written
            .iter()
            .map(|doomed| doomed.bytes.len())
            .sum::<usize>();
        written
    }

    /// A disk has these now.
    pub(crate) fn mark_stored(&mut self, seqs: &[Seq]) {
        for doomed in &mut self.waiting {
            if seqs.binary_search(&doomed.seq).is_ok() {
                doomed.origin = Origin::Stored;
            }
        }
    }
}

/// Records that could not be decoded, until it is clear what is wrong: they or the type.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    records: Vec<Doomed>,
    /// Blocks in a row without one good record.
    blocks: u32,
    /// The block at hand had a good one.
    is_good: bool,
}

/// What a piece of decoding says about the suspects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Other records can be decoded: these are bad themselves.
    Guilty(Vec<Doomed>),
    /// Nothing can be decoded: delivery stops at this number.
    Stop {
        seq: Seq,
        message: String,
    },
}

impl Suspects {
    /// Takes note of a piece: whether it had good records, the bad one behind these, and whether it was the block's last.
    pub(crate) fn judge(
        &mut self,
        had_good: bool,
        failed: Option<Doomed>,
        ends_block: bool,
    ) -> Verdict {
        self.is_good |= had_good;
        self.records.extend(failed);
        if self.is_good {
            self.blocks = 0;
        } else if ends_block {
            self.blocks += 1;
        }
        let is_good = self.is_good;
        if ends_block {
            self.is_good = false;
        }
        match self.records.first() {
            Some(_) if is_good => Verdict::Guilty(self.take()),
            Some(first) if self.blocks >= HOPELESS_BLOCKS => Verdict::Stop {
                seq: first.seq,
                message: first.reason.clone(),
            },
            _ => Verdict::Fine,
        }
    }

    /// Those that were kept back.
    pub(crate) fn take(&mut self) -> Vec<Doomed> {
        std::mem::take(&mut self.records)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Doomed> {
        self.records.iter()
    }

    /// A disk has these now.
    pub(crate) fn mark_stored(&mut self, seqs: &[Seq]) {
        for doomed in &mut self.records {
            if seqs.binary_search(&doomed.seq).is_ok() {
                doomed.origin = Origin::Stored;
            }
        }
    }
}

impl Doomed {
    /// A record that can't be decoded.
    pub(crate) fn undecodable(
        seq: Seq,
        incarnation: u64,
        record: &[u8],
        origin: Origin,
        error: &CodecError,
    ) -> Self {
        Self {
            seq,
            incarnation,
            encoded_in: incarnation,
            attempts: 0,
            at_ms: 0,
            reason: format!("cannot be decoded: {error}"),
            bytes: record.to_vec(),
            origin,
            latest_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(seq: Seq) -> Doomed {
        let error = CodecError::new("no");
        Doomed::undecodable(seq, 1, b"x", Origin::Stored, &error)
    }

    fn seqs(verdict: Verdict) -> Vec<Seq> {
        match verdict {
            Verdict::Guilty(records) => records.iter().map(|doomed| doomed.seq).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bad_record_beside_good_ones_is_guilty_at_once() {
        let mut suspects = Suspects::default();
        assert_eq!(seqs(suspects.judge(true, Some(bad(3)), false)), [3]);
        assert_eq!(seqs(suspects.judge(false, Some(bad(4)), true)), [4]);
    }

    #[test]
    fn two_bad_blocks_are_kept_back_until_a_good_record_comes() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.judge(false, Some(bad(0)), true), Verdict::Fine);
        assert_eq!(suspects.judge(false, Some(bad(1)), true), Verdict::Fine);
        assert_eq!(seqs(suspects.judge(true, None, false)), [0, 1]);
        assert_eq!(
            suspects.judge(false, Some(bad(2)), true),
            Verdict::Guilty(vec![bad(2)])
        );
        assert_eq!(suspects.iter().count(), 0);
    }

    #[test]
    fn three_bad_blocks_stop_delivery_and_nothing_is_given_up() {
        let mut suspects = Suspects::default();
        for (seq, ends) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(suspects.judge(false, Some(bad(seq)), ends), Verdict::Fine);
        }
        let verdict = suspects.judge(false, Some(bad(4)), true);
        assert!(
            matches!(verdict, Verdict::Stop { seq: 0, .. }),
            "{verdict:?}"
        );
        assert_eq!(suspects.iter().count(), 5);
    }
}
