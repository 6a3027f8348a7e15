//! Arbitrary bytes as each thing that is read from disk: nothing panics, nothing is believed that doesn't add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;

fuzz_target!(|data: &[u8]| {
    fuzzing::block(data);
    fuzzing::part(data);
    fuzzing::checkpoint(data);
    fuzzing::identity(data);
});
