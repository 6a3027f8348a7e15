//! A small file that is rewritten often and is whole after every crash of the process.
//!
//! ```text
//! slot 0 at byte 0, slot 1 at byte 65536; each slot, little-endian:
//!   0  8  magic "OVSPILL1"
//!   8  8  turn: the slot with the higher turn is the current one
//!  16  4  length of the payload in bytes
//!  20  4  CRC-32C of bytes 0..20
//!  24  4  CRC-32C of the payload
//!  28  …  payload
//! ```
//!
//! A save goes to the slot that is not current, so a torn one leaves the other. Both slots are written out at
//! creation: saving needs no space on a full disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: [u8; 8] = *b"OVSPILL1";
const HEADER: usize = 28;
const SLOT: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Slots {
    file: File,
    turn: u64,
}

impl Slots {
    /// The file, and what was saved last. `None`: it is new, or neither slot is whole.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Vec<u8>>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let missing = (2 * SLOT as u64).saturating_sub(file.metadata()?.len());
        if missing > 0 {
            file.write_all_at(&vec![0; SLOT], 0)?;
            file.write_all_at(&vec![0; SLOT], SLOT as u64)?;
        }
        let mut current: Option<(u64, Vec<u8>)> = None;
        for slot in [0, SLOT as u64] {
            if let Some(found) = read_slot(&file, slot)?
                && current.as_ref().is_none_or(|best| found.0 > best.0)
            {
                current = Some(found);
            }
        }
        let turn = current.as_ref().map_or(0, |(turn, _)| *turn);
        Ok((Self { file, turn }, current.map(|(_, payload)| payload)))
    }

    /// After `Ok` a crash of this process doesn't undo it; a crash before leaves what was saved last.
    pub(crate) fn save(&mut self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > SLOT - HEADER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more than a slot holds",
            ));
        }
        let turn = self.turn + 1;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&turn.to_le_bytes());
        bytes.extend_from_slice(
            &u32::try_from(payload.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        bytes.extend_from_slice(payload);
        self.file.write_all_at(&bytes, (turn % 2) * SLOT as u64)?;
        self.turn = turn;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn read_slot(file: &File, at: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut bytes = vec![0; SLOT];
    file.read_exact_at(&mut bytes, at)?;
    Ok(parse_slot(&bytes))
}

fn parse_slot(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let number = |range| {
        Some(u32::from_le_bytes(
            bytes
                .get::<std::ops::Range<usize>>(range)?
                .try_into()
                .ok()?,
        ))
    };
    let header_is_whole = number(20..24)? == crc32c::crc32c(bytes.get(..20)?);
    if bytes.get(..8)? != MAGIC || !header_is_whole {
        return None;
    }
    let turn = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let len = number(16..20)? as usize;
    let payload = bytes.get(HEADER..HEADER + len)?;
    (number(24..28)? == crc32c::crc32c(payload)).then(|| (turn, payload.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_save_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (mut slots, found) = Slots::open(&path).unwrap();
        assert_eq!(found, None);
        for text in ["one", "two", "three"] {
            slots.save(text.as_bytes()).unwrap();
            assert_eq!(Slots::open(&path).unwrap().1.unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_torn_save_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (mut slots, _) = Slots::open(&path).unwrap();
        slots.save(b"one").unwrap();
        slots.save(b"two").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..HEADER + 3 {
            let mut bytes = whole.clone();
            bytes[torn] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(
                Slots::open(&path).unwrap().1.unwrap(),
                b"one",
                "byte {torn}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_a_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(&dir.path().join("slots")).unwrap();
        assert!(slots.save(&vec![0; SLOT - HEADER]).is_ok());
        assert!(slots.save(&vec![0; SLOT - HEADER + 1]).is_err());
    }
}
