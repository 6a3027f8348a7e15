//! Letters for whoever wants to look at them.

use super::DeadLetter;
use super::frame::Home;
use super::walk::Walk;
use crate::disk::DiskRef;
use crate::error::StoreError;
use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::path::PathBuf;

/// A part of a file that counts.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) home: Home,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The dead letters of a channel, in the order in which they were given up.
///
/// One letter is in memory at a time. Damaged ones are passed over, and
/// [`damaged_bytes`](Self::damaged_bytes) says how much that was. Letters that come later are not among them; ones that
/// are requeued or purged meanwhile may be.
#[derive(Debug)]
pub struct DeadLetters {
    disk: DiskRef,
    ahead: VecDeque<Part>,
    walk: Option<Walk>,
    damaged_bytes: u64,
    error: Option<StoreError>,
}

impl DeadLetters {
    pub(super) fn new(disk: DiskRef, parts: Vec<Part>) -> Self {
        Self {
            disk,
            ahead: parts.into(),
            walk: None,
            damaged_bytes: 0,
            error: None,
        }
    }

    /// No letters, and why.
    pub(crate) fn none(error: Option<StoreError>) -> Self {
        Self {
            disk: crate::disk::real(),
            ahead: VecDeque::new(),
            walk: None,
            damaged_bytes: 0,
            error,
        }
    }

    /// Bytes that were passed over because nobody can read them, so far.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes + self.walk.as_ref().map_or(0, Walk::damaged)
    }

    /// Why the letters ended early, if the disk failed.
    pub fn error(&self) -> Option<&StoreError> {
        self.error.as_ref()
    }

    pub(super) fn read(&mut self) -> Result<Option<DeadLetter>, StoreError> {
        loop {
            if self.walk.is_none() {
                let Some(part) = self.ahead.pop_front() else {
                    return Ok(None);
                };
                let (disk, path) = (self.disk.as_ref(), &part.path);
                self.walk = Walk::open(disk, path, part.home, part.from, part.to)?;
                continue;
            }
            let Some(walk) = &mut self.walk else { continue };
            if let Some(header) = walk.seek()? {
                if let Some(letter) = walk.take(&header)? {
                    return Ok(Some(letter));
                }
            } else {
                self.damaged_bytes += walk.damaged();
                self.walk = None;
            }
        }
    }
}

impl Iterator for DeadLetters {
    type Item = DeadLetter;

    fn next(&mut self) -> Option<DeadLetter> {
        if self.error.is_some() {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            self.error = Some(error);
            None
        })
    }
}

impl FusedIterator for DeadLetters {}
