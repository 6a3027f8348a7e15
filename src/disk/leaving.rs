//! Large files on their way out.
//!
//! With the last name of a file go all its pages and blocks, which takes tens of milliseconds for a segment of the log, and
//! whoever reads the next one would wait. So the file is held open while its name goes, and a thread of its own lets go of
//! it. That the name is gone is known at once, as ever; where the process dies meanwhile, the system does the rest.

use super::{Disk, DiskFile, How};
use crate::sync::{self, JoinHandle};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// Smaller files go quickly.
const LARGE_BYTES: u64 = 8 << 20;
/// So many may be on their way at once: what is removed must not pile up unseen.
const FILES_MAX: usize = 2;

/// Files that have no name any more.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    threads: VecDeque<JoinHandle<()>>,
}

impl Leaving {
    /// Takes the name of a file of `len` bytes away. Its space has come back after [`settle`](Self::settle).
    pub(crate) fn remove(&mut self, disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
        let held = if len < LARGE_BYTES {
            None
        } else {
            // What can't be held goes at once.
            disk.open(path, How::Read).ok()
        };
        disk.remove_file(path)?;
        if let Some(file) = held {
            self.let_go(file);
        }
        Ok(())
    }

    fn let_go(&mut self, file: Box<dyn DiskFile>) {
        self.wait_for_all_but(FILES_MAX - 1);
        // Where there is no thread to be had, that alone lets go of the file.
        let thread = sync::spawn("overspill-free", move || drop(file));
        self.threads.extend(thread);
    }

    /// Returns when the space of everything removed has come back; false if it had already.
    pub(crate) fn settle(&mut self) -> bool {
        let waits = !self.threads.is_empty();
        self.wait_for_all_but(0);
        waits
    }

    fn wait_for_all_but(&mut self, count: usize) {
        while self.threads.len() > count
            && let Some(thread) = self.threads.pop_front()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk;
    use std::fs::File;

    #[test]
    fn names_go_at_once_and_files_are_let_go_of_a_few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut leaving = Leaving::default();
        for number in 0..5 {
            let path = dir.path().join(number.to_string());
            File::create(&path).unwrap().set_len(LARGE_BYTES).unwrap();
            leaving
                .remove(disk::real().as_ref(), &path, LARGE_BYTES)
                .unwrap();
            assert!(!path.exists());
            assert!((1..=FILES_MAX).contains(&leaving.threads.len()));
        }
        assert!(leaving.settle());
        assert!(!leaving.settle());
    }

    #[test]
    fn small_files_go_without_a_thread_and_what_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut leaving = Leaving::default();
        let path = dir.path().join("small");
        File::create(&path).unwrap();
        let disk = disk::real();
        leaving.remove(disk.as_ref(), &path, 0).unwrap();
        assert!(!path.exists() && leaving.threads.is_empty());
        for len in [0, LARGE_BYTES] {
            assert!(leaving.remove(disk.as_ref(), &path, len).is_err());
        }
        assert!(leaving.threads.is_empty());
    }
}
