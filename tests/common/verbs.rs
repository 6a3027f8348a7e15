//! The verbs of sending and receiving, each done on the channel and told to the model.

use super::machine::{MOMENT, Machine};
use super::ops::Disk;
use super::{FOR_EVER, Item, block_on, poll_and_drop};
use futures::{Sink, Stream};
use overspill::{RecvError, SendError, SendTimeoutError, TryRecvError, TrySendError, WhenFull};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

impl Machine {
    // ---- sending ----------------------------------------------------------------------------

    pub(super) fn send(&mut self, pick: u8) {
        if !self.setup.never_blocks() {
            return self.try_send(pick);
        }
        let item = self.item();
        let sent = self.sender(pick).send(item.clone());
        self.note_sent(&item, sent);
    }

    pub(super) fn try_send(&mut self, pick: u8) {
        let item = self.item();
        match self.sender(pick).try_send(item.clone()) {
            Ok(()) => self.note_accepted(item.id),
            Err(TrySendError::Full(back)) => assert_eq!(back, item),
            Err(TrySendError::Closed(back)) => self.note_sent(&item, Err(SendError::Closed(back))),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn send_timeout(&mut self, pick: u8) {
        let item = self.item();
        match self.sender(pick).send_timeout(item.clone(), MOMENT) {
            Ok(()) => self.note_accepted(item.id),
            Err(SendTimeoutError::Timeout(back)) => assert_eq!(back, item),
            Err(SendTimeoutError::Closed(back)) => {
                self.note_sent(&item, Err(SendError::Closed(back)));
            }
            Err(SendTimeoutError::Failed(error)) => self.note_sent(&item, Err(error)),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn send_all(&mut self, count: u8) {
        if !self.setup.never_blocks() {
            return self.send_all_async(count, 1);
        }
        let items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        let mut rest = items.clone().into_iter();
        let sent = self.sender(count).send_all(&mut rest);
        self.note_all(items, &rest, Some(sent));
    }

    pub(super) fn send_all_async(&mut self, count: u8, polls: u8) {
        let items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        let mut rest = items.clone().into_iter();
        let tx = self.sender(count);
        let sent = poll_and_drop(tx.send_all_async(&mut rest), usize::from(polls));
        self.note_all(items, &rest, sent);
    }

    /// What was taken from the iterator is in the channel, but for one item that came back.
    fn note_all(
        &mut self,
        mut items: Vec<Item>,
        rest: &std::vec::IntoIter<Item>,
        sent: Option<Result<usize, SendError<Item>>>,
    ) {
        items.truncate(items.len() - rest.len());
        let all = matches!(sent, Some(Ok(_)));
        if let Some(Err(error)) = sent {
            // The last one that was taken, or one before it that is larger than what is left.
            let index = match &error {
                SendError::Full(back) => items.iter().position(|item| item == back),
                _ => items.len().checked_sub(1),
            };
            let back = items.remove(index.expect("an item came back, so it was taken"));
            self.note_sent(&back, Err(error));
        } else if let Some(Ok(count)) = sent {
            assert_eq!((count, rest.len()), (items.len(), 0));
        }
        for item in &items {
            self.model.admit(item.id);
        }
        if all && !items.is_empty() && self.setup.confirms_by_ok() {
            self.model.confirm();
        }
    }

    pub(super) fn send_async(&mut self, polls: u8) {
        let item = self.item();
        let before = self.stats().accepted;
        let sent = poll_and_drop(
            self.sender(polls).send_async(item.clone()),
            usize::from(polls),
        );
        match sent {
            Some(sent) => self.note_sent(&item, sent),
            // Dropped: whether it had been admitted, only the channel knows.
            None if self.stats().accepted > before => self.model.admit(item.id),
            None => {}
        }
    }

    pub(super) fn sink(&mut self, count: u8) {
        let mut sink = self.sender(count).sink();
        let mut sink = Pin::new(&mut sink);
        let mut cx = Context::from_waker(Waker::noop());
        let mut took_any = false;
        for _ in 0..count {
            match sink.as_mut().poll_ready(&mut cx) {
                Poll::Ready(ready) => ready.expect("what is wrong shows in start_send"),
                Poll::Pending => return,
            }
            let item = self.item();
            match sink.as_mut().start_send(item.clone()) {
                Ok(()) => {
                    self.model.admit(item.id);
                    took_any = true;
                }
                refused => self.note_sent(&item, refused),
            }
        }
        if self.setup.never_blocks() && count.is_multiple_of(2) {
            block_on(poll_fn(|cx| sink.as_mut().poll_close(cx))).expect("the items are written");
            if took_any && self.setup.confirms_by_ok() {
                self.model.confirm();
            }
        } else {
            let _ = sink.as_mut().poll_flush(&mut cx);
        }
    }

    fn note_accepted(&mut self, id: u64) {
        self.model.admit(id);
        if self.setup.confirms_by_ok() {
            self.model.confirm();
        }
    }

    fn note_sent(&mut self, item: &Item, sent: Result<(), SendError<Item>>) {
        match sent {
            Ok(()) => {
                assert!(!self.now().closed, "a closed channel accepted {}", item.id);
                self.note_accepted(item.id);
            }
            Err(SendError::Closed(back)) => {
                assert!(self.now().closed);
                assert_eq!(back, *item);
            }
            Err(SendError::Full(back)) => {
                assert_eq!(self.setup.disk.policy(), WhenFull::Reject);
                assert_ne!(self.setup.disk, Disk::Roomy);
                assert_eq!(back, *item);
            }
            Err(error) => panic!("{error}"),
        }
    }

    // ---- receiving --------------------------------------------------------------------------

    /// Blocks only where something is sure to come.
    pub(super) fn recv(&mut self, pick: u8) {
        if !self.is_sure_to_come() {
            return self.try_recv(pick);
        }
        match self.receiver(pick).recv_timeout(FOR_EVER) {
            Ok(item) => self.receive(item),
            Err(error) => panic!("{error}: {:?}", self.stats()),
        }
    }

    /// Something waits that nothing takes away meanwhile, and no dead letter that finds no room stands before it.
    pub(super) fn is_sure_to_come(&self) -> bool {
        let is_free = self.model.doomed.is_empty();
        is_free && self.model.has_any() && self.setup.disk.policy() != WhenFull::DropOldest
    }

    /// An item came out, acknowledged at that.
    pub(super) fn receive(&mut self, item: Item) {
        self.note_gone();
        self.model.take(item.intact());
    }

    pub(super) fn try_recv(&mut self, pick: u8) {
        match self.receiver(pick).try_recv() {
            Ok(item) => self.receive(item),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Closed) => self.note_ended(&RecvError::Closed),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn recv_many(&mut self, max: u8) {
        if !self.is_sure_to_come() {
            return self.try_recv_many(max);
        }
        let mut items = Vec::new();
        let count = self.receiver(max).recv_many(&mut items, usize::from(max));
        assert_eq!(count, Ok(items.len()));
        self.note_many(items, max);
    }

    pub(super) fn try_recv_many(&mut self, max: u8) {
        let mut items = Vec::new();
        match self
            .receiver(max)
            .try_recv_many(&mut items, usize::from(max))
        {
            Ok(count) => assert_eq!(count, items.len()),
            Err(TryRecvError::Empty) => assert!(items.is_empty()),
            Err(TryRecvError::Closed) => self.note_ended(&RecvError::Closed),
            Err(error) => panic!("{error}"),
        }
        self.note_many(items, max);
    }

    fn note_many(&mut self, items: Vec<Item>, max: u8) {
        assert!(items.len() <= usize::from(max));
        for item in items {
            self.receive(item);
        }
    }

    pub(super) fn recv_async(&mut self, polls: u8) {
        match poll_and_drop(self.receiver(polls).recv_async(), usize::from(polls)) {
            Some(Ok(item)) => self.receive(item),
            Some(Err(error)) => self.note_ended(&error),
            None => {}
        }
    }

    pub(super) fn recv_many_async(&mut self, max: u8) {
        let mut items = Vec::new();
        let rx = self.receiver(max);
        match poll_and_drop(rx.recv_many_async(&mut items, usize::from(max)), 2) {
            Some(Ok(count)) => assert_eq!(count, items.len()),
            Some(Err(error)) => self.note_ended(&error),
            None => assert!(items.is_empty()),
        }
        self.note_many(items, max);
    }

    pub(super) fn poll_stream(&mut self) {
        let rx = self.receiver(0);
        let stream = self.now().stream.get_or_insert_with(|| rx.stream());
        match Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(item)) => self.receive(item),
            Poll::Ready(None) => self.note_ended(&RecvError::Closed),
            Poll::Pending => {}
        }
    }

    pub(super) fn note_ended(&mut self, error: &RecvError) {
        assert_eq!(*error, RecvError::Closed);
        assert!(self.now().closed, "only a closed channel ends");
        self.note_gone();
        self.model.end();
    }
}
