//! yaque: "you may save on OS overhead when you send items [in batches], since only one disk operation is made".
//! It is agnostic of runtimes, so each end waits on its own thread. It never syncs.

use crate::ends::{BATCH, Rx, Tx, batch};
use crate::item::Bytes;
use futures::executor::block_on;
use std::path::Path;

pub(crate) fn open(dir: &Path) -> (yaque::Sender, yaque::Receiver) {
    yaque::channel(dir).expect("a directory")
}

impl Tx<Bytes> for yaque::Sender {
    fn send(&mut self, item: Bytes) {
        block_on(yaque::Sender::send(self, item)).expect("a disk");
    }

    fn send_all(&mut self, mut items: impl Iterator<Item = Bytes>) {
        while let Some(items) = batch(&mut items) {
            block_on(self.send_batch(items)).expect("a disk");
        }
    }
}

impl Rx<Bytes> for yaque::Receiver {
    fn recv(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let item = block_on(yaque::Receiver::recv(self)).expect("a disk");
        see(&item);
        item.commit().expect("a disk");
        1
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let items = block_on(self.recv_batch_up_to(BATCH)).expect("a disk");
        let count = items.len() as u64;
        items.iter().for_each(see);
        items.commit().expect("a disk");
        count
    }
}
