//! Which items may be missing: as many as something took, and only where it could take them.

use super::slot::Claim;

/// Reasons why accepted items don't come, and the items that didn't: each of these needs a reason of its own.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// So many may have been taken by a crash, from among those at risk.
    risk: u64,
    /// So many were dropped by the policy, which takes any.
    dropped: u64,
    /// So many were too old, which takes only those that are.
    expired: u64,
    missing: Missing,
}

/// Items that didn't come, by what may have become of them.
#[derive(Debug, Default)]
struct Missing {
    due_young: u64,
    due_old: u64,
    risk_young: u64,
    risk_old: u64,
    /// They were finished before a crash, and it may have kept that: they need no reason.
    finished_young: u64,
    finished_old: u64,
}

impl Gone {
    pub(super) fn add_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    pub(super) fn add_expired(&mut self, count: u64) {
        self.expired += count;
    }

    /// An item is missing. False if nothing can have taken it.
    #[must_use]
    pub(super) fn add_missing(&mut self, claim: Claim, is_old: bool) -> bool {
        if self.dropped + self.expired == 0 {
            return self.miss_by_crash(claim);
        }
        let missing = &mut self.missing;
        *match (claim, is_old) {
            (Claim::Due, false) => &mut missing.due_young,
            (Claim::Due, true) => &mut missing.due_old,
            (Claim::AtRisk, false) => &mut missing.risk_young,
            (Claim::AtRisk, true) => &mut missing.risk_old,
            (Claim::Finished, false) => &mut missing.finished_young,
            (Claim::Finished, true) => &mut missing.finished_old,
        } += 1;
        let is_explained = self.is_explained();
        if is_explained && self.unseen() == Some(0) {
            *self = Self {
                risk: self.risk,
                ..Self::default()
            };
        }
        is_explained
    }

    /// Nothing but a crash can have taken the item: this needs no remembering.
    fn miss_by_crash(&mut self, claim: Claim) -> bool {
        let is_possible = match claim {
            Claim::Due => false,
            Claim::AtRisk => self.risk > 0,
            Claim::Finished => return true,
        };
        self.risk = self.risk.saturating_sub(1);
        is_possible
    }

    /// There are reasons enough for each kind of missing items, and for all kinds that share them.
    fn is_explained(&self) -> bool {
        let missing = &self.missing;
        let by_age = missing.due_young + missing.due_old;
        let by_crash = missing.due_young + missing.risk_young;
        missing.due_young <= self.dropped
            && by_age <= self.dropped + self.expired
            && by_crash <= self.dropped + self.risk
            && missing.in_need() <= self.reasons()
    }

    fn reasons(&self) -> u64 {
        self.dropped + self.expired + self.risk
    }

    /// At least so many that were too old have not been missed yet.
    pub(super) fn expired_unseen(&self) -> u64 {
        let old = self.missing.due_old + self.missing.risk_old + self.missing.finished_old;
        self.expired.saturating_sub(old)
    }

    /// What was counted as gone is missing.
    pub(super) fn is_settled(&self) -> bool {
        let missing = self.missing.in_need() + self.missing.free();
        self.expired_unseen() == 0 && self.dropped + self.expired <= missing
    }

    /// How many were counted as gone and have not been missed yet, if that is certain.
    pub(super) fn unseen(&self) -> Option<u64> {
        let doubtful = self.missing.risk_young + self.missing.risk_old + self.missing.free();
        (doubtful == 0).then(|| self.dropped + self.expired - self.missing.in_need())
    }

    /// How many of the young ones may be among these.
    pub(super) fn dropped_unseen(&self) -> u64 {
        let beyond_age = self.missing.due_old.saturating_sub(self.expired);
        (self.dropped).saturating_sub(self.missing.due_young + beyond_age)
    }

    /// Something other than a crash may still be why an item is missing.
    pub(super) fn is_vague(&self) -> bool {
        let by_crash = self
            .risk
            .min(self.missing.risk_young + self.missing.risk_old);
        self.dropped + self.expired > self.missing.in_need() - by_crash
    }

    pub(super) fn has_risk(&self) -> bool {
        self.risk > self.missing.risk_young
    }

    /// A crash took up to `count` more. Which of the earlier reasons was whose shows no more.
    pub(super) fn crash(&mut self, count: u64) {
        let left = self.reasons() - self.missing.in_need();
        *self = Self {
            risk: left + count,
            ..Self::default()
        };
    }

    /// Nothing is at risk any more: what a crash may have taken has been missed.
    pub(super) fn forget_risk(&mut self) {
        let missed = self.missing.risk_young + self.missing.risk_old;
        self.risk = self.risk.min(missed);
    }
}

impl Missing {
    fn in_need(&self) -> u64 {
        self.due_young + self.due_old + self.risk_young + self.risk_old
    }

    fn free(&self) -> u64 {
        self.finished_young + self.finished_old
    }
}
