//! The lock and the threads.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout};

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}
