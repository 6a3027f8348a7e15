//! Adapters between the channels that a program has already: a source in, a sink out, the disk between.
//!
//! What the source gives is sent into the channel, what the channel gives goes to the sink, in order. When the source is
//! disconnected, everything left is delivered and then the sink is disconnected.
//!
//! An item in the sink is acknowledged once it is seen taken. A halt closes the source, saves what its buffer held behind
//! everything else, and saves the items in the sink that were not seen taken: up to `sink_capacity` of them may come again at the next
//! start, none is lost. Until it is taken, an item in the sink that never was on disk is kept encoded.
//!
//! # Examples
//!
//! ```
//! # #[cfg(feature = "crossbeam")] {
//! use overspill::{DiskBufferedChannel, pipe};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! let (source, lines) = crossbeam_channel::bounded(100);
//! let builder = DiskBufferedChannel::<String>::builder(dir.path().join("spool"));
//! let (_channel, sink) = pipe::crossbeam(builder, lines, 100).unwrap();
//!
//! source.send("GET / 200".to_owned()).unwrap();
//! drop(source);
//! assert_eq!(sink.iter().collect::<Vec<_>>(), ["GET / 200"]);
//! # }
//! ```

#[cfg(feature = "crossbeam")]
mod crossbeam;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "crossbeam")]
pub use self::crossbeam::crossbeam;
#[cfg(feature = "tokio")]
pub use self::tokio::tokio;
