//! Arbitrary bytes as a segment, and as a program that writes one: reading ends, forwards and twice the same, and
//! what is appended then is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::segment(data));
