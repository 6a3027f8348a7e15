use super::*;
use crate::error::SchemaTag;
use crate::ledger::{Ledger, Outcome};
use std::collections::BTreeMap;
use std::fs as std_fs;

fn open(path: &Path, schema: Option<&str>) -> Result<Contents, OpenError> {
    let (directory, _) = Directory::prepare(&crate::disk::real(), path)?;
    let lock = DirLock::acquire(&directory)?;
    directory.load(&lock, StoreKind::Sled, &wanted("bincode2", schema))
}

pub(super) fn wanted(codec: &str, schema: Option<&str>) -> Wanted {
    Wanted {
        schema: SchemaTag::new(codec, schema),
        readable: Vec::new(),
    }
}

/// Every file below `path` with its bytes.
fn image(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::entries(&crate::disk::RealDisk, path).unwrap() {
        if entry.path.is_dir() {
            files.extend(image(&entry.path));
        } else {
            files.insert(entry.path.clone(), std_fs::read(&entry.path).unwrap());
        }
    }
    files
}

fn put_copy(root: &Path, unit: Seq, identity: &Identity) {
    let unit = root.join(SLED).join(format!("{unit:020}"));
    std_fs::create_dir_all(&unit).unwrap();
    std_fs::write(unit.join(UNIT_IDENTITY), identity.encode()).unwrap();
}

#[test]
fn a_new_directory_is_created_and_kept_from_then_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("not").join("there");
    let first = open(&path, None).unwrap();
    assert_eq!(first.origin, Origin::Created);
    assert!(
        first
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.clean)
    );
    let again = open(&path, None).unwrap();
    assert_eq!(again.origin, Origin::Kept);
    assert_eq!(again.identity, first.identity);
    assert_eq!(again.checkpoint, first.checkpoint);
    let other = open(&root.path().join("other"), None).unwrap();
    assert_ne!(other.identity.channel, first.identity.channel);
}

