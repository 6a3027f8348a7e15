use super::images::SECTOR;
use super::*;
use crate::dir::fs;
use std::collections::BTreeMap;

const ALL: Sample = Sample {
    exhaustive: 4096,
    random: 0,
    seed: 1,
};

fn write(disk: &SimDisk, path: &str, at: u64, bytes: &[u8]) {
    let mut file = disk.open(Path::new(path), How::OpenOrCreate).unwrap();
    file.write_at(&mut [IoSlice::new(bytes)], at).unwrap();
}

fn sync(disk: &SimDisk, path: &str) {
    let mut file = disk.open(Path::new(path), How::Write).unwrap();
    file.sync().unwrap();
}

/// A file that is on the device, its name included.
fn settled(path: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::default();
    write(&disk, path, 0, bytes);
    sync(&disk, path);
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn contents(device: Device) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = device.listing();
    let disk = SimDisk::of(device);
    let read = |path: &Path| fs::read(&disk, path).unwrap().unwrap();
    paths
        .into_iter()
        .map(|(path, _)| (path.clone(), read(&path)))
        .collect()
}

/// What a power cut may leave: per image the files and their bytes.
fn after_a_power_cut(disk: &SimDisk) -> BTreeSet<BTreeMap<PathBuf, Vec<u8>>> {
    disk.device()
        .images(ALL)
        .into_iter()
        .map(contents)
        .collect()
}

/// The same for a disk with one file: `None` where it is gone.
fn versions_of(disk: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let images = after_a_power_cut(disk).into_iter();
    images
        .map(|mut files| files.remove(Path::new(path)))
        .collect()
}

fn names_after_a_power_cut(disk: &SimDisk) -> BTreeSet<Vec<String>> {
    let name = |path: &PathBuf| path.to_string_lossy().into_owned();
    let images = after_a_power_cut(disk).into_iter();
    images
        .map(|files| files.keys().map(name).collect())
        .collect()
}

fn sectors(values: &[u8]) -> Vec<u8> {
    values.iter().flat_map(|value| [*value; SECTOR]).collect()
}

#[test]
fn an_overwrite_reaches_the_device_sector_by_sector() {
    let disk = settled("/f", &sectors(&[1, 1]));
    write(&disk, "/f", 0, &sectors(&[2, 2]));
    let expected = [[1, 1], [1, 2], [2, 1], [2, 2]].map(|values| Some(sectors(&values)));
    assert_eq!(versions_of(&disk, "/f"), BTreeSet::from(expected));
    sync(&disk, "/f");
    let expected = BTreeSet::from([Some(sectors(&[2, 2]))]);
    assert_eq!(versions_of(&disk, "/f"), expected);
}

#[test]
fn a_file_that_grew_comes_back_shorter_or_with_zeros() {
    let disk = settled("/f", &sectors(&[1]));
    write(&disk, "/f", 512, &sectors(&[2, 3]));
    let expected = [
        vec![1],
        vec![1, 0],
        vec![1, 2],
        vec![1, 0, 0],
        vec![1, 2, 0],
        vec![1, 0, 3],
        vec![1, 2, 3],
    ];
    let expected = expected.map(|values| Some(sectors(&values))).into();
    assert_eq!(versions_of(&disk, "/f"), expected);
}

#[test]
fn a_sector_has_all_that_was_written_before_it_was() {
    let disk = settled("/f", b"----");
    write(&disk, "/f", 0, b"a");
    write(&disk, "/f", 3, b"b");
    let expected = ["----", "a---", "a--b"].map(|text| Some(text.as_bytes().to_vec()));
    assert_eq!(versions_of(&disk, "/f"), expected.into());
}

#[test]
fn what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
    let disk = settled("/f", &sectors(&[1, 1, 1]));
    let mut file = disk.open(Path::new("/f"), How::Write).unwrap();
    file.set_len(512).unwrap();
    file.set_len(1536).unwrap();
    let expected = [vec![1, 1, 1], vec![1], vec![1, 0, 0]];
    let expected = expected.map(|values| Some(sectors(&values))).into();
    assert_eq!(versions_of(&disk, "/f"), expected);
}

