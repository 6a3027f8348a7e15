//! What a power cut may leave of a disk: every image, or a bounded choice of them.
//!
//! The model of the medium: a sector is written whole or not at all, and what is written is what the file showed at
//! some moment since its last sync; sectors go in any order. A file's length is one that it had, or ends between two
//! sectors of a write that grew it; what is within the length and was never written is zeros. Names of a directory
//! change one by one in any order, but changes of the same name in theirs; a rename within a directory is one change.

use super::device::{Device, DirNode, FileNode, Ino, Names, Node, Patch, ROOT};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a device writes in one piece.
pub(super) const SECTOR: usize = 512;

/// How many images to look at where there are more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Where no more than these are possible, all are taken.
    pub(crate) exhaustive: usize,
    /// Otherwise so many random ones beside the extremes.
    pub(crate) random: usize,
    pub(crate) seed: u64,
}

/// Something that is undecided until power goes.
enum Axis {
    /// Whether a change of a name got to the device.
    Name { dir: Ino, index: usize },
    /// Which version of a sector did: a number of patches.
    Sector {
        file: Ino,
        sector: usize,
        versions: Vec<usize>,
    },
    /// Which length did, and the number of patches that had been made when it was that long.
    Len {
        file: Ino,
        lens: Vec<(usize, usize)>,
    },
}

impl Axis {
    fn most(&self) -> usize {
        match self {
            Self::Name { .. } => 1,
            Self::Sector { versions, .. } => versions.len() - 1,
            Self::Len { lens, .. } => lens.len() - 1,
        }
    }

    fn file(&self) -> Option<Ino> {
        match self {
            Self::Name { .. } => None,
            Self::Sector { file, .. } | Self::Len { file, .. } => Some(*file),
        }
    }
}

/// An outcome for every axis.
type Choice = Vec<usize>;

impl Device {
    /// What a power cut now may leave, all of it on the device.
    pub(crate) fn images(&self, sample: Sample) -> Vec<Device> {
        let axes = self.axes();
        let mut seen = BTreeSet::new();
        choices(self, &axes, sample)
            .into_iter()
            .filter_map(|mut choice| {
                let dirs = self.decide_names(&axes, &mut choice);
                seen.insert(choice.clone())
                    .then(|| self.image(&axes, &choice, dirs))
            })
            .collect()
    }

    fn axes(&self) -> Vec<Axis> {
        let mut names = Vec::new();
        let mut contents = Vec::new();
        let mut ahead = vec![ROOT];
        let mut met = BTreeSet::new();
        while let Some(ino) = ahead.pop() {
            if !met.insert(ino) {
                continue;
            }
            match &self.nodes[ino] {
                Node::File(file) => contents.extend(file_axes(ino, file)),
                Node::Dir(dir) => {
                    names
                        .extend((0..dir.pending.len()).map(|index| Axis::Name { dir: ino, index }));
                    ahead.extend(dir.ever_named());
                }
            }
        }
        names.extend(contents);
        names
    }

    /// The names of every directory under `choice`, which is brought into its simplest form: a change that needs
    /// one that is lost is lost, too, and nothing is chosen for files that have no name.
    fn decide_names(&self, axes: &[Axis], choice: &mut Choice) -> Vec<(Ino, Names)> {
        let mut dirs = Vec::new();
        let mut named = BTreeSet::new();
        let mut ahead = vec![ROOT];
        while let Some(ino) = ahead.pop() {
            named.insert(ino);
            let Some(dir) = self.dir(ino) else { continue };
            let mut kept = vec![true; dir.pending.len()];
            for (axis, chosen) in axes.iter().zip(choice.iter_mut()) {
                if let Axis::Name { dir: of, index } = axis
                    && *of == ino
                {
                    let needs_lost = (0..*index).any(|earlier| {
                        !kept[earlier] && dir.pending[*index].touches(&dir.pending[earlier])
                    });
                    kept[*index] = *chosen == 1 && !needs_lost;
                    *chosen = kept[*index].into();
                }
            }
            let mut names = dir.safe.clone();
            let changes = dir.pending.iter().zip(&kept);
            changes
                .filter(|(_, kept)| **kept)
                .for_each(|(change, _)| change.apply(&mut names));
            ahead.extend(names.values());
            dirs.push((ino, names));
        }
        for (axis, chosen) in axes.iter().zip(choice.iter_mut()) {
            let unnamed = match axis {
                Axis::Name { dir, .. } => !named.contains(dir),
                _ => axis.file().is_some_and(|file| !named.contains(&file)),
            };
            if unnamed {
                *chosen = 0;
            }
        }
        dirs
    }

