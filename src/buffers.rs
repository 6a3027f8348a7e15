//! Buffers that senders encode into, kept by their threads.

use std::cell::Cell;

/// An encoding buffer above this size is not kept for the next item.
const KEPT_BUFFER_BYTES: usize = 1 << 20;
/// A thread keeps so many, all but one of them small: as many as items come in together.
const KEPT_BUFFERS: usize = 256;
const SMALL_BUFFER_BYTES: usize = 4 << 10;

thread_local! {
    static BUFFERS: Cell<Vec<Vec<u8>>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer to encode into.
pub(crate) fn take_buffer() -> Vec<u8> {
    let buffer = BUFFERS.try_with(|kept| {
        let mut buffers = kept.take();
        let buffer = buffers.pop();
        kept.set(buffers);
        buffer
    });
    let mut buffer = buffer.ok().flatten().unwrap_or_default();
    buffer.clear();
    buffer
}

/// Keeps an encoding buffer for the thread's next item.
pub(crate) fn keep_buffer(buffer: Option<Vec<u8>>) {
    let Some(buffer) = buffer.filter(|buffer| buffer.capacity() <= KEPT_BUFFER_BYTES) else {
        return;
    };
    let _ = BUFFERS.try_with(|kept| {
        let mut buffers = kept.take();
        let is_small = buffer.capacity() <= SMALL_BUFFER_BYTES;
        if buffers.is_empty() || (is_small && buffers.len() < KEPT_BUFFERS) {
            buffers.push(buffer);
        }
        kept.set(buffers);
    });
}
