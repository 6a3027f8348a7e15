//! `overspill ship`: a source thread sends lines to the channel, a consumer thread takes them to the destination.
//!
//! `consumer` has the table of what a crash leaves at each step.

mod consumer;
mod deliverer;
mod destination;
mod ends;
mod file;
mod follow;
mod frame;
mod http;
mod intake;
mod listen;
mod patience;
mod position;
mod record;
mod report;
mod reread;
mod shipping;
mod slots;
mod source;
mod tcp;

use crate::args::{Compression, Durability, Endpoint, Ship, Store, WhenFull};
use crate::failure::Failure;
use crate::stop::{Flag, on_signal};
use consumer::Consumer;
use deliverer::Deliverer;
use destination::Surroundings;
use frame::BATCH_RECORDS;
use overspill::{DiskBufferedChannel, Event, Storage};
use patience::Outage;
use position::Position;
use record::LogRecord;
use report::Reporter;
use shipping::{Happened, Shipping, spawn};
use source::Source;
use std::io::Read;
use std::sync::mpsc::{self, Sender};

pub(crate) fn run(args: Ship) -> Result<(), Failure> {
    let (events, happened) = mpsc::channel();
    let signalled = events.clone();
    // Before anything is opened: a stop that comes early is a stop too.
    on_signal(move || drop(signalled.send(Happened::Signal)))?;

    let reporter = Reporter::new(args.quiet);
    let (written, set_aside) = mpsc::channel();
    let channel = open_channel(&args, written)?;
    let position = Position::open(&args.dir)?.share();
    let abandon = Flag::default();
    let around = Surroundings {
        position: position.clone(),
        reporter: reporter.clone(),
        abandon: abandon.clone(),
    };
    let destination = destination::open(&args.to, args.framing, around.clone())?;
    let source = Source::open(&args.from, args.framing, &around)?;
    reporter.say(format!(
        "shipping {} to {}, spilling to {}",
        args.from,
        args.to,
        args.dir.display()
    ));
    let waiting = channel.open_report().replayed;
    if waiting > 0 {
        reporter.say(format!("{waiting} lines of the last run go first"));
    }

    let began_at = match &source {
        Source::File(tail) => Some((tail.source(), tail.began_at())),
        _ => None,
    };
    let drops = matches!(args.when_full, WhenFull::DropOldest | WhenFull::DropNewest);
    let deliverer = Deliverer {
        destination,
        around,
        followed: began_at.map(|(source, _)| source),
        max_attempts: args.max_attempts,
        refusals: 0,
        gaps_before: match (drops, channel.open_report().clean_shutdown) {
            (false, _) => u64::MAX,
            // What was dropped for want of room is not read again ..
            (true, true) => 0,
            // .. but it can't be told from what a kill took.
            (true, false) => began_at.map_or(0, |(_, end)| end),
        },
    };
    let consumer = Consumer {
        rx: channel.acking_receiver(),
        dir: args.dir.clone(),
        deliverer,
        outage: Outage::none_yet(args.to.to_string(), reporter.clone(), abandon.clone()),
        most: BATCH_RECORDS,
        set_aside,
    };
    if args.stop_with_stdin && args.from != Endpoint::Standard {
        stop_with_stdin(events.clone())?;
    }
    let shipping = Shipping::new(args, channel, position, reporter, abandon, happened);
    shipping.run(source, consumer, &events)
}

/// `written` is told of each dead letter when it is on disk.
fn open_channel(
    args: &Ship,
    written: Sender<u64>,
) -> Result<DiskBufferedChannel<LogRecord>, Failure> {
    let mut builder = DiskBufferedChannel::<LogRecord>::builder(&args.dir)
        .schema("overspill-ship/2")
        .memory_items(args.memory_items)
        .on_event(move |event| {
            if let Event::DeadLettered { seq, .. } = event {
                // Whoever wants to know is gone when the shipper ends.
                let _ = written.send(*seq);
            }
        })
        .storage(match args.store {
            Store::Sled => Storage::Sled,
            Store::Log => Storage::Log,
        })
        .compression(match args.compression {
            Compression::None => overspill::Compression::None,
            Compression::Lz4 => overspill::Compression::Lz4,
        })
        .durability(match args.durability {
            Durability::Spill => overspill::Durability::Spill,
            Durability::Process => overspill::Durability::Process,
            Durability::Interval(within) => overspill::Durability::Interval(within),
            Durability::Sync => overspill::Durability::Sync,
        })
        .when_full(match args.when_full {
            WhenFull::Block => overspill::WhenFull::Block,
            WhenFull::Reject => overspill::WhenFull::Reject,
            WhenFull::DropOldest => overspill::WhenFull::DropOldest,
            WhenFull::DropNewest => overspill::WhenFull::DropNewest,
        });
    if let Some(bytes) = args.disk_max {
        builder = builder.disk_bytes_max(bytes);
    }
    builder.open().map_err(|error| {
        let remedy = match &error {
            overspill::OpenError::Locked { .. } => "stop that process, or choose another --dir",
            overspill::OpenError::Config(_) => "change the option",
            overspill::OpenError::Format { .. } | overspill::OpenError::Schema { .. } => {
                "choose another --dir"
            }
            _ => "check the path, its permissions and the disk",
        };
        Failure::of("open the channel in", args.dir.display(), error, remedy)
    })
}

/// For a child process: its parent holds the other end of stdin, and ends it at the latest by ending itself.
fn stop_with_stdin(events: Sender<Happened>) -> Result<(), Failure> {
    let wait = move || {
        let mut stdin = std::io::stdin().lock();
        while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
        let _ = events.send(Happened::Signal);
    };
    spawn("stdin", wait).map(drop)
}