#[test]
fn a_file_goes_with_its_name_however_well_it_was_synced() {
    let disk = SimDisk::default();
    write(&disk, "/f", 0, b"data");
    sync(&disk, "/f");
    let expected = BTreeSet::from([None, Some(b"data".to_vec())]);
    assert_eq!(versions_of(&disk, "/f"), expected);
    disk.sync_dir(Path::new("/")).unwrap();
    let expected = BTreeSet::from([Some(b"data".to_vec())]);
    assert_eq!(versions_of(&disk, "/f"), expected);
}

#[test]
fn a_directory_that_goes_takes_its_files_along() {
    let disk = SimDisk::default();
    disk.create_dir(Path::new("/d")).unwrap();
    write(&disk, "/d/f", 0, b"data");
    sync(&disk, "/d/f");
    disk.sync_dir(Path::new("/d")).unwrap();
    let expected = BTreeSet::from([vec![], vec!["/d/f".to_owned()]]);
    assert_eq!(names_after_a_power_cut(&disk), expected);
}

#[test]
fn a_renamed_file_has_the_old_name_or_the_new_one() {
    let disk = settled("/old", b"data");
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    let expected = BTreeSet::from(["/old", "/new"].map(|name| vec![name.to_owned()]));
    assert_eq!(names_after_a_power_cut(&disk), expected);
}

#[test]
fn between_two_directories_a_rename_may_leave_both_names_or_none() {
    let disk = settled("/old", b"data");
    disk.create_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/old"), Path::new("/d/new")).unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [&[][..], &["/old"], &["/d/new"], &["/d/new", "/old"]];
    assert_eq!(names_after_a_power_cut(&disk), expected.map(names).into());
}

#[test]
fn changes_of_one_name_happen_in_their_order() {
    let disk = settled("/f", b"1");
    write(&disk, "/f.new", 0, b"2");
    sync(&disk, "/f.new");
    disk.rename(Path::new("/f.new"), Path::new("/f")).unwrap();
    disk.remove_file(Path::new("/f")).unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [&[][..], &["/f"], &["/f", "/f.new"]];
    assert_eq!(names_after_a_power_cut(&disk), expected.map(names).into());
    let expected = [None, Some(b"1".to_vec()), Some(b"2".to_vec())];
    assert_eq!(versions_of(&disk, "/f"), expected.into());
}

#[test]
fn many_images_are_sampled_with_their_extremes_and_alike_every_time() {
    let disk = settled("/f", &sectors(&[1; 20]));
    write(&disk, "/f", 0, &sectors(&[2; 20]));
    let sample = Sample {
        exhaustive: 64,
        random: 30,
        seed: 7,
    };
    let sampled = |sample| -> Vec<_> {
        let images = disk.device().images(sample).into_iter();
        images
            .map(|image| contents(image).into_values().next().unwrap())
            .collect()
    };
    let images = sampled(sample);
    assert!((25..=40).contains(&images.len()), "{}", images.len());
    let torn = [[1; 10], [2; 10]];
    let torn = [torn.concat(), [torn[1], torn[0]].concat()].map(|values| sectors(&values));
    for extreme in [sectors(&[1; 20]), sectors(&[2; 20])].iter().chain(&torn) {
        assert!(images.contains(extreme));
    }
    assert_eq!(images, sampled(sample));
    assert_ne!(images, sampled(Sample { seed: 8, ..sample }));
}

#[test]
fn the_history_leads_from_the_first_state_to_the_last() {
    let disk = settled("/f", b"1");
    write(&disk, "/g", 0, b"2");
    disk.rename(Path::new("/g"), Path::new("/f")).unwrap();
    let (mut device, changes) = disk.history();
    assert_eq!(changes.len(), disk.changes());
    assert!(contents(device.clone()).is_empty());
    for change in &changes {
        device.apply(change);
    }
    assert_eq!(contents(device), contents(disk.device()));
}

