//! A flag that can be waited for, and the signals that raise it.

use crate::failure::Failure;
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Raised once, never lowered. Clones are the same flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    pub(crate) fn raise(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits for at most `duration`; says whether the flag is up.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut up = self.0.0.lock();
        while !*up {
            if self.0.1.wait_until(&mut up, deadline).timed_out() {
                break;
            }
        }
        *up
    }
}

/// Calls `first` at the first SIGINT or SIGTERM; the second ends the process at once.
pub(crate) fn on_signal(first: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let refused = |error| {
        Failure::of(
            "handle",
            "signals",
            error,
            "check the system's thread limit",
        )
    };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
    let wait = move || {
        let mut first = Some(first);
        for signal in signals.forever() {
            match first.take() {
                Some(first) => first(),
                // The shell's convention for a process that a signal ended.
                None => std::process::exit(128 + signal),
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_wakes_who_waits_for_it() {
        let flag = Flag::default();
        let waiter = {
            let flag = flag.clone();
            std::thread::spawn(move || flag.wait(Duration::from_secs(60)))
        };
        flag.raise();
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn a_flag_that_nobody_raises_stays_down() {
        assert!(!Flag::default().wait(Duration::from_millis(1)));
    }
}
