//! Watching a channel and ending it: `Control`, and the verbs that it shares with the channel's own handle.

use super::DiskBufferedChannel;
use crate::core::Shared;
use crate::dir::{DeadLetters, Quarantined};
use crate::error::{DeadLetterError, HaltError, HaltFault, HaltReport, SyncError};
use crate::event::Listener;
use crate::handle::{Handle, every_handle};
use crate::letters::{Asked, Errand, Reply};
use crate::sync;
use crate::wait::{Ticket, block_until};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A handle that watches and ends a channel and keeps neither side of it open.
///
/// Made by [`DiskBufferedChannel::split`].
pub struct Control<T> {
    handle: Handle<T>,
}

impl<T> Control<T> {
    pub(super) fn new(handle: Handle<T>) -> Self {
        Self { handle }
    }
}

/// The verbs that `DiskBufferedChannel` and `Control` share.
macro_rules! life {
    ($name:ident) => {
        every_handle!($name);

        impl<T> $name<T> {
            /// Everything that was set aside because it was damaged.
            pub fn quarantined(&self) -> Vec<Quarantined> {
                self.handle.shared.quarantined.lock().clone()
            }

            /// Ends the intake: senders get [`SendError::Closed`](crate::SendError::Closed), receivers take everything left, then
            /// get [`RecvError::Closed`](crate::RecvError::Closed).
            pub fn close(&self) {
                self.handle.shared.close();
            }

            /// Stops both ends now, saves all that is left, releases the directory.
            ///
            /// Every blocked call wakes: senders get their item back in [`SendError::Halted`](crate::SendError::Halted), receivers get
            /// [`RecvError::Halted`](crate::RecvError::Halted). The directory can be opened again at once. A second call returns the
            /// same report.
            ///
            /// # Errors
            ///
            /// [`HaltError`] holds the items that could not be saved. The channel is halted all the same.
            /// Called from the channel's own event callback it does nothing and says so.
            ///
            /// # Durability
            ///
            /// After `Ok`, everything that was pending is on disk and synced as well as the store can.
            /// It waits for space for at most 5 s and may exceed the quota by what memory held.
            pub fn halt(&self) -> Result<HaltReport, HaltError<T>> {
                self.handle.shared.halt(None)
            }

            /// As [`halt`](Self::halt), with `leftovers` appended after the intake has stopped.
            ///
            /// # Errors
            ///
            /// As [`halt`](Self::halt); leftovers that come after another halt has finished are returned too.
            pub fn halt_with(
                &self,
                leftovers: impl IntoIterator<Item = T>,
            ) -> Result<HaltReport, HaltError<T>> {
                self.handle.shared.halt(leftovers)
            }

            /// As [`halt`](Self::halt), without blocking the runtime.
            ///
            /// # Errors
            ///
            /// As [`halt`](Self::halt).
            ///
            /// # Cancel safety
            ///
            /// Once polled, the halt goes on to its end, whether this future is dropped or not.
            pub async fn halt_async(&self) -> Result<HaltReport, HaltError<T>> {
                self.handle.halt_async().await
            }

            /// Closes, lets consumers work for up to `timeout`, then halts.
            ///
            /// # Errors
            ///
            /// As [`halt`](Self::halt).
            pub fn drain(&self, timeout: Duration) -> Result<HaltReport, HaltError<T>> {
                let shared = &self.handle.shared;
                shared.close();
                let deadline = sync::now().checked_add(timeout);
                let mut ticket = Ticket::default();
                if !Listener::is_running_here() {
                    block_until(deadline, |waker| {
                        shared.poll_drained(deadline, &mut ticket, waker)
                    });
                }
                shared.leave_life(&mut ticket);
                self.halt()
            }

            /// As [`drain`](Self::drain), without blocking the runtime.
            ///
            /// # Errors
            ///
            /// As [`halt`](Self::halt).
            ///
            /// # Cancel safety
            ///
            /// Dropped before the deadline, the channel stays closed and is not halted.
            pub async fn drain_async(&self, timeout: Duration) -> Result<HaltReport, HaltError<T>> {
                let shared = &self.handle.shared;
                shared.close();
                let deadline = sync::now().checked_add(timeout);
                LifeWait::new(shared, |ticket, waker| {
                    shared.poll_drained(deadline, ticket, waker)
                })
                .wait()
                .await;
                self.halt_async().await
            }

            /// Puts everything accepted so far on disk and syncs it.
            ///
            /// # Errors
            ///
            /// [`SyncError`] says what is in the way; nothing is lost by it.
            ///
            /// # Durability
            ///
            /// On the log store what was accepted before this call survives a power cut once it returns. On the sled store it is
            /// a flush and an fdatasync of its files: that survived every simulated power cut we tried, which is evidence and
            /// not a promise.
            pub fn sync(&self) -> Result<(), SyncError> {
                let shared = &self.handle.shared;
                let request = shared.request_sync();
                let mut ticket = Ticket::default();
                block_until(None, |waker| shared.poll_sync(request, &mut ticket, waker))
                    .unwrap_or(Ok(()))
            }

            /// As [`sync`](Self::sync), without blocking the runtime.
            ///
            /// # Errors
            ///
            /// As [`sync`](Self::sync).
            ///
            /// # Cancel safety
            ///
            /// Dropping the future loses nothing; the sync may happen all the same.
            pub async fn sync_async(&self) -> Result<(), SyncError> {
                let shared = &self.handle.shared;
                let request = shared.request_sync();
                LifeWait::new(shared, |ticket, waker| {
                    shared.poll_sync(request, ticket, waker)
                })
                .wait()
                .await
            }

            /// The dead letters, oldest first: items that were set aside by
            /// [`Delivery::dead_letter`](crate::Delivery::dead_letter), after
            /// [`max_attempts`](crate::Builder::max_attempts), or because their records can't be decoded.
            ///
            /// Reads them from disk, one at a time. What is in the way, [`DeadLetters::error`] says.
            pub fn dead_letters(&self) -> DeadLetters {
                let shared = &self.handle.shared;
                match shared.ask(Errand::List) {
                    Ok(Reply::Letters(letters)) => letters,
                    Ok(Reply::Count(_)) => DeadLetters::none(None),
                    Err(error) => DeadLetters::none(Some(shared.why_no_letters(error))),
                }
            }

            /// Makes new items of all dead letters, in their order, behind everything that waits. Each says where it comes from:
            /// [`Delivery::requeued_from`](crate::Delivery::requeued_from). Returns how many.
            ///
            /// # Errors
            ///
            /// [`DeadLetterError`]; what was not requeued is a dead letter still.
            ///
            /// # Durability
            ///
            /// Each becomes an item exactly once, whatever crashes in between, and is on the device then.
            pub fn requeue_dead_letters(&self) -> Result<u64, DeadLetterError> {
                self.handle.shared.ask(Errand::Requeue).map(Reply::count)
            }

            /// As [`requeue_dead_letters`](Self::requeue_dead_letters), without blocking the runtime.
            ///
            /// # Errors
            ///
            /// As [`requeue_dead_letters`](Self::requeue_dead_letters).
            ///
            /// # Cancel safety
            ///
            /// Dropping the future gives up waiting; the letters may be requeued all the same.
            pub async fn requeue_dead_letters_async(&self) -> Result<u64, DeadLetterError> {
                let mut asked = Asked::new(&self.handle.shared, Errand::Requeue)?;
                poll_fn(|cx| asked.poll(cx.waker())).await.map(Reply::count)
            }

            /// Removes all dead letters. Returns how many there were.
            ///
            /// # Errors
            ///
            /// [`DeadLetterError`]; they are there still, all of them.
            pub fn purge_dead_letters(&self) -> Result<u64, DeadLetterError> {
                self.handle.shared.ask(Errand::Purge).map(Reply::count)
            }

            /// As [`purge_dead_letters`](Self::purge_dead_letters), without blocking the runtime.
            ///
            /// # Errors
            ///
            /// As [`purge_dead_letters`](Self::purge_dead_letters).
            ///
            /// # Cancel safety
            ///
            /// Dropping the future gives up waiting; the letters may be removed all the same.
            pub async fn purge_dead_letters_async(&self) -> Result<u64, DeadLetterError> {
                let mut asked = Asked::new(&self.handle.shared, Errand::Purge)?;
                poll_fn(|cx| asked.poll(cx.waker())).await.map(Reply::count)
            }

            /// Ends the channel as a crash of the process would: stops the thread, releases the lock, saves nothing.
            #[cfg(any(test, feature = "test-util"))]
            pub fn crash(&self) {
                self.handle
                    .shared
                    .enter(|state, _| state.crash_wanted = true);
                self.handle.shared.begin_halt(None);
                self.handle.shared.wait_halted();
            }
        }
    };
}
life!(DiskBufferedChannel);
life!(Control);

