//! A log shipper in fifty lines, with threads.
//!
//! One thread reads lines from stdin, another hands them to a slow sink. While the sink lags, memory holds 64 lines
//! and the rest goes to disk. A line is acknowledged when the sink has it: one that the sink failed to take comes again, and
//! neither Ctrl-C nor `kill -9` loses any; the next start sends what is left first.
//!
//! ```text
//! yes "GET /index.html 200" | head -2000 | cargo run --example log_shipper
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what happens"
)]

use overspill::{Batch, DiskBufferedChannel, Durability};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::thread;
use std::time::{Duration, SystemTime};

#[derive(Serialize, Deserialize)]
struct LogRecord {
    at: SystemTime,
    line: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("overspill-log-shipper");
    let channel = DiskBufferedChannel::<LogRecord>::builder(dir)
        .memory_items(64)
        .durability(Durability::Process)
        .open()?;
    let rx = channel.acking_receiver();
    let (tx, _, control) = channel.split();
    eprintln!("{} lines are left of the last run", control.stats().pending);

    // Without this a signal would end the process like a crash: then lines whose acknowledgement isn't on disk come again.
    let mut signals = signal_hook::iterator::Signals::new([2, 15])?;
    let on_signal = control.clone();
    thread::spawn(move || signals.forever().next().map(|_| on_signal.halt()));

    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tx
                .send(LogRecord {
                    at: SystemTime::now(),
                    line,
                })
                .is_err()
            {
                break; // halted
            }
        }
        // Dropping `tx` closes the channel: the loop below ends when everything is taken.
    });

    let mut sink = std::io::stdout().lock();
    while let Ok(batch) = rx.recv_batch(100, 1 << 20, Duration::from_millis(10)) {
        match deliver(&batch, &mut sink) {
            Ok(()) => {
                if batch.ack().is_err() {
                    break; // halted: the batch is saved, and comes again
                }
            }
            Err(error) => {
                // An outage says nothing about the lines: they come again, in order, and don't count as failed.
                eprintln!("the sink is away: {error}");
                batch.release();
                thread::sleep(Duration::from_secs(1));
            }
        }
    }

    let report = control.halt()?;
    eprintln!("{} lines are saved for the next start", report.saved);
    Ok(())
}

/// A slow sink. It may get a line twice, after an error or a crash.
fn deliver(batch: &Batch<LogRecord>, sink: &mut impl Write) -> io::Result<()> {
    for record in batch {
        thread::sleep(Duration::from_millis(1));
        let age = record.at.elapsed().unwrap_or_default();
        writeln!(sink, "{:>6.0?} {}", age, record.line)?;
    }
    sink.flush()
}
