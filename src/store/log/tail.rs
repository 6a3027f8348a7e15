//! The segment that a lane is written to.

use super::format::Home;
use crate::block::{Block, HEADER_LEN};
use crate::disk::DiskFile;
use crate::seq::Seq;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// An open segment and how far it has come.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) name: Seq,
    file: Box<dyn DiskFile>,
    home: Home,
    /// Where the next block goes: what is behind it in the file counts for nothing.
    pub(super) position: u64,
    /// Everything before is on the device.
    pub(super) synced: u64,
    /// Blocks since then, where the channel's durability asks for a copy in memory.
    pub(super) unsynced: Vec<Arc<Block>>,
    /// A sync failed: what it should have covered may be gone from the file, however it looks.
    pub(super) is_suspect: bool,
}

impl Tail {
    pub(super) fn new(
        name: Seq,
        file: Box<dyn DiskFile>,
        home: Home,
        position: u64,
        synced: u64,
    ) -> Self {
        Self {
            name,
            file,
            home,
            position,
            synced,
            unsynced: Vec::new(),
            is_suspect: false,
        }
    }

    /// Appends `blocks` in one write. After an error the file ends where it did, as far as anybody can tell.
    pub(super) fn write(&mut self, blocks: &[Arc<Block>]) -> io::Result<()> {
        let mut position = self.position;
        let headers: Vec<[u8; HEADER_LEN]> = blocks
            .iter()
            .map(|block| {
                let header = block.header_at(self.home.place(position));
                position += block.len() as u64;
                header
            })
            .collect();
        let mut parts: Vec<IoSlice<'_>> = headers
            .iter()
            .zip(blocks)
            .flat_map(|(header, block)| [IoSlice::new(header), IoSlice::new(block.payload())])
            .collect();
        let written = self.file.write_at(&mut parts, self.position);
        match written {
            Ok(()) => {
                self.position = position;
                Ok(())
            }
            Err(error) => {
                self.cut();
                Err(error)
            }
        }
    }

    /// Writes the bytes in front of the first block.
    pub(super) fn write_header(&mut self, header: &[u8]) -> io::Result<()> {
        self.file.write_at(&mut [IoSlice::new(header)], 0)?;
        self.position = header.len() as u64;
        Ok(())
    }

    /// Takes back what was written since `position`.
    pub(super) fn take_back(&mut self, position: u64) {
        self.position = position;
        self.synced = self.synced.min(position);
        self.cut();
    }

    /// Gives the space of a failed write back. Where that fails, too, the next write goes over it.
    fn cut(&mut self) {
        let _ = self.file.set_len(self.position);
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.synced = self.position;
        self.unsynced.clear();
        Ok(())
    }
}
