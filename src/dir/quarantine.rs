//! Damaged units, kept for whoever wants to look at them.

use super::{Directory, clock, fs};
use crate::disk::{Disk, DiskRef};
use crate::error::StoreError;
use crate::seq::Seq;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

/// A part of the backlog that was set aside because it was damaged.
///
/// Its files stay in the channel's `quarantine/` directory until somebody removes them; beside them lies a text file
/// that says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// The sequence numbers that could not be read; empty when nobody knows.
    pub seqs: RangeInclusive<u64>,
    /// What the files occupy, in bytes.
    pub bytes: u64,
    /// What was wrong.
    pub reason: String,
    /// Where the files are.
    pub path: PathBuf,
}

impl Quarantined {
    pub(crate) fn new(missing: &Range<Seq>, bytes: u64, reason: String, path: PathBuf) -> Self {
        Self {
            seqs: inclusive(missing),
            bytes,
            reason,
            path,
        }
    }
}

fn inclusive(range: &Range<Seq>) -> RangeInclusive<u64> {
    if range.is_empty() {
        NOTHING
    } else {
        range.start..=range.end - 1
    }
}

/// The first line of a description, before the first and the last lost number.
const LOST: &str = "lost";
const REASON: &str = "reason: ";

/// The `quarantine/` directory.
#[derive(Clone, Debug)]
pub(crate) struct Quarantine {
    disk: DiskRef,
    dir: PathBuf,
}

impl Quarantine {
    pub(crate) fn new(directory: &Directory) -> Self {
        Self {
            disk: Arc::clone(&directory.disk),
            dir: directory.quarantine(),
        }
    }

    /// A path that nothing has yet, for the unit to be moved to, and its description beside it.
    ///
    /// The description is on the device before the unit moves, so nothing lies here unexplained; after a crash
    /// between the two it describes nothing, and isn't listed.
    pub(crate) fn admit(
        &self,
        unit: Seq,
        lost: &Range<Seq>,
        reason: &str,
    ) -> Result<PathBuf, StoreError> {
        let disk = self.disk.as_ref();
        fs::create_dir(disk, &self.dir)?;
        let mut number = 0;
        let dest = loop {
            let dest = self.dir.join(super::quarantined(unit, number));
            if !fs::exists(disk, &dest)? && !fs::exists(disk, &super::description(&dest))? {
                break dest;
            }
            number += 1;
        };
        let text = describe(lost, reason);
        fs::replace(
            disk,
            &super::description(&dest),
            &super::temporary(&dest),
            text.as_bytes(),
        )?;
        Ok(dest)
    }

    /// Everything that was set aside and is still there, oldest unit first.
    pub(crate) fn list(&self) -> Result<Vec<Quarantined>, StoreError> {
        let entries = fs::entries(self.disk.as_ref(), &self.dir)?;
        entries
            .into_iter()
            .filter(|entry| super::is_quarantined(&entry.path))
            .map(|entry| look_at(self.disk.as_ref(), entry.path))
            .collect()
    }

    /// What the directory occupies, in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, StoreError> {
        fs::tree_bytes(self.disk.as_ref(), &self.dir)
    }

    /// Whether `bytes` more stay within `limit`.
    pub(crate) fn fits(&self, bytes: u64, limit: u64) -> Result<bool, StoreError> {
        Ok(self.bytes()?.saturating_add(bytes) <= limit)
    }
}

fn look_at(disk: &dyn Disk, path: PathBuf) -> Result<Quarantined, StoreError> {
    let text = fs::read(disk, &super::description(&path))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let bytes = fs::tree_bytes(disk, &path)?;
    let reason = text
        .lines()
        .find_map(|line| line.strip_prefix(REASON))
        .unwrap_or("unknown");
    Ok(Quarantined {
        seqs: lost_in(&text).unwrap_or(NOTHING),
        bytes,
        reason: reason.to_owned(),
        path,
    })
}

