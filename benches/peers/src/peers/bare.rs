//! The floor: the same bytes written and read by a program that does nothing else.

use crate::item::{Bytes, Item};
use crate::job::{Job, Outcome};
use crate::meter::Meter;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

const CHUNK_BYTES: usize = 1 << 20;

fn path(job: &Job) -> PathBuf {
    std::fs::create_dir_all(&job.dir).expect("a directory");
    job.dir.join("bytes")
}

fn write_chunks(job: &Job) -> File {
    let chunk = vec![7; CHUNK_BYTES];
    let mut file = File::create(path(job)).expect("a file");
    let mut left = job.items * job.item_bytes as u64;
    while left > 0 {
        let now = usize::try_from(left)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        file.write_all(chunk.split_at(now).0).expect("a disk");
        left -= now as u64;
    }
    file
}

fn read_chunks(job: &Job) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut file = File::open(path(job)).expect("a file");
    while file.read(&mut chunk).expect("a disk") > 0 {}
}

/// 1 MiB at a time, and one sync.
pub(crate) fn write(job: &Job) -> Outcome {
    let meter = Meter::start();
    write_chunks(job).sync_data().expect("a disk");
    meter.stop(job, job.items)
}

/// 1 MiB at a time, out of the page cache as for everybody else.
pub(crate) fn read(job: &Job) -> Outcome {
    let meter = Meter::start();
    read_chunks(job);
    meter.stop(job, job.items)
}

/// All written, then all read, without a sync.
pub(crate) fn write_and_read(job: &Job) -> Outcome {
    let meter = Meter::start();
    write_chunks(job);
    read_chunks(job);
    meter.stop(job, job.items)
}

/// Each item appended and synced before the next.
pub(crate) fn append_and_sync(job: &Job, span: Duration) -> Outcome {
    let mut file = File::create(path(job)).expect("a file");
    let meter = Meter::start();
    let began = std::time::Instant::now();
    let mut items = 0;
    while began.elapsed() < span {
        let item = Bytes::make(items, job.item_bytes);
        file.write_all(&item).expect("a disk");
        file.sync_data().expect("a disk");
        items += 1;
    }
    meter.stop(job, items)
}
