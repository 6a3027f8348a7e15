//! One database of the chain: blocks in, blocks out, and what is known about the last of them.

use super::engine::{Engine, Key, Logged};
use super::frame::{self, Part};
use super::guard::Fault;
use super::limits::value_bytes_max;
use super::mark::Mark;
use super::salvage::Salvage;
use crate::block::{Block, Header};
use crate::seq::Seq;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// sled's log, and beside it its settings and what speeds up the next open.
pub(super) const LOG_FILE: &str = "db";
pub(super) const SETTINGS_FILE: &str = "conf";
const SNAPSHOT_PREFIX: &str = "snap.";
const SNAPSHOT_UNFINISHED: &str = ".generating";

/// An unsynced tail can take synced data of the same database with it in a power cut. With no more
/// than this, and no more than one segment, it never did; with several segments unsynced, it did.
const UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// What a key and its framing add to a value in the log.
const VALUE_OVERHEAD: u64 = 32;
/// How often a value is written in a page that grows: three times and a little.
const REWRITES: u64 = 4;
/// What is reused before it is synced has to be synced the sooner: a power cut then tears older data.
const REUSE: u64 = 4;
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// An open database.
pub(super) struct Database {
    name: Seq,
    dir: PathBuf,
    engine: Option<Engine>,
    /// A handle of our own to sled's log, because sled's flush doesn't reach the device.
    log: File,
    value_bytes_max: usize,
    last: Option<Key>,
    end: Seq,
    /// How far the log is filled: its size at the last flush, and about what was inserted since.
    log_bytes: u64,
    /// The size that the log was given by opening it: whole segments, however little is in the last.
    opened_bytes: u64,
    unsynced_bytes: u64,
    unsynced_bytes_max: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sound,
    /// Its last block can't be read, so nothing may be put behind it.
    Closed,
    /// sled refused a write and refuses all others until it is opened again.
    Failed,
}

impl Database {
    /// Makes an empty database in the empty directory `dir`, synced and closed again.
    pub(super) fn create(dir: &Path, segment_bytes: usize) -> Result<(), Fault> {
        let engine = Engine::open(dir, segment_bytes)?;
        engine.flush()?;
        engine.close()?;
        for file in [LOG_FILE, SETTINGS_FILE] {
            // Some systems sync only what is open for writing.
            let file = OpenOptions::new().write(true).open(dir.join(file));
            file.map_err(Fault::io("open"))?
                .sync_all()
                .map_err(Fault::io("sync"))?;
        }
        Ok(())
    }

    /// Opens the database named `name` in `dir`, unless it isn't what it was when it was closed.
    pub(super) fn open(name: Seq, dir: &Path) -> Result<Self, Fault> {
        // sled would quietly begin an empty database where its files are gone.
        for file in [LOG_FILE, SETTINGS_FILE] {
            if !dir.join(file).try_exists().map_err(Fault::io("look for"))? {
                return Err(Fault::Damaged(format!("`{file}` is missing")));
            }
        }
        let Some(mark) = Mark::read(dir)? else {
            return Self::recover(name, dir);
        };
        mark.check(dir)?;
        Mark::remove(dir)?;
        Self::open_unchecked(name, dir)
    }

    /// Opens what a crash left. sled drops what stands behind a byte that it can't make sense of, and overwrites
    /// it. So everything that is intact before must be there after; otherwise the log is put back as it was.
    fn recover(name: Seq, dir: &Path) -> Result<Self, Fault> {
        let log = dir.join(LOG_FILE);
        let before = fs::read(&log).map_err(Fault::io("read"))?;
        let salvage = Salvage::open(dir).map_err(Fault::io("read"))?;
        let recovered = Self::open_unchecked(name, dir).and_then(|database| {
            let is_held = |first: &Seq| matches!(database.load(*first), Ok(Some(_)));
            match salvage.firsts().find(|first| !is_held(first)) {
                None => Ok(database),
                Some(first) => Err(Fault::Damaged(format!(
                    "sled has dropped the block at number {first}, which is intact"
                ))),
            }
        });
        if let Err(Fault::Damaged(_)) = &recovered {
            // As far as the disk has room for it: what is missing then is lost, and will be counted.
            let _ = restore(&log, &before);
        }
        recovered
    }

