//! What arrived, compared with what was written, line by line.

use crate::demo::lines::number;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// The comparison of two sets of numbered lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) written: u64,
    /// Different lines that arrived.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Arrivals beyond the first of a line.
    pub(crate) duplicated: u64,
    /// First arrivals behind a line that was written later.
    pub(crate) out_of_order: u64,
    /// Lines that were never written like this.
    pub(crate) damaged: u64,
}

impl Verdict {
    /// Reads both to the end.
    pub(crate) fn of(written: &[&Path], arrived: &Path) -> io::Result<Self> {
        let mut expected = Vec::new();
        for path in written {
            for_each_line(path, |line| expected.push(crc32c::crc32c(line)))?;
        }
        let mut verdict = Self {
            written: expected.len() as u64,
            ..Self::default()
        };
        let mut has_arrived = vec![false; expected.len()];
        let mut next = 0;
        for_each_line(arrived, |line| {
            let index = number(line).unwrap_or(u32::MAX) as usize;
            match (has_arrived.get_mut(index), expected.get(index)) {
                (Some(true), Some(_)) => verdict.duplicated += 1,
                (Some(first), Some(crc)) if *crc == crc32c::crc32c(line) => {
                    *first = true;
                    verdict.delivered += 1;
                    verdict.out_of_order += u64::from(index < next);
                    next = next.max(index + 1);
                }
                _ => verdict.damaged += 1,
            }
        })?;
        verdict.lost = verdict.written - verdict.delivered;
        Ok(verdict)
    }

    pub(crate) fn keeps_the_promise(&self) -> bool {
        (self.lost, self.duplicated, self.out_of_order, self.damaged) == (0, 0, 0, 0)
    }
}

fn for_each_line(path: &Path, mut body: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        body(&line);
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn compare(arrived: &str) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("one"), "00000000 a\n00000001 b\n").unwrap();
        fs::write(path("two"), "00000002 c\n").unwrap();
        fs::write(path("out"), arrived).unwrap();
        Verdict::of(&[&path("one"), &path("two")], &path("out")).unwrap()
    }

    #[test]
    fn all_lines_in_order_keep_the_promise() {
        let verdict = compare("00000000 a\n00000001 b\n00000002 c\n");
        assert_eq!(
            verdict,
            Verdict {
                written: 3,
                delivered: 3,
                ..Verdict::default()
            }
        );
        assert!(verdict.keeps_the_promise());
    }

    #[test]
    fn every_way_to_break_the_promise_is_counted() {
        for (arrived, broken) in [
            (
                "00000000 a\n00000002 c\n",
                Verdict {
                    delivered: 2,
                    lost: 1,
                    ..Verdict::default()
                },
            ),
            (
                "00000000 a\n00000001 b\n00000001 b\n00000002 c\n",
                Verdict {
                    delivered: 3,
                    duplicated: 1,
                    ..Verdict::default()
                },
            ),
            (
                "00000001 b\n00000000 a\n00000002 c\n",
                Verdict {
                    delivered: 3,
                    out_of_order: 1,
                    ..Verdict::default()
                },
            ),
            (
                "00000000 a\n00000001 x\n00000002 c\n",
                Verdict {
                    delivered: 2,
                    lost: 1,
                    damaged: 1,
                    ..Verdict::default()
                },
            ),
            (
                "",
                Verdict {
                    lost: 3,
                    ..Verdict::default()
                },
            ),
        ] {
            let verdict = compare(arrived);
            assert_eq!(
                verdict,
                Verdict {
                    written: 3,
                    ..broken
                },
                "{arrived}"
            );
            assert!(!verdict.keeps_the_promise());
        }
    }
}
