//! Buffers that senders encode into, kept by their threads.

use crate::records::Records;
use std::cell::Cell;

/// A larger one is not kept for the next item.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static RECORDS: Cell<Option<Records>> = const { Cell::new(None) };
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

/// As [`take_buffer`], for items that come together.
pub(crate) fn take_records() -> Records {
    let records = RECORDS.try_with(Cell::take).ok().flatten();
    records.unwrap_or_default()
}

/// Keeps the room for the records of the thread's next items that come together.
pub(crate) fn keep_records(mut records: Records) {
    if records.capacity() <= KEPT_BUFFER_BYTES {
        records.clear();
        let _ = RECORDS.try_with(|kept| kept.set(Some(records)));
    }
}
