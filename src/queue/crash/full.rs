//! Draining needs no free space, in whatever order it goes and however little a slot of the checkpoint takes.

use super::driver::{Driver, Step};
use super::model::Promise;
use super::{SMALL_SLOTS, checker};
use crate::disk::sim::{Random, SimDisk};

const HISTORIES: u64 = 8;

const DRAINING: [Step; 6] = [
    Step::AcknowledgeAny,
    Step::AcknowledgeAny,
    Step::AcknowledgeAny,
    Step::Consume,
    Step::Checkpoint,
    Step::Reclaim,
];

/// Fills a disk with items and drains it. Returns how many crash states that left, and how often a reclaim couldn't tell
/// all that was finished.
fn run(seed: u64) -> Result<(usize, usize), String> {
    let mut checker = checker(seed);
    // There are many changes to look behind, most of them on their way to the system only.
    checker.sample.exhaustive = 2;
    checker.sample.random = 1;
    let disk = SimDisk::default();
    let mut random = Random(seed);
    let steps = Random(random.next());
    let mut driver = Driver::open(&checker.setup, &disk, Promise::default(), 0, steps)?;
    for _ in 0..8 {
        driver.step(Step::Append)?;
        driver.step(Step::AcknowledgeAny)?;
    }
    driver.step(Step::Sync)?;
    disk.set_capacity(0);
    let mut untold = 0;
    for _ in 0..24 {
        let step = DRAINING[random.below(DRAINING.len())];
        untold += usize::from(step == Step::Reclaim && !driver.has_room());
        driver.step(step)?;
    }
    while driver.is_pending() {
        driver.step(Step::Consume)?;
    }
    driver.step(Step::Reclaim)?;
    if driver.stored_bytes() > 0 {
        return Err("an empty queue takes space".to_owned());
    }
    checker.check(&driver.leg())?;
    Ok((checker.states, untold))
}

#[test]
fn a_full_disk_is_drained_out_of_order_and_nothing_is_lost_on_the_way() {
    let (mut states, mut untold) = (0, 0);
    for seed in SMALL_SLOTS..SMALL_SLOTS + HISTORIES {
        let (more, times) = run(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        states += more;
        untold += times;
    }
    println!("{states} crash states; {untold} times there was no room to tell all");
    assert!(untold > 0, "{untold}");
}

#[test]
fn a_unit_stays_until_the_device_knows_that_all_of_it_is_finished() {
    let mut checker = checker(SMALL_SLOTS);
    assert_eq!(checker.setup.slot_ranges, Some(1));
    let disk = SimDisk::default();
    let mut driver = Driver::open(&checker.setup, &disk, Promise::default(), 0, Random(1)).unwrap();
    while driver.next_seq() < 40 {
        driver.step(Step::Append).unwrap();
    }
    driver.acknowledge(35..36);
    driver.step(Step::Sync).unwrap();
    disk.set_capacity(0);
    let whole = driver.stored_bytes();
    // The slot must go on telling of the synced one, and takes no other.
    driver.acknowledge(1..33);
    driver.step(Step::Reclaim).unwrap();
    assert_eq!((driver.stored_bytes(), driver.has_room()), (whole, false));
    checker.check(&driver.leg()).unwrap();
    driver.acknowledge(0..1);
    driver.step(Step::Reclaim).unwrap();
    assert!(driver.stored_bytes() < whole && driver.has_room());
    checker.check(&driver.leg()).unwrap();
}
