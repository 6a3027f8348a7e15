//! A log shipper in forty lines, with threads.
//!
//! One thread reads lines from stdin, another hands them to a slow sink. While the sink lags, memory holds 64 lines
//! and the rest goes to disk. Ctrl-C saves what is left; the next start sends that first.
//!
//! ```text
//! yes "GET /index.html 200" | head -2000 | cargo run --example log_shipper
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what happens"
)]

use overspill::DiskBufferedChannel;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{BufRead, Write};
use std::thread;
use std::time::{Duration, SystemTime};

#[derive(Serialize, Deserialize)]
struct LogRecord {
    at: SystemTime,
    line: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("overspill-log-shipper");
    let (tx, rx, control) = DiskBufferedChannel::<LogRecord>::builder(dir)
        .memory_items(64)
        .open()?
        .split();
    eprintln!("{} lines are left of the last run", control.stats().pending);

    // Without this a signal would end the process like a crash: in memory means lost.
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
    for record in &rx {
        thread::sleep(Duration::from_millis(1));
        let age = record.at.elapsed().unwrap_or_default();
        writeln!(sink, "{:>6.0?} {}", age, record.line)?;
    }

    let report = control.halt()?;
    eprintln!("{} lines are saved for the next start", report.saved);
    Ok(())
}
