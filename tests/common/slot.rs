//! What the model knows of one item.

use overspill::ItemId;

/// Why an item may or must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Accepted and not finished: it comes.
    Due,
    /// In memory only before a crash, as far as anybody knows: as many as were at risk may be missing.
    AtRisk,
    /// Finished before a crash: it may come again.
    Finished,
}

/// Where an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the channel; it may come when it is due.
    Waiting { due: Option<u64> },
    /// With a consumer.
    Out,
    /// On its way to the dead letters.
    Doomed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) claim: Claim,
    pub(super) place: Place,
    /// It came back since the process began.
    pub(super) was_out: bool,
    /// When it was admitted.
    pub(super) born: u64,
    /// Its id, once it was seen.
    pub(super) name: Option<ItemId>,
    /// The id that it had as a dead letter.
    pub(super) was: Option<ItemId>,
    /// How many of its deliveries failed; after a crash it may be fewer.
    pub(super) failures: u32,
    /// What a crash can't take from that.
    failures_safe: u32,
    /// It was not delivered since a crash.
    is_vague: bool,
}

impl Slot {
    pub(super) fn new(id: u64, born: u64) -> Self {
        Self {
            id,
            claim: Claim::Due,
            place: Place::Waiting { due: None },
            was_out: false,
            born,
            name: None,
            was: None,
            failures: 0,
            failures_safe: 0,
            is_vague: false,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting { .. })
    }

    /// It waits for nothing but its turn.
    pub(super) fn may_come(&self, now: u64) -> bool {
        matches!(self.place, Place::Waiting { due } if due.is_none_or(|due| due <= now))
    }

    /// It was out and is not finished.
    pub(super) fn give_back(&mut self, due: Option<u64>) {
        assert_eq!(self.place, Place::Out, "{self:?}");
        self.place = Place::Waiting { due };
        self.was_out = true;
    }

    /// It was finished, and a crash may have forgotten that.
    pub(super) fn again(self, claim: Claim) -> Self {
        Self {
            claim,
            place: Place::Waiting { due: None },
            was_out: false,
            ..self
        }
    }

    /// It was to be a letter and is none.
    pub(super) fn revive(&mut self) {
        assert_eq!(self.place, Place::Doomed, "{self:?}");
        self.place = Place::Waiting { due: None };
    }

    /// A delivery says how many have failed.
    pub(super) fn see_failures(&mut self, failures: u32) {
        let fewest = if self.is_vague {
            self.failures_safe
        } else {
            self.failures
        };
        assert!(
            (fewest..=self.failures).contains(&failures),
            "{failures} failures of {self:?}"
        );
        self.failures = failures;
        self.is_vague = false;
    }

    /// How many deliveries failed, where that is certain.
    pub(super) fn failures(&self) -> Option<u32> {
        (!self.is_vague).then_some(self.failures)
    }

    pub(super) fn persist(&mut self) {
        if !self.is_vague {
            self.failures_safe = self.failures;
        }
    }

    pub(super) fn forget_failures(&mut self) {
        self.is_vague |= self.failures > self.failures_safe;
    }
}

/// An item that was given up.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) id: u64,
    pub(super) name: ItemId,
    pub(super) failures: u32,
}
