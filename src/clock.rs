//! The time that ages and delays are measured in.
//!
//! Ages are written down, so they need the wall clock; but that may jump. Here it never goes back: what it would lose
//! is made up by a clock that can't jump, and a jump forward is followed.

use crate::sync;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of a channel's run. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// The wall clock at `began`, as high as it was ever seen to be.
    epoch_ms: AtomicU64,
    /// Set for a clock that moves only when it is told to: by how much it was.
    manual_ms: Option<AtomicU64>,
}

impl Clock {
    /// The system's clock.
    pub(crate) fn system() -> Self {
        Self::new(None)
    }

    /// A clock that stands until [`advance`](Self::advance) moves it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn manual() -> Self {
        Self::new(Some(AtomicU64::new(0)))
    }

    fn new(manual_ms: Option<AtomicU64>) -> Self {
        Self(Arc::new(Inner {
            began: sync::now(),
            epoch_ms: AtomicU64::new(system_ms()),
            manual_ms,
        }))
    }

    /// Milliseconds since the run began.
    pub(crate) fn run_ms(&self) -> u64 {
        match &self.0.manual_ms {
            Some(advanced) => advanced.load(Ordering::SeqCst),
            None => to_ms(sync::now().saturating_duration_since(self.0.began)),
        }
    }

    /// Milliseconds since the Unix epoch. Never less than before.
    pub(crate) fn wall_ms(&self) -> u64 {
        let run = self.run_ms();
        self.wall_at(run, system_ms())
    }

    fn wall_at(&self, run: u64, system: u64) -> u64 {
        let epoch = &self.0.epoch_ms;
        if self.0.manual_ms.is_some() {
            return epoch.load(Ordering::SeqCst) + run;
        }
        let seen = system.saturating_sub(run);
        epoch.fetch_max(seen, Ordering::SeqCst).max(seen) + run
    }

    /// When [`run_ms`](Self::run_ms) will be `run_ms`; `None` where time doesn't pass by itself.
    pub(crate) fn instant_of(&self, run_ms: u64) -> Option<Instant> {
        match self.0.manual_ms {
            Some(_) => None,
            None => self.0.began.checked_add(Duration::from_millis(run_ms)),
        }
    }

    /// Moves a manual clock; the system's can't be moved.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn advance(&self, by: Duration) {
        if let Some(advanced) = &self.0.manual_ms {
            advanced.fetch_add(to_ms(by), Ordering::SeqCst);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// Whole milliseconds, rounded up: what waits so long has waited long enough.
pub(crate) fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The wall clock; 0 where it stands before the Unix epoch.
pub(crate) fn system_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_back_is_made_up_for_and_one_that_jumps_forward_is_followed() {
        let clock = Clock::system();
        let start = clock.wall_at(0, 1 << 50);
        assert_eq!(clock.wall_at(10, (1 << 50) - 500_000), start + 10);
        let jumped = (1 << 50) + 700_000;
        assert_eq!(clock.wall_at(20, jumped), jumped);
        assert_eq!(clock.wall_at(30, 0), jumped + 10);
    }

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = Clock::manual();
        let (run, wall) = (clock.run_ms(), clock.wall_ms());
        assert_eq!((clock.run_ms(), clock.wall_ms()), (run, wall));
        clock.advance(Duration::from_millis(40));
        assert_eq!((clock.run_ms(), clock.wall_ms()), (run + 40, wall + 40));
        assert_eq!(clock.instant_of(50), None);
    }
}
