//! What was measured on, without saying whose it is.

use std::fs;
use std::time::SystemTime;

fn first_line(page: &str, name: &str) -> String {
    let page = fs::read_to_string(page).unwrap_or_default();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("unknown")
        .trim_start_matches([' ', '\t', ':'])
        .trim()
        .to_owned()
}

/// Cores, memory and kernel.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib = first_line("/proc/meminfo", "MemTotal:");
    let kib: f64 = kib.trim_end_matches(" kB").parse().unwrap_or(0.0);
    format!(
        "{cores} cores ({}), {:.0} GiB of memory, Linux {}",
        first_line("/proc/cpuinfo", "model name"),
        kib / 1_048_576.0,
        first_line("/proc/sys/kernel/osrelease", ""),
    )
}

pub(crate) fn date() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}
