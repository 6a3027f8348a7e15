//! The figures of the README in one run, each beside a bare program that does the same I/O:
//! `cargo bench --bench figures`, with `-- ITEMS PART` for another number than a million and one part alone: `memory`,
//! `backlog`, `lines`, `live`, `durable` or `open`. `OVERSPILL_BENCH_DIR` says where, `OVERSPILL_BENCH_GIB` how much `open` has behind.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]
#![allow(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "figures for humans"
)]

use overspill::{Compression, DiskBufferedChannel, Durability, Storage};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const ITEM_BYTES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 5;

type Channel = DiskBufferedChannel<Vec<u8>>;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let items = args
        .next()
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let only = args.next();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let root = tempfile::tempdir_in(std::env::var_os("OVERSPILL_BENCH_DIR").unwrap_or(".".into()))
        .unwrap();
    if wanted("memory") {
        memory(root.path(), items);
    }
    if wanted("backlog") {
        backlog(root.path(), items);
    }
    if wanted("lines") {
        lines(root.path(), items);
    }
    if wanted("live") {
        live(root.path(), items);
    }
    if wanted("durable") {
        durable(root.path());
    }
    if wanted("open") {
        open(root.path());
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn item() -> Vec<u8> {
    vec![7; ITEM_BYTES]
}

fn open_log(dir: &Path, durability: Durability) -> Channel {
    Channel::builder(dir)
        .storage(Storage::Log)
        .durability(durability)
        .open()
        .unwrap()
}

fn fresh(root: &Path) -> std::path::PathBuf {
    let dir = root.join("work");
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// As many bytes as the items have, in 1 MiB writes and one sync.
fn bare_write(path: &Path, bytes: usize) {
    let chunk = vec![7; CHUNK_BYTES];
    let mut file = File::create(path).unwrap();
    for _ in 0..bytes / CHUNK_BYTES {
        file.write_all(&chunk).unwrap();
    }
    file.sync_data().unwrap();
}

fn bare_read(path: &Path) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut file = File::open(path).unwrap();
    while file.read(&mut chunk).unwrap() > 0 {}
}

fn write_all(dir: &Path, storage: Storage, items: usize) {
    let channel = Channel::builder(dir).storage(storage).open().unwrap();
    channel
        .sender()
        .send_all(&mut (0..items).map(|_| item()))
        .unwrap();
    channel.halt().unwrap();
}

fn read_all(dir: &Path, storage: Storage, items: usize) {
    let channel = Channel::builder(dir).storage(storage).open().unwrap();
    channel.close();
    let (rx, mut got, mut count) = (channel.receiver(), Vec::new(), 0);
    while let Ok(more) = rx.recv_many(&mut got, 1024) {
        count += more;
        got.clear();
    }
    assert_eq!(count, items);
    channel.halt().unwrap();
}

fn backlog(root: &Path, items: usize) {
    let bytes = items * ITEM_BYTES;
    let mut figures = vec![Vec::new(); 6];
    for _ in 0..ROUNDS {
        let file = root.join("bare");
        figures[0].push(seconds(|| bare_write(&file, bytes)));
        figures[1].push(seconds(|| bare_read(&file)));
        fs::remove_file(&file).unwrap();
        for (at, storage) in [(2, Storage::Log), (4, Storage::Sled)] {
            let dir = fresh(root);
            figures[at].push(seconds(|| write_all(&dir, storage, items)));
            figures[at + 1].push(seconds(|| read_all(&dir, storage, items)));
        }
    }
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    println!("backlog of {items} items of {ITEM_BYTES} bytes, medians of {ROUNDS} rounds");
    for (name, write, read) in [("bare", 0, 1), ("log", 2, 3), ("sled", 4, 5)] {
        println!(
            "  {name:5} write {:6.2} M/s ({:3.0} % of bare)   read {:6.2} M/s",
            items as f64 / medians[write] / 1e6,
            100.0 * medians[0] / medians[write],
            items as f64 / medians[read] / 1e6,
        );
    }
}

/// As many lines of a log as fit in no cache: every field of them moves, as it does in a real one.
fn some_lines() -> Vec<Vec<u8>> {
    let mut random = 1_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 16
    };
    let line = |n: u64| {
        let text = format!(
            "2026-11-21T{:02}:{:02}:{:02}.{:03}Z INFO web-{:02} http: request={:012x} client=10.{}.{}.{} method=GET \
             path=/api/v2/orders/{} status={} bytes={} took_ms={} agent=\"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\" ",
            n / 3600 % 24,
            n / 60 % 60,
            n % 60,
            next() % 1000,
            next() % 16,
            next(),
            next() % 256,
            next() % 256,
            next() % 256,
            next() % 1_000_000,
            [200, 200, 200, 304, 404, 500][usize::try_from(next() % 6).unwrap()],
            next() % 100_000,
            next() % 2000,
        );
        let mut line = text.into_bytes();
        line.resize(ITEM_BYTES, b'.');
        line
    };
    (0..1 << 15).map(line).collect()
}

