//! Channels in memory, between tasks of a tokio runtime.

use crate::ends::{AsyncRx, AsyncTx, BATCH};

impl<T: Send + 'static> AsyncTx<T> for flume::Sender<T> {
    async fn send(&mut self, item: T) {
        assert!(self.send_async(item).await.is_ok(), "a receiver");
    }
}

impl<T: Send + 'static> AsyncRx<T> for flume::Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        self.recv_async().await.ok()
    }

    async fn recv_many(&mut self, into: &mut Vec<T>) -> u64 {
        let before = into.len();
        into.extend(self.recv_async().await);
        into.extend(self.drain());
        (into.len() - before) as u64
    }
}

pub(crate) fn kanal<T>() -> (kanal::AsyncSender<T>, kanal::AsyncReceiver<T>) {
    kanal::bounded_async(BATCH)
}

impl<T: Send + 'static> AsyncTx<T> for kanal::AsyncSender<T> {
    async fn send(&mut self, item: T) {
        kanal::AsyncSender::send(self, item)
            .await
            .expect("a receiver");
    }
}

impl<T: Send + 'static> AsyncRx<T> for kanal::AsyncReceiver<T> {
    async fn recv(&mut self) -> Option<T> {
        kanal::AsyncReceiver::recv(self).await.ok()
    }

    async fn recv_many(&mut self, into: &mut Vec<T>) -> u64 {
        match self.drain_into(into) {
            Ok(0) => {
                let item = kanal::AsyncReceiver::recv(self).await.ok();
                let count = u64::from(item.is_some());
                into.extend(item);
                count
            }
            Ok(count) => count as u64,
            Err(_) => 0,
        }
    }
}

pub(crate) fn tokio<T>() -> (tokio::sync::mpsc::Sender<T>, tokio::sync::mpsc::Receiver<T>) {
    tokio::sync::mpsc::channel(BATCH)
}

impl<T: Send + 'static> AsyncTx<T> for tokio::sync::mpsc::Sender<T> {
    async fn send(&mut self, item: T) {
        assert!(
            tokio::sync::mpsc::Sender::send(self, item).await.is_ok(),
            "a receiver"
        );
    }
}

impl<T: Send + 'static> AsyncRx<T> for tokio::sync::mpsc::Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        tokio::sync::mpsc::Receiver::recv(self).await
    }

    async fn recv_many(&mut self, into: &mut Vec<T>) -> u64 {
        tokio::sync::mpsc::Receiver::recv_many(self, into, BATCH).await as u64
    }
}

impl<T: Send + 'static> AsyncTx<T> for async_channel::Sender<T> {
    async fn send(&mut self, item: T) {
        assert!(
            async_channel::Sender::send(self, item).await.is_ok(),
            "a receiver"
        );
    }
}

impl<T: Send + 'static> AsyncRx<T> for async_channel::Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        async_channel::Receiver::recv(self).await.ok()
    }
}
