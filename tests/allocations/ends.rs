//! Both ends of a channel, used in every way that there is.

use futures::{SinkExt, StreamExt};
use overspill::{AckReceiver, Batch, DiskBufferedChannel, Receiver, Sender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::iter::repeat_n;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::vec::IntoIter;
use tokio::runtime::{self, Runtime};
use tokio::task;

/// As many are received at once, at most.
const BATCH: usize = 64;
/// As many are sent before the sender waits for the receiver. They fit into memory.
const TURN: usize = 100;
/// Longer than a turn can take.
const FOR_EVER: Duration = Duration::from_secs(60);

/// What travels: it carries its number.
pub(crate) trait Item: Serialize + DeserializeOwned + Send + 'static {
    const NAME: &'static str;
    /// Allocations that one of them is made of.
    const OWN: u64;

    fn new(number: u64) -> Self;
    fn number(&self) -> u64;
}

impl Item for u64 {
    const NAME: &'static str = "u64";
    const OWN: u64 = 0;

    fn new(number: u64) -> Self {
        number
    }

    fn number(&self) -> u64 {
        *self
    }
}

/// A line of a log, 256 bytes of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    number: u64,
    line: String,
}

impl Item for Record {
    const NAME: &'static str = "record";
    const OWN: u64 = 1;

    fn new(number: u64) -> Self {
        let line = repeat_n('x', 248).collect();
        Self { number, line }
    }

    fn number(&self) -> u64 {
        self.number
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbs {
    OneByOne,
    Batches,
    /// A `Sink` and a `Stream`.
    Adapters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    Threads,
    Tasks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    Plain,
    Acknowledged,
}

/// How a program uses the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) verbs: Verbs,
    pub(crate) world: World,
    pub(crate) receipt: Receipt,
}

impl Way {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let pairs = [
            (Verbs::OneByOne, World::Threads),
            (Verbs::OneByOne, World::Tasks),
            (Verbs::Batches, World::Threads),
            (Verbs::Batches, World::Tasks),
            (Verbs::Adapters, World::Tasks),
        ];
        pairs.into_iter().flat_map(|(verbs, world)| {
            [Receipt::Plain, Receipt::Acknowledged].map(|receipt| Self {
                verbs,
                world,
                receipt,
            })
        })
    }

    pub(crate) fn name(self) -> String {
        let verbs = match (self.verbs, self.world) {
            (Verbs::OneByOne, World::Threads) => "one by one",
            (Verbs::OneByOne, World::Tasks) => "one by one, async",
            (Verbs::Batches, World::Threads) => "batches",
            (Verbs::Batches, World::Tasks) => "batches, async",
            (Verbs::Adapters, _) => "sink and stream",
        };
        match self.receipt {
            Receipt::Plain => verbs.to_owned(),
            Receipt::Acknowledged => format!("{verbs}, acknowledged"),
        }
    }
}

/// A channel's ends. What they need themselves they have before anything is counted.
pub(crate) struct Ends<T> {
    pub(crate) channel: DiskBufferedChannel<T>,
    tx: Sender<T>,
    rx: Receiver<T>,
    acking: AckReceiver<T>,
    runtime: Runtime,
    /// Empty: what batches of items are received into.
    room: Mutex<Vec<T>>,
    made: AtomicU64,
    received: AtomicU64,
    batches: AtomicU64,
}

impl<T: Item> Ends<T> {
    pub(crate) fn new(channel: DiskBufferedChannel<T>) -> Self {
        Self {
            tx: channel.sender(),
            rx: channel.receiver(),
            acking: channel.acking_receiver(),
            channel,
            runtime: runtime::Builder::new_current_thread().build().unwrap(),
            room: Mutex::new(Vec::with_capacity(BATCH)),
            made: AtomicU64::new(0),
            received: AtomicU64::new(0),
            batches: AtomicU64::new(0),
        }
    }

    /// Batches of deliveries so far.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// The next items to be sent, all of them made.
    pub(crate) fn items(&self, count: u64) -> IntoIter<T> {
        let first = self.made.fetch_add(count, Ordering::Relaxed);
        let items: Vec<T> = (first..first + count).map(T::new).collect();
        items.into_iter()
    }

    // ---- sending ----------------------------------------------------------------------------

    pub(crate) fn send(&self, way: Way, mut items: impl Iterator<Item = T>) {
        match (way.world, way.verbs) {
            (World::Tasks, _) => self.runtime.block_on(self.send_async(way, items)),
            (World::Threads, Verbs::Batches) => {
                self.tx.send_all(&mut items).unwrap();
            }
            (World::Threads, _) => items.for_each(|item| self.tx.send(item).unwrap()),
        }
    }

