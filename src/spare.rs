//! Buffers of blocks that are done with, kept for the next ones.
//!
//! Memory of this size that is given back may go back to the system, and costs a page fault for each page when it is
//! asked for anew: with a block for every write that is more than all else that is done with it.

/// As many as a write that is a little larger than a block goes through.
const BUFFERS: usize = 2;
/// A larger one is an exception, and not kept.
const BUFFER_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<Vec<u8>>);

impl Spare {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < BUFFERS && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
