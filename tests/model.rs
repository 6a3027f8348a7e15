//! Random histories on a real channel and on a model of it: order, conservation, bounds and durability after every step.
#![cfg(all(feature = "test-util", feature = "lz4"))]

mod common;

use common::machine::Machine;
use common::ops::{Deliveries, Disk, End, Op, Setup};
use overspill::{Compression, Durability, FailOn, Storage, WhenFull};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::Cell;
use std::io::ErrorKind;
use std::time::Duration;

const STEPS_MAX: usize = 60;

/// Of each kind of history.
fn cases() -> u32 {
    std::env::var("OVERSPILL_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(250)
}

fn setups() -> impl Strategy<Value = Setup> {
    any::<(u8, u8)>().prop_map(|(code, arg)| Setup::decode(code, arg))
}

fn deliveries() -> impl Strategy<Value = Deliveries> {
    any::<(u8, u8)>().prop_map(|(code, arg)| Deliveries::decode(code, arg))
}

fn histories(decode: fn(u8, u8) -> Op) -> impl Strategy<Value = Vec<Op>> {
    let op = any::<(u8, u8)>().prop_map(move |(code, arg)| decode(code, arg));
    prop::collection::vec(op, 1..STEPS_MAX)
}

/// Returns how much it tried.
fn run(setups: impl Strategy<Value = Setup>, decode: fn(u8, u8) -> Op) -> String {
    // A failing case becomes a named test below, so none is kept in a file.
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let (ran, steps) = (Cell::new(0), Cell::new(0));
    // The usual run is the same one each time; with `OVERSPILL_CASES` it is another one.
    let mut runner = if std::env::var_os("OVERSPILL_CASES").is_some() {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let result = runner.run(&(setups, histories(decode)), |(setup, ops)| {
        ran.set(ran.get() + 1);
        steps.set(steps.get() + ops.len());
        Machine::new(setup).run(&ops);
        Ok(())
    });
    match result {
        Ok(()) => format!("{} histories, {} steps", ran.get(), steps.get()),
        Err(TestError::Fail(reason, (setup, ops))) => panic!("{reason}\n{setup:?}\n{ops:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_history_keeps_order_conservation_bounds_and_durability() {
    eprintln!("{}", run(setups(), Op::decode));
}

#[test]
fn every_history_of_deliveries_has_each_item_in_exactly_one_place() {
    let setups = (setups(), deliveries());
    let setups = setups.prop_map(|(setup, deliveries)| setup.with_deliveries(deliveries));
    eprintln!("{}", run(setups, Op::decode_any));
}

/// After a halt whose append had failed once, nobody could tell the items that the policy dropped from items that were at risk:
/// the model counted the missing ones as neither, and what was left of its drops was more than what waited.
#[test]
fn the_policy_drops_what_a_faulty_halt_had_saved() {
    let setup = Setup {
        storage: Storage::Log,
        compression: Compression::None,
        durability: Durability::Process,
        memory_items: 1,
        memory_bytes_max: 256,
        disk: Disk::NoRoom(WhenFull::DropOldest),
        always_encode: false,
        deliveries: Deliveries::default(),
    };
    Machine::new(setup).run(&[
        Op::Fail(FailOn::Append, ErrorKind::Other),
        Op::Reopen(End::HaltWith(3)),
        Op::Send(0),
    ]);
}

/// An item that a crash had taken was old by the end: the model took it for one of those that were dropped for their age, and
/// had one too few for the others.
#[test]
fn what_a_crash_took_is_not_counted_as_too_old() {
    let setup = Setup {
        storage: Storage::Sled,
        compression: Compression::None,
        durability: Durability::Spill,
        memory_items: 1,
        memory_bytes_max: 256,
        disk: Disk::Quota(WhenFull::Block),
        always_encode: false,
        deliveries: Deliveries {
            max_age: Some(Duration::from_secs(16 * 3600)),
            ..Deliveries::default()
        },
    };
    let mut ops = vec![Op::Send(0), Op::Reopen(End::Crash)];
    ops.extend([Op::Send(0), Op::Send(0), Op::Send(0)]);
    ops.extend([Op::Advance(2), Op::Advance(2)]);
    Machine::new(setup).run(&ops);
}

/// Two items at risk grow too old, and the crash took a younger one: the model must not say that it took one of the two.
#[test]
#[allow(clippy::enum_glob_use, reason = "a long history")]
fn what_a_crash_took_and_what_grew_too_old_after_it_are_told_apart() {
    use Op::*;
    use common::ops::{Finish as F, Verb as V};
    let setup = Setup {
        storage: Storage::Log,
        compression: Compression::None,
        durability: Durability::Spill,
        memory_items: 1,
        memory_bytes_max: 67_108_864,
        disk: Disk::Roomy,
        always_encode: false,
        deliveries: Deliveries {
            max_age: Some(Duration::from_secs(57_600)),
            dead_letter_bytes_max: 300,
            in_flight_max: 1000,
            ..Deliveries::default()
        },
    };
    Machine::new(setup).run(&[
        Finish(F::Ack, 197),
        DropReceiver(140),
        TrySend(61),
        DropReceiver(227),
        SendAll(7),
        Advance(2),
        SendAll(7),
        Finish(F::Nack, 48),
        TrySend(0),
        TryRecv(249),
        Deliver(V::Async(3)),
        DropSender(57),
        Finish(F::AckAndTake, 112),
        TryRecv(199),
        Recv(201),
        Deliver(V::TryMany(2)),
        Reopen(End::HaltAsync),
        Close,
        RecvAsync(2),
        Finish(F::Ack, 249),
        Close,
        Deliver(V::Stream),
        Reopen(End::HaltAsync),
        Send(241),
        Reopen(End::Crash),
        TrySend(130),
        Finish(F::NackAfter, 25),
        Deliver(V::TryMany(5)),
        TrySend(89),
        SendAll(8),
        TrySend(86),
        Finish(F::AckAndTake, 172),
        TrySend(149),
        Finish(F::Release, 124),
        Recv(181),
        Stream,
        CloneReceiver(148),
        Deliver(V::TryMany(6)),
        Finish(F::NackAfter, 75),
        Finish(F::Release, 151),
        Reopen(End::Drop),
        Recv(243),
        SendAllAsync(47),
        Finish(F::Ack, 194),
        Purge,
        RecvManyAsync(7),
        SendAll(15),
        Finish(F::Ack, 114),
        Advance(2),
        Finish(F::Nack, 114),
        Deliver(V::TryMany(2)),
    ]);
}
