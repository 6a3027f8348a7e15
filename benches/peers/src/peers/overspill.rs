//! Ours: each store and level with its defaults.

use crate::ends::{AsyncRx, AsyncTx, BATCH, Rx, Tx};
use crate::item::Item;
use overspill::{AckReceiver, Control, DiskBufferedChannel, Durability, Receiver, Sender, Storage};
use std::path::Path;
use std::time::Duration;

const BATCH_BYTES: u64 = 16 << 20;
const ROOMY: usize = 65_536;

pub(crate) struct OurTx<T> {
    tx: Sender<T>,
    control: Control<T>,
}

pub(crate) struct OurRx<T> {
    rx: Receiver<T>,
    control: Control<T>,
    got: Vec<T>,
}

pub(crate) struct OurAckRx<T> {
    rx: AckReceiver<T>,
    control: Control<T>,
}

impl<T> Clone for OurTx<T> {
    fn clone(&self) -> Self {
        Self {
            tx: self.tx.clone(),
            control: self.control.clone(),
        }
    }
}

impl<T> Clone for OurRx<T> {
    fn clone(&self) -> Self {
        Self {
            rx: self.rx.clone(),
            control: self.control.clone(),
            got: Vec::new(),
        }
    }
}

fn open<T: Item>(dir: &Path, storage: Storage, durability: Durability) -> DiskBufferedChannel<T> {
    DiskBufferedChannel::builder(dir)
        .storage(storage)
        .durability(durability)
        .open()
        .expect("a directory")
}

fn plain<T: Item>(channel: DiskBufferedChannel<T>) -> (OurTx<T>, OurRx<T>) {
    let (tx, rx, control) = channel.split();
    let ours = OurTx {
        tx,
        control: control.clone(),
    };
    let got = Vec::with_capacity(BATCH);
    (ours, OurRx { rx, control, got })
}

fn acking<T: Item>(channel: DiskBufferedChannel<T>) -> (OurTx<T>, OurAckRx<T>) {
    let rx = channel.acking_receiver();
    let (tx, _, control) = channel.split();
    let ours = OurTx {
        tx,
        control: control.clone(),
    };
    (ours, OurAckRx { rx, control })
}

pub(crate) fn log<T: Item>(dir: &Path) -> (OurTx<T>, OurRx<T>) {
    plain(open(dir, Storage::Log, Durability::Spill))
}

/// With more room in memory than a burst on a busy machine takes, so that nothing is written.
pub(crate) fn roomy<T: Item>(dir: &Path) -> (OurTx<T>, OurRx<T>) {
    let builder = DiskBufferedChannel::builder(dir).memory_items(ROOMY);
    plain(builder.storage(Storage::Log).open().expect("a directory"))
}

pub(crate) fn sled<T: Item>(dir: &Path) -> (OurTx<T>, OurRx<T>) {
    plain(open(dir, Storage::Sled, Durability::Spill))
}

pub(crate) fn log_process<T: Item>(dir: &Path) -> (OurTx<T>, OurRx<T>) {
    plain(open(dir, Storage::Log, Durability::Process))
}

pub(crate) fn log_sync<T: Item>(dir: &Path) -> (OurTx<T>, OurRx<T>) {
    plain(open(dir, Storage::Log, Durability::Sync))
}

pub(crate) fn log_acked<T: Item>(dir: &Path) -> (OurTx<T>, OurAckRx<T>) {
    acking(open(dir, Storage::Log, Durability::Spill))
}

pub(crate) fn sled_acked<T: Item>(dir: &Path) -> (OurTx<T>, OurAckRx<T>) {
    acking(open(dir, Storage::Sled, Durability::Spill))
}

pub(crate) fn log_process_acked<T: Item>(dir: &Path) -> (OurTx<T>, OurAckRx<T>) {
    acking(open(dir, Storage::Log, Durability::Process))
}

impl<T: Item> Tx<T> for OurTx<T> {
    fn send(&mut self, item: T) {
        assert!(self.tx.send(item).is_ok(), "room");
    }

    fn send_all(&mut self, mut items: impl Iterator<Item = T>) {
        assert!(self.tx.send_all(&mut items).is_ok(), "room");
    }

    fn finish(self) {
        assert!(self.control.halt().is_ok(), "a disk");
    }
}

impl<T: Item> Rx<T> for OurRx<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let item = self.rx.recv();
        item.iter().for_each(&mut *see);
        u64::from(item.is_ok())
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let count = self.rx.recv_many(&mut self.got, BATCH).unwrap_or(0);
        self.got.drain(..).for_each(|item| see(&item));
        count as u64
    }

    fn finish(self) {
        assert!(self.control.halt().is_ok(), "a disk");
    }
}

impl<T: Item> Rx<T> for OurAckRx<T> {
    fn recv(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let Ok(delivery) = self.rx.recv() else {
            return 0;
        };
        see(&delivery);
        delivery.ack().expect("no halt");
        1
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&T)) -> u64 {
        let Ok(batch) = self.rx.recv_batch(BATCH, BATCH_BYTES, Duration::ZERO) else {
            return 0;
        };
        let count = batch.len() as u64;
        batch.iter().for_each(see);
        batch.ack().expect("no halt");
        count
    }

    fn finish(self) {
        assert!(self.control.halt().is_ok(), "a disk");
    }
}

impl<T: Item> AsyncTx<T> for OurTx<T> {
    async fn send(&mut self, item: T) {
        assert!(self.tx.send_async(item).await.is_ok(), "room");
    }

    async fn send_all(&mut self, mut items: impl Iterator<Item = T> + Send) {
        assert!(self.tx.send_all_async(&mut items).await.is_ok(), "room");
    }
}

impl<T: Item> AsyncRx<T> for OurRx<T> {
    async fn recv(&mut self) -> Option<T> {
        self.rx.recv_async().await.ok()
    }

    async fn recv_many(&mut self, into: &mut Vec<T>) -> u64 {
        self.rx.recv_many_async(into, BATCH).await.unwrap_or(0) as u64
    }
}
