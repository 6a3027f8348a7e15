//! Opening a channel: on the caller's thread, or on one of its own.

use super::DiskBufferedChannel;
use crate::codec::Codec;
use crate::config::Settings;
use crate::core::Shared;
use crate::error::{OpenError, SchemaTag, StoreError};
use crate::gate::Gate;
use crate::handle::{Handle, Role};
use crate::queue::Queue;
use crate::schema::{Earlier, Migrations};
use crate::state::State;
use crate::sync::{self, Mutex};
use crate::worker::{self, Desk};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Opens the directory and makes the first handle.
pub(crate) fn open<T: Send + 'static>(
    settings: Settings,
    codec: Box<dyn Codec<T>>,
    migrations: &Migrations<T>,
) -> Result<DiskBufferedChannel<T>, OpenError> {
    let (queue, recovered) = Queue::open(&settings, codec.name())?;
    let today = SchemaTag::new(codec.name(), settings.schema.as_deref());
    let limits = queue.limits();
    let mut state = State::new(
        limits,
        recovered.ledger,
        recovered.next_seq,
        recovered.disk_room,
        settings.clock.clone(),
    );
    state.incarnation = recovered.report.incarnation;
    state.figures = queue.figures();
    let quarantined = recovered.report.quarantined.clone();
    let shared = Arc::new(Shared {
        state: Gate::new(state, &settings),
        settings,
        codec,
        earlier: Earlier::new(recovered.eras, &today, migrations),
        desk: Mutex::new(Some(Box::new(Desk::new(queue)))),
        thread: Mutex::new(None),
        start_worker: worker::start,
        watch_halt,
        report: recovered.report,
        channel: recovered.channel,
        quarantined: Mutex::new(quarantined),
        decoding: Mutex::new(VecDeque::new()),
    });
    Ok(DiskBufferedChannel {
        handle: Handle::new(shared, Role::Both),
    })
}

/// Waits for the end of a halt on a thread of its own, which notices a hung store.
fn watch_halt<T: Send + 'static>(shared: &Arc<Shared<T>>) {
    let watched = Arc::clone(shared);
    if sync::spawn("overspill-halt", move || watched.wait_halted()).is_err() {
        shared.wait_halted();
    }
}

/// Opens on a thread of its own.
pub(crate) async fn open_async<T: Send + 'static>(
    settings: Settings,
    codec: Box<dyn Codec<T>>,
    migrations: Migrations<T>,
) -> Result<DiskBufferedChannel<T>, OpenError> {
    type Opened<T> = Option<Result<DiskBufferedChannel<T>, OpenError>>;
    let slot: Arc<Mutex<(Opened<T>, Option<Waker>)>> = Arc::new(Mutex::new((None, None)));
    let filled = Arc::clone(&slot);
    let path = settings.dir.clone();
    let opening = move || {
        let opened = open(settings, codec, &migrations);
        let waker = {
            let mut slot = filled.lock();
            slot.0 = Some(opened);
            slot.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    };
    sync::spawn("overspill-open", opening)
        .map_err(|source| StoreError::io("start a thread to open", &path, source))?;
    poll_fn(|cx| {
        let mut slot = slot.lock();
        if let Some(opened) = slot.0.take() {
            return Poll::Ready(opened);
        }
        slot.1 = Some(cx.waker().clone());
        Poll::Pending
    })
    .await
}