#[test]
fn the_end_of_a_process_loses_nothing_and_frees_the_locks() {
    let disk = SimDisk::default();
    let mut held = disk.open(Path::new("/f"), How::Create).unwrap();
    assert!(held.try_lock().unwrap());
    let mut second = disk.open(Path::new("/f"), How::Write).unwrap();
    assert!(!second.try_lock().unwrap());
    held.write_at(&mut [IoSlice::new(b"da"), IoSlice::new(b"ta")], 0)
        .unwrap();
    let after = SimDisk::of(disk.device());
    assert_eq!(fs::read(&after, Path::new("/f")).unwrap().unwrap(), b"data");
    let mut next = after.open(Path::new("/f"), How::Write).unwrap();
    assert!(next.try_lock().unwrap());
    drop(held);
    assert!(second.try_lock().unwrap());
    // It is still not on the device: power may leave no file, an empty one, zeros, or all of it.
    assert_eq!(versions_of(&after, "/f").len(), 4);
}

#[test]
fn the_call_of_a_number_fails_once_and_in_its_way() {
    let path = Path::new("/f");
    let disk = settled("/f", b"safe");
    let mut file = disk.open(path, How::Write).unwrap();
    let next = disk.calls();
    disk.fail(next + 1..next + 2, Fault::Io);
    assert!(disk.entry(path).is_ok());
    assert!(disk.entry(path).is_err());
    assert!(disk.entry(path).is_ok());

    disk.fail(disk.calls()..u64::MAX, Fault::Full);
    assert!(disk.entry(path).is_ok());
    let full = file.write_at(&mut [IoSlice::new(b"more")], 4).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 4);
    disk.heal();
    assert!(file.set_len(4).is_ok());

    disk.fail(disk.calls()..disk.calls() + 1, Fault::ShortWrite);
    assert!(file.write_at(&mut [IoSlice::new(b"more")], 4).is_err());
    assert_eq!(fs::read(&disk, path).unwrap().unwrap(), b"safemo");
}

#[test]
fn pages_of_a_failed_sync_are_gone_even_if_the_next_sync_works() {
    for (view, shown) in [(View::Device, "safe"), (View::Memory, "lost")] {
        let disk = settled("/f", b"safe");
        let mut file = disk.open(Path::new("/f"), How::Write).unwrap();
        file.write_at(&mut [IoSlice::new(b"lost")], 0).unwrap();
        let next = disk.calls();
        disk.fail(next..next + 1, Fault::LostSync(view));
        assert!(file.sync().is_err());
        let read = fs::read(&disk, Path::new("/f")).unwrap().unwrap();
        assert_eq!(read, shown.as_bytes());
        file.write_at(&mut [IoSlice::new(b"!")], 4).unwrap();
        file.sync().unwrap();
        let expected = BTreeSet::from([Some(b"safe!".to_vec())]);
        assert_eq!(versions_of(&disk, "/f"), expected);
    }
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = settled("/f", b"12");
    disk.set_capacity(5);
    let free = |disk: &SimDisk| disk.space(Path::new("/")).unwrap().free;
    assert_eq!(free(&disk), 3);
    let mut file = disk.open(Path::new("/f"), How::Write).unwrap();
    let full = file.write_at(&mut [IoSlice::new(b"3456")], 2).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(free(&disk), 0);
    file.write_at(&mut [IoSlice::new(b"54321")], 0).unwrap();
    assert_eq!(fs::read(&disk, Path::new("/f")).unwrap().unwrap(), b"54321");
}

#[test]
fn a_disk_that_lies_about_syncs_does_none() {
    let disk = SimDisk::default();
    disk.lie(Lie::SyncDir);
    write(&disk, "/f", 0, b"data");
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(versions_of(&disk, "/f").contains(&None));

    let disk = settled("/f", b"safe");
    disk.lie(Lie::Sync("/f"));
    write(&disk, "/f", 0, b"more");
    sync(&disk, "/f");
    assert!(versions_of(&disk, "/f").contains(&Some(b"safe".to_vec())));
}
