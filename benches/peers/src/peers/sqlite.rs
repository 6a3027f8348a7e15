//! `disk_backed_queue` (SQLite): "use batch operations for massive performance gains"; `Normal` for speed that survives a
//! crash of the process, `Full` where each item must be on the device. A receiver that finds nothing must ask again.

use crate::ends::{BATCH, Rx, Tx, batch};
use crate::item::Bytes;
use disk_backed_queue::{
    DiskBackedReceiver, DiskBackedSender, DurabilityLevel, disk_backed_channel_with_durability,
};
use serde_bytes::ByteBuf;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[derive(Clone)]
pub(crate) struct SqliteTx {
    tx: DiskBackedSender<ByteBuf>,
    runtime: Arc<Runtime>,
}

pub(crate) struct SqliteRx {
    rx: DiskBackedReceiver<ByteBuf>,
    runtime: Arc<Runtime>,
}

pub(crate) fn open(dir: &Path) -> (SqliteTx, SqliteRx) {
    open_at(dir, DurabilityLevel::Normal)
}

pub(crate) fn open_durable(dir: &Path) -> (SqliteTx, SqliteRx) {
    open_at(dir, DurabilityLevel::Full)
}

fn open_at(dir: &Path, level: DurabilityLevel) -> (SqliteTx, SqliteRx) {
    std::fs::create_dir_all(dir).expect("a directory");
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    let runtime = Arc::new(runtime.expect("threads"));
    let opening =
        disk_backed_channel_with_durability(dir.join("queue"), "items".to_owned(), None, level);
    let (tx, rx) = runtime.block_on(opening).expect("a database");
    let ours = SqliteTx {
        tx,
        runtime: Arc::clone(&runtime),
    };
    (ours, SqliteRx { rx, runtime })
}

impl Tx<Bytes> for SqliteTx {
    fn send(&mut self, item: Bytes) {
        self.tx
            .blocking_send(ByteBuf::from(item))
            .expect("a database");
    }

    fn send_all(&mut self, items: impl Iterator<Item = Bytes>) {
        let mut items = items.map(ByteBuf::from);
        while let Some(items) = batch(&mut items) {
            let sending = self.tx.send_batch(items);
            self.runtime.block_on(sending).expect("a database");
        }
    }
}

impl SqliteRx {
    fn receive(&mut self, most: usize) -> Vec<ByteBuf> {
        loop {
            let receiving = self.rx.recv_batch(most);
            let items = self.runtime.block_on(receiving).expect("a database");
            if !items.is_empty() {
                return items;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Rx<Bytes> for SqliteRx {
    fn recv(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        for item in &self.receive(1) {
            see(item);
        }
        1
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let items = self.receive(BATCH);
        for item in &items {
            see(item);
        }
        items.len() as u64
    }
}
