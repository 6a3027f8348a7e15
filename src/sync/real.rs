//! What programs run on.

pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout};
pub(crate) use std::thread_local;

use std::hint;
use std::time::Instant;

/// Doubles from round to round: 127 pauses in all, a few microseconds.
const SPIN_ROUNDS: u32 = 7;
/// How often a thread lets others go first before it does what it can't take back.
const YIELDS: u32 = 3;

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// Stays awake for a few microseconds; true as soon as `is_over`.
pub(crate) fn stay_awake(is_over: impl Fn() -> bool) -> bool {
    for round in 0..SPIN_ROUNDS {
        if is_over() {
            return true;
        }
        for _ in 0..1 << round {
            hint::spin_loop();
        }
    }
    give_way(is_over)
}

/// Lets other threads go first, a few times; true as soon as `is_over`.
pub(crate) fn give_way(mut is_over: impl FnMut() -> bool) -> bool {
    (0..YIELDS).any(|_| {
        std::thread::yield_now();
        is_over()
    })
}

/// The time that deadlines are measured in.
pub(crate) fn now() -> Instant {
    Instant::now()
}
