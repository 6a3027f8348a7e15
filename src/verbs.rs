//! The verbs of a receiving end, once for items and for deliveries.

use crate::error::RecvError;
use crate::take::Places;
use std::task::{Poll, Waker};

/// So often a thread looks again before it takes its place among those who wait: what comes may always be for others.
const MOMENTS: usize = 4;

/// A receiving end, as a poll.
pub(crate) trait Receives<T> {
    /// What it gives.
    type Item;

    /// The next one, if it takes no more than a moment to see that there is one.
    fn pop(&self) -> Option<Self::Item>;

    /// The next one. Without a waker it doesn't wait.
    fn poll_one(
        &self,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<Self::Item, RecvError>>;

    /// At least one and at most `max`, appended to `into`; how many.
    fn poll_many(
        &self,
        into: &mut Vec<Self::Item>,
        max: usize,
        places: &mut Places,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>>;

    /// Stays awake for a moment; true when there may be something by now.
    fn stay_awake(&self) -> bool;

    /// Leaves the lists that it waits in.
    fn leave(&self, places: &mut Places);
}

/// A receive in progress: leaves the waiting lists however it ends.
pub(crate) struct Receiving<'a, T, R: Receives<T>> {
    receiver: &'a R,
    places: Places,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T, R: Receives<T>> Receiving<'a, T, R> {
    pub(crate) fn new(receiver: &'a R) -> Self {
        Self {
            receiver,
            places: Places::default(),
            item: std::marker::PhantomData,
        }
    }

    pub(crate) fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<R::Item, RecvError>> {
        self.receiver.poll_one(&mut self.places, waker)
    }

    /// Takes one that comes soon, without a place among those who wait.
    pub(crate) fn poll_briefly(&mut self) -> Poll<Result<R::Item, RecvError>> {
        for _ in 0..MOMENTS {
            let polled = self.poll(None);
            if polled.is_ready() || !self.receiver.stay_awake() {
                return polled;
            }
        }
        Poll::Pending
    }

    pub(crate) fn poll_many(
        &mut self,
        into: &mut Vec<R::Item>,
        max: usize,
        waker: Option<&Waker>,
    ) -> Poll<Result<usize, RecvError>> {
        if max == 0 {
            return Poll::Ready(Ok(0));
        }
        self.receiver.poll_many(into, max, &mut self.places, waker)
    }
}

impl<T, R: Receives<T>> Drop for Receiving<'_, T, R> {
    fn drop(&mut self) {
        self.receiver.leave(&mut self.places);
    }
}

macro_rules! verbs {
    ($name:ident, $item:ty, $iter:ident, $try_iter:ident, $into_iter:ident) => {
        impl<T> $name<T> {
            /// Receives the next item; waits for one.
            ///
            /// # Errors
            ///
            /// [`RecvError::Closed`] when the intake has ended and everything is finished, [`RecvError::Halted`] when the
            /// channel was halted and the rest is on disk.
            pub fn recv(&self) -> Result<$item, RecvError> {
                if let Some(item) = self.pop() {
                    return Ok(item);
                }
                let mut receiving = Receiving::new(self);
                match receiving.poll_briefly() {
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
            pub fn try_recv(&self) -> Result<$item, TryRecvError> {
                if let Some(item) = self.pop() {
                    return Ok(item);
                }
                match Receiving::new(self).poll(None) {
                    Poll::Ready(result) => Ok(result?),
                    Poll::Pending => Err(TryRecvError::Empty),
                }
            }

            /// Receives the next item; waits for at most `timeout`.
            ///
            /// # Errors
            ///
            /// [`RecvTimeoutError::Timeout`] when nothing came in time.
            pub fn recv_timeout(&self, timeout: Duration) -> Result<$item, RecvTimeoutError> {
                let mut receiving = Receiving::new(self);
                let deadline = sync::now().checked_add(timeout);
                match block_briefly(deadline, |waker| receiving.poll(Some(waker))) {
                    Some(result) => Ok(result?),
                    None => Err(RecvTimeoutError::Timeout),
                }
            }

            /// Appends at least one and at most `max` items to `into`; waits for the first. Returns how many.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv); nothing was appended then.
            pub fn recv_many(&self, into: &mut Vec<$item>, max: usize) -> Result<usize, RecvError> {
                let mut receiving = Receiving::new(self);
                block_briefly(None, |waker| receiving.poll_many(into, max, Some(waker)))
                    .unwrap_or(Err(RecvError::Halted))
            }

            /// Appends at most `max` of the items that are in memory to `into`. Returns how many, at least one.
            ///
            /// # Errors
            ///
            /// [`TryRecvError::Empty`] when nothing is ready.
            pub fn try_recv_many(
                &self,
                into: &mut Vec<$item>,
                max: usize,
            ) -> Result<usize, TryRecvError> {
                match Receiving::new(self).poll_many(into, max, None) {
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
            pub async fn recv_async(&self) -> Result<$item, RecvError> {
                if let Some(item) = self.pop() {
                    return Ok(item);
                }
                let mut receiving = Receiving::new(self);
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
            pub async fn recv_many_async(
                &self,
                into: &mut Vec<$item>,
                max: usize,
            ) -> Result<usize, RecvError> {
                let mut receiving = Receiving::new(self);
                poll_fn(|cx| receiving.poll_many(into, max, Some(cx.waker()))).await
            }

            /// The items as they come; ends when [`recv`](Self::recv) would fail.
            pub fn iter(&self) -> $iter<'_, T> {
                $iter { receiver: self }
            }

            /// The items that are ready now; never waits.
            pub fn try_iter(&self) -> $try_iter<'_, T> {
                $try_iter { receiver: self }
            }
        }

        #[doc = concat!("Iterates over what is received, waiting for each. Made by [`", stringify!($name), "::iter`].")]
        #[derive(Debug)]
        pub struct $iter<'a, T> {
            receiver: &'a $name<T>,
        }

        #[doc = concat!("Iterates over what is ready. Made by [`", stringify!($name), "::try_iter`].")]
        #[derive(Debug)]
        pub struct $try_iter<'a, T> {
            receiver: &'a $name<T>,
        }

        #[doc = concat!(
            "Iterates over what is received, waiting for each; owns the receiver. Made by `",
            stringify!($name),
            "::into_iter`."
        )]
        #[derive(Debug)]
        pub struct $into_iter<T> {
            receiver: $name<T>,
        }

        impl<T> Iterator for $iter<'_, T> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.receiver.recv().ok()
            }
        }

        impl<T> Iterator for $try_iter<'_, T> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.receiver.try_recv().ok()
            }
        }

        impl<T> Iterator for $into_iter<T> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.receiver.recv().ok()
            }
        }

        impl<T> FusedIterator for $iter<'_, T> {}
        impl<T> FusedIterator for $into_iter<T> {}

        impl<'a, T> IntoIterator for &'a $name<T> {
            type Item = $item;
            type IntoIter = $iter<'a, T>;

            fn into_iter(self) -> $iter<'a, T> {
                self.iter()
            }
        }

        impl<T> IntoIterator for $name<T> {
            type Item = $item;
            type IntoIter = $into_iter<T>;

            fn into_iter(self) -> $into_iter<T> {
                $into_iter { receiver: self }
            }
        }
    };
}
pub(crate) use verbs;
