//! Buffers of blocks that are done with, kept for the next ones.
//!
//! Memory of this size that is given back may go back to the system, and costs a page fault for each page when it is
//! asked for anew: with a new buffer for every block that is more than all else that is done with it.

/// As much as one large write goes through.
const BYTES_MAX: usize = (1 << 20) + (128 << 10);
/// A larger one is an exception, and not kept.
const BUFFER_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size <= BUFFER_BYTES_MAX && self.bytes + size <= BYTES_MAX {
            buffer.clear();
            self.bytes += size;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_kept_up_to_a_limit_and_come_back_empty() {
        let mut spare = Spare::default();
        assert_eq!(spare.take().capacity(), 0);
        spare.keep(vec![1; BUFFER_BYTES_MAX + 1]);
        assert_eq!(spare.take().capacity(), 0);
        (0..9).for_each(|_| spare.keep(vec![1; BUFFER_BYTES_MAX]));
        for kept in [true, true, true, true, false] {
            let buffer = spare.take();
            assert!(buffer.is_empty());
            assert_eq!(buffer.capacity() > 0, kept);
        }
        assert_eq!(spare.bytes, 0);
    }
}
