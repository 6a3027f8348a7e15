//! Where every item is, what may still come out of a channel, in which order, and what may be missing.

use super::gone::Gone;
use super::slot::{Claim, Letter, Place, Slot};
use overspill::ItemId;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Which admission of an item: one that was a dead letter has another.
pub(crate) type Key = u64;

/// A queue that knows what a crash, a policy or age may take out of it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// By their numbers' order. Nothing that was never out is older than anything that was, so this is the order of delivery.
    pub(super) slots: BTreeMap<Key, Slot>,
    next_key: Key,
    /// Finished since that was last surely written down, in the order in which they were.
    finished: Vec<(Key, Slot)>,
    /// Which items are missing shows only when others come instead.
    gone: Gone,
    /// The last so many were admitted for futures that were dropped before they could say `Ok`.
    unconfirmed: usize,
    /// On their way to the dead letters, in the order in which they are written down.
    pub(super) doomed: VecDeque<Key>,
    pub(super) letters: VecDeque<Letter>,
    /// Whose every id is, for ever.
    names: HashMap<ItemId, Key>,
    /// Milliseconds, and after how many an item is too old.
    pub(super) now: u64,
    pub(super) max_age: Option<u64>,
    pub(crate) accepted: u64,
    pub(crate) taken: u64,
    pub(crate) redelivered: u64,
    pub(crate) dead_lettered: u64,
}

impl Model {
    // ---- in ---------------------------------------------------------------------------------

    /// The item is in the channel, and nobody was told `Ok`.
    pub(crate) fn admit(&mut self, id: u64) {
        self.unconfirmed += 1;
        self.insert(Slot::new(id, self.now));
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        self.accepted += 1;
        self.slots.insert(self.next_key, slot);
        self.next_key += 1;
    }

    /// A send returned `Ok`: everything up to its item is as durable as the channel promises.
    pub(crate) fn confirm(&mut self) {
        self.unconfirmed = 0;
    }

    /// What was finished by now is on the device, and so is how often the others failed.
    pub(crate) fn persist(&mut self) {
        self.finished.clear();
        self.slots.values_mut().for_each(Slot::persist);
    }

    /// The policy dropped `count` more of the accepted items.
    pub(crate) fn drop_some(&mut self, count: u64) {
        self.gone.add_dropped(count);
    }

    /// So many more were too old.
    pub(crate) fn expire_some(&mut self, count: u64) {
        self.gone.add_expired(count);
        let old = self.count(|slot| slot.is_waiting() && self.is_old(slot));
        assert!(
            self.gone.expired_unseen() <= old,
            "dropped too early: {self:?}"
        );
    }

    // ---- out --------------------------------------------------------------------------------

    /// The item came out, to be acknowledged. Whatever stood before it must have been allowed to be missing.
    pub(crate) fn take_out(&mut self, id: u64) -> Key {
        loop {
            let now = self.now;
            let next = self.slots.iter().find(|(_, slot)| slot.may_come(now));
            let Some(key) = next.map(|(key, _)| *key) else {
                panic!("{id} came out of nowhere: {self:?}");
            };
            if self.slots.get(&key).is_some_and(|slot| slot.id == id) {
                self.forget_spent_risk();
                let is_old = self.slots.get(&key).is_some_and(|slot| self.is_old(slot));
                assert!(!is_old, "{id} came and is too old");
                let slot = self.slot(key);
                slot.place = Place::Out;
                slot.claim = Claim::Due;
                let is_repeat = slot.was_out;
                self.redelivered += u64::from(is_repeat);
                return key;
            }
            self.skip(key, &format!("{id} came"));
        }
    }

    /// The item came out and was acknowledged at that.
    pub(crate) fn take(&mut self, id: u64) {
        let key = self.take_out(id);
        self.acknowledge(key);
    }

    /// What a delivery says of itself.
    pub(crate) fn inspect(&mut self, key: Key, name: ItemId, attempt: u32, was: Option<ItemId>) {
        let owner = *self.names.entry(name).or_insert(key);
        assert_eq!(owner, key, "two items are called {name}");
        let slot = self.slot(key);
        assert_eq!(*slot.name.get_or_insert(name), name, "an id for ever");
        assert_eq!(slot.was, was, "{slot:?}");
        slot.see_failures(attempt - 1);
    }

    /// Nothing more is coming.
    pub(crate) fn end(&mut self) {
        while let Some(key) = self.slots.keys().next().copied() {
            let slot = self.slot(key);
            assert!(slot.is_waiting(), "the end came before {slot:?}");
            self.skip(key, "the end came");
        }
        assert!(
            self.gone.is_settled(),
            "counted as dropped, and yet they came: {self:?}"
        );
        self.gone = Gone::default();
    }

    fn skip(&mut self, key: Key, instead: &str) {
        let Some(slot) = self.slots.remove(&key) else {
            return;
        };
        let is_old = self.is_old(&slot);
        assert!(
            self.gone.add_missing(slot.claim, is_old),
            "nothing took {slot:?}, and {instead} instead: {:?}",
            self.gone
        );
        if is_old && slot.claim != Claim::Finished {
            // If that is why, nobody wrote it down.
            self.finished.push((key, slot));
        }
    }

    fn forget_spent_risk(&mut self) {
        if self.slots.values().all(|slot| slot.claim != Claim::AtRisk) {
            self.gone.forget_risk();
        }
    }

    // ---- what becomes of deliveries ---------------------------------------------------------

    pub(super) fn slot(&mut self, key: Key) -> &mut Slot {
        let slot = self.slots.get_mut(&key);
        slot.unwrap_or_else(|| panic!("nothing is known of {key}"))
    }

