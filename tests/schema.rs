//! A schema changes while something waits: each record is read as it was written.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{assert_conserved, send};
use overspill::{
    Builder, Codec, CodecError, DeadLetter, DiskBufferedChannel, Durability, OpenError, RecvError,
    SchemaTag, Storage,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

type Channel = DiskBufferedChannel<u64>;

/// What separates the records of one version from those of the next: read as the wrong one, none is the item it was.
const APART: u64 = 1_000_000;

/// Numbers, which each version of the schema writes in another way.
#[derive(Clone)]
struct Numbers {
    version: u64,
    name: &'static str,
}

impl Numbers {
    fn of(version: u64) -> Self {
        let name = "numbers";
        Self { version, name }
    }

    fn record(&self, item: u64) -> Vec<u8> {
        (item + self.version * APART).to_le_bytes().to_vec()
    }
}

impl Codec<u64> for Numbers {
    fn name(&self) -> &str {
        self.name
    }

    fn encode(&self, item: &u64, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        buffer.extend(self.record(*item));
        Ok(())
    }

    fn decode(&self, record: &[u8]) -> Result<u64, CodecError> {
        read(self.version, record).map_err(CodecError::new)
    }
}

/// Reads a record of that version, and takes any other for one.
fn read(version: u64, record: &[u8]) -> Result<u64, String> {
    let number = u64::from_le_bytes(record.try_into().map_err(|_| "not eight bytes")?);
    Ok(number.wrapping_sub(version * APART))
}

fn tag(version: u64) -> String {
    format!("numbers/{version}")
}

/// A directory, and how the channel in it is opened.
struct Spool {
    dir: TempDir,
    storage: Storage,
    durability: Durability,
}

impl Spool {
    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn untagged(&self, version: u64) -> Builder<u64, Numbers> {
        Channel::builder(self.path())
            .storage(self.storage)
            .durability(self.durability.clone())
            .memory_items(3)
            // Three records.
            .block_bytes(36)
            .disk_free_min(0)
            .codec(Numbers::of(version))
    }

    /// Version `version`, which can also read those of `earlier`.
    fn builder(&self, version: u64, earlier: &[u64]) -> Builder<u64, Numbers> {
        let builder = self.untagged(version).schema(tag(version));
        earlier.iter().fold(builder, |builder, earlier| {
            let earlier = *earlier;
            builder.migrate(tag(earlier), move |record| read(earlier, record))
        })
    }

    fn open(&self, version: u64, earlier: &[u64]) -> Channel {
        self.builder(version, earlier).open().unwrap()
    }

    /// A channel of that version sends `items`, and ends.
    fn fill(&self, version: u64, earlier: &[u64], items: std::ops::Range<u64>) {
        let channel = self.open(version, earlier);
        send(&channel, items);
        channel.halt().unwrap();
    }
}

fn with_each_kind(scenario: impl Fn(&Spool)) {
    for storage in [Storage::Sled, Storage::Log] {
        for durability in [Durability::Spill, Durability::Process] {
            scenario(&spool(storage, durability));
        }
    }
}

fn spool(storage: Storage, durability: Durability) -> Spool {
    Spool {
        dir: tempfile::tempdir().unwrap(),
        storage,
        durability,
    }
}

/// Takes everything that is left.
fn drain(channel: &Channel) -> Vec<u64> {
    channel.close();
    let items = channel.receiver().iter().collect();
    assert_conserved(&channel.stats());
    channel.halt().unwrap();
    items
}

fn letters(channel: &Channel) -> Vec<DeadLetter> {
    channel.dead_letters().collect()
}

/// Sets the next item aside.
fn bury(channel: &Channel) {
    let before = channel.stats().dead_lettered;
    let delivery = channel.acking_receiver().recv().unwrap();
    delivery.dead_letter("refused");
    common::wait_until("it is a letter", || channel.stats().dead_lettered > before);
}

/// Every file of the directory but the lock.
fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(image(&path));
        } else if path.file_name().unwrap() != "LOCK" {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

fn refusal(builder: Builder<u64, Numbers>) -> (SchemaTag, SchemaTag) {
    match builder.open() {
        Err(OpenError::Schema {
            found, expected, ..
        }) => (found, expected),
        other => panic!("{other:?}"),
    }
}

// ---- what waits ----------------------------------------------------------------------------------

#[test]
fn what_was_written_before_a_change_is_read_as_it_was_written() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..20);
        let channel = spool.open(2, &[1]);
        assert_eq!(channel.stats().pending, 20);
        send(&channel, 20..40);
        assert_eq!(drain(&channel), (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn each_of_several_schemas_in_one_backlog_has_its_own_reader() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        spool.fill(2, &[1], 10..20);
        spool.fill(3, &[1, 2], 20..30);
        spool.fill(3, &[2, 1], 30..40);
        let channel = spool.open(4, &[1, 2, 3]);
        send(&channel, 40..50);
        assert_eq!(drain(&channel), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_schema_that_comes_back_needs_no_reader_for_itself() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        spool.fill(2, &[1], 10..20);
        let channel = spool.open(1, &[2]);
        send(&channel, 20..30);
        assert_eq!(drain(&channel), (0..30).collect::<Vec<_>>());
    });
}

