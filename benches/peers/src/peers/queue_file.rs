//! queue-file: one file that only one thread can use, so producer and consumer take turns. For speed without syncs: `add_n`
//! ("batches multiple additions into a single write"), iteration with `remove_n`, nothing overwritten on removal, the
//! header not written on each add, and `sync_all` at the end.

use crate::ends::{BATCH, Rx, Tx, batch};
use crate::item::Bytes;
use queue_file::QueueFile;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

#[derive(Clone)]
pub(crate) struct End(Rc<RefCell<QueueFile>>);

fn queue(dir: &Path) -> QueueFile {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut queue = QueueFile::open(dir.join("queue")).expect("a file");
    queue.set_overwrite_on_remove(false);
    queue
}

pub(crate) fn open(dir: &Path) -> (End, End) {
    let mut queue = queue(dir);
    queue.set_sync_writes(false);
    queue.set_skip_write_header_on_add(true);
    let end = End(Rc::new(RefCell::new(queue)));
    (end.clone(), end)
}

/// As it is by default: every `add` is on the device when it returns.
pub(crate) fn open_durable(dir: &Path) -> (End, End) {
    let end = End(Rc::new(RefCell::new(queue(dir))));
    (end.clone(), end)
}

impl Tx<Bytes> for End {
    fn send(&mut self, item: Bytes) {
        self.0.borrow_mut().add(&item).expect("a disk");
    }

    fn send_all(&mut self, mut items: impl Iterator<Item = Bytes>) {
        let mut queue = self.0.borrow_mut();
        while let Some(items) = batch(&mut items) {
            queue.add_n(items).expect("a disk");
        }
    }

    fn finish(self) {
        self.0.borrow_mut().sync_all().expect("a disk");
    }
}

impl Rx<Bytes> for End {
    fn recv(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let mut queue = self.0.borrow_mut();
        let Some(item) = queue.peek().expect("a disk") else {
            return 0;
        };
        see(&item);
        queue.remove().expect("a disk");
        1
    }

    fn recv_many(&mut self, see: &mut impl FnMut(&Bytes)) -> u64 {
        let mut queue = self.0.borrow_mut();
        let count = queue.iter().take(BATCH).inspect(|item| see(item)).count();
        queue.remove_n(count).expect("a disk");
        count as u64
    }

    fn finish(self) {
        self.0.borrow_mut().sync_all().expect("a disk");
    }
}
