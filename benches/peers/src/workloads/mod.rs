//! The workloads, one file each: what is done, and the rows of who does it.

mod backlog;
mod curve;
mod durable;
mod live;
mod open;
mod overflow;
mod wake;

use crate::args::Args;
use crate::ends::Verb;
use crate::job::{Job, Outcome, Step};

/// One table of the comparison.
pub(crate) struct Section {
    /// What a child finds it by.
    pub(crate) key: &'static str,
    pub(crate) title: String,
    pub(crate) steps: &'static [Step],
    pub(crate) items: u64,
    pub(crate) item_bytes: usize,
    pub(crate) rows: Vec<Row>,
}

/// One line of a table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) verb: Verb,
    /// A slow peer gets one item in so many.
    share: u64,
    /// Items and their bytes, where they aren't the section's.
    scale: Option<(u64, usize)>,
    pub(crate) run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Peer,
    Floor,
}

/// Where items are that nobody has taken yet: what is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    Does(fn(&Job) -> Outcome),
    /// And why not.
    Cannot(&'static str),
}

impl Row {
    fn new(kind: Kind, place: Place, name: &str, verb: Verb, run: Run) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            place,
            verb,
            share: 1,
            scale: None,
            run,
        }
    }

    fn ours(place: Place, name: &str, verb: Verb, run: fn(&Job) -> Outcome) -> Self {
        Self::new(Kind::Ours, place, name, verb, Run::Does(run))
    }

    fn memory(name: &str, verb: Verb, run: fn(&Job) -> Outcome) -> Self {
        Self::new(Kind::Peer, Place::Memory, name, verb, Run::Does(run))
    }

    fn disk(name: &str, verb: Verb, run: fn(&Job) -> Outcome) -> Self {
        Self::new(Kind::Peer, Place::Disk, name, verb, Run::Does(run))
    }

    fn floor(name: &str, run: fn(&Job) -> Outcome) -> Self {
        Self::new(Kind::Floor, Place::Disk, name, Verb::Many, Run::Does(run))
    }

    fn cannot(place: Place, name: &str, why: &'static str) -> Self {
        Self::new(Kind::Peer, place, name, Verb::One, Run::Cannot(why))
    }

    fn share(self, share: u64) -> Self {
        Self { share, ..self }
    }

    fn of(self, items: u64, item_bytes: usize) -> Self {
        let scale = Some((items, item_bytes));
        Self { scale, ..self }
    }

    /// How many items of how many bytes it gets in a section.
    pub(crate) fn work(&self, section: &Section) -> (u64, usize) {
        let (items, bytes) = self.scale.unwrap_or((section.items, section.item_bytes));
        ((items / self.share).max(1), bytes)
    }
}

/// The names on the command line, in the order of the page.
pub(crate) const WORKLOADS: [&str; 7] = [
    "live", "backlog", "overflow", "durable", "wake", "open", "curve",
];

/// What a workload consists of.
pub(crate) fn sections(workload: &str, args: &Args) -> Vec<Section> {
    match workload {
        "live" => live::sections(args),
        "backlog" => backlog::sections(args),
        "overflow" => overflow::sections(args),
        "durable" => durable::sections(args),
        "wake" => wake::sections(args),
        "open" => open::sections(args),
        _ => curve::sections(args),
    }
}