    async fn send_async(&self, way: Way, mut items: impl Iterator<Item = T>) {
        match way.verbs {
            Verbs::OneByOne => {
                for item in items {
                    self.tx.send_async(item).await.unwrap();
                }
            }
            Verbs::Batches => {
                self.tx.send_all_async(&mut items).await.unwrap();
            }
            Verbs::Adapters => {
                let mut sink = self.tx.clone().sink();
                for item in items {
                    sink.send(item).await.unwrap();
                }
            }
        }
    }

    // ---- receiving --------------------------------------------------------------------------

    pub(crate) fn receive(&self, way: Way, count: u64) {
        if way.world == World::Tasks {
            return self.runtime.block_on(self.receive_async(way, count));
        }
        let mut room = self.room.lock().unwrap();
        let end = self.received() + count;
        while let Some(most) = self.left(end) {
            match (way.verbs, way.receipt) {
                (Verbs::Batches, Receipt::Plain) => {
                    self.rx.recv_many(&mut room, most).unwrap();
                    room.drain(..).for_each(|item| self.note(&item));
                }
                (Verbs::Batches, Receipt::Acknowledged) => {
                    let batch = self.acking.recv_batch(most, u64::MAX, Duration::ZERO);
                    self.acknowledge(batch.unwrap());
                }
                (_, Receipt::Plain) => self.note(&self.rx.recv().unwrap()),
                (_, Receipt::Acknowledged) => {
                    self.note(&self.acking.recv().unwrap().ack_and_take());
                }
            }
        }
    }

    async fn receive_async(&self, way: Way, count: u64) {
        let mut room = std::mem::take(&mut *self.room.lock().unwrap());
        let (mut items, mut deliveries) = (self.rx.stream(), self.acking.stream());
        let end = self.received() + count;
        while let Some(most) = self.left(end) {
            match (way.verbs, way.receipt) {
                (Verbs::OneByOne, Receipt::Plain) => {
                    self.note(&self.rx.recv_async().await.unwrap());
                }
                (Verbs::OneByOne, Receipt::Acknowledged) => {
                    self.note(&self.acking.recv_async().await.unwrap().ack_and_take());
                }
                (Verbs::Batches, Receipt::Plain) => {
                    self.rx.recv_many_async(&mut room, most).await.unwrap();
                    room.drain(..).for_each(|item| self.note(&item));
                }
                (Verbs::Batches, Receipt::Acknowledged) => {
                    let batch = self.acking.recv_batch_async(most, u64::MAX, Duration::ZERO);
                    self.acknowledge(batch.await.unwrap());
                }
                (Verbs::Adapters, Receipt::Plain) => self.note(&items.next().await.unwrap()),
                (Verbs::Adapters, Receipt::Acknowledged) => {
                    self.note(&deliveries.next().await.unwrap().ack_and_take());
                }
            }
        }
        *self.room.lock().unwrap() = room;
    }

    fn acknowledge(&self, batch: Batch<T>) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        batch.iter().for_each(|item| self.note(item));
        batch.ack().unwrap();
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How many to receive next.
    fn left(&self, end: u64) -> Option<usize> {
        let left = end - self.received();
        (left > 0).then(|| usize::try_from(left).map_or(BATCH, |left| left.min(BATCH)))
    }

    fn note(&self, item: &T) {
        let expected = self.received.fetch_add(1, Ordering::Relaxed);
        assert_eq!(item.number(), expected);
    }

    // ---- both -------------------------------------------------------------------------------

    /// Sends and receives in turns.
    pub(crate) fn in_turns(&self, way: Way, mut items: IntoIter<T>) {
        while items.len() > 0 {
            let count = TURN.min(items.len());
            self.send(way, items.by_ref().take(count));
            self.receive(way, count as u64);
        }
    }

    /// Sends and receives side by side; the receiver waits for each turn, and the sender until it has it.
    pub(crate) fn side_by_side(&self, way: Way, mut items: IntoIter<T>) {
        let count = items.len() as u64;
        let mut sent = self.received();
        match way.world {
            World::Threads => std::thread::scope(|scope| {
                scope.spawn(|| {
                    while items.len() > 0 {
                        sent += TURN.min(items.len()) as u64;
                        self.send(way, items.by_ref().take(TURN));
                        let began = Instant::now();
                        while self.received() < sent {
                            assert!(began.elapsed() < FOR_EVER, "nobody receives");
                            std::thread::yield_now();
                        }
                    }
                });
                self.receive(way, count);
            }),
            World::Tasks => {
                let sending = async {
                    while items.len() > 0 {
                        sent += TURN.min(items.len()) as u64;
                        self.send_async(way, items.by_ref().take(TURN)).await;
                        while self.received() < sent {
                            task::yield_now().await;
                        }
                    }
                };
                let both = async { tokio::join!(self.receive_async(way, count), sending) };
                self.runtime.block_on(both);
            }
        }
    }
}
