//! Arbitrary bytes as the checkpoint of a directory that is otherwise whole, and as the large file beside it, as they are
//! and with checksums that fit.
#![no_main]

mod spool;

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;
use std::fs;

fuzz_target!(|data: &[u8]| {
    fuzzing::checkpoint(data);
    let whole = spool::fresh();
    let large = spool::large(whole.path(), data);
    for (slots, large) in [
        (Some(data.to_vec()), data),
        (Some(spool::slots(data)), &large),
        (None, &large),
    ] {
        let dir = spool::fresh();
        if let Some(slots) = slots {
            fs::write(dir.path().join("checkpoint"), slots).expect("it can be written");
        }
        fs::write(dir.path().join("checkpoint.large"), large).expect("it can be written");
        spool::assert_conserved(&spool::drain(dir.path()));
    }
});
