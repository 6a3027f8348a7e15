//! A disk in memory, for tests. It remembers all that was done to it and which of it is surely on the device, so it
//! knows every state that a crash may leave; it fails where it is told to, and lies where it is told to.

mod device;
mod images;

pub(crate) use self::device::{Change, Device, View};
pub(crate) use self::images::{Random, Sample};

use self::device::{Ino, Node, Patch};
use super::{Disk, DiskFile, Entry, How, Kind, Space};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    device: Device,
    start: Device,
    history: Vec<Change>,
    calls: u64,
    failing: Option<(Range<u64>, Fault)>,
    lie: Option<Lie>,
    capacity: Option<u64>,
    locked: BTreeSet<Ino>,
}

/// How a call fails. A call that can't fail in that way works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The device has an error; nothing is done.
    Io,
    /// No room; nothing is done.
    Full,
    /// Half of a write is done before the device has an error.
    ShortWrite,
    /// A sync has an error, and what it should have put on the device never gets there.
    LostSync(View),
}

/// What a disk says it did and didn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It never syncs directories.
    SyncDir,
    /// It never syncs files with this in their path.
    Sync(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Look,
    Write,
    Name,
    Sync,
}

impl Fault {
    /// The error of a call that fails as a whole.
    fn error(self, call: Call) -> Option<io::Error> {
        match (self, call) {
            (Self::Io, _) => Some(io::Error::other("the simulated device has an error")),
            (Self::Full, Call::Write | Call::Name) => Some(ErrorKind::StorageFull.into()),
            _ => None,
        }
    }
}

impl SimDisk {
    /// A disk that holds what another one held, with nothing done to it yet. Locks end with their owners.
    pub(crate) fn of(device: Device) -> Self {
        Self(Arc::new(Mutex::new(State {
            start: device.clone(),
            device,
            ..State::default()
        })))
    }

    /// What it holds now: what the end of the process leaves.
    pub(crate) fn device(&self) -> Device {
        self.state().device.clone()
    }

    /// What it held at first, and everything that was done to it since.
    pub(crate) fn history(&self) -> (Device, Vec<Change>) {
        let state = self.state();
        (state.start.clone(), state.history.clone())
    }

    /// How many changes were made.
    pub(crate) fn changes(&self) -> usize {
        self.state().history.len()
    }

    /// How many calls were made, those that only look included.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Makes the calls of these numbers fail; the first call ever has 0.
    pub(crate) fn fail(&self, calls: Range<u64>, fault: Fault) {
        self.state().failing = Some((calls, fault));
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.state().failing = None;
    }

    pub(crate) fn lie(&self, lie: Lie) {
        self.state().lie = Some(lie);
    }

    /// Sets how many bytes of files it can hold.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and fails it where it is its turn.
    fn enter(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let fault = state.meet();
        fault
            .and_then(|fault| fault.error(call))
            .map_or(Ok(state), Err)
    }
}

impl State {
    fn meet(&mut self) -> Option<Fault> {
        let number = self.calls;
        self.calls += 1;
        let (calls, fault) = self.failing.as_ref()?;
        calls.contains(&number).then_some(*fault)
    }

    fn change(&mut self, change: Change) {
        self.device.apply(&change);
        self.history.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        self.device
            .find(path)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn names(&self, path: &Path) -> io::Result<(Ino, &device::Names)> {
        let ino = self.find(path)?;
        let dir = self.device.dir(ino).ok_or(ErrorKind::NotADirectory)?;
        Ok((ino, &dir.now))
    }

    /// A place for a name: its directory and the name itself.
    fn place(&self, path: &Path) -> io::Result<(Ino, OsString)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        Ok((self.names(dir)?.0, name.to_owned()))
    }

    fn describe(&self, path: PathBuf, ino: Ino) -> Entry {
        let (kind, len) = match &self.device.nodes[ino] {
            Node::File(file) => (Kind::File, file.now.len() as u64),
            Node::Dir(_) => (Kind::Dir, 0),
        };
        Entry { path, kind, len }
    }

    fn patch(&mut self, file: Ino, patch: Patch) {
        self.change(Change::Patch { file, patch });
    }

