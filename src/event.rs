//! What a channel tells its `on_event` callback.

use crate::dir::Quarantined;
use crate::error::StoreError;
use std::cell::Cell;
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Something that an operator may want to know.
///
/// Given to the callback of [`Builder::on_event`](crate::Builder::on_event), on the channel's worker thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Items go to disk from now on: the consumer lags.
    SpillBegan,
    /// The backlog on disk is empty again.
    SpillEnded,
    /// There is no room: the quota, the free-space limit or the file system is used up.
    Full(StoreError),
    /// There is room again.
    Room,
    /// The disk or the store refused something; it is tried again.
    Trouble(StoreError),
    /// What was refused works again.
    Recovered,
    /// Items on disk are damaged or gone.
    Lost {
        /// Their sequence numbers.
        seqs: RangeInclusive<u64>,
    },
    /// Damaged files were set aside.
    Quarantined(Quarantined),
    /// An item was set aside as a dead letter.
    DeadLettered {
        /// Its sequence number.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// Bytes between dead letters that were requeued can't be read. The file is kept.
    DeadLettersDamaged {
        /// How many.
        bytes: u64,
    },
    /// Items were dropped because they were older than `max_age`.
    Expired {
        /// How many.
        items: u64,
    },
    /// Items were dropped to make room (`WhenFull::DropOldest`).
    DroppedOldest {
        /// How many.
        items: u64,
    },
}

type Callback = dyn Fn(&Event) + Send + Sync;

/// The user's callback, or none.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<Callback>>);

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

impl Listener {
    pub(crate) fn new(callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    /// Calls the callback; its panics end here.
    pub(crate) fn tell(&self, event: &Event) {
        if let Some(callback) = &self.0 {
            let outer = IN_CALLBACK.replace(true);
            let _ = catch_unwind(AssertUnwindSafe(|| callback(event)));
            IN_CALLBACK.set(outer);
        }
    }

    /// True while this thread runs a callback: it must not wait for the worker, which it may be.
    pub(crate) fn is_running_here() -> bool {
        IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Listener(set)"
        } else {
            "Listener(none)"
        })
    }
}