    fn image(&self, axes: &[Axis], choice: &Choice, dirs: Vec<(Ino, Names)>) -> Device {
        let settle = |node: &Node| match node {
            Node::File(file) => Node::File(FileNode::settled(file.safe.clone())),
            Node::Dir(_) => Node::Dir(DirNode::default()),
        };
        let mut nodes: Vec<Node> = self.nodes.iter().map(settle).collect();
        for (ino, names) in dirs {
            nodes[ino] = Node::Dir(DirNode::settled(names));
        }
        let mut decided = axes.iter().zip(choice).peekable();
        while let Some((axis, chosen)) = decided.next() {
            let Axis::Len { file: ino, lens } = axis else {
                continue;
            };
            // A file's length is followed by its sectors.
            let (len, patches) = lens[*chosen];
            let mut sectors = Vec::new();
            while let Some((
                Axis::Sector {
                    sector, versions, ..
                },
                chosen,
            )) = decided.next_if(|(axis, _)| matches!(axis, Axis::Sector { .. }))
            {
                sectors.push((*sector, versions[*chosen]));
            }
            let bytes = compose(self.file(*ino), len, patches, &sectors);
            nodes[*ino] = Node::File(FileNode::settled(Arc::new(bytes)));
        }
        Device { nodes }
    }
}

impl DirNode {
    /// Everything that has a name here, or may have one after a power cut.
    fn ever_named(&self) -> impl Iterator<Item = Ino> {
        let mut inos: BTreeSet<Ino> = self.safe.values().copied().collect();
        inos.extend(self.now.values());
        inos.extend(self.pending.iter().filter_map(|change| match change {
            super::device::NameChange::Link { ino, .. } => Some(*ino),
            _ => None,
        }));
        inos.into_iter()
    }
}

fn file_axes(ino: Ino, file: &FileNode) -> Vec<Axis> {
    if file.pending.is_empty() {
        return Vec::new();
    }
    let mut lens = vec![(file.safe.len(), 0)];
    let mut len = file.safe.len();
    let mut versions: Vec<Vec<usize>> = Vec::new();
    for (index, patch) in file.pending.iter().enumerate() {
        let after = index + 1;
        match patch {
            Patch::Write { at, bytes } => {
                let end = at + bytes.len();
                let cuts = (len / SECTOR + 1..=end.saturating_sub(1) / SECTOR).map(|n| n * SECTOR);
                lens.extend(cuts.filter(|cut| *cut > *at).map(|cut| (cut, after)));
                len = len.max(end);
                let sectors = at / SECTOR..end.div_ceil(SECTOR);
                versions.resize(versions.len().max(sectors.end), vec![0]);
                versions[sectors].iter_mut().for_each(|v| v.push(after));
            }
            Patch::SetLen(new) => len = *new,
        }
        if lens.last().is_none_or(|(last, _)| *last != len) || matches!(patch, Patch::SetLen(_)) {
            lens.push((len, after));
        }
    }
    let sectors = versions.into_iter().enumerate();
    std::iter::once(Axis::Len { file: ino, lens })
        .chain(
            sectors
                .filter(|(_, versions)| versions.len() > 1)
                .map(|(sector, versions)| Axis::Sector {
                    file: ino,
                    sector,
                    versions,
                }),
        )
        .collect()
}

