//! Random histories on a real channel and on a model of it: order, conservation, bounds and durability after every step.
#![cfg(all(feature = "test-util", feature = "lz4"))]

mod common;

use common::machine::Machine;
use common::ops::{Disk, End, Op, Setup};
use overspill::{Compression, Durability, FailOn, Storage, WhenFull};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use std::cell::Cell;
use std::io::ErrorKind;

const STEPS_MAX: usize = 60;

fn cases() -> u32 {
    std::env::var("OVERSPILL_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(500)
}

fn setups() -> impl Strategy<Value = Setup> {
    any::<(u8, u8)>().prop_map(|(code, arg)| Setup::decode(code, arg))
}

fn histories() -> impl Strategy<Value = Vec<Op>> {
    let op = any::<(u8, u8)>().prop_map(|(code, arg)| Op::decode(code, arg));
    prop::collection::vec(op, 1..STEPS_MAX)
}

#[test]
fn every_history_keeps_order_conservation_bounds_and_durability() {
    // A failing case becomes a named test below, so none is kept in a file.
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let (ran, steps) = (Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&(setups(), histories()), |(setup, ops)| {
        ran.set(ran.get() + 1);
        steps.set(steps.get() + ops.len());
        Machine::new(setup).run(&ops);
        Ok(())
    });
    eprintln!("{} histories, {} steps", ran.get(), steps.get());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (setup, ops))) => panic!("{reason}\n{setup:?}\n{ops:?}"),
        Err(error) => panic!("{error}"),
    }
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
    };
    Machine::new(setup).run(&[
        Op::Fail(FailOn::Append, ErrorKind::Other),
        Op::Reopen(End::HaltWith(3)),
        Op::Send(0),
    ]);
}