    fn free(&self) -> u64 {
        let capacity = self.capacity.unwrap_or(1 << 40);
        capacity.saturating_sub(self.device.used())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let existing = self.state().device.find(path);
        let makes = existing.is_none() && matches!(how, How::OpenOrCreate | How::Create);
        let mut state = self.enter(if makes { Call::Name } else { Call::Look })?;
        if makes {
            let (dir, name) = state.place(path)?;
            state.change(Change::MakeFile { dir, name });
        }
        let ino = state.find(path)?;
        match &state.device.nodes[ino] {
            Node::Dir(_) => return Err(ErrorKind::IsADirectory.into()),
            Node::File(file) => {
                if how == How::Create && !file.now.is_empty() {
                    state.patch(ino, Patch::SetLen(0));
                }
            }
        }
        Ok(Box::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            ino,
            how,
            owns_lock: false,
        }))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let state = self.enter(Call::Look)?;
        let found = state.device.find(path);
        Ok(found.map(|ino| state.describe(path.to_owned(), ino)))
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.enter(Call::Look)?;
        let (_, names) = state.names(dir)?;
        let entries = names
            .iter()
            .map(|(name, ino)| state.describe(dir.join(name), *ino));
        Ok(entries.collect())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Name)?;
        let (dir, name) = state.place(path)?;
        if state.device.find(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(Change::MakeDir { dir, name });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Name)?;
        state.find(from)?;
        if state.names(to).is_ok_and(|(_, names)| !names.is_empty()) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (from, to) = (state.place(from)?, state.place(to)?);
        state.change(Change::Rename { from, to });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Look)?;
        let ino = state.find(path)?;
        if state.device.dir(ino).is_some() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (dir, name) = state.place(path)?;
        state.change(Change::Remove { dir, name });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Sync)?;
        let (dir, _) = state.names(dir)?;
        if state.lie != Some(Lie::SyncDir) {
            state.change(Change::SyncDir { dir });
        }
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let state = self.enter(Call::Look)?;
        state.find(dir)?;
        Ok(Space {
            total: state.capacity.unwrap_or(1 << 40),
            free: state.free(),
        })
    }
}

/// An open file, which stays readable when its name is gone.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    ino: Ino,
    how: How,
    owns_lock: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        match self.how {
            How::Read => Err(ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    }

    /// The lost part of a sync that fails; `None` when it doesn't.
    fn lost_sync(state: &mut State, file: Ino) -> Option<io::Error> {
        match state.meet()? {
            Fault::LostSync(view) => {
                state.change(Change::LosePages { file, view });
                Fault::Io.error(Call::Sync)
            }
            fault => fault.error(Call::Sync),
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.enter(Call::Look)?;
        let bytes = &state.device.file(self.ino).now;
        let rest = usize::try_from(at)
            .ok()
            .and_then(|at| bytes.get(at..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, parts: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let at = usize::try_from(at).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut state = self.disk.state();
        let mut outcome = Ok(());
        let fault = state.meet();
        if let Some(error) = fault.and_then(|fault| fault.error(Call::Write)) {
            return Err(error);
        }
        if fault == Some(Fault::ShortWrite) {
            bytes.truncate(bytes.len() / 2);
            outcome = Err(io::Error::other("the simulated device wrote half"));
        }
        let held = state.device.file(self.ino).now.len();
        let room = held.max(at) - at + usize::try_from(state.free()).unwrap_or(usize::MAX);
        if bytes.len() > room {
            bytes.truncate(room);
            outcome = Err(ErrorKind::StorageFull.into());
        }
        if !bytes.is_empty() {
            let bytes = bytes.into();
            state.patch(self.ino, Patch::Write { at, bytes });
        }
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let file = self.ino;
        if let Some(error) = Self::lost_sync(&mut state, file) {
            return Err(error);
        }
        let lies = match state.lie {
            Some(Lie::Sync(part)) => self.path.to_string_lossy().contains(part),
            _ => false,
        };
        if !lies {
            state.change(Change::Sync { file });
        }
        Ok(())
    }

    fn len(&mut self) -> io::Result<u64> {
        let state = self.disk.enter(Call::Look)?;
        Ok(state.device.file(self.ino).now.len() as u64)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.enter(Call::Write)?;
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        if len != state.device.file(self.ino).now.len() {
            state.patch(self.ino, Patch::SetLen(len));
        }
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let state = self.disk.enter(Call::Look)?;
        Ok(state.device.find(path) == Some(self.ino))
    }

    fn has_name(&self) -> io::Result<bool> {
        let state = self.disk.enter(Call::Look)?;
        Ok(state.device.has_name(self.ino))
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        let mut state = self.disk.enter(Call::Look)?;
        self.owns_lock |= state.locked.insert(self.ino);
        Ok(self.owns_lock)
    }

    fn unlock(&mut self) -> io::Result<()> {
        let mut state = self.disk.enter(Call::Look)?;
        if std::mem::take(&mut self.owns_lock) {
            state.locked.remove(&self.ino);
        }
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.owns_lock {
            self.disk.state().locked.remove(&self.ino);
        }
    }
}

#[cfg(test)]
mod tests;