    pub(crate) fn acknowledge(&mut self, key: Key) {
        let slot = self.slots.remove(&key).expect("it was out");
        assert_eq!(slot.place, Place::Out);
        self.taken += 1;
        self.finished.push((key, slot));
    }

    pub(crate) fn release(&mut self, key: Key) {
        self.slot(key).give_back(None);
    }

    /// A delivery failed, and the item waits `delay`.
    pub(crate) fn fail(&mut self, key: Key, delay: u64) {
        let due = (delay > 0).then(|| self.now + delay);
        self.slot(key).give_back(due);
    }

    /// The item is to become a dead letter.
    pub(crate) fn doom(&mut self, key: Key) {
        self.slot(key).place = Place::Doomed;
        self.doomed.push_back(key);
    }

    // ---- what is there ----------------------------------------------------------------------

    pub(super) fn is_old(&self, slot: &Slot) -> bool {
        self.max_age.is_some_and(|age| self.now >= slot.born + age)
    }

    pub(crate) fn out(&self) -> u64 {
        self.count(|slot| slot.place == Place::Out)
    }

    /// Items that are out, or came back: they count towards the limit.
    pub(crate) fn held(&self) -> u64 {
        self.count(|slot| slot.place == Place::Out || slot.is_waiting() && slot.was_out)
    }

    /// Something that came back may go out again.
    pub(crate) fn has_ready(&self) -> bool {
        self.count(|slot| slot.was_out && slot.may_come(self.now) && !self.is_old(slot)) > 0
    }

    /// Something waits for its time.
    pub(crate) fn has_delayed(&self) -> bool {
        self.count(|slot| slot.is_waiting() && !slot.may_come(self.now)) > 0
    }

    fn count(&self, which: impl Fn(&Slot) -> bool) -> u64 {
        self.slots.values().filter(|slot| which(slot)).count() as u64
    }

    /// How many items wait or are out, where that is certain.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        let is_due = self.slots.values().all(|slot| slot.claim == Claim::Due);
        let unseen = self.gone.unseen().filter(|_| is_due)?;
        Some(self.slots.len() as u64 - unseen)
    }

    /// How many items wait, where that is certain.
    pub(crate) fn waiting(&self) -> Option<u64> {
        self.unfinished().map(|unfinished| unfinished - self.out())
    }

    /// An item can be had that neither age nor the policy has taken.
    pub(crate) fn has_any(&self) -> bool {
        let young = self.count(|slot| slot.may_come(self.now) && !self.is_old(slot));
        self.unfinished().is_some() && young > self.gone.dropped_unseen()
    }

    // ---- ends -------------------------------------------------------------------------------

    /// The process ends: what is out and what waits for its time comes with the next one.
    pub(crate) fn end_process(&mut self) {
        for slot in self.slots.values_mut() {
            slot.was_out = false;
            if slot.place != Place::Doomed {
                slot.place = Place::Waiting { due: None };
            }
        }
        self.redelivered = 0;
    }

    /// A clean end: everything finished is written down, and everything else is saved.
    pub(crate) fn end_cleanly(&mut self) {
        self.persist();
        self.confirm();
    }

    /// A crash may have forgotten failures.
    pub(crate) fn forget_failures(&mut self) {
        let finished = self.finished.iter_mut().map(|(_, slot)| slot);
        let slots = self.slots.values_mut().chain(finished);
        slots.for_each(Slot::forget_failures);
    }

    /// An end in `Process` that may have forgotten what was finished: `replayed` items wait now.
    /// False if that doesn't say exactly which.
    pub(crate) fn replay_all(&mut self, replayed: u64) -> bool {
        if self.unconfirmed > 0 || self.unfinished().is_none() || self.max_age.is_some() {
            let unconfirmed = std::mem::take(&mut self.unconfirmed).min(self.slots.len());
            self.put_at_risk(unconfirmed, unconfirmed as u64);
            self.replay_finished(Claim::Finished);
            return false;
        }
        // The last of the finished items come again, until so many wait.
        let due = self.slots.len() as u64 - self.gone.dropped_unseen();
        let again = replayed.checked_sub(due).unwrap_or_else(|| {
            panic!(
                "{due} items are due and only {replayed} wait: {:?}",
                self.slots
            )
        });
        let again = usize::try_from(again).unwrap_or(usize::MAX);
        let first = self.finished.len().checked_sub(again);
        let first = first.unwrap_or_else(|| panic!("{again} more items wait than were received"));
        self.taken -= again as u64;
        self.finished.drain(..first);
        self.replay_finished(Claim::Due);
        true
    }

    /// An end in `Spill` that may have forgotten what was finished, and up to `at_risk` of the items.
    pub(crate) fn replay_some(&mut self, at_risk: u64) {
        self.confirm();
        if at_risk > 0 || self.gone.has_risk() || self.gone.is_vague() {
            self.put_at_risk(self.slots.len(), at_risk);
        }
        self.replay_finished(Claim::Finished);
    }

    /// Up to `at_risk` of the last `count` slots may be missing. What was dropped can't be told from it any more.
    fn put_at_risk(&mut self, mut count: usize, at_risk: u64) {
        if self.gone.is_vague() {
            count = self.slots.len();
        }
        self.gone.crash(at_risk);
        let tail = self.slots.values_mut().rev().take(count);
        let due = tail.filter(|slot| slot.claim == Claim::Due);
        due.for_each(|slot| slot.claim = Claim::AtRisk);
    }

    fn replay_finished(&mut self, claim: Claim) {
        for (key, slot) in self.finished.drain(..) {
            self.slots.insert(key, slot.again(claim));
        }
    }
}
