//! The same shipper on tokio: the channel's futures need no runtime of their own, and can be cancelled anywhere. What is
//! cancelled gives back what it had.
//!
//! ```text
//! yes "GET /index.html 200" | head -2000 | cargo run --example log_shipper_async
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what happens"
)]

use overspill::{DiskBufferedChannel, Durability};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[derive(Serialize, Deserialize)]
struct LogRecord {
    line: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("overspill-log-shipper-async");
    let channel = DiskBufferedChannel::<LogRecord>::builder(dir)
        .memory_items(64)
        .durability(Durability::Process)
        .open_async()
        .await?;
    let rx = channel.acking_receiver();
    let (tx, _, control) = channel.split();
    eprintln!("{} lines are left of the last run", control.stats().pending);

    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tx.send_async(LogRecord { line }).await.is_err() {
                break; // halted
            }
        }
        // Dropping `tx` closes the channel: `recv_async` below fails when everything is taken.
    });

    let mut sink = tokio::io::stdout();
    // One listener for the whole loop: a signal that comes while nobody listens is lost.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        // A receive that loses this race has taken nothing.
        let received = tokio::select! {
            received = rx.recv_batch_async(100, 1 << 20, Duration::from_millis(10)) => received,
            _ = &mut interrupted => break,
        };
        let Ok(batch) = received else { break };
        for record in &batch {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sink.write_all(record.line.as_bytes()).await?;
            sink.write_all(b"\n").await?;
        }
        // Only now: a batch that ends in an error is dropped, and comes again after the next open.
        sink.flush().await?;
        batch.ack()?;
    }

    let report = control.halt_async().await?;
    eprintln!("{} lines are saved for the next start", report.saved);
    // The thread that reads stdin can't be ended; everything is saved, so the process can.
    std::process::exit(0)
}
