//! hopper: `channel` with its defaults, 1 MiB of item slots in memory; where the question is the disk, only as many slots
//! as everybody else has. No batches. What was written since the receiver was last told of it needs a `flush` to be seen.

use crate::ends::{BATCH, Rx, Tx};
use crate::item::Bytes;
use serde_bytes::ByteBuf;
use std::path::Path;
use std::thread;

pub(crate) fn open(dir: &Path) -> (hopper::Sender<ByteBuf>, hopper::Receiver<ByteBuf>) {
    hopper::channel("queue", dir).expect("a directory")
}

/// Its `max_memory_bytes` counts the slots, not what they point to; the other two limits are its defaults.
pub(crate) fn open_small(dir: &Path) -> (hopper::Sender<ByteBuf>, hopper::Receiver<ByteBuf>) {
    let slots = BATCH * size_of::<ByteBuf>();
    hopper::channel_with_explicit_capacity("queue", dir, slots, 256 << 20, usize::MAX)
        .expect("a directory")
}

impl Tx<Bytes> for hopper::Sender<ByteBuf> {
    fn send(&mut self, item: Bytes) {
        let sent = hopper::Sender::send(self, ByteBuf::from(item));
        assert!(sent.is_ok(), "a disk");
    }

    fn flush(&mut self) {
        while hopper::Sender::flush(self).is_err() {
            thread::yield_now();
        }
    }
}

impl Rx<Bytes> for hopper::Receiver<ByteBuf> {
    fn recv(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let item = self.iter().next();
        if let Some(item) = &item {
            see(item);
        }
        u64::from(item.is_some())
    }
}
