//! What a simulated disk holds: what the operating system shows, and what of it is on the device.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The number of a file or directory, for ever.
pub(super) type Ino = usize;

pub(super) const ROOT: Ino = 0;

pub(super) type Names = BTreeMap<OsString, Ino>;

/// One thing that was done to a disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    MakeFile {
        dir: Ino,
        name: OsString,
    },
    MakeDir {
        dir: Ino,
        name: OsString,
    },
    Patch {
        file: Ino,
        patch: Patch,
    },
    Sync {
        file: Ino,
    },
    /// A sync that failed: what wasn't on the device never gets there, and no later sync will say so.
    LosePages {
        file: Ino,
        view: View,
    },
    Rename {
        from: (Ino, OsString),
        to: (Ino, OsString),
    },
    Remove {
        dir: Ino,
        name: OsString,
    },
    SyncDir {
        dir: Ino,
    },
}

/// What a file shows after pages of it were thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What the device has.
    Device,
    /// The lost bytes, until the system starts again: they are in memory and count as written.
    Memory,
}

/// A change of a file's bytes or length.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Write { at: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

impl Patch {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes: written } => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

/// A change of the names in a directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { name: OsString, ino: Ino },
    Unlink { name: OsString },
    Rename { from: OsString, to: OsString },
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, ino } => {
                names.insert(name.clone(), *ino);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(ino) = names.remove(from) {
                    names.insert(to.clone(), ino);
                }
            }
        }
    }

    /// Changes of the same name reach the device in their order.
    pub(super) fn touches(&self, other: &Self) -> bool {
        other
            .names()
            .into_iter()
            .flatten()
            .any(|name| self.names().contains(&Some(name)))
    }

    fn names(&self) -> [Option<&OsStr>; 2] {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => [Some(name), None],
            Self::Rename { from, to } => [Some(from), Some(to)],
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// A file: `now` is what everybody reads, `safe` and any part of `pending` what a power cut leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub(super) now: Arc<Vec<u8>>,
    pub(super) safe: Arc<Vec<u8>>,
    pub(super) pending: Vec<Patch>,
    /// Pages were lost that `now` still shows.
    pretends: bool,
}

impl FileNode {
    pub(super) fn settled(bytes: Arc<Vec<u8>>) -> Self {
        Self {
            now: bytes.clone(),
            safe: bytes,
            pending: Vec::new(),
            pretends: false,
        }
    }

    fn sync(&mut self) {
        if self.pretends {
            let safe = Arc::make_mut(&mut self.safe);
            self.pending.drain(..).for_each(|patch| patch.apply(safe));
        } else {
            *self = Self::settled(self.now.clone());
        }
    }

    fn lose_pages(&mut self, view: View) {
        match view {
            View::Device => *self = Self::settled(self.safe.clone()),
            View::Memory => {
                self.pending.clear();
                self.pretends = true;
            }
        }
    }
}

/// A directory, likewise.
#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    pub(super) now: Names,
    pub(super) safe: Names,
    pub(super) pending: Vec<NameChange>,
}

impl DirNode {
    pub(super) fn settled(names: Names) -> Self {
        Self {
            now: names.clone(),
            safe: names,
            pending: Vec::new(),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }
}

/// Everything on a disk. Copies share the bytes of files.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(super) nodes: Vec<Node>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Dir(DirNode::default())],
        }
    }
}

impl Device {
    /// Does `change`, which must have been possible when it was recorded.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::MakeFile { dir, name } => {
                self.make(*dir, name, Node::File(FileNode::default()));
            }
            Change::MakeDir { dir, name } => {
                self.make(*dir, name, Node::Dir(DirNode::default()));
            }
            Change::Patch { file, patch } => {
                let file = self.file_mut(*file);
                patch.apply(Arc::make_mut(&mut file.now));
                file.pending.push(patch.clone());
            }
            Change::Sync { file } => self.file_mut(*file).sync(),
            Change::LosePages { file, view } => self.file_mut(*file).lose_pages(*view),
            Change::Rename { from, to } => self.rename(from, to),
            Change::Remove { dir, name } => {
                let name = name.clone();
                self.dir_mut(*dir).change(NameChange::Unlink { name });
            }
            Change::SyncDir { dir } => {
                let dir = self.dir_mut(*dir);
                *dir = DirNode::settled(std::mem::take(&mut dir.now));
            }
        }
    }

    pub(super) fn has_name(&self, ino: Ino) -> bool {
        self.nodes.iter().any(|node| match node {
            Node::Dir(dir) => dir.now.values().any(|held| *held == ino),
            Node::File(_) => false,
        })
    }

    fn make(&mut self, dir: Ino, name: &OsStr, node: Node) {
        let (ino, name) = (self.nodes.len(), name.to_owned());
        self.nodes.push(node);
        self.dir_mut(dir).change(NameChange::Link { name, ino });
    }

    /// One step within a directory; from one directory to another a power cut may leave both names or none.
    fn rename(&mut self, from: &(Ino, OsString), to: &(Ino, OsString)) {
        let (from_dir, from) = from.clone();
        let (to_dir, to) = to.clone();
        if from_dir == to_dir {
            self.dir_mut(from_dir)
                .change(NameChange::Rename { from, to });
        } else if let Some(ino) = self.dir_mut(from_dir).now.get(&from).copied() {
            self.dir_mut(to_dir)
                .change(NameChange::Link { name: to, ino });
            self.dir_mut(from_dir)
                .change(NameChange::Unlink { name: from });
        }
    }

    pub(super) fn dir(&self, ino: Ino) -> Option<&DirNode> {
        match self.nodes.get(ino) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub(super) fn file(&self, ino: Ino) -> &FileNode {
        match &self.nodes[ino] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("{ino} is a directory"),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> &mut DirNode {
        match &mut self.nodes[ino] {
            Node::Dir(dir) => dir,
            Node::File(_) => panic!("{ino} is a file"),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> &mut FileNode {
        match &mut self.nodes[ino] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("{ino} is a directory"),
        }
    }

    /// What has that name.
    pub(super) fn find(&self, path: &Path) -> Option<Ino> {
        path.components().try_fold(ROOT, |dir, part| match part {
            Component::Normal(name) => self.dir(dir)?.now.get(name).copied(),
            Component::ParentDir => None,
            _ => Some(dir),
        })
    }

    /// Every file that has a name, with its length; for people who look at a failed test.
    pub(crate) fn listing(&self) -> Vec<(PathBuf, usize)> {
        let mut found = Vec::new();
        let mut ahead = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = ahead.pop() {
            match &self.nodes[ino] {
                Node::File(file) => found.push((path, file.now.len())),
                Node::Dir(dir) => {
                    ahead.extend(dir.now.iter().map(|(name, ino)| (path.join(name), *ino)));
                }
            }
        }
        found.sort();
        found
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        self.listing().iter().map(|(_, len)| *len as u64).sum()
    }
}
