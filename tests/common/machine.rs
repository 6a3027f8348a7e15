//! Drives a real channel and its model through one history, and compares them after every step.

use super::model::Model;
use super::ops::{Disk, End, Op, Setup};
use super::{FOR_EVER, Item, assert_conserved, block_on, poll_and_drop};
use overspill::{
    DiskBufferedChannel, FailOn, HaltError, HaltReport, Receiver, RecvError, RecvStream,
    RecvTimeoutError, Sender, Stats, SyncError, TrySendError,
};
use std::io;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for the worker to bring something, short enough to look again whether anything is left.
pub(super) const MOMENT: Duration = Duration::from_millis(5);
const HANDLES_MAX: usize = 3;

pub(crate) struct Machine {
    pub(super) setup: Setup,
    dir: TempDir,
    open: Option<Open>,
    pub(super) model: Model,
    next_id: u64,
    /// The channel's counters go back to what was written down, when it didn't end cleanly.
    pristine: bool,
}

/// The handles of one incarnation.
pub(super) struct Open {
    channel: DiskBufferedChannel<Item>,
    senders: Vec<Sender<Item>>,
    receivers: Vec<Receiver<Item>>,
    pub(super) stream: Option<RecvStream<Item>>,
    pub(super) closed: bool,
    /// Faults were planned that may not have happened yet.
    faulty: bool,
    /// `dropped.full` as far as the model knows of it.
    dropped_known: u64,
}

/// Runs the history that `bytes` stand for.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let mut pairs = bytes
        .chunks_exact(2)
        .filter_map(|pair| pair.first().zip(pair.get(1)));
    let Some((code, arg)) = pairs.next() else {
        return;
    };
    let setup = Setup::decode(*code, *arg);
    let ops: Vec<Op> = pairs.map(|(code, arg)| Op::decode(*code, *arg)).collect();
    Machine::new(setup).run(&ops);
}

