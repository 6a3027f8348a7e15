//! Arbitrary bytes as a history of operations: the channel must agree with its model after every step.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

/// Longer histories take the time of many short ones and find less.
const BYTES_MAX: usize = 200;

fuzz_target!(|data: &[u8]| {
    common::machine::run_bytes(data.get(..BYTES_MAX).unwrap_or(data));
});
