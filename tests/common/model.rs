//! What may still come out of a channel, in which order, and what may be missing.

use std::collections::VecDeque;

/// Why an item may or must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Accepted and not received: it comes.
    Due,
    /// In memory only before a crash, as far as anybody knows: as many as were at risk may be missing.
    AtRisk,
    /// Received before a crash: it may come again.
    Received,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: u64,
    claim: Claim,
}

/// A queue that knows what a crash or a policy may take out of it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    slots: VecDeque<Slot>,
    /// Received since the cursor was last surely persisted.
    received: Vec<u64>,
    /// How many slots at risk may still turn out to be missing.
    risk: u64,
    /// How many accepted items were dropped by the policy; which ones shows only when they don't come.
    dropped: u64,
    /// How many of the dropped items may have been received before a crash, or have been missing because of one.
    doubtful: u64,
    /// The last so many were admitted for futures that were dropped before they could say `Ok`.
    unconfirmed: usize,
    pub(crate) accepted: u64,
    pub(crate) taken: u64,
}

impl Model {
    /// The item is in the channel, and nobody was told `Ok`.
    pub(crate) fn admit(&mut self, id: u64) {
        self.accepted += 1;
        self.unconfirmed += 1;
        self.slots.push_back(Slot {
            id,
            claim: Claim::Due,
        });
    }

    /// A send returned `Ok`: everything up to its item is as durable as the channel promises.
    pub(crate) fn confirm(&mut self) {
        self.unconfirmed = 0;
    }

    /// The policy dropped `count` more of the accepted items.
    pub(crate) fn drop_some(&mut self, count: u64) {
        self.dropped += count;
    }

    /// The item came out. Whatever stood before it must have been allowed to be missing.
    pub(crate) fn take(&mut self, id: u64) {
        while let Some(slot) = self.slots.pop_front() {
            if slot.id == id {
                self.taken += 1;
                self.received.push(id);
                self.forget_spent_risk();
                return;
            }
            self.skip(slot, &format!("{id} came"));
        }
        panic!(
            "{id} came out of nowhere: received before: {:?}",
            self.received
        );
    }

    /// Nothing more is coming.
    pub(crate) fn end(&mut self) {
        while let Some(slot) = self.slots.pop_front() {
            self.skip(slot, "the end came");
        }
        assert!(
            self.dropped <= self.doubtful,
            "counted as dropped, and yet they came: {self:?}"
        );
        (self.dropped, self.doubtful) = (0, 0);
        self.forget_spent_risk();
    }

    fn skip(&mut self, slot: Slot, instead: &str) {
        match slot.claim {
            Claim::Received => self.doubtful += u64::from(self.dropped > self.doubtful),
            Claim::AtRisk if self.risk > 0 => {
                self.risk -= 1;
                self.doubtful += u64::from(self.dropped > self.doubtful);
            }
            Claim::Due | Claim::AtRisk if self.dropped > 0 => self.dropped -= 1,
            claim => panic!("{} was {claim:?}, and {instead} instead", slot.id),
        }
    }

    fn forget_spent_risk(&mut self) {
        if self.slots.iter().all(|slot| slot.claim != Claim::AtRisk) {
            self.risk = 0;
        }
    }

    /// How many items wait, where that is certain.
    pub(crate) fn waiting(&self) -> Option<u64> {
        let certain = self.doubtful == 0 && self.slots.iter().all(|slot| slot.claim == Claim::Due);
        certain.then(|| self.slots.len() as u64 - self.dropped)
    }

    /// A clean end: every receive is written down, and everything else is saved.
    pub(crate) fn end_cleanly(&mut self) {
        self.received.clear();
        self.confirm();
    }

    /// An end in `Process` that may have forgotten acknowledgements: `replayed` items wait now.
    /// False if that doesn't say exactly which.
    pub(crate) fn replay_all(&mut self, replayed: u64) -> bool {
        if self.unconfirmed > 0 || self.waiting().is_none() {
            let unconfirmed = std::mem::take(&mut self.unconfirmed).min(self.slots.len());
            self.put_at_risk(unconfirmed, unconfirmed as u64);
            self.replay_received();
            return false;
        }
        // The last of the received items come again, until so many wait.
        let due = self.slots.len() as u64 - self.dropped;
        let again = replayed.checked_sub(due).unwrap_or_else(|| {
            panic!(
                "{due} items are due and only {replayed} wait: {:?}",
                self.slots
            )
        });
        let again = usize::try_from(again).unwrap_or(usize::MAX);
        let first = self.received.len().checked_sub(again);
        let first = first.unwrap_or_else(|| panic!("{again} more items wait than were received"));
        self.taken -= again as u64;
        for id in self.received.drain(..).skip(first).rev() {
            self.slots.push_front(Slot {
                id,
                claim: Claim::Due,
            });
        }
        true
    }

    /// An end in `Spill` that may have forgotten acknowledgements, and up to `at_risk` of the items.
    pub(crate) fn replay_some(&mut self, at_risk: u64) {
        self.confirm();
        if at_risk > 0 || self.risk > 0 {
            self.put_at_risk(self.slots.len(), at_risk);
        }
        self.replay_received();
    }

    /// Up to `at_risk` of the last `count` slots may be missing. What was dropped can't be told from it any more.
    fn put_at_risk(&mut self, mut count: usize, at_risk: u64) {
        self.risk += at_risk;
        if self.dropped > 0 {
            count = self.slots.len();
            self.risk += std::mem::take(&mut self.dropped);
            self.doubtful = 0;
        }
        let tail = self.slots.iter_mut().rev().take(count);
        let due = tail.filter(|slot| slot.claim == Claim::Due);
        due.for_each(|slot| slot.claim = Claim::AtRisk);
    }

    fn replay_received(&mut self) {
        for id in self.received.drain(..).rev() {
            self.slots.push_front(Slot {
                id,
                claim: Claim::Received,
            });
        }
    }
}