#[test]
fn items_that_were_out_are_saved_in_the_schema_of_their_time() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        let channel = spool.open(2, &[1]);
        send(&channel, 10..20);
        let receiver = channel.acking_receiver();
        let mut out = Vec::new();
        assert_eq!(receiver.recv_many(&mut out, 4).unwrap(), out.len());
        while out.len() < 15 {
            receiver.recv_many(&mut out, 1).unwrap();
        }
        channel.sync().unwrap();
        out.pop().unwrap().nack();
        channel.halt().unwrap();
        assert_eq!(drain(&spool.open(3, &[1, 2])), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_crash_right_after_a_change_costs_nothing() {
    for storage in [Storage::Sled, Storage::Log] {
        let spool = spool(storage, Durability::Process);
        spool.fill(1, &[], 0..10);
        spool.open(2, &[1]).crash();
        spool.open(2, &[1]).crash();
        let channel = spool.open(2, &[1]);
        send(&channel, 10..20);
        channel.crash();
        let channel = spool.open(3, &[1, 2]);
        send(&channel, 20..30);
        channel.crash();
        assert_eq!(drain(&spool.open(3, &[1, 2])), (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn a_codec_may_change_with_the_tag_or_under_it() {
    for version in [1, 2] {
        let spool = spool(Storage::Log, Durability::Spill);
        spool.fill(1, &[], 0..10);
        let other = |builder: Builder<u64, Numbers>| {
            builder.codec(Numbers {
                version: 5,
                name: "other",
            })
        };
        let (found, expected) = refusal(other(spool.untagged(0).schema(tag(version))));
        assert_eq!((&*found.codec, &*expected.codec), ("numbers", "other"));
        let builder = spool.untagged(0).schema(tag(version));
        let builder = builder.migrate(tag(1), |record| read(1, record));
        let channel = other(builder).open().unwrap();
        send(&channel, 10..20);
        assert_eq!(drain(&channel), (0..20).collect::<Vec<_>>());
    }
}

// ---- what is refused -----------------------------------------------------------------------------

#[test]
fn a_backlog_that_nothing_can_read_is_refused_and_stays_as_it_was() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        let before = image(&spool.path());
        for builder in [
            spool.builder(2, &[]),
            spool.builder(2, &[3]),
            spool.untagged(1),
            // Without a tag of today there is nothing to change to.
            spool.untagged(1).migrate(tag(1), |record| read(1, record)),
        ] {
            let (found, _) = refusal(builder);
            assert_eq!(found.schema, Some(tag(1)));
        }
        assert_eq!(image(&spool.path()), before);
        assert_eq!(drain(&spool.open(1, &[])), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn an_earlier_schema_needs_its_reader_as_long_as_something_waits_in_it() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        spool.fill(2, &[1], 10..20);
        let before = image(&spool.path());
        for version in [2, 3] {
            let (found, expected) = refusal(spool.builder(version, &[2]));
            assert_eq!(found.schema, Some(tag(1)));
            assert_eq!(expected.schema, Some(tag(version)));
        }
        assert_eq!(image(&spool.path()), before);
        let take = |count| {
            let channel = spool.open(2, &[1]);
            let receiver = channel.receiver();
            let items: Vec<u64> = (0..count).map(|_| receiver.recv().unwrap()).collect();
            channel.halt().unwrap();
            items
        };
        assert_eq!(take(9), (0..9).collect::<Vec<_>>());
        assert_eq!(refusal(spool.builder(3, &[2])).0.schema, Some(tag(1)));
        assert_eq!(take(1), [9]);
        assert_eq!(drain(&spool.open(3, &[2])), (10..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_directory_without_a_tag_takes_one_and_keeps_its_items() {
    with_each_kind(|spool| {
        let channel = spool.untagged(1).open().unwrap();
        send(&channel, 0..10);
        channel.halt().unwrap();
        spool.fill(1, &[], 10..20);
        assert_eq!(refusal(spool.untagged(1)).0.schema, Some(tag(1)));
        let channel = spool.open(2, &[1]);
        assert_eq!(drain(&channel), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn what_nothing_is_left_of_is_forgotten() {
    with_each_kind(|spool| {
        let plain = || fs::metadata(spool.path().join("channel")).unwrap().len();
        spool.fill(1, &[], 0..10);
        let len = plain();
        spool.fill(2, &[1], 10..20);
        assert!(plain() > len, "{} > {len}", plain());
        drain(&spool.open(2, &[1]));
        spool.fill(3, &[2], 20..30);
        assert_eq!(plain(), len);
        assert_eq!(drain(&spool.open(3, &[])), (20..30).collect::<Vec<_>>());
    });
}

// ---- a damaged identity --------------------------------------------------------------------------

#[test]
fn a_channel_file_that_is_lost_after_a_change_comes_back_with_its_history() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        spool.fill(2, &[1], 10..20);
        let file = spool.path().join("channel");
        let original = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(refusal(spool.builder(1, &[])).0.schema, Some(tag(2)));
        let channel = spool.open(2, &[1]);
        assert_eq!(fs::read(&file).unwrap(), original);
        send(&channel, 20..30);
        assert_eq!(drain(&channel), (0..30).collect::<Vec<_>>());
    });
}

#[test]
fn a_history_is_found_in_the_store_that_a_directory_moved_to() {
    for (from, to) in [(Storage::Log, Storage::Sled), (Storage::Sled, Storage::Log)] {
        let mut spool = spool(from, Durability::Spill);
        spool.fill(1, &[], 0..10);
        spool.storage = to;
        spool.fill(2, &[1], 10..20);
        fs::write(spool.path().join("channel"), "damaged").unwrap();
        assert_eq!(
            drain(&spool.open(3, &[1, 2])),
            (0..20).collect::<Vec<_>>(),
            "{from:?}"
        );
    }
}

#[test]
fn a_checkpoint_that_is_lost_after_a_change_leaves_every_record_its_reader() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        spool.fill(2, &[1], 10..20);
        fs::remove_file(spool.path().join("checkpoint")).unwrap();
        let channel = spool.open(2, &[1]);
        send(&channel, 20..30);
        assert_eq!(drain(&channel), (0..30).collect::<Vec<_>>());
    });
}

// ---- records that the reader refuses --------------------------------------------------------------

#[test]
fn a_record_that_the_reader_refuses_is_a_dead_letter_with_its_bytes() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..10);
        let picky = |record: &[u8]| match read(1, record) {
            Ok(3) => Err("not a three".to_owned()),
            Ok(5) => panic!("a five"),
            read => read,
        };
        let channel = spool.builder(2, &[]).migrate(tag(1), picky).open().unwrap();
        let receiver = channel.receiver();
        let items: Vec<u64> = (0..8).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(items, [0, 1, 2, 4, 6, 7, 8, 9]);
        common::wait_until("both are letters", || channel.stats().dead_lettered == 2);
        let found = letters(&channel);
        let told: Vec<_> = found
            .iter()
            .map(|letter| (letter.seq, &letter.bytes))
            .collect();
        let records = [3, 5].map(|item| Numbers::of(1).record(item));
        assert_eq!(told, [(3, &records[0]), (5, &records[1])]);
        assert!(found[0].reason.contains("not a three"), "{found:?}");
        channel.halt().unwrap();

        let channel = spool.open(2, &[1]);
        assert_eq!(channel.requeue_dead_letters().unwrap(), 2);
        assert_eq!(drain(&channel), [3, 5]);
    });
}

#[test]
fn a_reader_that_refuses_everything_stops_delivery_and_nothing_is_given_up() {
    with_each_kind(|spool| {
        spool.fill(1, &[], 0..20);
        let broken = |_: &[u8]| Err::<u64, _>("broken");
        let channel = spool
            .builder(2, &[])
            .migrate(tag(1), broken)
            .open()
            .unwrap();
        match channel.receiver().recv() {
            Err(RecvError::Undecodable { seq: 0, message }) => {
                assert!(message.contains("broken"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(channel.stats().pending, 20);
        channel.halt().unwrap();
        assert_eq!(drain(&spool.open(2, &[1])), (0..20).collect::<Vec<_>>());
    });
}

// ---- dead letters ---------------------------------------------------------------------------------

#[test]
fn dead_letters_are_requeued_as_they_were_written() {
    with_each_kind(|spool| {
        let channel = spool.open(1, &[]);
        send(&channel, 0..3);
        bury(&channel);
        channel.halt().unwrap();
        // Written as version 1, set aside by version 2.
        let channel = spool.open(2, &[1]);
        bury(&channel);
        let bytes: Vec<_> = letters(&channel)
            .into_iter()
            .map(|letter| letter.bytes)
            .collect();
        assert_eq!(bytes, [Numbers::of(1).record(0), Numbers::of(2).record(1)]);
        channel.halt().unwrap();

        let channel = spool.open(3, &[1, 2]);
        assert_eq!(channel.requeue_dead_letters().unwrap(), 2);
        channel.halt().unwrap();
        assert_eq!(drain(&spool.open(4, &[1, 2, 3])), [2, 0, 1]);
    });
}

#[test]
fn a_letter_that_became_a_letter_again_is_still_read_as_it_was_written() {
    with_each_kind(|spool| {
        let channel = spool.open(1, &[]);
        send(&channel, 0..1);
        bury(&channel);
        channel.halt().unwrap();
        // Nothing waits, so nothing needs a reader; but the letter does.
        spool.open(2, &[1]).halt().unwrap();
        let channel = spool.open(2, &[]);
        assert_eq!(channel.requeue_dead_letters().unwrap(), 1);
        send(&channel, 1..2);
        assert_eq!(channel.receiver().recv().unwrap(), 1);
        common::wait_until("it is a letter again", || !letters(&channel).is_empty());
        let letter = letters(&channel).remove(0);
        assert!(letter.reason.contains(&tag(1)), "{letter:?}");
        assert_eq!((letter.seq, &letter.bytes), (1, &Numbers::of(1).record(0)));
        channel.halt().unwrap();

        let channel = spool.open(3, &[1, 2]);
        assert_eq!(channel.requeue_dead_letters().unwrap(), 1);
        assert_eq!(drain(&channel), [0]);
    });
}
