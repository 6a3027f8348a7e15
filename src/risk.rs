//! What only memory has: how much a kill would take, and what a checkpoint must say of it.

use crate::ledger::Ledger;
use crate::seq::Seq;
use crate::state::State;
use std::ops::Range;

impl<T> State<T> {
    /// The ledger as a checkpoint tells it.
    pub(crate) fn told(&self) -> Ledger {
        self.ledger.clone().with_memory_end(self.memory_end())
    }

    /// Where numbers end that only memory has; 0 where there are none. What is staged is left out, as nothing younger
    /// is ever written before it.
    fn memory_end(&self) -> Seq {
        if self.limits.write_ahead {
            return 0;
        }
        if self.lent_at_risk > 0 || self.held.memory_only() > 0 {
            // They are somewhere below.
            return self.read_next;
        }
        let handed = self
            .refill
            .iter()
            .rfind(|refill| refill.origin().is_memory_only())
            .map(|refill| refill.rest().end);
        let doomed = self.doomed.iter().chain(self.suspects.iter());
        let doomed = doomed
            .filter(|doomed| doomed.origin.is_memory_only())
            .map(|doomed| doomed.seq + 1);
        doomed
            .chain(handed)
            .chain(self.front.memory_end())
            .max()
            .unwrap_or_default()
    }

    /// Items that a kill of the process would lose now.
    pub(crate) fn at_risk(&self) -> u64 {
        if self.limits.write_ahead {
            return 0;
        }
        let handed: u64 = self
            .refill
            .iter()
            .filter(|refill| refill.origin().is_memory_only())
            .map(|refill| self.unfinished(&refill.rest()))
            .sum();
        let staged: u64 = self
            .staging
            .ranges()
            .map(|range| self.unfinished(&range))
            .sum();
        let doomed = self.doomed.iter().chain(self.suspects.iter());
        let doomed = doomed
            .filter(|doomed| doomed.origin.is_memory_only())
            .count() as u64;
        self.front.memory_only()
            + self.lent_at_risk
            + handed
            + staged
            + doomed
            + self.held.memory_only()
    }

    pub(crate) fn unfinished(&self, range: &Range<Seq>) -> u64 {
        self.ledger
            .unfinished_in(range.clone())
            .map(|part| part.end - part.start)
            .sum()
    }
}
