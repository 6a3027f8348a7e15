//! The lock, the threads and the clock, exchangeable for a model checker's.

#[cfg(shuttle)]
pub(crate) use model::*;
#[cfg(not(shuttle))]
pub(crate) use real::*;

#[cfg(not(shuttle))]
mod real {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout};

    /// Starts a named thread.
    pub(crate) fn spawn(
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.to_owned()).spawn(run)
    }
}

#[cfg(shuttle)]
mod model {
    use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::thread::{JoinHandle, Thread, current, park};
    use std::time::Duration;

    /// shuttle's lock with the shape of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// Under the model no time passes: a timed wait is a plain one.
    pub(crate) fn park_timeout(_: Duration) {
        park();
    }

    /// Starts a thread of the model.
    pub(crate) fn spawn(
        _: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        Ok(shuttle::thread::spawn(run))
    }
}
