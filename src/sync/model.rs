//! Lock, threads and clock under a scheduler that decides who runs next.
//!
//! No real clock decides anything. A short sleep may end at any moment, and time has passed then; a long one
//! is a safety net that no hand-over may need, so it never ends by itself and a lost wake-up shows as a deadlock.

use shuttle::thread::{self, ThreadId};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use shuttle::sync::MutexGuard;
pub(crate) use shuttle::thread::JoinHandle;
pub(crate) use shuttle::thread_local;

/// Sleeps of this length never end by themselves.
const NEVER: Duration = Duration::from_secs(10);
/// Room for what the crate's threads do, file operations included.
pub(crate) const STACK_BYTES: usize = 1 << 20;

/// The model's lock, with the face of `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

shuttle::thread_local! {
    static UNPARKED: Arc<AtomicBool> = Arc::default();
}

/// A thread that can be unparked.
#[derive(Debug)]
pub(crate) struct Thread {
    thread: thread::Thread,
    unparked: Arc<AtomicBool>,
}

impl Thread {
    pub(crate) fn id(&self) -> ThreadId {
        self.thread.id()
    }

    pub(crate) fn unpark(&self) {
        self.unparked.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

pub(crate) fn current() -> Thread {
    Thread {
        thread: thread::current(),
        unparked: UNPARKED.with(Arc::clone),
    }
}

/// Sleeps until it is unparked. The scheduler's spurious wake-ups end here: they would hide lost ones.
pub(crate) fn park() {
    let unparked = UNPARKED.with(Arc::clone);
    while !unparked.swap(false, Ordering::SeqCst) {
        thread::park();
    }
}

/// No schedule depends on how long a thread stays awake.
pub(crate) fn stay_awake(is_over: impl Fn() -> bool) -> bool {
    is_over()
}

pub(crate) fn give_way(mut is_over: impl FnMut() -> bool) -> bool {
    thread::yield_now();
    is_over()
}

pub(crate) fn park_timeout(duration: Duration) {
    if duration >= NEVER {
        park();
    } else {
        thread::yield_now();
        PASSED.set(PASSED.get() + duration);
    }
}

std::thread_local! {
    static BEGAN: Instant = Instant::now();
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A clock that only sleeping moves.
pub(crate) fn now() -> Instant {
    BEGAN.with(|began| *began) + PASSED.get()
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let builder = thread::Builder::new().stack_size(STACK_BYTES);
    builder.name(name.to_owned()).spawn(run)
}
