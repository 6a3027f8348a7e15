//! Drives a real channel and its model through one history, and compares them after every step.

use super::model::{Key, Model};
use super::ops::{Deliveries, End, Op, Setup, ms};
use super::{Item, assert_conserved};
use overspill::{
    AckReceiver, Batch, Delivery, DeliveryStream, DiskBufferedChannel, Receiver, RecvStream,
    Sender, Stats,
};
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for the worker to bring something, short enough to look again whether anything is left.
pub(super) const MOMENT: Duration = Duration::from_millis(5);
const HANDLES_MAX: usize = 3;

pub(crate) struct Machine {
    pub(super) setup: Setup,
    pub(super) dir: TempDir,
    pub(super) open: Option<Open>,
    pub(super) model: Model,
    next_id: u64,
    /// The channel's counters go back to what was written down, when it didn't end cleanly.
    pub(super) pristine: bool,
    /// `dropped` as far as the model knows of it.
    pub(super) full_known: u64,
    pub(super) expired_known: u64,
    /// How many letters a process had requeued as it ended, if it was about to.
    pub(super) requeued: usize,
    pub(super) may_requeue: bool,
    /// What waits after an opening is still to be found out: until then nothing of it can be too old.
    pub(super) is_replaying: bool,
}

/// The handles of one incarnation.
pub(super) struct Open {
    pub(super) channel: DiskBufferedChannel<Item>,
    pub(super) senders: Vec<Sender<Item>>,
    pub(super) receivers: Vec<Receiver<Item>>,
    pub(super) acking: AckReceiver<Item>,
    pub(super) stream: Option<RecvStream<Item>>,
    pub(super) deliveries: Option<DeliveryStream<Item>>,
    pub(super) out: Vec<(Key, Delivery<Item>)>,
    pub(super) batches: Vec<(Vec<Key>, Batch<Item>)>,
    pub(super) closed: bool,
    /// Faults were planned that may not have happened yet.
    pub(super) faulty: bool,
}

/// Runs the history that `bytes` stand for.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let mut pairs = bytes
        .chunks_exact(2)
        .filter_map(|pair| pair.first().zip(pair.get(1)));
    let (Some(setup), Some(deliveries)) = (pairs.next(), pairs.next()) else {
        return;
    };
    let deliveries = Deliveries::decode(*deliveries.0, *deliveries.1);
    let setup = Setup::decode(*setup.0, *setup.1).with_deliveries(deliveries);
    let ops: Vec<Op> = pairs
        .map(|(code, arg)| Op::decode_any(*code, *arg))
        .collect();
    Machine::new(setup).run(&ops);
}

impl Machine {
    pub(crate) fn new(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut model = Model::default();
        model.max_age = setup.deliveries.max_age.map(ms);
        let mut machine = Self {
            setup,
            dir,
            open: None,
            model,
            next_id: 0,
            pristine: true,
            full_known: 0,
            expired_known: 0,
            requeued: 0,
            may_requeue: false,
            is_replaying: false,
        };
        machine.open();
        machine
    }

