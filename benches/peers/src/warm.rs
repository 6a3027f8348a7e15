//! Memory that is there.
//!
//! A virtual machine gives back to its host what it hasn't used for a while, and a page that comes back from there costs
//! several times what writing it costs. Whoever runs first would pay that for those after it. So before every run that writes,
//! as much as it will write is written to a file, which goes at once.

use crate::job::{Job, Step};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const PIECE: usize = 1 << 20;
/// What a store adds to the items, generously.
const EXTRA_BYTES: u64 = 64 << 20;
/// Beyond this, the file would cost more than it explains.
const BYTES_MAX: u64 = 2 << 30;

/// Touches the pages that the run will want.
pub(crate) fn up(job: &Job, root: &Path) -> io::Result<()> {
    if matches!(job.step, Step::Read | Step::Open) {
        return Ok(());
    }
    let bytes = (job.items * job.item_bytes as u64 + EXTRA_BYTES).min(BYTES_MAX);
    let path = root.join("warm");
    let mut file = File::create(&path)?;
    let piece = vec![1; PIECE];
    for _ in 0..bytes / PIECE as u64 {
        file.write_all(&piece)?;
    }
    drop(file);
    fs::remove_file(path)
}
