//! A crossbeam source in, a crossbeam sink out: two threads.

use crate::attach::Attached;
use crate::builder::{Builder, OnRejected};
use crate::codec::Codec;
use crate::core::Shared;
use crate::deliver::Back;
use crate::error::{OpenError, RecvError, SendError, StoreError};
use crate::held::{Parcel, Slip};
use crate::take::Places;
use crate::take_out::Asker;
use crate::wait::{Ticket, block_until};
use crate::{DiskBufferedChannel, Receiver, Sender};
use crossbeam_channel as channel;
use crossbeam_channel::select;
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Items that go into the channel in one round.
const BATCH_ITEMS: usize = 64;
/// How often the end of the sink is looked at, once everything was delivered into it: crossbeam has no event for "taken".
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(50);

/// Puts a [`DiskBufferedChannel`] between a crossbeam `source` and a new sink of `sink_capacity`.
///
/// Two threads move the items, until the source is disconnected or the channel is halted. The returned channel is for
/// statistics, `drain` and `halt`; it may be dropped.
///
/// crossbeam can't close a channel from its receiving end: let producers stop before a `halt`, or
/// an item that is sent while the source is dropped may be discarded there.
///
/// # Errors
///
/// As [`Builder::open`].
pub fn crossbeam<T, C>(
    builder: Builder<T, C>,
    source: channel::Receiver<T>,
    sink_capacity: usize,
) -> Result<(DiskBufferedChannel<T>, channel::Receiver<T>), OpenError>
where
    T: Send + 'static,
    C: Codec<T> + 'static,
{
    let rejected = builder.rejected();
    let opened = builder.open()?;
    let (sink, taken) = channel::bounded(sink_capacity);
    let inlet = Inlet {
        end: End::new(opened.sender().shared()),
        tx: opened.sender(),
        source,
        rejected,
    };
    let outlet = Outlet {
        end: End::new(opened.sender().shared()),
        rx: opened.receiver(),
        sink,
        out: VecDeque::new(),
    };
    let dir = inlet.end.shared.settings.dir.clone();
    start("overspill-in", &dir, move || inlet.run())?;
    start("overspill-out", &dir, move || outlet.run())?;
    Ok((opened, taken))
}

fn start(
    name: &str,
    dir: &std::path::Path,
    run: impl FnOnce() + Send + 'static,
) -> Result<(), OpenError> {
    let started: io::Result<_> = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| StoreError::io("start an adapter's thread for", dir, error))?;
    Ok(())
}

/// One side's view of a halt.
struct End<T> {
    shared: Arc<Shared<T>>,
    /// The halt waits until this is dropped.
    _attached: Attached<T>,
    ticket: Ticket,
    waker: Waker,
    signal: channel::Receiver<()>,
}

/// Puts a wake-up where `select!` sees it.
struct Signal(channel::Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        // One signal that waits is enough.
        let _ = self.0.try_send(());
    }
}

impl<T> End<T> {
    fn new(shared: &Arc<Shared<T>>) -> Self {
        let (send, signal) = channel::bounded(1);
        Self {
            _attached: shared.attach(),
            shared: Arc::clone(shared),
            ticket: Ticket::default(),
            waker: Arc::new(Signal(send)).into(),
            signal,
        }
    }

    /// Looks for a halt, and asks for a signal when one comes.
    fn is_halting(&mut self) -> bool {
        self.shared
            .poll_halting(&mut self.ticket, &self.waker)
            .is_ready()
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.shared.leave_life(&mut self.ticket);
    }
}

struct Inlet<T> {
    end: End<T>,
    tx: Sender<T>,
    source: channel::Receiver<T>,
    rejected: Arc<OnRejected<T>>,
}

impl<T> Inlet<T> {
    fn run(mut self) {
        let mut carried = None;
        while !self.end.is_halting() {
            let first = select! {
                recv(self.source) -> item => item,
                recv(self.end.signal) -> _ => continue,
            };
            let Ok(first) = first else {
                self.end.shared.close();
                break;
            };
            carried = self.place(first);
            if carried.is_some() {
                break;
            }
        }
        self.finish(carried);
    }

    /// Sends an item and what waits behind it. Returns the item that a halt met.
    fn place(&self, first: T) -> Option<T> {
        let mut items = iter::once(first).chain(self.source.try_iter().take(BATCH_ITEMS - 1));
        loop {
            match self.tx.send_all(&mut items) {
                Ok(_) => return None,
                Err(SendError::Halted(item)) => return Some(item),
                // The iterator goes on behind the item that found no place.
                Err(error) => (self.rejected)(error),
            }
        }
    }

    /// After a halt: what the source's buffer holds is saved behind everything else.
    fn finish(self, carried: Option<T>) {
        let Self {
            mut end,
            source,
            rejected,
            tx,
        } = self;
        if end.is_halting() {
            let late = carried.into_iter().chain(source.try_iter()).collect();
            drop(source);
            for item in end.shared.add_late(late) {
                rejected(SendError::Halted(item));
            }
        }
        drop(end);
        drop(tx);
    }
}

struct Outlet<T> {
    end: End<T>,
    rx: Receiver<T>,
    sink: channel::Sender<T>,
    /// What is in the sink and was not seen taken, oldest first.
    out: VecDeque<Slip>,
}

impl<T> Outlet<T> {
    fn run(mut self) {
        loop {
            match self.next() {
                Ok(parcel) => {
                    if !self.deliver(parcel) {
                        break;
                    }
                    self.settle();
                }
                Err(RecvError::Closed) => {
                    self.watch_the_rest();
                    break;
                }
                Err(_) => break,
            }
        }
        self.settle();
        let Self { end, rx, sink, .. } = self;
        drop(sink);
        drop(end);
        // This may be the last handle: then it halts the channel, for which this side must be detached.
        drop(rx);
    }

    /// The next item. It ends when nothing is left but what is in the sink.
    fn next(&self) -> Result<Parcel<T>, RecvError> {
        let shared = &self.end.shared;
        let mut places = Places::default();
        let own_out = self.out.len() as u64;
        let asker = Asker::Adapter { own_out };
        block_until(None, |waker| {
            shared.poll_deliver(asker, &mut places, Some(waker))
        })
        .unwrap_or(Err(RecvError::Halted))
    }

    /// Puts an item into the sink; false when it can't go on.
    fn deliver(&mut self, parcel: Parcel<T>) -> bool {
        let Parcel { mut item, slip } = parcel;
        while !self.end.is_halting() {
            select! {
                send(self.sink, item) -> sent => match sent {
                    Ok(()) => {
                        self.out.push_back(slip);
                        return true;
                    }
                    Err(back) => {
                        item = back.into_inner();
                        break;
                    }
                },
                recv(self.end.signal) -> _ => {}
            }
        }
        self.end
            .shared
            .take_back([Parcel { item, slip }], Back::Unseen);
        false
    }

    /// What is not in the sink any more was taken.
    fn settle(&mut self) {
        let taken = self.out.len().saturating_sub(self.sink.len());
        // After a halt it is too late: then they come again.
        let _ = self.end.shared.acknowledge(self.out.drain(..taken));
    }

    /// Everything was delivered: waits until it is taken, or the channel is halted.
    fn watch_the_rest(&mut self) {
        let mut delay = LOOK_FIRST;
        while !self.sink.is_empty() && !self.end.is_halting() {
            let _ = self.end.signal.recv_timeout(delay);
            delay = (delay * 2).min(LOOK_LAST);
            self.settle();
        }
    }
}