impl<T> Handle<T> {
    async fn halt_async(&self) -> Result<HaltReport, HaltError<T>> {
        let shared = &self.shared;
        if Listener::is_running_here() {
            return Err(HaltError::new(
                HaltReport::default(),
                HaltFault::FromCallback,
                Vec::new(),
            ));
        }
        shared.begin_halt(None);
        // A store may hang, and then only a thread notices: nobody polls a future by the clock.
        (shared.watch_halt)(shared);
        LifeWait::new(shared, |ticket, waker| shared.poll_halted(ticket, waker))
            .wait()
            .await;
        shared.halt_result(Vec::new())
    }
}

/// A future's place among those who wait for the channel's life to go on.
struct LifeWait<'a, T, F> {
    shared: &'a Arc<Shared<T>>,
    ticket: Ticket,
    poll: F,
}

impl<'a, T, F, R> LifeWait<'a, T, F>
where
    F: FnMut(&mut Ticket, &Waker) -> Poll<R>,
{
    fn new(shared: &'a Arc<Shared<T>>, poll: F) -> Self {
        Self {
            shared,
            ticket: Ticket::default(),
            poll,
        }
    }

    async fn wait(mut self) -> R {
        let this = &mut self;
        poll_fn(|cx| (this.poll)(&mut this.ticket, cx.waker())).await
    }
}

impl<T, F> Drop for LifeWait<'_, T, F> {
    fn drop(&mut self) {
        self.shared.leave_life(&mut self.ticket);
    }
}
