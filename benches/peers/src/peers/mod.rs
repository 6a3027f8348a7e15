//! The peers, one file for each group. Every opener returns two ends: where items go in and where they come out.

pub(crate) mod bare;
pub(crate) mod hopper;
pub(crate) mod overspill;
pub(crate) mod queue_file;
pub(crate) mod sqlite;
pub(crate) mod tasks;
pub(crate) mod threads;
pub(crate) mod yaque;
