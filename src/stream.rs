//! A receiving end as a stream.

use crate::ack_receiver::AckReceiver;
use crate::delivery::Delivery;
use crate::receiver::Receiver;
use crate::take::Places;
use crate::verbs::Receives;
use futures_core::stream::{FusedStream, Stream};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

macro_rules! stream {
    ($name:ident, $receiver:ident, $item:ty) => {
        #[doc = concat!("A [`", stringify!($receiver), "`] as a [`Stream`]. Ends where [`", stringify!($receiver), "::recv`] would fail.")]
        ///
        #[doc = concat!("Made by [`", stringify!($receiver), "::stream`].")]
        ///
        /// # Cancel safety
        ///
        /// Dropping the stream, or a future made of it, loses nothing: an item is taken only when a poll returns it.
        pub struct $name<T> {
            receiver: $receiver<T>,
            places: Places,
            ended: bool,
        }

        impl<T> $name<T> {
            pub(crate) fn new(receiver: $receiver<T>) -> Self {
                Self {
                    receiver,
                    places: Places::that_may_idle(),
                    ended: false,
                }
            }
        }

        impl<T> Unpin for $name<T> {}

        impl<T> Stream for $name<T> {
            type Item = $item;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<$item>> {
                if self.ended {
                    return Poll::Ready(None);
                }
                let this = &mut *self;
                let received = ready!(this.receiver.poll_one(&mut this.places, Some(cx.waker())));
                this.ended = received.is_err();
                Poll::Ready(received.ok())
            }
        }

        impl<T> FusedStream for $name<T> {
            fn is_terminated(&self) -> bool {
                self.ended
            }
        }

        impl<T> Drop for $name<T> {
            fn drop(&mut self) {
                self.receiver.leave(&mut self.places);
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("receiver", &self.receiver)
                    .field("ended", &self.ended)
                    .finish_non_exhaustive()
            }
        }
    };
}
stream!(RecvStream, Receiver, T);
stream!(DeliveryStream, AckReceiver, Delivery<T>);
