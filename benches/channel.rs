//! How long the ways of an item take: through memory, through the disk, and to open what waits there.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use criterion::{BatchSize, Bencher, Criterion, Throughput, criterion_group, criterion_main};
use overspill::DiskBufferedChannel;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::Duration;

const LIVE_ITEMS: u64 = 100_000;
const BACKLOG_BYTES: usize = 16 << 20;

/// Memory only: sent and received in turns that fit into the front.
fn live(c: &mut Criterion) {
    let mut group = c.benchmark_group("live");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(LIVE_ITEMS));
    group.bench_function("u64 in batches between threads", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        b.iter(|| {
            thread::scope(|scope| {
                scope.spawn(|| tx.send_all(&mut (0..LIVE_ITEMS)).unwrap());
                let (mut got, mut items) = (0, Vec::new());
                while got < LIVE_ITEMS {
                    items.clear();
                    got += rx.recv_many(&mut items, 256).unwrap() as u64;
                }
            });
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    group.bench_function("u64 async in turns", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        b.iter(|| {
            runtime.block_on(async {
                for _ in 0..LIVE_ITEMS / 1000 {
                    for n in 0..1000 {
                        tx.send_async(n).await.unwrap();
                    }
                    for _ in 0..1000 {
                        black_box(rx.recv_async().await.unwrap());
                    }
                }
            });
        });
    });
    group.finish();
}

/// What it costs to acknowledge, in memory: compare with `live`.
fn acknowledged(c: &mut Criterion) {
    let mut group = c.benchmark_group("acknowledged");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(LIVE_ITEMS));
    group.bench_function("u64 in turns, plain", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        in_turns(b, |n| tx.send(n).unwrap(), || rx.recv().unwrap());
    });
    group.bench_function("u64 in turns", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        in_turns(
            b,
            |n| tx.send(n).unwrap(),
            || rx.recv().unwrap().ack_and_take(),
        );
    });
    group.bench_function("256 bytes in turns, plain", |b| {
        let channel = DiskBufferedChannel::<Vec<u8>>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        in_turns(b, |_| tx.send(vec![7; 256]).unwrap(), || rx.recv().unwrap());
    });
    group.bench_function("256 bytes in turns", |b| {
        let channel = DiskBufferedChannel::<Vec<u8>>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        in_turns(
            b,
            |_| tx.send(vec![7; 256]).unwrap(),
            || rx.recv().unwrap().ack_and_take(),
        );
    });
    group.bench_function("u64 between threads, plain", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.receiver());
        b.iter(|| {
            thread::scope(|scope| {
                scope.spawn(|| (0..LIVE_ITEMS).for_each(|n| tx.send(n).unwrap()));
                (0..LIVE_ITEMS).for_each(|_| {
                    black_box(rx.recv().unwrap());
                });
            });
        });
    });
    group.bench_function("u64 between threads", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        b.iter(|| {
            thread::scope(|scope| {
                scope.spawn(|| (0..LIVE_ITEMS).for_each(|n| tx.send(n).unwrap()));
                (0..LIVE_ITEMS).for_each(|_| {
                    black_box(rx.recv().unwrap().ack_and_take());
                });
            });
        });
    });
    group.bench_function("u64 in batches between threads", |b| {
        let channel = DiskBufferedChannel::<u64>::temporary().unwrap();
        let (tx, rx) = (channel.sender(), channel.acking_receiver());
        b.iter(|| {
            thread::scope(|scope| {
                scope.spawn(|| tx.send_all(&mut (0..LIVE_ITEMS)).unwrap());
                let mut got = 0;
                while got < LIVE_ITEMS {
                    let batch = rx.recv_batch(256, u64::MAX, Duration::ZERO).unwrap();
                    got += batch.len() as u64;
                    batch.ack().unwrap();
                }
            });
        });
    });
    group.finish();
}

/// Items in and out by the thousand, on one thread.
fn in_turns<R>(b: &mut Bencher<'_>, mut send: impl FnMut(u64), mut recv: impl FnMut() -> R) {
    b.iter(|| {
        for turn in 0..LIVE_ITEMS / 1000 {
            (0..1000).for_each(|n| send(turn + n));
            (0..1000).for_each(|_| {
                black_box(recv());
            });
        }
    });
}

fn fill(dir: &Path, item_bytes: usize, total: usize) {
    let channel = DiskBufferedChannel::<Vec<u8>>::open(dir).unwrap();
    let tx = channel.sender();
    tx.send_all(&mut (0..total / item_bytes).map(|_| vec![7; item_bytes]))
        .unwrap();
    channel.halt().unwrap();
}

fn drain(dir: &Path) -> usize {
    let channel = DiskBufferedChannel::<Vec<u8>>::open(dir).unwrap();
    channel.close();
    let (rx, mut items, mut count) = (channel.receiver(), Vec::new(), 0);
    while let Ok(more) = rx.recv_many(&mut items, 256) {
        count += more;
        items.clear();
    }
    channel.halt().unwrap();
    count
}

/// Everything through the disk: written and halted, then opened and read.
fn backlog(c: &mut Criterion) {
    for item_bytes in [256, 1024] {
        let mut group = c.benchmark_group(format!("backlog of {item_bytes}-byte items"));
        group.sample_size(10);
        group.throughput(Throughput::Elements((BACKLOG_BYTES / item_bytes) as u64));
        group.bench_function("write", |b| {
            b.iter_batched(
                || tempfile::tempdir().unwrap(),
                |dir| {
                    fill(&dir.path().join("spool"), item_bytes, BACKLOG_BYTES);
                    dir
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("read", |b| {
            b.iter_batched(
                || {
                    let dir = tempfile::tempdir().unwrap();
                    fill(&dir.path().join("spool"), item_bytes, BACKLOG_BYTES);
                    dir
                },
                |dir| {
                    assert_eq!(drain(&dir.path().join("spool")), BACKLOG_BYTES / item_bytes);
                    dir
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

/// Opening what waits on disk, and letting it go again.
fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open and halt");
    group.sample_size(10);
    for (name, bytes) in [("empty", 0), ("1 GiB behind", 1 << 30)] {
        let dir = tempfile::tempdir().unwrap();
        fill(&dir.path().join("spool"), 1024, bytes);
        group.bench_function(name, |b| {
            b.iter(|| {
                let dir = dir.path().join("spool");
                DiskBufferedChannel::<Vec<u8>>::open(dir)
                    .unwrap()
                    .halt()
                    .unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, live, acknowledged, backlog, open);
criterion_main!(benches);