    /// Does every step, then takes everything that is left.
    pub(crate) fn run(mut self, ops: &[Op]) {
        for op in ops {
            self.step(*op);
            self.check();
        }
        self.drain();
        let faulty = self.now().faulty;
        self.reopen(End::Halt);
        assert!(
            faulty || self.stats().pending == 0,
            "everything was received"
        );
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Send(pick) => self.send(pick),
            Op::TrySend(pick) => self.try_send(pick),
            Op::SendTimeout(pick) => self.send_timeout(pick),
            Op::SendAll(count) => self.send_all(count),
            Op::SendAsync(polls) => self.send_async(polls),
            Op::SendAllAsync(arg) => self.send_all_async(arg % 8, arg >> 6),
            Op::Sink(count) => self.sink(count),
            Op::Recv(pick) => self.recv(pick),
            Op::TryRecv(pick) => self.try_recv(pick),
            Op::RecvMany(max) => self.recv_many(max),
            Op::TryRecvMany(max) => self.try_recv_many(max),
            Op::RecvAsync(polls) => self.recv_async(polls),
            Op::RecvManyAsync(max) => self.recv_many_async(max),
            Op::Stream => self.poll_stream(),
            Op::DropStream => self.now().stream = None,
            Op::Sync => self.sync(None),
            Op::SyncAsync(polls) => self.sync(Some(polls)),
            Op::Close => {
                self.now().channel.close();
                self.now().closed = true;
            }
            Op::Fail(on, kind) => self.fail(on, kind),
            Op::CloneSender(pick) => {
                let sender = self.sender(pick);
                self.now().senders.push(sender);
                self.now().senders.truncate(HANDLES_MAX);
            }
            Op::DropSender(pick) => drop_one(&mut self.now().senders, pick),
            Op::CloneReceiver(pick) => {
                let receiver = self.receiver(pick);
                self.now().receivers.push(receiver);
                self.now().receivers.truncate(HANDLES_MAX);
            }
            Op::DropReceiver(pick) => drop_one(&mut self.now().receivers, pick),
            Op::Reopen(end) => self.reopen(end),
            Op::Deliver(verb) => self.deliver(verb),
            Op::Finish(finish, pick) => self.finish(finish, pick),
            Op::FinishBatch(end, arg) => self.finish_batch(end, arg),
            Op::Advance(times) => self.advance(times),
            Op::Letters => drop(self.check_letters()),
            Op::Requeue => self.requeue(),
            Op::RequeueAndCrash(polls) => self.requeue_and_crash(polls),
            Op::Purge => self.purge(),
        }
    }

    // ---- the handles ------------------------------------------------------------------------

    pub(super) fn now(&mut self) -> &mut Open {
        self.open
            .as_mut()
            .expect("a channel is open between two steps")
    }

    pub(super) fn stats(&mut self) -> Stats {
        self.now().channel.stats()
    }

    pub(super) fn sender(&mut self, pick: u8) -> Sender<Item> {
        let open = self.now();
        let index = usize::from(pick) % open.senders.len().max(1);
        open.senders
            .get(index)
            .cloned()
            .unwrap_or_else(|| open.channel.sender())
    }

    pub(super) fn receiver(&mut self, pick: u8) -> Receiver<Item> {
        let open = self.now();
        let index = usize::from(pick) % open.receivers.len().max(1);
        open.receivers
            .get(index)
            .cloned()
            .unwrap_or_else(|| open.channel.receiver())
    }

    pub(super) fn item(&mut self) -> Item {
        let id = self.next_id;
        self.next_id += 1;
        Item::new(id, self.setup.pad(id))
    }

    // ---- what holds at every moment ---------------------------------------------------------

    /// Tells the model what has gone without being received. Returns the figures that say so.
    pub(super) fn note_gone(&mut self) -> Stats {
        let stats = self.stats();
        let full = std::mem::replace(&mut self.full_known, stats.dropped.full);
        self.model.drop_some(stats.dropped.full - full);
        if !self.is_replaying {
            let expired = std::mem::replace(&mut self.expired_known, stats.dropped.expired);
            self.model.expire_some(stats.dropped.expired - expired);
        }
        self.model
            .bury(stats.dead_lettered - self.model.dead_lettered);
        stats
    }

    /// Compares the figures of one moment with the model.
    pub(super) fn check(&mut self) {
        let stats = self.note_gone();
        assert_conserved(&stats);
        assert_eq!(stats.lost, 0, "nothing was damaged: {stats:?}");
        let (memory_items, out_max) =
            (self.setup.memory_items, self.setup.deliveries.in_flight_max);
        assert!(
            stats.front_items <= (memory_items + out_max) as u64,
            "{stats:?}"
        );
        assert!(stats.in_flight <= out_max as u64, "{stats:?}");
        if self.setup.writes_ahead() {
            assert_eq!(
                (stats.at_risk_items, stats.unaccounted),
                (0, 0),
                "{stats:?}"
            );
        }
        if let Some(waiting) = self.model.waiting() {
            assert_eq!(stats.pending, waiting, "{stats:?}\n{:?}", self.model);
        }
        assert_eq!(stats.in_flight, self.model.out(), "{stats:?}");
        assert_eq!(stats.redelivered, self.model.redelivered, "{stats:?}");
        if self.pristine {
            assert_eq!(stats.accepted, self.model.accepted, "{stats:?}");
            assert_eq!(stats.acknowledged, self.model.taken, "{stats:?}");
        }
    }
}

fn drop_one<H>(handles: &mut Vec<H>, pick: u8) {
    if !handles.is_empty() {
        handles.swap_remove(usize::from(pick) % handles.len());
    }
}