#[test]
fn a_foreign_directory_is_untouched_even_if_it_has_names_of_ours() {
    for names in [
        &["CURRENT"][..],
        &["LOCK", "CURRENT"],
        &["checkpoint", "model.bin", "channel"],
    ] {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            std_fs::write(root.path().join(name), b"somebody else's").unwrap();
        }
        let before = image(root.path());
        match open(root.path(), None) {
            Err(OpenError::Format { found: None, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(image(root.path()), before);
    }
}

#[test]
fn unknown_files_in_a_channel_are_listed_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    open(root.path(), None).unwrap();
    std_fs::write(root.path().join("notes"), b"mine").unwrap();
    std_fs::write(root.path().join("channel.new"), b"left by a crash").unwrap();
    let (_, unknown) = Directory::prepare(&crate::disk::real(), root.path()).unwrap();
    assert_eq!(unknown, [root.path().join("notes")]);
    open(root.path(), None).unwrap();
    assert_eq!(std_fs::read(root.path().join("notes")).unwrap(), b"mine");
}

#[test]
fn the_root_of_a_fresh_file_system_counts_as_empty() {
    let root = tempfile::tempdir().unwrap();
    std_fs::create_dir(root.path().join("lost+found")).unwrap();
    assert_eq!(open(root.path(), None).unwrap().origin, Origin::Created);
}

#[test]
fn a_newer_version_is_refused_and_untouched_wherever_it_stands() {
    for file in [CHANNEL, CHECKPOINT, CHECKPOINT_LARGE] {
        let root = tempfile::tempdir().unwrap();
        let mut contents = open(root.path(), None).unwrap();
        let mut checkpoint = contents.checkpoint.unwrap();
        for seq in 0..1500 {
            let odd = 2 * seq + 1;
            checkpoint.ledger.finish(odd..odd + 1, Outcome::Lost);
        }
        let file_of_slots = &mut contents.checkpoint_file;
        file_of_slots.write(&checkpoint, Persist::Device).unwrap();
        std_fs::remove_file(root.path().join(LOCK)).unwrap();
        let path = root.path().join(file);
        let mut bytes = std_fs::read(&path).unwrap();
        let rest = if file == CHECKPOINT {
            bytes.split_off(16 << 10)
        } else {
            Vec::new()
        };
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 2;
        bytes::seal(&mut bytes);
        bytes.extend(rest);
        std_fs::write(&path, bytes).unwrap();
        let before = image(root.path());
        match open(root.path(), None) {
            Err(OpenError::Format {
                found: Some(2),
                supported: 1,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(image(root.path()), before);
    }
}

#[test]
fn another_codec_or_another_tag_is_refused() {
    let root = tempfile::tempdir().unwrap();
    open(root.path(), Some("log/v1")).unwrap();
    assert!(matches!(
        open(root.path(), Some("log/v2")),
        Err(OpenError::Schema { .. })
    ));
    let (directory, _) = Directory::prepare(&crate::disk::real(), root.path()).unwrap();
    let lock = DirLock::acquire(&directory).unwrap();
    let json = wanted("json", Some("log/v1"));
    match directory.load(&lock, StoreKind::Sled, &json) {
        Err(OpenError::Schema {
            found, expected, ..
        }) => {
            assert_eq!(found, SchemaTag::new("bincode2", Some("log/v1")));
            assert_eq!(expected, json.schema);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_untagged_directory_adopts_a_tag_and_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    open(root.path(), None).unwrap();
    assert_eq!(
        open(root.path(), Some("log/v1")).unwrap().origin,
        Origin::Adopted
    );
    for other in [None, Some("log/v2")] {
        match open(root.path(), other) {
            Err(OpenError::Schema { found, .. }) => {
                assert_eq!(found.schema.as_deref(), Some("log/v1"));
            }
            opened => panic!("{opened:?}"),
        }
    }
    let kept = open(root.path(), Some("log/v1")).unwrap();
    assert_eq!(kept.origin, Origin::Kept);
}

#[test]
fn a_damaged_identity_is_rebuilt_from_the_newest_copy() {
    let root = tempfile::tempdir().unwrap();
    let original = open(root.path(), None).unwrap().identity;
    put_copy(root.path(), 0, &original);
    let tagged = open(root.path(), Some("log/v1")).unwrap().identity;
    put_copy(root.path(), 700, &tagged);
    std_fs::write(root.path().join(CHANNEL), b"OVSPCHAN and rubbish").unwrap();
    std_fs::write(root.path().join("notes"), b"not ours").unwrap();
    let rebuilt = open(root.path(), Some("log/v1")).unwrap();
    assert_eq!(rebuilt.origin, Origin::Rebuilt);
    assert_eq!(rebuilt.identity, tagged);
    assert_eq!(
        open(root.path(), Some("log/v1")).unwrap().origin,
        Origin::Kept
    );
}

#[test]
fn an_identity_without_copies_takes_its_id_from_the_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let original = open(root.path(), None).unwrap().identity;
    std_fs::remove_file(root.path().join(CHANNEL)).unwrap();
    let rebuilt = open(root.path(), Some("log/v1")).unwrap();
    assert_eq!(rebuilt.origin, Origin::Rebuilt);
    assert_eq!(rebuilt.identity.channel, original.channel);
    assert_eq!(rebuilt.identity.schema.schema.as_deref(), Some("log/v1"));
    assert!(rebuilt.checkpoint.is_some());
}

#[test]
fn a_checkpoint_that_is_gone_is_damage_and_not_a_new_channel() {
    let root = tempfile::tempdir().unwrap();
    let original = open(root.path(), None).unwrap().identity;
    std_fs::remove_file(root.path().join(CHECKPOINT)).unwrap();
    let mended = open(root.path(), None).unwrap();
    assert_eq!(mended.origin, Origin::Kept);
    assert_eq!(mended.identity, original);
    assert_eq!(mended.checkpoint, None);
}

#[test]
fn a_channel_file_that_is_damaged_and_alone_is_no_new_channel() {
    let root = tempfile::tempdir().unwrap();
    open(root.path(), None).unwrap();
    std_fs::remove_file(root.path().join(CHECKPOINT)).unwrap();
    std_fs::write(root.path().join(CHANNEL), b"rubbish").unwrap();
    let mended = open(root.path(), None).unwrap();
    assert_eq!(mended.origin, Origin::Rebuilt);
    assert_eq!(mended.checkpoint, None);
}

#[test]
fn a_crash_between_the_first_two_files_leaves_a_channel_that_opens() {
    let root = tempfile::tempdir().unwrap();
    let original = open(root.path(), None).unwrap();
    std_fs::rename(root.path().join(CHANNEL), root.path().join("channel.new")).unwrap();
    let again = open(root.path(), None).unwrap();
    assert_eq!(again.identity.channel, original.identity.channel);
    assert_eq!(again.checkpoint, original.checkpoint);
}

#[test]
fn a_checkpoint_survives_the_open_that_follows_it() {
    let root = tempfile::tempdir().unwrap();
    let mut contents = open(root.path(), None).unwrap();
    let mut ledger = Ledger::default();
    ledger.acknowledge(0, 10);
    ledger.finish(20..30, Outcome::Lost);
    let checkpoint = Checkpoint {
        channel: contents.identity.channel,
        incarnation: 1,
        tail: 50,
        clean_tail: 50,
        clean: true,
        ledger,
    };
    contents
        .checkpoint_file
        .write(&checkpoint, Persist::Device)
        .unwrap();
    assert_eq!(
        open(root.path(), None).unwrap().checkpoint,
        Some(checkpoint)
    );
}