#[allow(
    clippy::reversed_empty_ranges,
    reason = "this is how an inclusive range says \"nothing\""
)]
const NOTHING: RangeInclusive<u64> = 1..=0;

fn lost_in(text: &str) -> Option<RangeInclusive<u64>> {
    let mut words = text.lines().next()?.split(' ');
    if words.next()? != LOST {
        return None;
    }
    Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
}

fn describe(missing: &Range<Seq>, reason: &str) -> String {
    let (first, last) = inclusive(missing).into_inner();
    // Line breaks would end the reason where the reader looks for the next field.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let date = clock::utc(clock::now_ms());
    format!(
        "{LOST} {first} {last}\n\
         {REASON}{reason}\n\
         date: {date}\n\
         \n\
         A damaged part of the channel's backlog. What could be read of it has been delivered;\n\
         the first line has the first and the last sequence number that could not.\n\
         It is not needed any more: remove it when you have seen enough.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real;
    use std::fs as std_fs;
    use std::path::Path;

    fn quarantine() -> (tempfile::TempDir, Quarantine) {
        let root = tempfile::tempdir().unwrap();
        let (directory, _) = Directory::prepare(&real(), root.path()).unwrap();
        (root, Quarantine::new(&directory))
    }

    fn set_aside(dest: &Path, bytes: usize) {
        std_fs::create_dir(dest).unwrap();
        std_fs::write(dest.join("db"), vec![0; bytes]).unwrap();
    }

    #[test]
    fn what_is_set_aside_is_listed_with_its_range_and_reason() {
        let (_root, quarantine) = quarantine();
        assert_eq!(quarantine.list().unwrap(), []);
        let dest = quarantine
            .admit(12, &(40..43), "payload checksum\nlost 7 9")
            .unwrap();
        set_aside(&dest, 1000);
        let listed = quarantine.list().unwrap();
        assert_eq!(
            listed,
            [Quarantined {
                seqs: 40..=42,
                bytes: 1000,
                reason: "payload checksum lost 7 9".to_owned(),
                path: dest,
            }]
        );
        assert!(quarantine.bytes().unwrap() > 1000);
    }

    #[test]
    fn a_unit_that_comes_again_gets_a_fresh_place() {
        let (_root, quarantine) = quarantine();
        let first = quarantine.admit(12, &(0..0), "one").unwrap();
        set_aside(&first, 1);
        let second = quarantine.admit(12, &(0..0), "two").unwrap();
        set_aside(&second, 2);
        let listed = quarantine.list().unwrap();
        assert_eq!(
            listed.iter().map(|item| &item.path).collect::<Vec<_>>(),
            [&first, &second]
        );
        assert!(listed.iter().all(|item| item.seqs.is_empty()));
    }

    #[test]
    fn a_description_whose_unit_never_arrived_is_not_listed() {
        let (_root, quarantine) = quarantine();
        let lost = quarantine.admit(5, &(5..6), "crash in between").unwrap();
        assert_eq!(quarantine.list().unwrap(), []);
        assert_ne!(quarantine.admit(5, &(5..6), "again").unwrap(), lost);
    }

    #[test]
    fn a_unit_without_a_description_is_listed_with_an_unknown_range() {
        let (_root, quarantine) = quarantine();
        let dest = quarantine.admit(5, &(5..6), "gone").unwrap();
        set_aside(&dest, 1);
        std_fs::remove_file(super::super::description(&dest)).unwrap();
        let listed = quarantine.list().unwrap();
        assert!(listed[0].seqs.is_empty());
        assert_eq!(listed[0].reason, "unknown");
    }

    #[test]
    fn the_limit_counts_what_lies_there_already() {
        let (_root, quarantine) = quarantine();
        assert!(quarantine.fits(100, 100).unwrap());
        assert!(!quarantine.fits(101, 100).unwrap());
        set_aside(&quarantine.admit(1, &(1..2), "damage").unwrap(), 100);
        assert!(!quarantine.fits(1, 100).unwrap());
    }
}
