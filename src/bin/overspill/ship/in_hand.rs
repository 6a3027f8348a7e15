//! `DIR.in-hand`: the batch that was received last, until the next one.
//!
//! A receive acknowledges, so the channel may forget what the destination doesn't have yet. It is overwritten in
//! place, and never before all of it is delivered or known to be with the destination; what was delivered
//! meanwhile is told by the position.

use crate::failure::Failure;
use crate::ship::frame;
use crate::ship::position::beside;
use crate::ship::record::LogRecord;
use crate::ship::report::Reporter;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct InHand {
    file: File,
    path: PathBuf,
    /// The number of the last save.
    saves: u64,
    fails: bool,
}

impl InHand {
    /// The file, and the records that a run before this one had in hand when it ended.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<LogRecord>), Failure> {
        let path = beside(dir, "in-hand");
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            let left = read_all(&file)?;
            Ok((file, left))
        };
        let (file, left) = open().map_err(|error: io::Error| {
            Failure::of("open", path.display(), error, "check its permissions")
        })?;
        // Another number than the last run's, whose longer batch may stand behind a short one of this run.
        Ok((
            Self {
                file,
                path,
                saves: fastrand::u64(..) >> 1,
                fails: false,
            },
            left,
        ))
    }

    /// After this a crash of the process leaves the records.
    ///
    /// A full disk is no reason to stop delivering, which needs no room and gives some back: then the records
    /// are only as safe as their source is.
    pub(crate) fn save(&mut self, records: &[LogRecord], reporter: &Reporter) {
        self.saves += 1;
        let mut at = 0;
        let mut written = Ok(());
        for part in parts(records) {
            let bytes = frame::encode_batch(self.saves, part);
            written = written.and_then(|()| self.file.write_all_at(&bytes, at));
            at += bytes.len() as u64;
        }
        match written {
            Ok(()) => self.fails = false,
            Err(error) if !self.fails => {
                self.fails = true;
                let path = self.path.display();
                reporter.say(format!("cannot save the lines in hand to {path}: {error}; make room: a kill now may lose them"));
            }
            Err(_) => {}
        }
    }
}

/// Cuts records into batches that a frame can hold.
fn parts(records: &[LogRecord]) -> impl Iterator<Item = &[LogRecord]> {
    let mut bytes = 0;
    records.chunk_by(move |record, _| {
        bytes += record.line.len();
        let goes_on = bytes < frame::BATCH_BYTES;
        if !goes_on {
            bytes = 0;
        }
        goes_on
    })
}

/// The batches of the last save: what stands behind them is from an older, longer one.
fn read_all(file: &File) -> io::Result<Vec<LogRecord>> {
    let (mut left, mut save) = (Vec::new(), None);
    let mut file = io::BufReader::new(file);
    loop {
        match frame::read_batch(&mut file) {
            Ok(Some((number, records))) if *save.get_or_insert(number) == number => {
                left.extend(records);
            }
            Ok(_) => return Ok(left),
            // Torn by a kill in the middle of its write, or the rest of an older one.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                return Ok(left);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(end: u64) -> LogRecord {
        LogRecord {
            source: 1,
            end,
            line: b"x\n".to_vec(),
        }
    }

    #[test]
    fn the_last_batch_is_found_again_and_a_torn_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let quiet = Reporter::new(true);
        let (mut in_hand, left) = InHand::open(&spool).unwrap();
        assert!(left.is_empty());
        in_hand.save(&[record(2), record(4), record(6)], &quiet);
        in_hand.save(&[record(8)], &quiet);
        assert_eq!(InHand::open(&spool).unwrap().1, [record(8)]);

        let path = beside(&spool, "in-hand");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(30)
            .unwrap();
        assert!(InHand::open(&spool).unwrap().1.is_empty());
    }

    #[test]
    fn more_than_a_frame_holds_is_kept_in_several() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let long = |n: u64| LogRecord {
            source: 1,
            end: n,
            line: vec![b'x'; 700_000],
        };
        let records: Vec<_> = (1..=10).map(long).collect();
        let (mut in_hand, _) = InHand::open(&spool).unwrap();
        in_hand.save(&records, &Reporter::new(true));
        assert_eq!(InHand::open(&spool).unwrap().1, records);
        in_hand.save(&records[..3], &Reporter::new(true));
        assert_eq!(InHand::open(&spool).unwrap().1, records[..3]);
    }
}
