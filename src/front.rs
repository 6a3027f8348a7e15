//! The items that are ready to be received, oldest first.

use crate::seq::Seq;
use std::collections::VecDeque;
use std::ops::Range;

/// How an item came to the front, and so whether the disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Straight from its sender: never encoded.
    Direct,
    /// Encoded on the way, but never written.
    Handed,
    /// On disk, or staged to go there.
    Stored,
}

impl Origin {
    /// True when only memory has the item.
    pub(crate) fn is_memory_only(self) -> bool {
        self != Self::Stored
    }
}

/// Consecutive items that came the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Seq,
    pub(crate) len: u64,
    pub(crate) origin: Origin,
    /// Encoded bytes of the items, 0 where they were never encoded.
    pub(crate) bytes: u64,
    /// Admission of the oldest of them at the earliest, milliseconds since the Unix epoch; 0 where nobody looked.
    pub(crate) earliest_ms: u64,
    /// Admission of the youngest of them at the latest; 0 where no age is limited.
    pub(crate) latest_ms: u64,
    /// In which incarnation they were admitted.
    pub(crate) incarnation: u64,
}

impl Run {
    fn is_continued_by(&self, next: &Self) -> bool {
        self.first + self.len == next.first
            && self.origin == next.origin
            && self.latest_ms == next.latest_ms
            && self.incarnation == next.incarnation
    }
}

/// One item taken from the front.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) seq: Seq,
    pub(crate) item: T,
    pub(crate) origin: Origin,
    pub(crate) bytes: u64,
    pub(crate) incarnation: u64,
    pub(crate) earliest_ms: u64,
    pub(crate) latest_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Front<T> {
    items: VecDeque<T>,
    /// The numbers of `items`, in as few runs as possible.
    runs: VecDeque<Run>,
    memory_only: u64,
    /// Older items that are in an outlet, or were: see [`lend`](Self::lend).
    lent: Option<Run>,
}

impl<T> Default for Front<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            runs: VecDeque::new(),
            memory_only: 0,
            lent: None,
        }
    }
}

