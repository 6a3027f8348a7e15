//! Arbitrary bytes as files of dead letters and as their position, and as a program that writes them: reading ends, new
//! letters are found behind what is there, and a requeue gives each of them once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::letters(data));
