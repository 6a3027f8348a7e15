//! Channels in memory, between threads. All have room for as many items as `overspill` has in memory by default.

use crate::ends::{BATCH, Rx, Tx};

/// crossbeam-channel: `bounded`, whose array is allocated once; it has no batches.
pub(crate) fn crossbeam<T>() -> (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>) {
    crossbeam_channel::bounded(BATCH)
}

impl<T: Send + 'static> Tx<T> for crossbeam_channel::Sender<T> {
    fn send(&mut self, item: T) {
        assert!(
            crossbeam_channel::Sender::send(self, item).is_ok(),
            "a receiver"
        );
    }
}

impl<T: Send + 'static> Rx<T> for crossbeam_channel::Receiver<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = crossbeam_channel::Receiver::recv(self);
        item.iter().for_each(&mut *see);
        u64::from(item.is_ok())
    }
}

/// flume: `bounded`; `drain` takes all that is there under one lock, after `recv` has waited for the first.
pub(crate) fn flume<T>() -> (flume::Sender<T>, flume::Receiver<T>) {
    flume::bounded(BATCH)
}

impl<T: Send + 'static> Tx<T> for flume::Sender<T> {
    fn send(&mut self, item: T) {
        assert!(flume::Sender::send(self, item).is_ok(), "a receiver");
    }
}

impl<T: Send + 'static> Rx<T> for flume::Receiver<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = flume::Receiver::recv(self);
        item.iter().for_each(&mut *see);
        u64::from(item.is_ok())
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let first = Rx::recv(self, see);
        let more = self.drain();
        first + more.inspect(|item| see(item)).count() as u64
    }
}

/// kanal: `bounded`; `drain_into` a kept vector, and `recv` when it found nothing, as in its example.
pub(crate) fn kanal<T>() -> (kanal::Sender<T>, Kanal<T>) {
    let (tx, rx) = kanal::bounded(BATCH);
    let got = Vec::with_capacity(BATCH);
    (tx, Kanal { rx, got })
}

pub(crate) struct Kanal<T> {
    rx: kanal::Receiver<T>,
    got: Vec<T>,
}

impl<T> Clone for Kanal<T> {
    fn clone(&self) -> Self {
        Self {
            rx: self.rx.clone(),
            got: Vec::with_capacity(BATCH),
        }
    }
}

impl<T: Send + 'static> Tx<T> for kanal::Sender<T> {
    fn send(&mut self, item: T) {
        kanal::Sender::send(self, item).expect("a receiver");
    }
}

impl<T: Send + 'static> Rx<T> for Kanal<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = self.rx.recv();
        item.iter().for_each(&mut *see);
        u64::from(item.is_ok())
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        match self.rx.drain_into(&mut self.got) {
            Ok(0) => Rx::recv(self, see),
            Ok(count) => {
                self.got.drain(..).for_each(|item| see(&item));
                count as u64
            }
            Err(_) => 0,
        }
    }
}

/// tokio's `mpsc` outside a runtime: the blocking verbs, and `blocking_recv_many` into a kept vector.
pub(crate) fn tokio<T>() -> (tokio::sync::mpsc::Sender<T>, Tokio<T>) {
    let (tx, rx) = tokio::sync::mpsc::channel(BATCH);
    let got = Vec::with_capacity(BATCH);
    (tx, Tokio { rx, got })
}

pub(crate) struct Tokio<T> {
    rx: tokio::sync::mpsc::Receiver<T>,
    got: Vec<T>,
}

impl<T: Send + 'static> Tx<T> for tokio::sync::mpsc::Sender<T> {
    fn send(&mut self, item: T) {
        assert!(self.blocking_send(item).is_ok(), "a receiver");
    }
}

impl<T: Send + 'static> Rx<T> for Tokio<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = self.rx.blocking_recv();
        item.iter().for_each(&mut *see);
        u64::from(item.is_some())
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let count = self.rx.blocking_recv_many(&mut self.got, BATCH);
        self.got.drain(..).for_each(|item| see(&item));
        count as u64
    }
}

/// async-channel from threads: `send_blocking` and `recv_blocking`.
pub(crate) fn async_channel<T>() -> (async_channel::Sender<T>, async_channel::Receiver<T>) {
    async_channel::bounded(BATCH)
}

impl<T: Send + 'static> Tx<T> for async_channel::Sender<T> {
    fn send(&mut self, item: T) {
        assert!(self.send_blocking(item).is_ok(), "a receiver");
    }
}

impl<T: Send + 'static> Rx<T> for async_channel::Receiver<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = self.recv_blocking();
        item.iter().for_each(&mut *see);
        u64::from(item.is_ok())
    }
}
