//! A receiver as a stream.

use crate::receiver::Receiver;
use crate::wait::Ticket;
use futures_core::stream::{FusedStream, Stream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A [`Receiver`] as a [`Stream`]. Ends where [`Receiver::recv`] would fail.
///
/// Made by [`Receiver::stream`].
///
/// # Cancel safety
///
/// Dropping the stream, or a future made of it, loses nothing: an item is taken only when a poll returns it.
pub struct RecvStream<T> {
    receiver: Receiver<T>,
    ticket: Ticket,
    ended: bool,
}

impl<T> RecvStream<T> {
    pub(crate) fn new(receiver: Receiver<T>) -> Self {
        Self {
            receiver,
            ticket: Ticket::that_may_idle(),
            ended: false,
        }
    }
}

impl<T> Unpin for RecvStream<T> {}

impl<T> Stream for RecvStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let received = ready!(
            this.receiver
                .shared()
                .poll_recv(&mut this.ticket, Some(cx.waker()))
        );
        this.ended = received.is_err();
        Poll::Ready(received.ok())
    }
}

impl<T> FusedStream for RecvStream<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> Drop for RecvStream<T> {
    fn drop(&mut self) {
        self.receiver.shared().leave_recv(&mut self.ticket);
    }
}

impl<T> fmt::Debug for RecvStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream")
            .field("receiver", &self.receiver)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
