//! Blocks made of items that have their numbers already: what a halt saves, and a sync copies.

use crate::block::BlockBuilder;
use crate::copies::Bundle;
use crate::front::Run;
use crate::refill::Refill;
use crate::seq::Seq;
use crate::state::Limits;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

/// When something was admitted, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) earliest: u64,
    /// 0 where no age is limited.
    pub(crate) latest: u64,
}

impl Admitted {
    pub(crate) fn of(refill: &Refill) -> Self {
        Self {
            earliest: refill.earliest_ms(),
            latest: refill.latest_ms(),
        }
    }
}

/// Blocks in the making from items that have their numbers already, by their numbers.
pub(crate) struct Packer {
    block_bytes: usize,
    /// How far apart the times in one block may be.
    spread_ms: Option<u64>,
    /// What must be put between what is pushed, by its numbers.
    between: Peekable<vec::IntoIter<Loose>>,
    open: Option<BlockBuilder>,
    done: Vec<Arc<BlockBuilder>>,
}

/// A record that is neither in front nor in refill.
pub(crate) struct Loose {
    pub(crate) seq: Seq,
    pub(crate) record: Vec<u8>,
    pub(crate) latest_ms: u64,
}

/// Copies of what was neither in front nor in refill, as they leave the lock.
pub(crate) struct Aside {
    /// Milliseconds since the Unix epoch: for what nobody limits the age of.
    pub(crate) now: u64,
    /// What is out or came back.
    pub(crate) out: Vec<Bundle>,
    /// What may become dead letters: number, record, admission at the latest.
    pub(crate) doomed: Vec<(Seq, Vec<u8>, u64)>,
}

impl Aside {
    /// The records by number, and whether there is one at all.
    pub(crate) fn into_loose(self) -> Vec<(Loose, bool)> {
        let loose = |seq, record, latest_ms| Loose {
            seq,
            record,
            latest_ms: if latest_ms == 0 { self.now } else { latest_ms },
        };
        let out = self.out.iter().flat_map(|bundle| {
            bundle.unfinished().map(|(seq, record)| {
                let bytes = record.unwrap_or_default().to_vec();
                (loose(seq, bytes, bundle.latest_ms()), record.is_some())
            })
        });
        let doomed = self.doomed.into_iter();
        let doomed = doomed.map(|(seq, bytes, latest_ms)| (loose(seq, bytes, latest_ms), true));
        let mut all: Vec<_> = out.chain(doomed).collect();
        all.sort_by_key(|(loose, _)| loose.seq);
        all
    }
}

impl Packer {
    pub(crate) fn new(limits: &Limits, between: Vec<Loose>) -> Self {
        Self {
            block_bytes: limits.block_bytes,
            spread_ms: limits.spread_ms(),
            between: between.into_iter().peekable(),
            open: None,
            done: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, seq: Seq, record: &[u8], admitted: Admitted) {
        self.push_below(seq);
        self.pack(seq, record, admitted);
    }

    fn push_below(&mut self, seq: Seq) {
        while let Some(loose) = self.between.next_if(|loose| loose.seq < seq) {
            let admitted = Admitted {
                earliest: loose.latest_ms,
                latest: loose.latest_ms,
            };
            self.pack(loose.seq, &loose.record, admitted);
        }
    }

    fn pack(&mut self, seq: Seq, record: &[u8], admitted: Admitted) {
        let spreads = |open: &BlockBuilder| {
            let apart = admitted.latest.saturating_sub(open.earliest_ms());
            self.spread_ms
                .is_some_and(|most| apart > most.saturating_mul(2))
        };
        let continues = self.open.as_ref().is_some_and(|open| {
            open.end() == seq && open.fits(record.len(), self.block_bytes) && !spreads(open)
        });
        if !continues {
            self.close_block();
        }
        let open = self
            .open
            .get_or_insert_with(|| BlockBuilder::new(seq, admitted.earliest, self.block_bytes));
        open.push(record);
        if self.spread_ms.is_some() {
            open.note_latest(admitted.latest);
        }
    }

    fn close_block(&mut self) {
        self.done.extend(self.open.take().map(Arc::new));
    }

    pub(crate) fn finish(mut self) -> Vec<Arc<BlockBuilder>> {
        self.push_below(Seq::MAX);
        self.close_block();
        self.done
    }
}

/// One place in front: the number that stands there, and what is known of it.
pub(crate) struct Place {
    pub(crate) seq: Seq,
    pub(crate) is_memory_only: bool,
    pub(crate) admitted: Admitted,
}

pub(crate) fn places(runs: &VecDeque<Run>) -> impl Iterator<Item = Place> {
    runs.iter().flat_map(|run| {
        (run.first..run.first + run.len).map(|seq| Place {
            seq,
            is_memory_only: run.origin.is_memory_only(),
            admitted: Admitted {
                earliest: run.earliest_ms,
                latest: run.latest_ms,
            },
        })
    })
}
