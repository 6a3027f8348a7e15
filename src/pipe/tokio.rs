//! A tokio source in, a tokio sink out: two tasks.

use crate::attach::Attached;
use crate::builder::{Builder, OnRejected};
use crate::codec::Codec;
use crate::core::Shared;
use crate::error::{OpenError, RecvError, SendError};
use crate::held::{Parcel, Slip};
use crate::take::Places;
use crate::take_out::Asker;
use crate::wait::Ticket;
use crate::{DiskBufferedChannel, Receiver, Sender};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::iter;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::yield_now;

/// Items that go into the channel in one round.
const BATCH_ITEMS: usize = 64;
/// Rounds that senders with a permit get to use it, when a halt has closed the source.
const PERMIT_ROUNDS: usize = 64;

/// Puts a [`DiskBufferedChannel`] between a tokio `source` and a new sink of `sink_capacity`.
///
/// Two tasks on the current runtime move the items, until the source is disconnected or the channel is
/// halted. The returned channel is for statistics, `drain_async` and `halt_async`; it may be dropped.
///
/// # Errors
///
/// As [`Builder::open`].
///
/// # Panics
///
/// Outside a tokio runtime, or with a `sink_capacity` of 0.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use overspill::{DiskBufferedChannel, pipe};
///
/// # let dir = tempfile::tempdir()?;
/// let (source, lines) = tokio::sync::mpsc::channel(100);
/// let builder = DiskBufferedChannel::<String>::builder(dir.path().join("spool"));
/// let (channel, mut sink) = pipe::tokio(builder, lines, 100).await?;
///
/// source.send("GET / 200".to_owned()).await?;
/// assert_eq!(sink.recv().await.as_deref(), Some("GET / 200"));
/// channel.halt_async().await?;
/// # Ok(()) }
/// ```
pub async fn tokio<T, C>(
    builder: Builder<T, C>,
    source: mpsc::Receiver<T>,
    sink_capacity: usize,
) -> Result<(DiskBufferedChannel<T>, mpsc::Receiver<T>), OpenError>
where
    T: Send + 'static,
    C: Codec<T> + 'static,
{
    let rejected = builder.rejected();
    let (sink, taken) = mpsc::channel(sink_capacity);
    let opened = builder.open_async().await?;
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
    };
    ::tokio::spawn(inlet.run());
    ::tokio::spawn(outlet.run());
    Ok((opened, taken))
}

/// One side's view of a halt, which waits until this is dropped.
struct End<T> {
    shared: Arc<Shared<T>>,
    _attached: Attached<T>,
}

impl<T> End<T> {
    fn new(shared: &Arc<Shared<T>>) -> Self {
        Self {
            _attached: shared.attach(),
            shared: Arc::clone(shared),
        }
    }

    /// Ready when a halt has begun.
    async fn halting(&self) {
        struct Watch<'a, T>(&'a Arc<Shared<T>>, Ticket);
        impl<T> Drop for Watch<'_, T> {
            fn drop(&mut self) {
                self.0.leave_life(&mut self.1);
            }
        }
        let mut watch = Watch(&self.shared, Ticket::default());
        let watch = &mut watch;
        poll_fn(|cx| watch.0.poll_halting(&mut watch.1, cx.waker())).await;
    }

    /// The next item. It ends when nothing is left but `own_out` deliveries.
    async fn next(&self, own_out: u64) -> Result<Parcel<T>, RecvError> {
        struct Taking<'a, T>(&'a Arc<Shared<T>>, Places);
        impl<T> Drop for Taking<'_, T> {
            fn drop(&mut self) {
                self.0.leave_recv(&mut self.1);
            }
        }
        let mut taking = Taking(&self.shared, Places::default());
        let taking = &mut taking;
        let asker = Asker::Adapter { own_out };
        poll_fn(|cx| {
            taking
                .0
                .poll_deliver(asker, &mut taking.1, Some(cx.waker()))
        })
        .await
    }
}

