//! What `open` refuses, what it says then, and that it changes nothing.
#![cfg(all(feature = "test-util", feature = "sled"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that can't go on has failed"
)]

mod common;
mod hostile;

use common::{FOR_EVER, Item, assert_conserved, wait_until};
use hostile::mount::Mount;
use hostile::{Child, Task, contents, say};
use overspill::{
    Builder, ConfigError, DiskBufferedChannel, Durability, HaltFault, OpenError, SendError,
    StoreError, WhenFull,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn builder(dir: &Path) -> Builder<Item> {
    DiskBufferedChannel::builder(dir)
        .memory_items(4)
        .disk_free_min(0)
}

/// A directory with `count` items in it, closed.
fn filled(dir: &Path, count: u64) {
    let channel = builder(dir).open().unwrap();
    for id in 0..count {
        channel.sender().send(Item::new(id, 100)).unwrap();
    }
    channel.halt().unwrap();
}

/// All that `filled` put there is still there.
fn assert_filled(dir: &Path, count: u64) {
    let channel = builder(dir).open().unwrap();
    let rx = channel.receiver();
    for id in 0..count {
        assert_eq!(rx.recv_timeout(FOR_EVER).unwrap().intact(), id);
    }
    assert_eq!(channel.stats().pending, 0);
}

/// Everything in a directory but `LOCK`, where whoever tries may sign.
fn data(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = contents(dir);
    all.retain(|(path, _)| !path.ends_with("LOCK"));
    all
}

// ---- one owner ---------------------------------------------------------------------------------

#[test]
#[ignore = "the other tests run it, as a process of its own"]
fn child() {
    let Some(task) = Task::from_parent() else {
        return;
    };
    match builder(&task.dir).open() {
        Ok(channel) if task.name == "hold" => {
            channel.sender().send(Item::new(0, 100)).unwrap();
            say("opened");
            loop {
                std::thread::park();
            }
        }
        Ok(channel) => {
            say("opened");
            channel.halt().unwrap();
        }
        Err(OpenError::Locked { pid: Some(pid), .. }) => say(&format!("locked {pid}")),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_second_open_names_the_owner_in_this_process_and_in_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let own = std::process::id();
    let channel = builder(dir.path()).open().unwrap();
    match builder(dir.path()).open() {
        Err(OpenError::Locked { path, pid }) => assert_eq!((&*path, pid), (dir.path(), Some(own))),
        other => panic!("{other:?}"),
    }
    let said = Child::start("try", dir.path(), 0).finish("an open elsewhere");
    assert_eq!(said, [format!("locked {own}")]);
    channel.sender().send(Item::new(0, 100)).unwrap();
    channel.halt().unwrap();
    let said = Child::start("try", dir.path(), 0).finish("an open afterwards");
    assert_eq!(said, ["opened"]);
    assert_filled(dir.path(), 1);
}

#[test]
fn the_lock_dies_with_a_killed_process() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Child::start("hold", dir.path(), 0);
    assert_eq!(owner.line().as_deref(), Some("opened"));
    match builder(dir.path()).open() {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(owner.id())),
        other => panic!("{other:?}"),
    }
    owner.kill();
    let channel = builder(dir.path()).open().unwrap();
    assert!(!channel.open_report().clean_shutdown);
}

// ---- somebody else's ---------------------------------------------------------------------------