impl Machine {
    pub(crate) fn new(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut machine = Self {
            setup,
            dir,
            open: None,
            model: Model::default(),
            next_id: 0,
            pristine: true,
        };
        machine.open(0);
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

    // ---- life -------------------------------------------------------------------------------

    fn sync(&mut self, polls: Option<u8>) {
        let channel = self.now().channel.clone();
        let synced = match polls {
            None => channel.sync(),
            Some(polls) => match poll_and_drop(channel.sync_async(), usize::from(polls)) {
                Some(synced) => synced,
                None => return,
            },
        };
        let stats = self.stats();
        match synced {
            Ok(()) => {
                assert_eq!(stats.at_risk_items, 0, "{stats:?}");
                self.model.confirm();
            }
            Err(SyncError::Store(error)) => {
                assert!(
                    self.now().faulty || self.setup.disk != Disk::Roomy,
                    "{error}"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn fail(&mut self, on: FailOn, kind: io::ErrorKind) {
        // One at a time: each costs the back-off of a retry.
        if !self.now().faulty {
            self.now().faulty = true;
            self.now().channel.fail_next(on, kind);
        }
    }

    /// Opens the channel; the model knows of so many drops.
    fn open(&mut self, dropped_known: u64) {
        let mut builder = DiskBufferedChannel::builder(self.dir.path().join("spool"))
            .memory_items(self.setup.memory_items)
            .memory_bytes_max(self.setup.memory_bytes_max)
            .block_bytes(64)
            .segment_bytes(300)
            .storage(self.setup.storage)
            .compression(self.setup.compression)
            .durability(self.setup.durability.clone())
            .when_full(self.setup.disk.policy())
            .disk_free_min(0);
        if self.setup.always_encode {
            builder = builder.always_encode();
        }
        match self.setup.disk {
            Disk::Roomy => {}
            Disk::Quota(_) => builder = builder.disk_bytes_max(1 << 20),
            Disk::NoRoom(_) => builder = builder.disk_free_min(u64::MAX),
        }
        let channel = builder
            .open()
            .expect("the directory can be opened again at once");
        self.open = Some(Open {
            senders: vec![channel.sender()],
            receivers: vec![channel.receiver()],
            stream: None,
            closed: false,
            faulty: false,
            // Less than that, when counters were not written down before the end.
            dropped_known: channel.stats().dropped.full.min(dropped_known),
            channel,
        });
    }

    fn reopen(&mut self, end: End) {
        let before = self.stats();
        let Some(Open {
            channel,
            senders,
            receivers,
            stream,
            faulty,
            ..
        }) = &mut self.open
        else {
            return;
        };
        let faulty = *faulty;
        let ended = match end {
            End::Halt => channel.halt(),
            End::HaltAsync => block_on(channel.halt_async()),
            End::Drain => channel.drain(Duration::ZERO),
            End::HaltWith(count) => {
                let ids = self.next_id..self.next_id + u64::from(count);
                self.next_id = ids.end;
                let items: Vec<Item> = ids.map(|id| Item::new(id, self.setup.pad(id))).collect();
                for item in &items {
                    self.model.admit(item.id);
                }
                channel.halt_with(items)
            }
            End::Drop => {
                senders.clear();
                receivers.clear();
                *stream = None;
                Ok(HaltReport::default())
            }
            End::Crash => {
                channel.crash();
                Ok(HaltReport::default())
            }
        };
        if end != End::Drop {
            self.check_halted(end);
            self.note_dropped();
        }
        let clean = end != End::Crash && !faulty;
        self.check_report(end, ended, faulty);
        let dropped_known = self.now().dropped_known;
        self.open = None;
        self.open(dropped_known);
        self.note_dropped();
        self.note_replayed(
            clean,
            if end == End::Crash {
                before.at_risk_items
            } else {
                0
            },
        );
        self.check();
    }

    fn check_halted(&mut self, end: End) {
        let (tx, rx) = (self.sender(0), self.receiver(0));
        let item = self.item();
        assert!(
            matches!(tx.try_send(item), Err(TrySendError::Halted(_))),
            "{end:?}"
        );
        assert_eq!(rx.recv(), Err(RecvError::Halted));
    }

    fn check_report(&self, end: End, ended: Result<HaltReport, HaltError<Item>>, faulty: bool) {
        match ended {
            Ok(report) => {
                if let (Some(waiting), false) =
                    (self.model.waiting(), matches!(end, End::Drop | End::Crash))
                {
                    assert_eq!(report.saved, waiting, "{end:?}");
                }
            }
            Err(error) => {
                assert!(faulty, "{error}");
                assert_eq!(error.into_items(), [], "one fault makes nothing unsaveable");
            }
        }
    }

    /// What the new incarnation begins with.
    fn note_replayed(&mut self, clean: bool, at_risk: u64) {
        let open = self.open.as_ref().expect("it was opened a moment ago");
        let report = open.channel.open_report();
        assert!(
            report.quarantined.is_empty() && report.lost.is_empty(),
            "{report:?}"
        );
        let replayed = report.replayed;
        if clean {
            assert!(report.clean_shutdown, "{report:?}");
            self.model.end_cleanly();
        } else if self.setup.writes_ahead() {
            self.pristine &= self.model.replay_all(replayed) && !self.setup.disk.drops();
        } else {
            self.pristine = false;
            self.model.replay_some(at_risk);
        }
    }

    // ---- what holds at every moment ---------------------------------------------------------

    /// Tells the model how many accepted items the policy has dropped.
    pub(super) fn note_dropped(&mut self) {
        let dropped = self.stats().dropped.full;
        let known = std::mem::replace(&mut self.now().dropped_known, dropped);
        self.model.drop_some(dropped - known);
    }

    fn check(&mut self) {
        self.note_dropped();
        let stats = self.stats();
        assert_conserved(&stats);
        assert_eq!(stats.lost, 0, "nothing was damaged: {stats:?}");
        assert!(
            stats.front_items <= self.setup.memory_items as u64,
            "{stats:?}"
        );
        if self.setup.writes_ahead() {
            assert_eq!(
                (stats.at_risk_items, stats.unaccounted),
                (0, 0),
                "{stats:?}"
            );
        }
        let is_still = stats.dropped.full == self.now().dropped_known;
        if let Some(waiting) = self.model.waiting().filter(|_| is_still) {
            assert_eq!(stats.pending, waiting, "{stats:?}");
        }
        if self.pristine {
            assert_eq!(stats.accepted, self.model.accepted, "{stats:?}");
            assert_eq!(stats.acknowledged, self.model.taken, "{stats:?}");
        }
    }

    /// Takes everything that is left.
    fn drain(&mut self) {
        self.now().channel.close();
        self.now().closed = true;
        let began = Instant::now();
        let rx = self.receiver(0);
        loop {
            match rx.recv_timeout(FOR_EVER) {
                Ok(item) => {
                    self.note_dropped();
                    self.model.take(item.intact());
                }
                Err(RecvTimeoutError::Closed) => break self.note_ended(&RecvError::Closed),
                Err(error) => panic!("{error}: {:?}", self.stats()),
            }
            self.check();
            assert!(began.elapsed() < FOR_EVER, "it never ends");
        }
    }
}

fn drop_one<H>(handles: &mut Vec<H>, pick: u8) {
    if !handles.is_empty() {
        handles.swap_remove(usize::from(pick) % handles.len());
    }
}