impl<T> Front<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items that only memory has.
    pub(crate) fn memory_only(&self) -> u64 {
        self.memory_only
    }

    /// Where the numbers of these end.
    pub(crate) fn memory_end(&self) -> Option<Seq> {
        let run = self.runs.iter().rfind(|run| run.origin.is_memory_only())?;
        Some(run.first + run.len)
    }

    pub(crate) fn oldest(&self) -> Option<&Run> {
        self.runs.front()
    }

    pub(crate) fn push(&mut self, item: T, run: Run) {
        self.items.push_back(item);
        self.push_run(run);
    }

    /// Adds an item as one more of the newest run, if that came straight from its senders, and no age is limited;
    /// otherwise it comes back.
    pub(crate) fn push_another(&mut self, item: T, seq: Seq, incarnation: u64) -> Result<(), T> {
        match self.runs.back_mut() {
            Some(run)
                if run.origin == Origin::Direct
                    && run.first + run.len == seq
                    && run.latest_ms == 0
                    && run.incarnation == incarnation =>
            {
                run.len += 1;
                self.memory_only += 1;
                self.items.push_back(item);
                Ok(())
            }
            _ => Err(item),
        }
    }

    /// Appends the items of one run.
    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>, run: Run) {
        self.items.extend(items);
        self.push_run(run);
    }

    /// As [`extend`](Self::extend), leaving `items` empty.
    pub(crate) fn append(&mut self, items: &mut VecDeque<T>, run: Run) {
        self.items.append(items);
        self.push_run(run);
    }

    fn push_run(&mut self, run: Run) {
        if run.len == 0 {
            return;
        }
        if run.origin.is_memory_only() {
            self.memory_only += run.len;
        }
        match self.runs.back_mut() {
            Some(last) if last.is_continued_by(&run) => {
                last.len += run.len;
                last.bytes += run.bytes;
            }
            _ => self.runs.push_back(run),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Taken<T>> {
        let item = self.items.pop_front()?;
        let run = self.runs.front_mut()?;
        let bytes = run.bytes / run.len;
        let taken = Taken {
            seq: run.first,
            item,
            origin: run.origin,
            bytes,
            incarnation: run.incarnation,
            earliest_ms: run.earliest_ms,
            latest_ms: run.latest_ms,
        };
        run.first += 1;
        run.len -= 1;
        run.bytes -= bytes;
        if run.len == 0 {
            self.runs.pop_front();
        }
        if taken.origin.is_memory_only() {
            self.memory_only -= 1;
        }
        Some(taken)
    }

    /// Takes up to `max` items of the oldest run at once, and says which they were.
    pub(crate) fn pop_many(&mut self, max: usize, into: &mut Vec<T>) -> Option<Run> {
        let run = self.runs.front_mut()?;
        let count = run.len.min(max as u64);
        let bytes = run.bytes / run.len * count;
        let taken = Run {
            len: count,
            bytes,
            ..*run
        };
        run.first += count;
        run.len -= count;
        run.bytes -= bytes;
        if run.len == 0 {
            self.runs.pop_front();
        }
        if taken.origin.is_memory_only() {
            self.memory_only -= count;
        }
        let count = usize::try_from(count).unwrap_or(max);
        into.extend(self.items.drain(..count.min(self.items.len())));
        Some(taken)
    }

    /// Takes the items of the oldest run.
    pub(crate) fn pop_run(&mut self, into: &mut Vec<T>) {
        if let Some(run) = self.runs.pop_front() {
            if run.origin.is_memory_only() {
                self.memory_only -= run.len;
            }
            let len = usize::try_from(run.len).unwrap_or(usize::MAX);
            into.extend(self.items.drain(..len.min(self.items.len())));
        }
    }

    /// Puts all items into an empty outlet, from which they may be taken, if they are one run that came straight from its
    /// senders. Until they are [back](Self::take_home) this front knows nothing of them but how many they were.
    pub(crate) fn lend(&mut self, outlet: &mut VecDeque<T>) {
        let is_direct = |run: &Run| run.origin == Origin::Direct && run.len > 1;
        if self.lent.is_none() && self.runs.len() == 1 && self.runs.front().is_some_and(is_direct) {
            self.lent = self.runs.pop_front();
            self.memory_only = 0;
            std::mem::swap(&mut self.items, outlet);
        }
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// How many items are in the outlet, at most.
    pub(crate) fn lent(&self) -> usize {
        self.lent
            .map_or(0, |run| usize::try_from(run.len).unwrap_or(usize::MAX))
    }

    /// Takes back what is left in the outlet, and says which numbers were taken.
    pub(crate) fn take_home(&mut self, outlet: &mut VecDeque<T>) -> Option<Range<Seq>> {
        let mut run = self.lent.take()?;
        let left = (outlet.len() as u64).min(run.len);
        let taken = run.first..run.first + run.len - left;
        if left > 0 {
            run.first = taken.end;
            run.len = left;
            outlet.append(&mut self.items);
            std::mem::swap(&mut self.items, outlet);
            self.memory_only += left;
            match self.runs.front_mut() {
                Some(next) if run.is_continued_by(next) => {
                    run.len += next.len;
                    *next = run;
                }
                _ => self.runs.push_front(run),
            }
        }
        Some(taken)
    }

    /// The items with their runs, oldest first.
    pub(crate) fn into_parts(self) -> (VecDeque<T>, VecDeque<Run>) {
        (self.items, self.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: Seq, origin: Origin) -> Run {
        Run {
            first,
            len: 1,
            origin,
            bytes: 10,
            earliest_ms: 0,
            latest_ms: 0,
            incarnation: 1,
        }
    }

    #[test]
    fn items_keep_their_numbers_and_origins_across_gaps() {
        let mut front = Front::default();
        let pushed = [
            (0, Origin::Stored),
            (1, Origin::Stored),
            (2, Origin::Direct),
            (7, Origin::Direct),
            (8, Origin::Handed),
        ];
        for (seq, origin) in pushed {
            front.push(seq, run(seq, origin));
        }
        assert_eq!(front.memory_only(), 3);
        assert_eq!(front.runs.len(), 4);
        for (seq, origin) in pushed {
            let taken = front.pop().unwrap();
            assert_eq!(
                (taken.seq, taken.item, taken.origin, taken.bytes),
                (seq, seq, origin, 10)
            );
        }
        assert_eq!(front.memory_only(), 0);
        assert!(front.pop().is_none());
    }

    #[test]
    fn many_items_leave_as_one_by_one() {
        for max in 1..5 {
            let mut front = Front::default();
            let pushed = [
                (0, Origin::Direct),
                (1, Origin::Direct),
                (2, Origin::Direct),
                (5, Origin::Direct),
                (6, Origin::Stored),
            ];
            for (seq, origin) in pushed {
                front.push(seq, run(seq, origin));
            }
            let (mut items, mut taken) = (Vec::new(), Vec::new());
            while let Some(run) = front.pop_many(max, &mut items) {
                assert_eq!(run.bytes, run.len * 10);
                taken.extend((run.first..run.first + run.len).map(|seq| (seq, run.origin)));
            }
            assert_eq!(taken, pushed);
            assert_eq!(items, pushed.map(|(seq, _)| seq));
            assert_eq!((front.memory_only(), front.len()), (0, 0));
        }
    }

    #[test]
    fn what_is_lent_comes_back_in_its_place_and_tells_what_was_taken() {
        for (lent, taken, younger) in [(2, 0, 0), (5, 0, 2), (5, 3, 0), (5, 3, 4), (5, 5, 3)] {
            let mut front = Front::default();
            let mut outlet = VecDeque::new();
            (0..lent).for_each(|seq| front.push(seq, run(seq, Origin::Direct)));
            front.lend(&mut outlet);
            assert_eq!((front.len(), front.lent() as u64), (0, lent));
            for seq in lent..lent + younger {
                front.push(seq, run(seq, Origin::Direct));
            }
            for seq in 0..taken {
                assert_eq!(outlet.pop_front(), Some(seq));
            }
            assert_eq!(front.take_home(&mut outlet), Some(0..taken));
            assert!(outlet.is_empty() && !front.is_lent());
            assert_eq!(front.memory_only(), lent + younger - taken);
            for seq in taken..lent + younger {
                let next = front.pop().unwrap();
                assert_eq!((next.seq, next.item), (seq, seq));
            }
            assert!(front.pop().is_none() && front.runs.is_empty());
        }
    }

    #[test]
    fn what_is_on_disk_is_not_lent() {
        let mut front = Front::default();
        let mut outlet = VecDeque::new();
        front.push(0, run(0, Origin::Stored));
        front.push(1, run(1, Origin::Stored));
        front.lend(&mut outlet);
        assert!(!front.is_lent() && outlet.is_empty());
        front.push(2, run(2, Origin::Direct));
        front.lend(&mut outlet);
        assert!(!front.is_lent() && outlet.is_empty());
    }
}