/// The bytes of a file whose length is that after `patches`, and whose `sectors` are those after so many.
fn compose(file: &FileNode, len: usize, patches: usize, sectors: &[(usize, usize)]) -> Vec<u8> {
    let mut shown = file.safe.as_ref().clone();
    let mut composed = shown.clone();
    for (index, patch) in file.pending.iter().enumerate() {
        let after = index + 1;
        patch.apply(&mut shown);
        if let Patch::SetLen(cut) = patch
            && after <= patches
        {
            // What a file lost with its length doesn't come back when it grows again.
            composed.truncate(*cut);
        }
        for (sector, version) in sectors {
            if *version == after {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(shown.len());
                if composed.len() < range.end {
                    composed.resize(range.end, 0);
                }
                composed[range.clone()].copy_from_slice(&shown[range]);
            }
        }
    }
    composed.resize(len, 0);
    composed
}

/// All choices where they are few; otherwise the extremes and some at random.
fn choices(device: &Device, axes: &[Axis], sample: Sample) -> Vec<Choice> {
    let all = axes
        .iter()
        .fold(1usize, |all, axis| all.saturating_mul(axis.most() + 1));
    if all <= sample.exhaustive {
        return (0..all).map(|number| nth(axes, number)).collect();
    }
    let mut choices = extremes(device, axes);
    let mut random = Random(sample.seed);
    choices.extend((0..sample.random).map(|_| {
        // Nearly all kept, nearly all lost, or anything.
        let (kept, of) = [(1, 8), (1, 2), (7, 8)][random.below(3)];
        let pick = |axis: &Axis| {
            if random.below(of) < kept {
                axis.most()
            } else {
                random.below(axis.most() + 1)
            }
        };
        axes.iter().map(pick).collect()
    }));
    choices
}

fn nth(axes: &[Axis], mut number: usize) -> Choice {
    let digit = |axis: &Axis| {
        let digit = number % (axis.most() + 1);
        number /= axis.most() + 1;
        digit
    };
    axes.iter().map(digit).collect()
}

/// All kept, all lost, each change lost alone, each write lost alone or torn in its middle.
fn extremes(device: &Device, axes: &[Axis]) -> Vec<Choice> {
    let kept: Choice = axes.iter().map(Axis::most).collect();
    let mut extremes = vec![kept.clone(), vec![0; axes.len()]];
    for (at, axis) in axes.iter().enumerate() {
        match axis {
            Axis::Sector { .. } => {}
            Axis::Name { .. } => extremes.push(with(&kept, at, 0)),
            Axis::Len { file, lens } => {
                extremes.push(with(&kept, at, 0));
                for (index, patch) in device.file(*file).pending.iter().enumerate() {
                    let Patch::Write { at: start, bytes } = patch else {
                        continue;
                    };
                    let (start, end) = (start / SECTOR, (start + bytes.len()).div_ceil(SECTOR));
                    let middle = start.midpoint(end);
                    let torn = [start..end, middle..end, start..middle];
                    for lost in torn.into_iter().filter(|lost| !lost.is_empty()) {
                        let long = without(axes, &kept, *file, index, lost.clone());
                        // The same with a length that ends where the write was torn.
                        let cut = lens
                            .iter()
                            .rposition(|(len, _)| *len <= lost.start * SECTOR);
                        extremes.extend(cut.map(|cut| with(&long, at, cut)));
                        extremes.push(long);
                    }
                }
            }
        }
    }
    extremes
}

fn with(choice: &Choice, at: usize, chosen: usize) -> Choice {
    let mut choice = choice.clone();
    choice[at] = chosen;
    choice
}

/// `choice` with `lost` sectors of a file as they were before its patch `index`.
fn without(
    axes: &[Axis],
    choice: &Choice,
    of: Ino,
    index: usize,
    lost: std::ops::Range<usize>,
) -> Choice {
    let chosen = axes.iter().zip(choice).map(|(axis, chosen)| match axis {
        Axis::Sector {
            file,
            sector,
            versions,
        } if *file == of && lost.contains(sector) => {
            versions.partition_point(|version| *version <= index) - 1
        }
        _ => *chosen,
    });
    chosen.collect()
}

/// Numbers that look random and are the same in every run: the generator that is known as split-mix.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which isn't 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }
}
