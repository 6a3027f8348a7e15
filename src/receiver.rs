//! The receiving end.

use crate::channel::Handle;
use crate::core::Shared;
use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::sender::both_ends;
use crate::stats::Stats;
use crate::stream::RecvStream;
use crate::sync;
use crate::wait::{Ticket, block_until};
use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// The receiving end of a channel. Clones share the items: each item goes to one of them.
///
/// An item is acknowledged when a receive returns it. The acknowledgement is written down lazily: after a crash of the
/// process items that were received shortly before may come again; they never vanish.
///
/// # Examples
///
/// ```
/// # use overspill::DiskBufferedChannel;
/// # let dir = tempfile::tempdir()?;
/// let (tx, rx, _control) = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?.split();
/// tx.send_all(&mut (0..3))?;
/// drop(tx);
/// let received: Vec<u32> = rx.into_iter().collect();
/// assert_eq!(received, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver<T> {
    handle: Handle<T>,
}

/// A receive in progress: leaves the waiting list however it ends.
struct Receiving<'a, T> {
    shared: &'a Arc<Shared<T>>,
    ticket: Ticket,
}

impl<T> Drop for Receiving<'_, T> {
    fn drop(&mut self) {
        self.shared.leave_recv(&mut self.ticket);
    }
}

impl<T> Receiving<'_, T> {
    fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<T, RecvError>> {
        self.shared.poll_recv(&mut self.ticket, waker)
    }

    fn poll_many(
        &mut self,
        into: &mut Vec<T>,
        max: usize,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>> {
        if max == 0 {
            return Poll::Ready(Ok(0));
        }
        self.shared
            .poll_recv_many(into, max, &mut self.ticket, waker)
    }
}

impl<T> Receiver<T> {
    pub(crate) fn new(handle: Handle<T>) -> Self {
        Self { handle }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.handle.shared
    }

    fn receiving(&self) -> Receiving<'_, T> {
        Receiving {
            shared: self.shared(),
            ticket: Ticket::default(),
        }
    }

    /// Receives the next item; waits for one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] when the intake has ended and everything was taken, [`RecvError::Halted`] when the channel
    /// was halted and the rest is on disk.
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut receiving = self.receiving();
        match receiving.poll(None) {
            Poll::Ready(result) => result,
            Poll::Pending => block_until(None, |waker| receiving.poll(Some(waker)))
                .unwrap_or(Err(RecvError::Halted)),
        }
    }

    /// Receives the next item if it is in memory. Items that are still on disk are `Empty`, and on their way.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when nothing is ready.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.receiving().poll(None) {
            Poll::Ready(result) => Ok(result?),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// Receives the next item; waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] when nothing came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let mut receiving = self.receiving();
        let deadline = sync::now().checked_add(timeout);
        match block_until(deadline, |waker| receiving.poll(Some(waker))) {
            Some(result) => Ok(result?),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Appends at least one and at most `max` items to `into`; waits for the first. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); nothing was appended then.
    pub fn recv_many(&self, into: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        let mut receiving = self.receiving();
        block_until(None, |waker| receiving.poll_many(into, max, Some(waker)))
            .unwrap_or(Err(RecvError::Halted))
    }

    /// Appends at most `max` of the items that are in memory to `into`. Returns how many, at least one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when nothing is ready.
    pub fn try_recv_many(&self, into: &mut Vec<T>, max: usize) -> Result<usize, TryRecvError> {
        match self.receiving().poll_many(into, max, None) {
            Poll::Ready(result) => Ok(result?),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// Receives the next item; the future waits for one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: an item is taken only when the future returns it.
    pub async fn recv_async(&self) -> Result<T, RecvError> {
        let mut receiving = self.receiving();
        poll_fn(|cx| receiving.poll(Some(cx.waker()))).await
    }

    /// Appends at least one and at most `max` items to `into`; the future waits for the first.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); nothing was appended then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: items are appended only in the poll that finishes it.
    pub async fn recv_many_async(&self, into: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        let mut receiving = self.receiving();
        poll_fn(|cx| receiving.poll_many(into, max, Some(cx.waker()))).await
    }

    /// The items as they come; ends when [`recv`](Self::recv) would fail.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The items that are ready now; never waits.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// The items as a stream: owned, fused, and it can be moved while it is polled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use overspill::DiskBufferedChannel;
    /// use futures::StreamExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let (tx, rx, _control) = DiskBufferedChannel::<u32>::open(dir.path().join("spool"))?.split();
    /// tx.send_all(&mut (0..3))?;
    /// drop(tx);
    /// assert_eq!(rx.stream().collect::<Vec<_>>().await, [0, 1, 2]);
    /// # Ok(()) }
    /// ```
    pub fn stream(&self) -> RecvStream<T> {
        RecvStream::new(self.clone())
    }
}

both_ends!(Receiver);

/// Iterates over received items, waiting for each. Made by [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Iterates over the items that are ready. Made by [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Iterates over received items, waiting for each; owns the receiver. Made by `Receiver::into_iter`.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}
impl<T> FusedIterator for IntoIter<T> {}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
