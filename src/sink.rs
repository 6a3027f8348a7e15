//! A sender as a sink.

use crate::core::Shared;
use crate::error::SendError;
use crate::feed::{Batch, Grant, Places};
use crate::sender::Sender;
use crate::seq::Seq;
use crate::state::Writer;
use crate::wait::Ticket;
use futures_sink::Sink;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A [`Sender`] as a [`Sink`]: readiness reserves a place, `start_send` admits the item, flushing waits for its
/// durability, closing drops the sender.
///
/// Made by [`Sender::sink`].
///
/// # Cancel safety
///
/// An item is in the channel as soon as `start_send` returned `Ok`.
pub struct SendSink<T> {
    sender: Option<Sender<T>>,
    room: Ticket,
    confirmed: Ticket,
    places: Option<Places>,
    /// An item that was larger than its place.
    left: Option<Arc<Batch<T>>>,
    /// The last number whose durability was not awaited yet.
    unconfirmed: Option<Seq>,
}

impl<T> SendSink<T> {
    pub(crate) fn new(sender: Sender<T>) -> Self {
        Self {
            sender: Some(sender),
            room: Ticket::that_may_idle(),
            confirmed: Ticket::default(),
            places: None,
            left: None,
            unconfirmed: None,
        }
    }

    fn shared(&self) -> Option<Arc<Shared<T>>> {
        self.sender
            .as_ref()
            .map(|sender| Arc::clone(sender.shared()))
    }

    /// Waits until the item that was larger than its place has found another.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        while let (Some(shared), true) = (self.shared(), self.left.is_some()) {
            let (left, room) = (&mut self.left, &mut self.room);
            let last = ready!(shared.poll_left(left, Writer::Worker, room, cx.waker()))?;
            self.note_admitted(&shared, last);
        }
        Poll::Ready(Ok(()))
    }

    fn note_admitted(&mut self, shared: &Shared<T>, last: Option<Seq>) {
        if shared.settings.is_write_ahead() {
            self.unconfirmed = last.or(self.unconfirmed);
        }
    }

    fn leave(&mut self) {
        if let Some(shared) = self.shared() {
            let places = self.places.take();
            shared.admit_left(self.left.take());
            shared.enter(|state, wakes| {
                state.leave_senders(&mut self.room, wakes);
                state.confirm_waiters.leave(&mut self.confirmed, wakes);
                state.unreserve(places.map_or(0, |places| places.in_front), wakes);
            });
        }
    }
}

impl<T> Drop for SendSink<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> Unpin for SendSink<T> {}

impl<T> Sink<T> for SendSink<T> {
    type Error = SendError<T>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.places.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_left(cx))?;
        let Some(shared) = self.shared() else {
            return Poll::Ready(Ok(()));
        };
        match ready!(shared.poll_reserve(1, &mut self.room, cx.waker())) {
            Grant::Places(places) => self.places = Some(places),
            // `start_send` will say why.
            Grant::Refused => {}
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        let Some(shared) = self.shared() else {
            return Err(SendError::Closed(item));
        };
        // Who asked whether this is ready has nothing left.
        shared.admit_left(self.left.take());
        let admitted = match self.places.take() {
            Some(places) => shared.send_reserved(item, places)?,
            None => shared.send_refused(item)?,
        };
        self.left = admitted.left;
        self.note_admitted(&shared, admitted.last);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_left(cx))?;
        let (Some(shared), Some(seq)) = (self.shared(), self.unconfirmed) else {
            return Poll::Ready(Ok(()));
        };
        let outcome = ready!(shared.poll_confirm(seq, &mut self.confirmed, Some(cx.waker())));
        self.unconfirmed = None;
        Poll::Ready(outcome)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let flushed = ready!(self.as_mut().poll_flush(cx));
        self.leave();
        self.sender = None;
        Poll::Ready(flushed)
    }
}

impl<T> fmt::Debug for SendSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendSink")
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}
