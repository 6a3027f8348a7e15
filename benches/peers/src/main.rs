//! Overspill beside its peers: `cargo run --release`, with `-- --help` for what can be chosen.
//!
//! Each run of each row is a process of its own, so that its memory and its CPU time are nobody else's.

mod args;
mod curve;
mod ends;
mod item;
mod job;
mod machine;
mod meter;
mod page;
mod peers;
mod plot;
mod rounds;
mod table;
mod workloads;

use args::Args;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(job) = &args.child {
        rounds::be_a_child(&args, job);
        return ExitCode::SUCCESS;
    }
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overspill-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let tables = rounds::run(args)?;
    let text = page::figures(args, &tables);
    println!("{text}");
    if let Some(path) = &args.curve
        && !curve::draw(path, &tables)?
    {
        eprintln!("overspill-peers: only `curve` has something to draw a curve of");
    }
    if args.write {
        page::write(&text)?;
        plot::draw(&page::picture(), &tables)?;
    }
    Ok(())
}

/// Where tasks run: as many workers as there are cores, as `#[tokio::main]` has.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("threads")
}
