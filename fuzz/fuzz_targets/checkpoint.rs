//! Arbitrary bytes as the checkpoint of a directory that is otherwise whole, as they are and with checksums that fit.
#![no_main]

mod spool;

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;
use std::fs;

fuzz_target!(|data: &[u8]| {
    fuzzing::checkpoint(data);
    for bytes in [data.to_vec(), spool::slots(data)] {
        let dir = spool::fresh();
        fs::write(dir.path().join("checkpoint"), bytes).expect("it can be written");
        spool::assert_conserved(&spool::drain(dir.path()));
    }
});
