//! What programs run on.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout};
pub(crate) use std::thread_local;

use std::time::Instant;

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// The time that deadlines are measured in.
pub(crate) fn now() -> Instant {
    Instant::now()
}
