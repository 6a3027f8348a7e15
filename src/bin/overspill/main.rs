//! The `overspill` program: ships lines through a disk-spilling channel.
//!
//! Built on the crate's public API only. `ship/` is the shipper, `demo/` runs two of them through an outage.

mod args;
mod demo;
mod failure;
mod ship;
mod stop;

use args::{Arguments, Command};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ship(ship) => ship::run(ship),
        Command::Demo(demo) => demo::run(&demo),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads stderr any more: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "overspill: {failure}");
            ExitCode::FAILURE
        }
    }
}
