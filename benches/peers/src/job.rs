//! What a child process is told to do, and what it tells.

use crate::ends::Verb;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One run of one row of one section.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) section: String,
    pub(crate) row: String,
    pub(crate) verb: Verb,
    pub(crate) step: Step,
    pub(crate) items: u64,
    pub(crate) item_bytes: usize,
    pub(crate) dir: PathBuf,
}

/// What of a workload a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// All there is.
    Whole,
    /// Leave items on disk.
    Write,
    /// Take what an earlier process left on disk.
    Read,
    /// Open what an earlier process left, and take the first item.
    Open,
}

/// What a run found. Sizes in bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) items: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) rss: u64,
    pub(crate) disk: u64,
    pub(crate) written: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    /// p50, p99 and p99.9 of a round trip in seconds, where that is the question.
    pub(crate) latency: Option<[f64; 3]>,
}
