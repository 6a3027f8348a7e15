//! The receiving end.

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::Handle;
use crate::sender::both_ends;
use crate::stream::RecvStream;
use crate::sync;
use crate::take::Places;
use crate::verbs::{Receives, Receiving, verbs};
use crate::wait::{block_briefly, block_until};
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

impl<T> Receiver<T> {
    pub(crate) fn new(handle: Handle<T>) -> Self {
        Self { handle }
    }
}

impl<T> Receives<T> for Receiver<T> {
    type Item = T;

    fn pop(&self) -> Option<T> {
        self.handle.shared.state.pop()
    }

    fn poll_one(&self, places: &mut Places, waker: Option<&Waker>) -> Poll<Result<T, RecvError>> {
        self.handle.shared.poll_recv(places, waker)
    }

    fn poll_many(
        &self,
        into: &mut Vec<T>,
        max: usize,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>> {
        self.handle.shared.poll_recv_many(into, max, places, waker)
    }

    fn stay_awake(&self) -> bool {
        self.handle.shared.state.news().stay_awake()
    }

    fn leave(&self, places: &mut Places) {
        self.handle.shared.leave_recv(places);
    }
}

verbs!(Receiver, T, Iter, TryIter, IntoIter);

impl<T> Receiver<T> {
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