/// Lines of a log, compressed and not.
fn lines(root: &Path, items: usize) {
    let some = some_lines();
    println!("{items} lines of a log, {ITEM_BYTES} bytes each, medians of {ROUNDS} rounds");
    for storage in [Storage::Log, Storage::Sled] {
        for compression in [Compression::None, Compression::Lz4] {
            let (mut writes, mut reads) = (Vec::new(), Vec::new());
            let (mut bytes, mut ratio) = (0, None);
            for _ in 0..ROUNDS {
                let dir = fresh(root);
                writes.push(seconds(|| {
                    let builder = Channel::builder(&dir).storage(storage);
                    let channel = builder.compression(compression).open().unwrap();
                    let mut items = (0..items).map(|n| some[n % some.len()].clone());
                    channel.sender().send_all(&mut items).unwrap();
                    channel.halt().unwrap();
                    ratio = channel.stats().compression_ratio();
                }));
                bytes = bytes_of(&dir);
                reads.push(seconds(|| read_all(&dir, storage, items)));
            }
            println!(
                "  {:4} {:4} write {:5.2} M/s   read {:5.2} M/s   {:4} MB on disk, ratio {:.2}",
                format!("{storage:?}"),
                format!("{compression:?}"),
                items as f64 / median(writes) / 1e6,
                items as f64 / median(reads) / 1e6,
                bytes / 1_000_000,
                ratio.unwrap(),
            );
        }
    }
}

/// First of all, while nothing else has used memory.
fn memory(root: &Path, items: usize) {
    println!("peak resident memory: {} to begin with", peak_memory());
    let dir = fresh(root);
    write_all(&dir, Storage::Log, items);
    read_all(&dir, Storage::Log, items);
    println!("  {} with {items} items through the log", peak_memory());
    println!("  {} bytes on disk after it", bytes_of(&dir));
}

fn bytes_of(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            dir if dir.is_dir() => bytes_of(&entry.path()),
            file => file.len(),
        })
        .sum()
}

/// Producer and consumer at once.
fn live(root: &Path, items: usize) {
    println!("live, {items} items of {ITEM_BYTES} bytes, one producer, one consumer");
    for durability in [Durability::Spill, Durability::Process] {
        let name = format!("{durability:?}");
        for batch in [1, 256] {
            let mut figures = Vec::new();
            for _ in 0..ROUNDS {
                let channel = open_log(&fresh(root), durability.clone());
                figures.push(seconds(|| move_through(&channel, items, batch)));
                channel.halt().unwrap();
            }
            println!(
                "  {name:8} {} {:6.2} M/s",
                if batch == 1 {
                    "one by one"
                } else {
                    "in batches"
                },
                items as f64 / median(figures) / 1e6
            );
        }
    }
}

fn move_through(channel: &Channel, items: usize, batch: usize) {
    let (tx, rx) = (channel.sender(), channel.receiver());
    thread::scope(|scope| {
        scope.spawn(move || {
            if batch == 1 {
                (0..items).for_each(|_| tx.send(item()).unwrap());
            } else {
                tx.send_all(&mut (0..items).map(|_| item())).unwrap();
            }
        });
        let (mut got, mut count) = (Vec::new(), 0);
        while count < items {
            if batch == 1 {
                rx.recv().unwrap();
                count += 1;
            } else {
                count += rx.recv_many(&mut got, batch).unwrap();
                got.clear();
            }
        }
    });
}

/// Each item on the device before the next, from one or more senders.
fn durable(root: &Path) {
    const SPAN: Duration = Duration::from_secs(1);
    let mut floor = Vec::new();
    let mut rates = vec![Vec::new(); 3];
    for _ in 0..ROUNDS {
        let mut file = File::create(root.join("bare")).unwrap();
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < SPAN {
            file.write_all(&item()).unwrap();
            file.sync_data().unwrap();
            count += 1;
        }
        floor.push(f64::from(count) / began.elapsed().as_secs_f64());
        for (at, senders) in [1, 8, 64].into_iter().enumerate() {
            rates[at].push(durable_rate(&fresh(root), senders, SPAN));
        }
    }
    let floor = median(floor);
    println!("durable, {ITEM_BYTES} bytes, medians of {ROUNDS} rounds");
    println!("  bare append and fdatasync {floor:8.0}/s");
    for (senders, rates) in [1, 8, 64].into_iter().zip(rates) {
        let rate = median(rates);
        println!(
            "  {senders:2} senders {rate:8.0}/s ({:.2} of bare)",
            rate / floor
        );
    }
}

fn durable_rate(dir: &Path, senders: usize, span: Duration) -> f64 {
    let channel = open_log(dir, Durability::Sync);
    let rx = channel.receiver();
    let (began, mut count) = (Instant::now(), 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..senders)
            .map(|_| {
                let tx = channel.sender();
                scope.spawn(move || {
                    let mut sent = 0;
                    while began.elapsed() < span {
                        tx.send(item()).unwrap();
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        // Somebody takes what was sent now and then.
        while began.elapsed() < span {
            thread::sleep(Duration::from_millis(20));
            let mut got = Vec::new();
            while rx.try_recv_many(&mut got, 4096).is_ok() {
                got.clear();
            }
        }
        for worker in workers {
            count += worker.join().unwrap();
        }
    });
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    channel.halt().unwrap();
    rate
}

/// Opening costs the same whatever waits.
fn open(root: &Path) {
    let gibibytes = std::env::var("OVERSPILL_BENCH_GIB").map_or(1, |gib| gib.parse().unwrap());
    for mebibytes in [1, gibibytes << 10] {
        let dir = fresh(root);
        write_all(&dir, Storage::Log, (mebibytes << 20) / ITEM_BYTES);
        let mut figures = Vec::new();
        for _ in 0..ROUNDS {
            let mut channel = None;
            figures.push(seconds(|| {
                channel = Some(open_log(&dir, Durability::Spill));
            }));
            channel.unwrap().halt().unwrap();
        }
        println!(
            "open with {mebibytes} MiB behind: {:.2} ms",
            median(figures) * 1e3
        );
    }
}

fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .map_or_else(|| "unknown".to_owned(), |size| size.trim().to_owned())
}
