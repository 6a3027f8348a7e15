//! The worker's steps that put on disk how far things have come, and give space back.

use crate::error::SyncError;
use crate::event::Event;
use crate::ledger::Ledger;
use crate::sync;
use crate::worker::Work;

impl<T> Work<'_, T> {
    /// Persists the cursor and gives back what lies below it.
    pub(crate) fn checkpoint(&mut self) {
        let ledger = self.shared.enter(|state, _| {
            state.acked_bytes = 0;
            state.tidied_at = Some(sync::now());
            state.told()
        });
        self.tidy(&ledger);
    }

    /// Puts what is acknowledged on the device.
    pub(crate) fn persist(&mut self, request: u64) {
        let ledger = self.shared.enter(|state, _| state.told());
        let result = self.desk.queue.checkpoint_durably(&ledger).err();
        if let Some(error) = &result {
            self.note_trouble(error);
        }
        self.shared.enter(|state, wakes| {
            state.persist.done = request;
            state.persist.result = result;
            state.life_waiters.wake_all(wakes);
        });
    }

    pub(crate) fn tidy(&mut self, ledger: &Ledger) {
        if let Some(end) = self.desk.requeueing
            && self.shared.enter(|state, _| state.disk_end() >= end)
        {
            // What tells a later process that letters became items must stay until the letters are gone. Before it is on
            // disk nobody can have finished it, and the space may be what it waits for.
            return;
        }
        let tidied = self.desk.queue.checkpoint(ledger).and_then(|()| {
            self.desk
                .queue
                .reclaim(ledger, crate::queue::Newest::KeepSmall)
        });
        match tidied {
            Ok(quarantined) => {
                let events = quarantined
                    .iter()
                    .cloned()
                    .map(Event::Quarantined)
                    .collect::<Vec<_>>();
                self.shared.quarantined.lock().extend(quarantined);
                self.shared.enter(|state, _| state.events.extend(events));
            }
            Err(error) => self.note_trouble(&error),
        }
        self.probe_room();
    }

    /// What may be admitted. Nothing, while the store refuses what was: then the policy for a full disk applies.
    pub(crate) fn room(&self) -> u64 {
        if self.desk.is_refused {
            0
        } else {
            self.desk.queue.room()
        }
    }

    pub(crate) fn probe_room(&mut self) {
        let room = self.room();
        let figures = self.desk.queue.figures();
        let (was_full, still_full) = self.shared.enter(|state, wakes| {
            let was_full = state.full_until.is_some();
            state.take_figures(&figures);
            state.set_room(room, wakes);
            if state.full_until.is_some()
                && self.shared.settings.when_full == crate::config::WhenFull::DropOldest
                && !state.send_waiters.is_empty()
            {
                state.drop_oldest_wanted = true;
            }
            (was_full, state.full_until.is_some())
        });
        if still_full {
            self.desk.writing.later();
        } else if was_full {
            self.desk.writing.reset();
        }
    }

    /// Puts everything accepted so far on the device.
    pub(crate) fn sync(&mut self, request: u64) {
        let result = match self.sync_everything() {
            Ok(true) => None,
            Ok(false) => return,
            Err(error) => Some(error),
        };
        if let Some(SyncError::Store(error)) = &result {
            self.note_trouble(error);
        }
        self.shared.enter(|state, wakes| {
            state.sync.done = request;
            state.sync.result = result;
            state.life_waiters.wake_all(wakes);
        });
    }

    /// False when this is not the time.
    fn sync_everything(&mut self) -> Result<bool, SyncError> {
        if !self.copy_memory_to_disk()? {
            return Ok(false);
        }
        let ledger = self.shared.enter(|state, _| state.told());
        self.desk.queue.sync(&ledger).map_err(SyncError::Store)?;
        self.desk.unsynced_since = None;
        let figures = self.desk.queue.figures();
        self.shared.enter(|state, _| state.take_figures(&figures));
        Ok(true)
    }
}
