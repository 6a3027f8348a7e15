//! How a directory passes from one schema to the next.

use super::{Queue, Recovered, stores};
use crate::config::Settings;
use crate::dir::{Era, Identity, Wanted};
use crate::error::{OpenError, SchemaTag};

/// What the builder asks for.
pub(super) fn wanted(settings: &Settings, codec: &str) -> Wanted {
    Wanted {
        schema: SchemaTag::new(codec, settings.schema.as_deref()),
        readable: settings.readable.clone(),
    }
}

impl Queue {
    /// From here on records are written in `today`, if that is another schema than before, and forgets earlier ones when
    /// nothing is left of them. Nothing is admitted before that is on the device.
    ///
    /// A process that dies on the way has admitted nothing, and leaves the one state or the other.
    pub(super) fn enter_schema(
        &mut self,
        settings: &Settings,
        mut identity: Identity,
        today: Option<SchemaTag>,
        mut recovered: Recovered,
    ) -> Result<Recovered, OpenError> {
        let before = identity.encode().len() as u64;
        let is_new = today.is_some();
        if let Some(today) = today {
            // What a power cut takes back now would be given out again, below the end that is noted here.
            self.store.sync()?;
            identity.earlier.push(Era {
                schema: std::mem::replace(&mut identity.schema, today),
                last: self.base.incarnation - 1,
                end: recovered.next_seq,
            });
        }
        // Requeued letters have new numbers and old bytes: only an empty store needs no history.
        let forgets = !identity.earlier.is_empty()
            && self.store.units().is_empty()
            && self.letters.count()? == 0;
        if forgets {
            identity.earlier.clear();
        }
        if is_new || forgets {
            identity.write(&self.directory)?;
            let after = identity.encode().len() as u64;
            self.fixed_bytes = self.fixed_bytes.saturating_sub(before) + after;
            // The store writes the identity into every unit that it begins.
            self.store.close()?;
            self.store = stores::open(settings, &self.directory, &identity)?;
        }
        recovered.eras = identity.earlier;
        Ok(recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBuilder, Seal};
    use crate::config::Storage;
    use crate::disk::sim::{Sample, SimDisk};
    use crate::ledger::Ledger;
    use crate::seq::Seq;
    use std::path::Path;
    use std::sync::Arc;

    const SAMPLE: Sample = Sample {
        exhaustive: 64,
        random: 24,
        seed: 7,
    };

    fn open(disk: &SimDisk, tag: &str, readable: &[&str]) -> Result<(Queue, Recovered), OpenError> {
        let mut settings = Settings::new(Path::new("/spool"));
        settings.disk = Arc::new(disk.clone());
        settings.storage = Storage::Log;
        settings.disk_free_min = Some(0);
        settings.schema = Some(tag.to_owned());
        settings.readable = readable.iter().map(|tag| (*tag).to_owned()).collect();
        Queue::open(&settings, "none")
    }

    /// Appends blocks of one record each, which names its schema.
    fn append(queue: &mut Queue, tag: &str, numbers: std::ops::Range<Seq>) {
        for first in numbers {
            let mut builder = BlockBuilder::new(first, 0, 64);
            builder.push(tag.as_bytes());
            let seal = Seal {
                prev_end: first,
                incarnation: queue.incarnation(),
                ..Seal::default()
            };
            queue.append(&[Arc::new(builder.seal(&seal))]).unwrap();
        }
    }

    /// Every record is read in the schema that it names; how many there are.
    fn check(mut queue: Queue, recovered: &Recovered, today: &str) -> u64 {
        // No number of an earlier time is given out again.
        let mut ends = recovered.eras.iter().map(|era| era.end);
        assert!(
            ends.all(|end| end <= recovered.next_seq),
            "{:?}",
            recovered.eras
        );
        let (mut at, mut count) = (0, 0);
        while let Some(block) = queue.read(at, recovered.next_seq).unwrap().block {
            let written_in = block.header().incarnation;
            let mut earlier = recovered.eras.iter();
            let era = earlier.find(|era| written_in <= era.last);
            let read_as = era.map_or(today, |era| era.schema.schema.as_deref().unwrap());
            let (record, _) = block.record_at(0).unwrap();
            assert_eq!(record, read_as.as_bytes(), "{:?}", recovered.eras);
            assert!(era.is_none_or(|era| block.end() <= era.end), "{era:?}");
            (at, count) = (block.end(), count + 1);
        }
        count
    }

    /// Every crash while a directory with three records passes to another schema and gets two more.
    fn crash_everywhere(before: &SimDisk) -> usize {
        let disk = SimDisk::of(before.device());
        let (mut queue, recovered) = open(&disk, "v2", &["v1"]).unwrap();
        let changed = disk.changes();
        append(&mut queue, "v2", recovered.next_seq..recovered.next_seq + 2);
        queue.sync(&recovered.ledger).unwrap();
        let (mut device, changes) = disk.history();
        let mut states = 0;
        for made in 0..=changes.len() {
            let process = device.clone();
            for image in device.images(SAMPLE).into_iter().chain([process]) {
                let (image, again) = (SimDisk::of(image.clone()), SimDisk::of(image));
                let (queue, recovered) = open(&image, "v2", &["v1"]).unwrap();
                let count = check(queue, &recovered, "v2");
                assert!(count >= if made == changes.len() { 5 } else { 2 });
                match open(&again, "v1", &[]) {
                    Ok((queue, recovered)) => {
                        assert!(made < changed && check(queue, &recovered, "v1") <= 3);
                    }
                    Err(OpenError::Schema { found, .. }) => {
                        assert_eq!(found.schema.as_deref(), Some("v2"));
                    }
                    Err(error) => panic!("{error}"),
                }
                states += 1;
            }
            if let Some(change) = changes.get(made) {
                device.apply(change);
            }
        }
        states
    }

    #[test]
    fn a_crash_anywhere_in_a_change_leaves_every_record_its_schema() {
        let disk = SimDisk::default();
        let (mut queue, recovered) = open(&disk, "v1", &[]).unwrap();
        append(&mut queue, "v1", 0..2);
        queue.sync(&recovered.ledger).unwrap();
        append(&mut queue, "v1", 2..3);
        // Its last block isn't on the device.
        let crashed = SimDisk::of(disk.device());
        queue.close(&Ledger::default(), 3).unwrap();
        queue.abandon().unwrap();
        let states: usize = [crashed, disk].iter().map(crash_everywhere).sum();
        assert!(states > 200, "{states}");
    }
}
