//! What a run cost: each run is a process of its own, so the process is what is measured.

use crate::item::Seen;
use crate::job::{Job, Outcome};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) struct Meter {
    began: Instant,
    cpu: Duration,
    written: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            cpu: cpu(),
            written: written(),
            began: Instant::now(),
        }
    }

    pub(crate) fn stop(self, job: &Job, items: u64) -> Outcome {
        let seconds = self.began.elapsed().as_secs_f64();
        Outcome {
            items,
            seconds,
            cpu: cpu().saturating_sub(self.cpu).as_secs_f64(),
            rss: peak_memory(),
            disk: disk_bytes(&job.dir),
            written: written() - self.written,
            ..Outcome::default()
        }
    }

    /// With what the consumer saw of the items that the job is about.
    pub(crate) fn stop_and_check(self, job: &Job, seen: Seen) -> Outcome {
        Outcome {
            lost: job.items.saturating_sub(seen.items),
            late: seen.late,
            ..self.stop(job, job.items)
        }
    }
}

/// CPU time of all threads, in user space and in the kernel.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// A number behind a name in one of the kernel's pages about this process.
fn kernel_says(page: &str, name: &str) -> u64 {
    let page = fs::read_to_string(page).unwrap_or_default();
    page.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes handed to write calls: what reaches the device also depends on how long the kernel waits.
fn written() -> u64 {
    kernel_says("/proc/self/io", "wchar:")
}

/// Peak resident memory, in bytes.
pub(crate) fn peak_memory() -> u64 {
    kernel_says("/proc/self/status", "VmHWM:") << 10
}

/// Bytes that the file system has given to everything below `dir`. Files may vanish meanwhile.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
