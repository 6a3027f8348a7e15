//! A disk-spilling persistent channel.
#![forbid(unsafe_code)]

mod block;
mod channel;
mod codec;
mod config;
mod core;
mod dir;
mod error;
mod event;
mod feed;
mod front;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzzing;
mod ledger;
mod lend;
mod life;
#[cfg(any(feature = "crossbeam", feature = "tokio"))]
pub mod pipe;
mod queue;
mod receiver;
mod refill;
mod report;
mod route;
mod save;
mod sender;
mod seq;
mod sink;
mod staging;
mod state;
mod stats;
mod store;
mod stream;
mod sync;
#[cfg(feature = "test-util")]
mod test_util;
mod wait;
mod worker;

pub use channel::{Control, DiskBufferedChannel};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Bincode, Bytes, Codec};
pub use config::{Builder, Durability, Storage, WhenFull};
pub use dir::Quarantined;
pub use error::{
    CodecError, ConfigError, HaltError, HaltFault, HaltReport, OpenError, RecvError,
    RecvTimeoutError, SchemaTag, SendError, SendTimeoutError, StoreError, SyncError, TryRecvError,
    TrySendError,
};
pub use event::Event;
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use sender::Sender;
pub use sink::SendSink;
pub use stats::{Dropped, ErrorReport, OpenReport, Stats};
pub use stream::RecvStream;
#[cfg(feature = "test-util")]
pub use test_util::FailOn;
