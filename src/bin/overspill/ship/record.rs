//! A line on its way, and the names that it goes by.

use overspill::{Delivery, ItemId};
use serde::{Deserialize, Serialize};

/// The longest record: a longer line travels in pieces of this size.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// A followed file, through all its rotations. Random, so never the same for two.
pub(crate) type SourceId = u64;

pub(crate) fn new_source() -> SourceId {
    fastrand::u64(1..)
}

/// Where a line stands in a followed file.
///
/// The lines of one source touch: each starts at the byte where the one before it ended. So a line that
/// comes twice and a line that is missing can both be told from its place alone, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) source: SourceId,
    /// Bytes that the source has read up to the end of this line.
    pub(crate) end: u64,
}

/// One line, as it stands in the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    /// `None`: it was never in a followed file.
    pub(crate) place: Option<Place>,
    /// What the channel that it came from calls it.
    pub(crate) came_as: Option<ItemId>,
    /// As it was read, with its newline if it has one.
    #[serde(with = "serde_bytes")]
    pub(crate) line: Vec<u8>,
}

impl LogRecord {
    /// A line of which nobody knows anything else.
    pub(crate) fn bare(line: Vec<u8>) -> Self {
        Self {
            place: None,
            came_as: None,
            line,
        }
    }

    /// The line of a followed file that ends at `end`.
    pub(crate) fn read(source: SourceId, end: u64, line: Vec<u8>) -> Self {
        Self {
            place: Some(Place { source, end }),
            ..Self::bare(line)
        }
    }
}

/// A line on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// What this shipper's channel calls it; `None` for what was read from the file again.
    pub(crate) id: Option<ItemId>,
    pub(crate) came_as: Option<ItemId>,
    pub(crate) place: Option<Place>,
    pub(crate) text: &'a [u8],
}

impl<'a> Line<'a> {
    pub(crate) fn delivered(delivery: &'a Delivery<LogRecord>) -> Self {
        let line = Self {
            id: Some(delivery.id()),
            ..Self::reread(delivery)
        };
        // A dead letter that was put back comes long after its neighbours: only its new id says whether it came before.
        match delivery.requeued_from() {
            Some(_) => Self {
                came_as: None,
                place: None,
                ..line
            },
            None => line,
        }
    }

    pub(crate) fn reread(record: &'a LogRecord) -> Self {
        Self {
            id: None,
            came_as: record.came_as,
            place: record.place,
            text: &record.line,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ItemId> {
        self.id.into_iter().chain(self.came_as)
    }

    /// What a destination writes: one line, ended by a newline.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text);
        if self.text.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// Cuts `buffer` into lines, with their newlines, and removes them from it. What follows the last newline
/// stays, or is the last line if `rest` says that nothing will follow. Longer lines are cut into pieces.
pub(crate) fn take_lines(buffer: &mut Vec<u8>, rest: Rest) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut taken = 0;
    for line in buffer.split_inclusive(|byte| *byte == b'\n') {
        let whole = rest == Rest::IsALine || line.last() == Some(&b'\n');
        for piece in line.chunks(LINE_BYTES_MAX) {
            if whole || piece.len() == LINE_BYTES_MAX {
                lines.push(piece.to_vec());
                taken += piece.len();
            }
        }
    }
    buffer.drain(..taken);
    lines
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The newline of the last line may still come.
    Waits,
    /// Nothing follows.
    IsALine,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, rest: Rest) -> (Vec<String>, String) {
        let mut buffer = text.as_bytes().to_vec();
        let lines = take_lines(&mut buffer, rest);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (lines.into_iter().map(text).collect(), text(buffer))
    }

    #[test]
    fn a_line_without_newline_waits_for_it() {
        assert_eq!(
            taken("a\nb\r\n\nc", Rest::Waits),
            (vec!["a\n".into(), "b\r\n".into(), "\n".into()], "c".into())
        );
        assert_eq!(
            taken("a\nc", Rest::IsALine),
            (vec!["a\n".into(), "c".into()], String::new())
        );
        assert_eq!(taken("", Rest::IsALine), (vec![], String::new()));
    }

    #[test]
    fn an_endless_line_is_cut_at_the_same_places_however_it_arrives() {
        let mut whole = vec![b'x'; 2 * LINE_BYTES_MAX + 10];
        whole.push(b'\n');
        let at_once = take_lines(&mut whole.clone(), Rest::Waits);

        let (mut buffer, mut in_steps) = (Vec::new(), Vec::new());
        for part in whole.chunks(300_000) {
            buffer.extend_from_slice(part);
            in_steps.extend(take_lines(&mut buffer, Rest::Waits));
        }
        assert_eq!(
            at_once.iter().map(Vec::len).collect::<Vec<_>>(),
            [LINE_BYTES_MAX, LINE_BYTES_MAX, 11]
        );
        assert_eq!(at_once, in_steps);
    }

    #[test]
    fn every_record_leaves_as_one_line() {
        let mut out = Vec::new();
        for line in ["a\n", "b"] {
            Line::reread(&LogRecord::bare(line.into())).append_to(&mut out);
        }
        assert_eq!(out, b"a\nb\n");
    }
}