#[test]
fn another_schema_or_codec_is_refused_by_name_and_the_data_stays() {
    let dir = tempfile::tempdir().unwrap();
    let tagged = |tag: &str| builder(dir.path()).schema(tag);
    let channel = tagged("v1").open().unwrap();
    (0..20).for_each(|id| channel.sender().send(Item::new(id, 100)).unwrap());
    channel.halt().unwrap();
    drop(channel);
    let before = data(dir.path());
    let refusals = [
        (tagged("v2").open(), "bincode", Some("v2")),
        #[cfg(feature = "json")]
        (
            tagged("v1").codec(overspill::Json).open(),
            "json",
            Some("v1"),
        ),
    ];
    for (refused, codec, tag) in refusals {
        match refused {
            Err(OpenError::Schema {
                found, expected, ..
            }) => {
                assert_eq!(found.schema.as_deref(), Some("v1"));
                assert!(found.codec.contains("bincode"), "{found}");
                assert!(expected.codec.contains(codec), "{expected}");
                assert_eq!(expected.schema.as_deref(), tag);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(data(dir.path()), before);
    assert_eq!(tagged("v1").open().unwrap().stats().pending, 20);
}

#[test]
fn a_foreign_directory_stays_as_it_is_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    // Names of ours prove nothing: other programs have them, too.
    for name in ["mail.txt", "LOCK", "channel", "checkpoint", "quarantine/x"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("what {name} says")).unwrap();
    }
    let before = contents(dir.path());
    match builder(dir.path()).open() {
        Err(OpenError::Format { path, found, .. }) => {
            assert_eq!((&*path, found), (dir.path(), None));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_newer_format_is_refused_politely_and_stays_as_it_is() {
    // Both have the version behind the magic, and a checksum at the end of the file or of the slot.
    for (name, len) in [("channel", None), ("checkpoint", Some(16 << 10))] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 20);
        let file = dir.path().join(name);
        let mut bytes = fs::read(&file).unwrap();
        let len = len.unwrap_or(bytes.len());
        for part in bytes.chunks_mut(len) {
            part[8..10].copy_from_slice(&7u16.to_le_bytes());
            let crc = crc32c::crc32c(&part[..len - 4]);
            part[len - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        fs::write(&file, bytes).unwrap();
        let before = data(dir.path());
        match builder(dir.path()).open() {
            Err(OpenError::Format {
                found, supported, ..
            }) => assert_eq!((found, supported), (Some(7), 1), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(data(dir.path()), before, "{name}");
    }
}

#[test]
fn unknown_files_are_left_alone_and_named() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 20);
    let note = dir.path().join("README");
    fs::write(&note, "do not touch").unwrap();
    let channel = builder(dir.path()).open().unwrap();
    assert_eq!(
        channel.open_report().unknown_files,
        std::slice::from_ref(&note)
    );
    channel.halt().unwrap();
    drop(channel);
    assert_filled(dir.path(), 20);
    assert_eq!(fs::read_to_string(note).unwrap(), "do not touch");
}

// ---- settings that can't be kept ---------------------------------------------------------------

#[test]
fn settings_that_cannot_be_kept_are_named_and_nothing_is_made() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("spool");
    let new = || builder(&dir);
    let zero = |setting| ConfigError::Zero { setting };
    let unsupported = |durability| ConfigError::DurabilityUnsupported { durability };
    let cases = [
        (new().memory_items(0), zero("memory_items")),
        (new().memory_bytes_max(0), zero("memory_bytes_max")),
        (new().item_bytes_max(0), zero("item_bytes_max")),
        (new().block_bytes(0), zero("block_bytes")),
        (new().disk_bytes_max(0), zero("disk_bytes_max")),
        (
            new().durability(Durability::Interval(Duration::from_secs(1))),
            unsupported("interval"),
        ),
        (new().durability(Durability::Sync), unsupported("sync")),
        (
            new().disk_bytes_max(1000),
            ConfigError::TooSmall {
                setting: "disk_bytes_max",
                found: 1000,
                least: 1 << 20,
            },
        ),
    ];
    for (builder, expected) in cases {
        match builder.open() {
            Err(OpenError::Config(error)) => assert_eq!(error, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(!dir.exists());
}

#[test]
fn the_least_quota_takes_items_and_gives_back_one_that_will_never_fit() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path())
        .memory_items(1)
        .disk_bytes_max(1 << 20)
        .when_full(WhenFull::Reject)
        .open()
        .unwrap();
    let tx = channel.sender();
    for id in 0..20 {
        tx.send(Item::new(id, 1000)).unwrap();
    }
    let large = Item::new(20, 1 << 20);
    match tx.send(large.clone()) {
        Err(SendError::Full(item)) => assert_eq!(item, large),
        other => panic!("{other:?}"),
    }
    channel.close();
    let ids = channel.receiver().into_iter().map(Item::intact);
    assert!(ids.eq(0..20));
    assert_conserved(&channel.stats());
}

// ---- directories that fail ---------------------------------------------------------------------

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let what = "an unwritable directory";
    let Some(mount) = Mount::of_size(8 << 20, what) else {
        return;
    };
    let (full, new) = (mount.spool(), mount.path().join("new"));
    filled(&full, 20);
    let before = contents(&full);
    mount.make_read_only();
    for dir in [&full, &new] {
        match builder(dir).open() {
            Err(OpenError::Store(StoreError::Io { path, source, .. })) => {
                assert!(path.starts_with(dir), "{}", path.display());
                assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(contents(&full), before);
    assert!(!new.exists());
}

#[test]
fn a_directory_that_is_removed_under_a_running_channel_is_named_and_halt_gives_the_items_back() {
    // A halt hopes for five seconds, so both wait at the same time.
    std::thread::scope(|scope| {
        for part in ["", "sled"] {
            scope.spawn(move || remove_under_a_running_channel(part));
        }
    });
}

fn remove_under_a_running_channel(part: &str) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("spool");
    let channel = builder(&dir).block_bytes(200).open().unwrap();
    let tx = channel.sender();
    (0..20).for_each(|id| tx.send(Item::new(id, 100)).unwrap());
    wait_until("all but the open block is on disk", || {
        channel.stats().staging_items == 1
    });
    let on_disk = channel.stats().backlog_items;
    fs::remove_dir_all(dir.join(part)).unwrap();
    (20..40).for_each(|id| tx.send(Item::new(id, 100)).unwrap());
    wait_until("it is noticed", || channel.stats().last_error.is_some());
    let trouble = channel.stats().last_error.unwrap();
    assert!(trouble.path.starts_with(&dir), "{trouble:?}");

    let began = Instant::now();
    let error = channel.halt().unwrap_err();
    assert!(began.elapsed() < FOR_EVER);
    match &error.source {
        HaltFault::Store(StoreError::Io { path, .. }) => assert!(path.starts_with(&dir)),
        other => panic!("{other}"),
    }
    assert_eq!(dir.exists(), !part.is_empty(), "nobody makes it anew");
    let ids: Vec<u64> = error.into_items().into_iter().map(Item::intact).collect();
    // Front, and whatever no disk had taken.
    let back: Vec<u64> = (0..4).chain(4 + on_disk..40).collect();
    assert_eq!(ids, back);
    assert_conserved(&channel.stats());
}
