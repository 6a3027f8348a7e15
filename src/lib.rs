//! A channel from producers to consumers that spills to disk when the consumers lag.
//!
//! Items go through a bounded channel in memory. When the consumer falls behind, the overflow goes to a queue on disk;
//! what is left when the program halts, or dies, is replayed at the next start, **in order**. While the consumer keeps up,
//! nothing is encoded, nothing is written and no thread is started.
//!
//! ```
//! use overspill::DiskBufferedChannel;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct LogRecord {
//!     at_ms: u64,
//!     line: String,
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! let (tx, rx, control) = DiskBufferedChannel::<LogRecord>::open(&spool)?.split();
//! tx.send(LogRecord { at_ms: 7, line: "disk 3 is hot".into() })?;
//! assert_eq!(rx.recv()?.line, "disk 3 is hot");
//!
//! tx.send(LogRecord { at_ms: 8, line: "disk 3 is on fire".into() })?;
//! let report = control.halt()?; // nobody took it: it is saved
//! assert_eq!(report.saved, 1);
//!
//! let channel = DiskBufferedChannel::<LogRecord>::open(&spool)?;
//! assert_eq!(channel.receiver().recv()?.line, "disk 3 is on fire");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **A process that ends without [`halt`](DiskBufferedChannel::halt) or drop** (an unhandled SIGTERM,
//! `process::exit`, abort) is a crash. In the default [`Durability::Spill`] it loses what was in memory;
//! [`Stats::at_risk_items`] says how much that is right now. [`Durability::Process`] loses nothing to it.
//!
//! # Power cuts
//!
//! What must survive a power cut needs the log store: with [`Durability::Sync`], `Ok` means that the device has the item, and
//! senders that wait at the same time share one sync.
//!
//! ```
//! use overspill::{DiskBufferedChannel, Durability, Storage};
//!
//! # let dir = tempfile::tempdir()?;
//! # let spool = dir.path().join("spool");
//! let channel = DiskBufferedChannel::<String>::builder(&spool)
//!     .storage(Storage::Log)
//!     .durability(Durability::Sync)
//!     .open()?;
//! channel.sender().send("the pressure rises".into())?;
//! assert_eq!(channel.stats().unsynced_items, 0);
//! # channel.halt()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Threads and tasks
//!
//! Every verb exists twice: [`Sender::send`] blocks its thread, [`Sender::send_async`] suspends its task on any runtime. Both may
//! be used on one channel at once. Receivers iterate ([`Receiver::iter`]) and stream ([`Receiver::stream`]); a sender is a
//! [`Sink`](futures_sink::Sink) by [`Sender::sink`].
//!
//! # Shutting down
//!
//! [`close`](DiskBufferedChannel::close) ends the intake, and receivers take everything left.
//! [`halt`](DiskBufferedChannel::halt) stops both ends now and saves what is left.
//! [`drain`](DiskBufferedChannel::drain) closes, gives consumers some time, and halts.
//! Dropping the last handle halts, and blocks for it: async code calls [`halt_async`](DiskBufferedChannel::halt_async) first.
//!
//! # Limits
//!
//! Memory is bounded by [`Builder::memory_items`] and [`Builder::memory_bytes_max`], never by the backlog.
//! The disk is bounded by [`Builder::disk_bytes_max`], and [`WhenFull`] says what happens then.
//! [`Stats`] accounts for every item that was ever accepted.
#![forbid(unsafe_code)]

mod ack_receiver;
mod admit;
mod ahead;
#[cfg_attr(
    not(any(feature = "crossbeam", feature = "tokio")),
    allow(dead_code, reason = "only the adapters attach")
)]
mod attach;
mod batch;
mod block;
mod buffers;
mod builder;
mod channel;
mod clock;
mod codec;
mod config;
mod copies;
mod core;
mod dead;
mod deliver;
mod delivery;
mod dir;
mod disk;
mod encoded;
mod error;
mod event;
mod feed;
mod front;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod handle;
#[cfg(test)]
#[cfg(shuttle)]
mod handover;
mod held;
mod keep;
mod lead;
mod ledger;
mod letters;
mod life;
mod packer;
#[cfg(any(feature = "crossbeam", feature = "tokio"))]
pub mod pipe;
mod placing;
mod queue;
mod receiver;
mod records;
mod refill;
mod report;
mod risk;
mod route;
mod save;
mod schema;
mod sender;
mod seq;
mod sink;
mod spare;
mod staging;
mod state;
mod stats;
mod steps;
mod store;
mod stream;
mod sync;
mod take;
mod take_out;
#[cfg(feature = "test-util")]
mod test_util;
mod verbs;
mod wait;
mod worker;

pub use ack_receiver::{AckReceiver, DeliveryIntoIter, DeliveryIter, DeliveryTryIter};
pub use batch::{Batch, BatchIter};
pub use block::Compression;
pub use builder::Builder;
pub use channel::{Control, DiskBufferedChannel};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Bincode, Bytes, Codec};
pub use config::{Durability, Storage, WhenFull};
pub use delivery::{Delivery, ItemId};
pub use dir::{DeadLetter, DeadLetters, Quarantined};
pub use error::{
    AckError, CodecError, ConfigError, DeadLetterError, HaltError, HaltFault, HaltReport,
    OpenError, RecvError, RecvTimeoutError, SchemaTag, SendError, SendTimeoutError, StoreError,
    SyncError, TryRecvError, TrySendError,
};
pub use event::Event;
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use sender::Sender;
pub use sink::SendSink;
pub use stats::{Dropped, ErrorReport, OpenReport, Stats};
pub use stream::{DeliveryStream, RecvStream};
#[cfg(feature = "test-util")]
pub use test_util::FailOn;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