struct Inlet<T> {
    end: End<T>,
    tx: Sender<T>,
    source: mpsc::Receiver<T>,
    rejected: Arc<OnRejected<T>>,
}

impl<T: Send> Inlet<T> {
    async fn run(mut self) {
        let mut carried = None;
        loop {
            let first = ::tokio::select! {
                biased;
                () = self.end.halting() => break,
                first = self.source.recv() => first,
            };
            let Some(first) = first else {
                self.end.shared.close();
                break;
            };
            carried = self.place(first).await;
            if carried.is_some() {
                break;
            }
        }
        self.finish(carried).await;
    }

    /// Sends an item and what waits behind it. Returns the item that a halt met.
    async fn place(&mut self, first: T) -> Option<T> {
        let source = &mut self.source;
        let waiting = iter::from_fn(|| source.try_recv().ok()).take(BATCH_ITEMS - 1);
        let mut items = iter::once(first).chain(waiting);
        loop {
            match self.tx.send_all_async(&mut items).await {
                Ok(_) => return None,
                Err(SendError::Halted(item)) => return Some(item),
                // The iterator goes on behind the item that found no place.
                Err(error) => (self.rejected)(error),
            }
        }
    }

    /// After a halt: what the source holds is saved behind everything else.
    async fn finish(self, carried: Option<T>) {
        let Self {
            end,
            mut source,
            rejected,
            tx,
        } = self;
        source.close();
        let mut late: Vec<T> = carried.into_iter().collect();
        for _ in 0..PERMIT_ROUNDS {
            match source.try_recv() {
                Ok(item) => late.push(item),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) => {
                    yield_now().await;
                    continue;
                }
            }
            late.extend(iter::from_fn(|| source.try_recv().ok()));
        }
        for item in end.shared.add_late(late) {
            rejected(SendError::Halted(item));
        }
        drop(end);
        drop(tx);
    }
}

struct Outlet<T> {
    end: End<T>,
    rx: Receiver<T>,
    sink: mpsc::Sender<T>,
}

impl<T: Send + 'static> Outlet<T> {
    async fn run(self) {
        let Self { end, rx, sink } = self;
        // What is in the sink and was not seen taken, oldest first.
        let mut out = VecDeque::new();
        loop {
            // The place comes first: an item that is out can then always be handed on.
            let permit = ::tokio::select! {
                biased;
                () = end.halting() => break,
                permit = sink.reserve() => permit,
            };
            let Ok(permit) = permit else { break };
            match end.next(out.len() as u64).await {
                Ok(Parcel { item, slip }) => {
                    permit.send(item);
                    out.push_back(slip);
                }
                Err(error) => {
                    drop(permit);
                    if error == RecvError::Closed {
                        watch_the_rest(&end, &sink).await;
                    }
                    break;
                }
            }
            settle(&end, &sink, &mut out);
        }
        settle(&end, &sink, &mut out);
        drop(sink);
        drop(end);
        // This may be the last handle: then it halts the channel, which blocks and needs this side detached.
        let _ = ::tokio::task::spawn_blocking(move || drop(rx)).await;
    }
}

/// What is not in the sink any more was taken. A sink whose consumer is gone takes nothing.
fn settle<T>(end: &End<T>, sink: &mpsc::Sender<T>, out: &mut VecDeque<Slip>) {
    // In this order: a consumer that goes away gives the places of what it never took back.
    let here = sink.max_capacity() - sink.capacity();
    if !sink.is_closed() {
        let taken = out.len().saturating_sub(here);
        // After a halt it is too late: then they come again.
        let _ = end.shared.acknowledge(out.drain(..taken));
    }
}

/// Everything was delivered: waits until it is taken, or the channel is halted.
async fn watch_the_rest<T>(end: &End<T>, sink: &mpsc::Sender<T>) {
    ::tokio::select! {
        biased;
        () = end.halting() => {}
        _ = sink.reserve_many(sink.max_capacity()) => {}
    }
}
