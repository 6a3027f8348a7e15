//! What a restart keeps: lines are accepted, the program stops, the next run takes them in order.
//!
//! ```text
//! cargo run --example restart
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what happens"
)]

use overspill::{DiskBufferedChannel, Durability};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("overspill-restart-{}", std::process::id()));

    // The first run. Ten lines come, three are taken, and then it halts: the rest is saved.
    let channel = DiskBufferedChannel::<String>::open(&dir)?;
    let (tx, rx) = (channel.sender(), channel.receiver());
    for n in 0..10 {
        tx.send(format!("line {n}"))?;
    }
    for _ in 0..3 {
        println!("first run:  {}", rx.recv()?);
    }
    println!("first run:  {} lines are saved", channel.halt()?.saved);

    // The second run goes on with the fourth line. In `Process`, not even `kill -9` loses a line.
    let channel = DiskBufferedChannel::<String>::builder(&dir)
        .durability(Durability::Process)
        .open()?;
    println!(
        "second run: {} lines waited",
        channel.open_report().replayed
    );
    channel.sender().send("line 10".to_owned())?;
    channel.close();
    for line in channel.receiver() {
        println!("second run: {line}");
    }

    let stats = channel.stats();
    println!(
        "accepted {}, acknowledged {}, lost {}",
        stats.accepted, stats.acknowledged, stats.lost
    );
    channel.halt()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
