//! Buffers that senders encode into, kept by their threads.

use std::cell::Cell;

/// A larger one is not kept for the next item.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer to encode into.
pub(crate) fn take_buffer() -> Vec<u8> {
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer
}

/// Keeps an encoding buffer for the thread's next item.
pub(crate) fn keep_buffer(buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BUFFER_BYTES {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
}