    fn open_unchecked(name: Seq, dir: &Path) -> Result<Self, Fault> {
        let segment_bytes = segment_bytes(dir)?;
        let log = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join(LOG_FILE))
            .map_err(Fault::io("open"))?;
        wait_unlocked(&log)?;
        // Left by a process that was killed while opening; sled takes it for a finished one.
        remove_snapshots(dir, |name| name.ends_with(SNAPSHOT_UNFINISHED))?;
        let engine = match Engine::open(dir, segment_bytes) {
            // A snapshot only saves time: without it sled reads its whole log.
            Err(Fault::Damaged(_)) => {
                wait_unlocked(&log)?;
                remove_snapshots(dir, |_| true)?;
                Engine::open(dir, segment_bytes)?
            }
            opened => opened?,
        };
        let mut database = Self {
            name,
            dir: dir.to_owned(),
            engine: Some(engine),
            log,
            value_bytes_max: value_bytes_max(segment_bytes),
            last: None,
            end: name,
            log_bytes: 0,
            opened_bytes: 0,
            unsynced_bytes: 0,
            unsynced_bytes_max: UNSYNCED_BYTES_MAX.min(segment_bytes as u64),
            state: State::Sound,
        };
        database.find_end()?;
        database.opened_bytes = database.log.metadata().map_err(Fault::io("stat"))?.len();
        if database.last.is_some() {
            database.log_bytes = database.opened_bytes;
        }
        Ok(database)
    }

    pub(super) fn name(&self) -> Seq {
        self.name
    }

    /// One past the highest number in it; its name when it is empty.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// After a failed write: nothing more can be written before it is opened again.
    pub(super) fn set_failed(&mut self) {
        self.state = State::Failed;
    }

    /// True when the next block should go to a new database.
    pub(super) fn is_full(&self, block: &Block, database_bytes: u64) -> bool {
        let needed = block.len() as u64 + VALUE_OVERHEAD;
        self.state == State::Closed
            || (self.last.is_some() && self.log_bytes + needed > database_bytes)
    }

    /// Stores `block`, unless exactly it is stored already. Durable against a crash only after a flush.
    pub(super) fn insert(&mut self, block: &Block) -> Result<(), Fault> {
        for (part, value) in (0..).zip(frame::values(block, self.value_bytes_max)) {
            let key = Key {
                first: block.first(),
                part,
            };
            if self.last.is_some_and(|last| key <= last) && self.is_held(key, &value)? {
                continue;
            }
            let logged = self.engine_mut()?.insert(key, &value)?;
            self.last = self.last.max(Some(key));
            let bytes = value.len() as u64 + VALUE_OVERHEAD;
            let (written, torn) = match logged {
                Logged::Once => (bytes, bytes),
                Logged::Anew => (bytes * REWRITES, bytes * REWRITES * REUSE),
            };
            self.log_bytes += written;
            self.unsynced_bytes += torn;
            if self.unsynced_bytes >= self.unsynced_bytes_max {
                self.sync()?;
            }
        }
        self.end = self.end.max(block.end());
        Ok(())
    }

    /// True when `value` stands at `key`. The leftover of a block that was never completed is in
    /// nobody's way; a whole other block is.
    fn is_held(&self, key: Key, value: &[u8]) -> Result<bool, Fault> {
        match self.engine()?.get(key)? {
            Some(held) if held == value => Ok(true),
            Some(_) if key.part == 0 && matches!(self.load(key.first), Ok(Some(_))) => Err(
                Fault::Damaged(format!("another block stands at number {}", key.first)),
            ),
            _ => Ok(false),
        }
    }

    /// Hands everything inserted to the operating system.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.engine()?.flush()?;
        let written = self.log.metadata().map_err(Fault::io("stat"))?.len();
        self.log_bytes = if written > self.opened_bytes {
            written
        } else {
            self.log_bytes
        };
        Ok(())
    }

    /// Puts everything inserted on the device.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        if self.unsynced_bytes > 0 {
            // After a failed write only what was flushed before it can be synced, and nothing
            // else was confirmed.
            if self.state != State::Failed {
                self.flush()?;
            }
            self.log.sync_data().map_err(Fault::io("sync"))?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// The block that holds `at`, or the first after it, if it begins below `limit`.
    pub(super) fn read(&self, at: Seq, limit: Seq) -> Result<Option<Block>, Fault> {
        // Behind `end` there can only be parts of a block that was never completed.
        let limit = limit.min(self.end);
        if at >= limit {
            return Ok(None);
        }
        if let Some(block) = self.load(at)? {
            return Ok(Some(block));
        }
        let engine = self.engine()?;
        if let Some(key) = engine.before(Key::of_block(at))?
            && let Some(block) = self.load(key.first)?.filter(|block| block.end() > at)
        {
            return Ok(Some(block));
        }
        match engine.after(Key {
            first: at,
            part: u32::MAX,
        })? {
            Some(key) if key.first < limit => self.load(key.first),
            _ => Ok(None),
        }
    }

    /// The block whose first number is `first`, whole and verified.
    fn load(&self, first: Seq) -> Result<Option<Block>, Fault> {
        let Some(value) = self.engine()?.get(Key::of_block(first))? else {
            return Ok(None);
        };
        let bytes = if value.starts_with(&frame::MAGIC) {
            self.join(first, &value)?
        } else {
            value
        };
        let block = Block::parse(bytes)
            .map_err(|error| Fault::Damaged(format!("block at number {first}: {error}")))?;
        if block.first() == first {
            Ok(Some(block))
        } else {
            Err(Fault::Damaged(format!(
                "block {} stands at number {first}",
                block.first()
            )))
        }
    }

    /// Puts a block together from its parts.
    fn join(&self, first: Seq, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let damaged = |part: u32, reason: &dyn std::fmt::Display| {
            Fault::Damaged(format!(
                "part {part} of the block at number {first}: {reason}"
            ))
        };
        let head = Part::parse(value).map_err(|error| damaged(0, &error))?;
        let mut bytes = head.bytes.to_vec();
        for number in 1..head.parts {
            let value = self.engine()?.get(Key {
                first,
                part: number,
            })?;
            let value = value.ok_or_else(|| damaged(number, &"missing"))?;
            let part = Part::parse(&value).map_err(|error| damaged(number, &error))?;
            if (part.first, part.number, part.block_crc) != (first, number, head.block_crc) {
                return Err(damaged(number, &"belongs to another block"));
            }
            bytes.extend_from_slice(part.bytes);
        }
        Ok(bytes)
    }

    /// Finds the last whole block. One whose last part is missing was never confirmed to anybody.
    fn find_end(&mut self) -> Result<(), Fault> {
        let mut key = match self.engine()?.last() {
            Ok(last) => last,
            Err(Fault::Damaged(_)) => {
                self.close_at(self.engine()?.last_page());
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        self.last = key;
        while let Some(at) = key {
            match self.end_of(at.first) {
                Ok(Some(end)) => {
                    self.end = end;
                    return Ok(());
                }
                Ok(None) => key = self.engine()?.before(Key::of_block(at.first))?,
                Err(Fault::Damaged(_)) => {
                    self.close_at(Some(at));
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Takes `key` as the best that is known of the last block: reading there reports the damage.
    fn close_at(&mut self, key: Option<Key>) {
        self.last = key;
        self.end = key.map_or(self.name, |key| key.first + 1);
        self.state = State::Closed;
    }

    /// The end of the block at `first`, read from its header; `None` when it isn't complete.
    fn end_of(&self, first: Seq) -> Result<Option<Seq>, Fault> {
        let engine = self.engine()?;
        let Some(value) = engine.get(Key::of_block(first))? else {
            return Ok(None);
        };
        let damaged = |error: &dyn std::fmt::Display| Fault::Damaged(error.to_string());
        let header = if value.starts_with(&frame::MAGIC) {
            let head = Part::parse(&value).map_err(|error| damaged(&error))?;
            let tail = Key {
                first,
                part: head.parts.saturating_sub(1),
            };
            let Some(tail) = engine.get(tail)? else {
                return Ok(None);
            };
            if Part::parse(&tail)
                .map_err(|error| damaged(&error))?
                .block_crc
                != head.block_crc
            {
                return Ok(None);
            }
            Header::parse(head.bytes)
        } else {
            Header::parse(&value)
        };
        let header = header.map_err(|error| damaged(&error))?;
        Ok(Some(first + u64::from(header.count)))
    }

    /// Syncs, closes, and returns when it can be opened again.
    pub(super) fn close(mut self) -> Result<(), Fault> {
        let synced = if self.state == State::Failed {
            Ok(())
        } else {
            self.sync()
        };
        let closed = self.engine.take().map_or(Ok(()), Engine::close);
        synced.and(closed).and_then(|()| wait_unlocked(&self.log))
    }

    /// Closes it and notes how it was left, for whoever opens it next.
    pub(super) fn seal(self) -> Result<(), Fault> {
        let (dir, end, state) = (self.dir.clone(), self.end, self.state);
        self.close()?;
        if state == State::Sound {
            // One without a mark is opened on trust, so a disk that has no room for it does no harm.
            if let Ok(mark) = Mark::of_closed(&dir, end) {
                let _ = mark.write(&dir);
            }
        }
        Ok(())
    }

    fn engine(&self) -> Result<&Engine, Fault> {
        self.engine.as_ref().ok_or_else(closed)
    }

    fn engine_mut(&mut self) -> Result<&mut Engine, Fault> {
        self.engine.as_mut().ok_or_else(closed)
    }
}

fn closed() -> Fault {
    Fault::Io {
        operation: "use",
        source: io::Error::other("the database is closed"),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whoever needs to know of an error here calls `close`.
        let _ = self.engine.take().map(Engine::close);
    }
}

/// The segment size that the database in `dir` was made with: sled refuses any other.
pub(super) fn segment_bytes(dir: &Path) -> Result<usize, Fault> {
    let bytes = fs::read(dir.join(SETTINGS_FILE)).map_err(Fault::io("read"))?;
    String::from_utf8_lossy(&bytes)
        .lines()
        .find_map(|line| line.strip_prefix("segment_size: ")?.parse().ok())
        .ok_or_else(|| Fault::Damaged(format!("`{SETTINGS_FILE}` names no segment size")))
}

/// Puts `bytes` back into a log that no database has open any more.
fn restore(log: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(log)
        .map_err(Fault::io("open"))?;
    wait_unlocked(&file)?;
    file.write_all(bytes)
        .and_then(|()| file.set_len(bytes.len() as u64))
        .and_then(|()| file.sync_all())
        .map_err(Fault::io("write"))
}

/// Waits for sled's lock, which outlives a database that was dropped until sled's threads have let go
/// of it. Nobody tells when that is.
fn wait_unlocked(log: &File) -> Result<(), Fault> {
    let deadline = Instant::now() + LOCK_WAIT;
    let mut pause = Duration::from_micros(100);
    loop {
        match log.try_lock() {
            Ok(()) => return log.unlock().map_err(Fault::io("unlock")),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(Fault::Io {
                    operation: "lock",
                    source: error.into(),
                });
            }
        }
    }
}

fn remove_snapshots(dir: &Path, unwanted: impl Fn(&str) -> bool) -> Result<(), Fault> {
    for entry in fs::read_dir(dir).map_err(Fault::io("list"))? {
        let entry = entry.map_err(Fault::io("list"))?;
        let name = entry.file_name();
        let snapshot = name
            .to_str()
            .filter(|name| name.starts_with(SNAPSHOT_PREFIX));
        if snapshot.is_some_and(&unwanted) {
            fs::remove_file(entry.path()).map_err(Fault::io("remove"))?;
        }
    }
    Ok(())
}
