//! Bringing a lane to the device, and what is done when that fails.

use super::format;
use super::lane::{Lane, Segment};
use super::tail::Tail;
use super::walk::{Found, Walk};
use crate::block::Block;
use crate::disk::How;
use crate::error::StoreError;
use crate::seq::Seq;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Lane {
    /// Puts everything on the device. A sync that fails is never repeated on the same file.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.settle_suspect()?;
        if self.is_inherited {
            self.sync_inherited()?;
        }
        self.sync_tail()?;
        // What is in a file is on the device only when the file's name is.
        if self.has_new_names {
            let dir = &self.options.dir;
            let synced = self.options.disk.sync_dir(dir);
            synced.map_err(|error| StoreError::io("sync", dir, error))?;
            self.has_new_names = false;
        }
        Ok(())
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.tail
            .as_ref()
            .map_or(0, |tail| tail.position - tail.synced.min(tail.position))
    }

    pub(super) fn sync_tail(&mut self) -> Result<(), StoreError> {
        let Some(tail) = self.tail.as_mut() else {
            return Ok(());
        };
        if tail.synced == tail.position {
            return Ok(());
        }
        let Err(error) = tail.sync() else {
            return Ok(());
        };
        tail.is_suspect = true;
        let name = tail.name;
        let path = self.path(name);
        let error = StoreError::io("sync", &path, error);
        // The error stands if the blocks can't be saved another way.
        self.settle_suspect().map_err(|_| error)
    }

    /// What an earlier process wrote and nobody is known to have synced.
    pub(super) fn sync_inherited(&mut self) -> Result<(), StoreError> {
        if let Some(name) = self.newest().filter(|_| self.tail.is_none()) {
            let path = self.path(name);
            let failed = |error| StoreError::io("sync", &path, error);
            let file = self.options.disk.open(&path, How::Write).map_err(failed)?;
            let mut tail = Tail::new(name, file, self.home(name), self.limit(name), 0);
            if let Err(error) = tail.sync() {
                // Its pages may be gone from the device and still be shown: what is shown is written anew.
                tail.synced = 0;
                tail.is_suspect = true;
                self.tail = Some(tail);
                self.resume_at = None;
                self.settle_suspect().map_err(|_| failed(error))?;
            }
        }
        self.has_new_names = true;
        self.is_inherited = false;
        Ok(())
    }

    /// After a failed sync: writes what it should have covered to a file of its own, and goes on there.
    pub(super) fn settle_suspect(&mut self) -> Result<(), StoreError> {
        if !self.tail.as_ref().is_some_and(|tail| tail.is_suspect) {
            return Ok(());
        }
        let blocks = self.blocks_at_stake()?;
        let Some(first) = blocks.first().map(|block| block.first()) else {
            // Nothing of it can be read any more. Those who look for it will find it missing.
            self.tail = None;
            return Ok(());
        };
        let new = self.options.dir.join(format::new_name(self.kind, first));
        let path = self.path(first);
        let saved = self.write_whole(&new, first, &blocks).and_then(|tail| {
            self.options
                .disk
                .rename(&new, &path)
                .and_then(|()| self.options.disk.sync_dir(&self.options.dir))
                .map(|()| tail)
                .map_err(|error| StoreError::io("rename", &new, error))
        });
        if saved.is_err() {
            let _ = self.options.disk.remove_file(&new);
        }
        let tail = saved?;
        if let Some(suspect) = self.tail.take().filter(|suspect| suspect.name != first)
            && let Some(segment) = self.segments.get_mut(&suspect.name)
        {
            segment.end = Some(first);
        }
        self.reader = None;
        let segment = Segment {
            len: tail.position,
            end: blocks.last().map(|last| last.end()),
            ..Segment::default()
        };
        self.segments.insert(first, segment);
        self.tail = Some(tail);
        Ok(())
    }

    fn write_whole(
        &self,
        path: &Path,
        name: Seq,
        blocks: &[Arc<Block>],
    ) -> Result<Tail, StoreError> {
        let written = self.options.disk.open(path, How::Create).and_then(|file| {
            let mut tail = Tail::new(name, file, self.home(name), 0, 0);
            tail.write_header(&self.header(name))?;
            tail.write(blocks)?;
            tail.sync()?;
            Ok(tail)
        });
        written.map_err(|error| StoreError::io("write", path, error))
    }

    /// The blocks that a failed sync should have covered: from memory where they were kept, else as the file still
    /// shows them.
    fn blocks_at_stake(&mut self) -> Result<Vec<Arc<Block>>, StoreError> {
        let Some(tail) = self.tail.as_ref() else {
            return Ok(Vec::new());
        };
        if self.options.keep_unsynced && tail.synced > 0 {
            return Ok(tail.unsynced.clone());
        }
        let (name, synced, limit) = (tail.name, tail.synced, tail.position);
        let kept: BTreeMap<Seq, Arc<Block>> = tail
            .unsynced
            .iter()
            .map(|block| (block.first(), Arc::clone(block)))
            .collect();
        let path = self.path(name);
        let failed = |error| StoreError::io("read", &path, error);
        let file = self.options.disk.open(&path, How::Read).map_err(failed)?;
        let mut walk = Walk::new(file, self.home(name)).map_err(failed)?;
        walk.jump(synced);
        let mut blocks = kept;
        let mut at = 0;
        loop {
            match walk.find(at, limit).map_err(failed)? {
                Found::Block(block) => {
                    at = block.end();
                    blocks
                        .entry(block.first())
                        .or_insert_with(|| Arc::new(block));
                }
                Found::Damage { .. } => {}
                Found::End => return Ok(blocks.into_values().collect()),
            }
        }
    }
}
