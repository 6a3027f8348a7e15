//! Damage to files.

use super::Chance;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What can happen to a file; the last one also to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Flip {
        at: u64,
        mask: u8,
    },
    Cut {
        to: u64,
    },
    /// A page from `at` on.
    Zero {
        at: u64,
    },
    Remove,
}

/// Does `damage` to what is at `path`.
pub(crate) fn damage(path: &Path, damage: &Damage) {
    if matches!(damage, Damage::Remove) {
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        return removed.unwrap();
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let len = file.metadata().unwrap().len();
    match *damage {
        Damage::Flip { at, mask } => {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ mask]).unwrap();
        }
        Damage::Cut { to } => file.set_len(to).unwrap(),
        Damage::Zero { at } => {
            let page = usize::try_from((len - at).min(4096)).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&vec![0; page]).unwrap();
        }
        Damage::Remove => {}
    }
}

/// Some ways to damage a file of `len` bytes.
pub(crate) fn ways_to_damage(len: u64, chance: &mut Chance, samples: u64) -> Vec<Damage> {
    let mut ways = vec![Damage::Remove];
    if len == 0 {
        return ways;
    }
    ways.extend([Damage::Cut { to: 0 }, Damage::Cut { to: len - 1 }]);
    for _ in 0..samples {
        let mask = 1 << chance.below(8);
        ways.push(Damage::Flip {
            at: chance.below(len),
            mask,
        });
        ways.push(Damage::Cut {
            to: chance.below(len),
        });
        ways.push(Damage::Zero {
            at: chance.below(len) / 4096 * 4096,
        });
    }
    // Where the magic, the lengths and the checksums are.
    ways.push(Damage::Flip {
        at: chance.below(len.min(64)),
        mask: 1,
    });
    ways
}
