//! A line on its way, and how far each source has come.

use serde::{Deserialize, Serialize};

/// The longest record: a longer line travels in pieces of this size.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// Who read a line: a followed file, a run on stdin, or one TCP connection. Random, so never the same for two.
pub(crate) type SourceId = u64;

pub(crate) fn new_source() -> SourceId {
    fastrand::u64(1..)
}

/// One line, with its place in what its source has read.
///
/// The lines of one source touch: each starts at the byte where the one before it ended. So a line that
/// comes twice and a line that is missing can both be told from `source` and `end` alone, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    pub(crate) source: SourceId,
    /// Bytes that the source has read up to the end of this line.
    pub(crate) end: u64,
    /// As it was read, with its newline if it has one.
    #[serde(with = "serde_bytes")]
    pub(crate) line: Vec<u8>,
}

impl LogRecord {
    pub(crate) fn start(&self) -> u64 {
        self.end.saturating_sub(self.line.len() as u64)
    }

    /// What a destination writes: one line, ended by a newline.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line);
        if self.line.last() != Some(&b'\n') {
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

/// How far each of the latest sources has come. Bounded: the source that was quiet longest is forgotten
/// first, and then its repeats are no longer recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends(Vec<(SourceId, u64)>);

impl Ends {
    const LIMIT: usize = 256;

    /// 0 for a source that isn't known.
    pub(crate) fn of(&self, source: SourceId) -> u64 {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| *known == source)
            .map_or(0, |(_, end)| *end)
    }

    /// Never goes back.
    pub(crate) fn advance(&mut self, source: SourceId, end: u64) {
        let end = end.max(self.of(source));
        match self.0.last_mut() {
            Some(last) if last.0 == source => last.1 = end,
            _ => {
                self.0.retain(|(known, _)| *known != source);
                self.0.push((source, end));
                let excess = self.0.len().saturating_sub(Self::LIMIT);
                self.0.drain(..excess);
            }
        }
    }

    pub(crate) fn advance_all(&mut self, other: &Self) {
        for (source, end) in &other.0 {
            self.advance(*source, *end);
        }
    }

    /// Where `batch` ends, for each source in it.
    pub(crate) fn after(batch: &[LogRecord]) -> Self {
        let mut ends = Self::default();
        for record in batch {
            ends.advance(record.source, record.end);
        }
        ends
    }
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
            LogRecord {
                source: 1,
                end: 2,
                line: line.into(),
            }
            .append_to(&mut out);
        }
        assert_eq!(out, b"a\nb\n");
    }

    #[test]
    fn ends_never_go_back_and_forget_the_quietest_source() {
        let mut ends = Ends::default();
        ends.advance(7, 10);
        ends.advance(7, 5);
        assert_eq!((ends.of(7), ends.of(8)), (10, 0));
        for other in 100..100 + Ends::LIMIT as u64 - 1 {
            ends.advance(other, 1);
        }
        ends.advance(7, 11);
        ends.advance(1_000, 1);
        assert_eq!((ends.of(7), ends.of(100), ends.of(101)), (11, 0, 1));
    }
}
