//! A whole directory of arbitrary files, opened as a log: it opens or says why not, and what comes out of it ends.
#![no_main]

mod spool;

use libfuzzer_sys::fuzz_target;
use overspill::fuzzing;
use std::fs;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let dir = spool::fresh();
    let (mut rest, mut lies) = (data, false);
    while let Some((&[what, which, len], bytes)) = rest.split_first_chunk::<3>() {
        let (bytes, after) = bytes.split_at(usize::from(len).min(bytes.len()));
        rest = after;
        lies |= what % 8 == SEALED;
        change(dir.path(), what, which, bytes);
    }
    let stats = spool::drain(dir.path());
    // A block that nobody wrote may have any number, also one that was never given out.
    if !lies {
        spool::assert_conserved(&stats);
    }
});

/// A segment whose checksums fit, whatever stands in it.
const SEALED: u8 = 0;

/// Writes, damages or removes one file.
fn change(dir: &Path, what: u8, which: u8, bytes: &[u8]) {
    let log = dir.join("log");
    let (is_older, name) = (what & 8 != 0, u64::from(which));
    // A few segments lie where numbers end.
    let name = if what & 16 != 0 {
        u64::MAX - name
    } else {
        name
    };
    let segment = log.join(fuzzing::segment_name(is_older, name));
    let files = spool::files(dir);
    let some = files.get(usize::from(which) % files.len().max(1));
    match (what % 8, some) {
        (SEALED, _) => {
            let identity = fs::read(dir.join("channel")).unwrap_or_default();
            let bytes = fuzzing::sealed_segment(&identity, is_older, name, bytes);
            let _ = fs::write(segment, bytes);
        }
        (1, _) => {
            let _ = fs::write(segment, bytes);
        }
        (2, _) if what & 32 != 0 => {
            let _ = fs::write(dir.join("checkpoint.large"), spool::large(dir, bytes));
        }
        (2, _) => {
            let _ = fs::write(dir.join("checkpoint"), spool::slots(bytes));
        }
        (3, _) => {
            let names = [
                "LOCK",
                "channel",
                "checkpoint",
                "checkpoint.large",
                "log/.new-x",
                "log/.kept-0-x",
                "quarantine",
                "notes",
            ];
            let name = names
                .get(usize::from(which) % names.len())
                .unwrap_or(&"notes");
            let _ = fs::write(dir.join(name), bytes);
        }
        (4, Some(file)) => {
            let _ = fs::remove_file(file);
        }
        (5, Some(file)) => {
            let _ = fs::copy(file, &segment);
        }
        (_, Some(file)) => {
            let mut found = fs::read(file).unwrap_or_default();
            for pair in bytes.chunks_exact(2) {
                if let [at, mask] = pair {
                    let at = usize::from(*at) * found.len() / 256;
                    if let Some(byte) = found.get_mut(at) {
                        *byte ^= mask;
                    }
                }
            }
            let _ = fs::write(file, found);
        }
        (_, None) => {}
    }
}
