//! The two ends of a queue as the workloads use them. A peer implements what it has; the rest falls back to single verbs.

use std::pin::pin;

/// Items in one batch, wherever a peer has batches, and the room of channels in memory.
pub(crate) const BATCH: usize = 1024;

/// Puts items in.
pub(crate) trait Tx<T> {
    fn send(&mut self, item: T);

    /// All of them, with the peer's fastest verb.
    fn send_all(&mut self, items: impl Iterator<Item = T>) {
        items.for_each(|item| self.send(item));
    }

    /// After the last item: nothing stays behind in this end.
    fn flush(&mut self) {}

    /// After the last item, with no consumer: whatever it takes to leave them where a restart finds them.
    fn finish(self)
    where
        Self: Sized,
    {
    }
}

/// Takes items out. Zero says that no more will come.
pub(crate) trait Rx<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64;

    /// At least one, and as many as are there, with the peer's fastest verb.
    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        self.recv(see)
    }

    /// After the last item: whatever it takes for none to come again.
    fn finish(self)
    where
        Self: Sized,
    {
    }
}

/// Puts items in, from one task.
pub(crate) trait AsyncTx<T: Send>: Send + 'static {
    fn send(&mut self, item: T) -> impl Future<Output = ()> + Send;

    fn send_all(
        &mut self,
        items: impl Iterator<Item = T> + Send,
    ) -> impl Future<Output = ()> + Send {
        async move {
            for item in items {
                self.send(item).await;
            }
        }
    }
}

/// Takes items out, in one task.
pub(crate) trait AsyncRx<T: Send>: Send + 'static {
    fn recv(&mut self) -> impl Future<Output = Option<T>> + Send;

    fn recv_many(&mut self, into: &mut Vec<T>) -> impl Future<Output = u64> + Send {
        async {
            let item = pin!(self.recv()).await;
            let count = u64::from(item.is_some());
            into.extend(item);
            count
        }
    }
}

/// Whether items move one by one or in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Verb {
    One,
    Many,
}

impl Verb {
    pub(crate) fn send<T>(self, tx: &mut impl Tx<T>, mut items: impl Iterator<Item = T>) {
        match self {
            Verb::One => items.for_each(|item| tx.send(item)),
            Verb::Many => tx.send_all(&mut items),
        }
    }

    pub(crate) fn recv<T>(self, rx: &mut impl Rx<T>, see: &mut impl FnMut(&T)) -> u64 {
        match self {
            Verb::One => rx.recv(see),
            Verb::Many => rx.recv_many(see),
        }
    }
}

/// The next batch of an iterator, if there is any.
pub(crate) fn batch<T>(items: &mut impl Iterator<Item = T>) -> Option<Vec<T>> {
    let batch: Vec<T> = items.take(BATCH).collect();
    (!batch.is_empty()).then_some(batch)
}
