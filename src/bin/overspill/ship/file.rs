//! `--to file:PATH`: appends, and knows after a crash whether the last append is there.
//!
//! Before an append, the position says how long the file is and by how much it will grow. After a crash the
//! file is as long as before (the batch comes again), as long as promised (the batch is there), or something
//! in between: then the torn part is cut off. So nothing is missing and nothing is there twice.

use crate::failure::Failure;
use crate::ship::destination::{Destination, Outcome, Surroundings, lines};
use crate::ship::ends::Ends;
use crate::ship::position::{Append, Settled};
use crate::ship::record::Line;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) struct FileDestination {
    path: PathBuf,
    file: Option<File>,
    around: Surroundings,
}

impl FileDestination {
    pub(crate) fn open(path: &Path, around: Surroundings) -> Result<Self, Failure> {
        let unusable = |error| {
            Failure::of(
                "append to",
                path.display(),
                error,
                "check its path and permissions, and that nothing else writes it",
            )
        };
        let file = open_for_append(path).map_err(unusable)?;
        let unsettled = around.position.lock().unsettled();
        if let Some(append) = unsettled {
            let settled = settle(&file, &append).map_err(unusable)?;
            around.position.lock().settle(settled)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            around,
        })
    }

    /// The open file, or a new one where it was rotated away.
    fn file(&mut self) -> io::Result<File> {
        if let Some(file) = &self.file {
            let (open, named) = (file.metadata()?, std::fs::metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
                return file.try_clone();
            }
        }
        let file = open_for_append(&self.path)?;
        let clone = file.try_clone();
        self.file = Some(file);
        clone
    }
}

impl Destination for FileDestination {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
        let bytes = lines(batch);
        let opened = self.file().and_then(|file| Ok((file.metadata()?, file)));
        let (meta, mut file) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Outcome::Away(error)),
        };
        let append = Append {
            dev: meta.dev(),
            ino: meta.ino(),
            len: meta.len(),
            bytes: bytes.len() as u64,
            then: Ends::after(batch),
        };
        self.around.position.lock().appending(append.clone())?;
        // What a full disk left of the batch would otherwise stand before its second try.
        let written = file
            .write_all(&bytes)
            .or_else(|error| settle(&file, &append).and(Err(error)));
        Ok(written.map_or_else(Outcome::Away, |()| Outcome::Taken))
    }

    fn finish(&mut self) {
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_data) {
            self.around.reporter.say(format!(
                "cannot sync {}: {error}; check the device",
                self.path.display()
            ));
        }
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another overspill appends to it",
        )),
        // Some file systems have no locks; then it is up to the user.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Finds out whether `append` is in `file`, and removes a torn part.
fn settle(file: &File, append: &Append) -> io::Result<Settled> {
    let meta = file.metadata()?;
    if (meta.dev(), meta.ino()) != (append.dev, append.ino) {
        // Rotated away meanwhile. Again is better than not at all.
        return Ok(Settled::Undone);
    }
    if meta.len() >= append.len + append.bytes {
        return Ok(Settled::Whole);
    }
    if meta.len() > append.len {
        file.set_len(append.len)?;
    }
    Ok(Settled::Undone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::position::Position;
    use crate::ship::record::Place;
    use crate::ship::report::Reporter;
    use crate::stop::Flag;
    use std::fs;

    fn around(dir: &Path) -> Surroundings {
        let position = Position::open(&dir.join("spool")).unwrap().share();
        Surroundings {
            position,
            reporter: Reporter::new(true),
            abandon: Flag::default(),
        }
    }

    fn batch() -> [Line<'static>; 2] {
        let line = |end, text| Line {
            id: None,
            came_as: None,
            place: Some(Place { source: 1, end }),
            text,
        };
        [line(4, b"one\n"), line(8, b"two\n")]
    }

    #[test]
    fn an_interrupted_append_is_whole_or_undone() {
        for (there, settled) in [(0, 0), (1, 0), (7, 0), (8, 8)] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            fs::write(&out, "before\n").unwrap();
            // The process ends with this much of the batch written, before it is confirmed.
            FileDestination::open(&out, around(dir.path()))
                .unwrap()
                .deliver(&batch())
                .unwrap();
            OpenOptions::new()
                .write(true)
                .open(&out)
                .unwrap()
                .set_len(7 + there)
                .unwrap();

            let around = around(dir.path());
            FileDestination::open(&out, around.clone()).unwrap();
            assert_eq!(
                fs::metadata(&out).unwrap().len(),
                7 + settled,
                "{there} bytes of it"
            );
            assert_eq!(
                around.position.lock().delivered().of(1),
                settled,
                "{there} bytes of it"
            );
        }
    }

    #[test]
    fn a_confirmed_append_is_not_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let here = around(dir.path());
        FileDestination::open(&out, here.clone())
            .unwrap()
            .deliver(&batch())
            .unwrap();
        here.position.lock().confirm(&batch()).unwrap();
        fs::write(&out, "").unwrap();
        FileDestination::open(&out, around(dir.path())).unwrap();
        assert_eq!(around(dir.path()).position.lock().delivered().of(1), 8);
    }

    #[test]
    fn a_rotated_destination_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut destination = FileDestination::open(&out, around(dir.path())).unwrap();
        destination.deliver(&batch()).unwrap();
        fs::rename(&out, dir.path().join("out.1")).unwrap();
        destination.deliver(&batch()).unwrap();
        for name in ["out", "out.1"] {
            assert_eq!(
                fs::read_to_string(dir.path().join(name)).unwrap(),
                "one\ntwo\n"
            );
        }
    }

    #[test]
    fn a_second_shipper_cannot_append_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let _first = FileDestination::open(&out, around(dir.path())).unwrap();
        let error = FileDestination::open(&out, around(dir.path()))
            .err()
            .unwrap();
        assert!(error.to_string().contains("another overspill"), "{error}");
    }
}
