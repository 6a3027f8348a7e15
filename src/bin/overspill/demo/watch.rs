//! Watches the shipper from outside while the demo runs.

use crate::stop::Flag;
use parking_lot::Mutex;
use serde::Deserialize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(50);

/// What the shipper writes with `--stats-file`, as far as the demo needs it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Figures {
    pub(crate) reread: u64,
    pub(crate) channel: Channel,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Channel {
    pub(crate) accepted: u64,
    pending: u64,
    in_flight: u64,
}

impl Channel {
    /// Lines that the receiver has not confirmed.
    pub(crate) fn backlog(&self) -> u64 {
        self.pending + self.in_flight
    }
}

/// The highest figures seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) backlog: u64,
    /// What the directory occupied on disk, in bytes.
    pub(crate) spool: u64,
    /// Resident memory in bytes, where the system tells.
    pub(crate) memory: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    peaks: Arc<Mutex<Peaks>>,
    pid: Arc<AtomicU32>,
}

impl Watch {
    pub(crate) fn look_at(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    pub(crate) fn peaks(&self) -> Peaks {
        self.peaks.lock().clone()
    }

    /// Looks until `over` is raised.
    pub(crate) fn run(&self, spool: &Path, stats_file: &Path, over: &Flag) {
        while !over.wait(INTERVAL) {
            let backlog = figures(stats_file).channel.backlog();
            let spool = occupied(spool);
            let memory = resident_peak(self.pid.load(Ordering::Relaxed));
            let mut peaks = self.peaks.lock();
            peaks.backlog = peaks.backlog.max(backlog);
            peaks.spool = peaks.spool.max(spool);
            peaks.memory = peaks.memory.max(memory);
        }
    }
}

/// The shipper's latest figures; zeros before the first.
pub(crate) fn figures(stats_file: &Path) -> Figures {
    let json = std::fs::read(stats_file).unwrap_or_default();
    serde_json::from_slice(&json).unwrap_or_default()
}

/// Bytes that the files of a directory occupy. Files come and go meanwhile.
fn occupied(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => occupied(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The most memory that a process has had resident, in bytes: Linux tells, others don't.
fn resident_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}
