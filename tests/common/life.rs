//! How a channel lives: syncs, ends of every kind, and what the next process begins with.

use super::machine::{Machine, Open};
use super::ops::{Disk, End};
use super::{FOR_EVER, Item, block_on, poll_and_drop};
use overspill::{
    AckError, Delivery, DiskBufferedChannel, FailOn, HaltError, HaltReport, RecvError,
    RecvTimeoutError, SyncError, TrySendError,
};
use std::io;
use std::time::{Duration, Instant};

impl Machine {
    pub(super) fn sync(&mut self, polls: Option<u8>) {
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
                self.model.persist();
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

    pub(super) fn fail(&mut self, on: FailOn, kind: io::ErrorKind) {
        // One at a time: each costs the back-off of a retry.
        if !self.now().faulty {
            self.now().faulty = true;
            self.now().channel.fail_next(on, kind);
        }
    }

    pub(super) fn open(&mut self) {
        let limits = self.setup.deliveries;
        let mut builder = DiskBufferedChannel::builder(self.dir.path().join("spool"))
            .memory_items(self.setup.memory_items)
            .memory_bytes_max(self.setup.memory_bytes_max)
            .block_bytes(64)
            .segment_bytes(300)
            .storage(self.setup.storage)
            .compression(self.setup.compression)
            .durability(self.setup.durability.clone())
            .when_full(self.setup.disk.policy())
            .disk_free_min(0)
            .in_flight_max(limits.in_flight_max)
            .backoff(limits.backoff.0, limits.backoff.1)
            .dead_letter_bytes_max(limits.dead_letter_bytes_max)
            .manual_clock();
        if self.setup.always_encode {
            builder = builder.always_encode();
        }
        if let Some(attempts) = self.setup.max_attempts() {
            builder = builder.max_attempts(attempts);
        }
        if let Some(age) = limits.max_age {
            builder = builder.max_age(age);
        }
        match self.setup.disk {
            Disk::Roomy => {}
            Disk::Quota(_) => builder = builder.disk_bytes_max(1 << 20),
            Disk::NoRoom(_) => builder = builder.disk_free_min(u64::MAX),
        }
        let channel = builder
            .open()
            .expect("the directory can be opened again at once");
        // A clock of its own begins at today: time goes on from where it was.
        channel.advance_clock(Duration::from_millis(self.model.now));
        // Less than they were, when counters were not written down before the end.
        let dropped = channel.stats().dropped;
        self.full_known = dropped.full.min(self.full_known);
        self.expired_known = dropped.expired.min(self.expired_known);
        self.open = Some(Open {
            senders: vec![channel.sender()],
            receivers: vec![channel.receiver()],
            acking: channel.acking_receiver(),
            stream: None,
            deliveries: None,
            out: Vec::new(),
            batches: Vec::new(),
            closed: false,
            faulty: false,
            channel,
        });
    }

    pub(super) fn reopen(&mut self, end: End) {
        self.note_gone();
        let before = self.stats();
        let out = std::mem::take(&mut self.now().out);
        let batches = std::mem::take(&mut self.now().batches);
        let faulty = self.now().faulty;
        let ended = self.end(end);
        if end != End::Drop {
            self.check_halted(end);
            self.note_gone();
        }
        let clean = end != End::Crash && !faulty;
        self.check_report(end, ended, faulty);
        self.open = None;
        let mut late: Vec<_> = out.into_iter().map(|(_, delivery)| delivery).collect();
        for (index, (_, batch)) in batches.into_iter().enumerate() {
            if index % 2 == 0 {
                late.extend(batch.into_deliveries());
            } else {
                assert_eq!(batch.ack(), Err(AckError::TooLate));
            }
        }
        let later = late.split_off(late.len() / 2);
        too_late(late);
        self.is_replaying = true;
        self.open();
        too_late(later);
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

    /// Ends the process, as far as that doesn't take the channel itself.
    fn end(&mut self, end: End) -> Result<HaltReport, HaltError<Item>> {
        let channel = self.now().channel.clone();
        match end {
            End::Halt => channel.halt(),
            End::HaltAsync => block_on(channel.halt_async()),
            End::Drain => channel.drain(Duration::ZERO),
            End::HaltWith(count) => {
                let items: Vec<Item> = (0..count).map(|_| self.item()).collect();
                for item in &items {
                    self.model.admit(item.id);
                }
                channel.halt_with(items)
            }
            // With the last handle.
            End::Drop => Ok(HaltReport::default()),
            End::Crash => {
                channel.crash();
                Ok(HaltReport::default())
            }
        }
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
                let tells = !matches!(end, End::Drop | End::Crash);
                if let Some(unfinished) = self.model.unfinished().filter(|_| tells) {
                    let saved = (report.saved, report.in_flight);
                    assert_eq!(saved, (unfinished, self.model.out()), "{end:?}");
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
        let (replayed, clean_shutdown) = (report.replayed, report.clean_shutdown);
        self.model.end_process();
        if !clean {
            self.model.forget_failures();
        }
        self.note_letters_found();
        if clean {
            assert!(clean_shutdown, "{:?}", self.stats());
            self.note_gone();
            self.model.end_cleanly();
            // What is too old may be gone since.
            let is_exact = self.model.max_age.is_none();
            if let Some(unfinished) = self.model.unfinished().filter(|_| is_exact) {
                assert_eq!(replayed, unfinished);
            }
        } else if self.setup.writes_ahead() {
            let replayed = replayed - self.requeued as u64;
            self.pristine &= self.model.replay_all(replayed) && !self.setup.disk.drops();
        } else {
            self.pristine = false;
            self.model.replay_some(at_risk);
        }
        self.note_requeued();
        self.is_replaying = false;
    }

    /// Takes everything that is left.
    pub(super) fn drain(&mut self) {
        self.settle();
        self.take_all_back();
        self.now().channel.close();
        self.now().closed = true;
        let began = Instant::now();
        let rx = self.receiver(0);
        loop {
            match rx.recv_timeout(FOR_EVER) {
                Ok(item) => self.receive(item),
                Err(RecvTimeoutError::Closed) => break self.note_ended(&RecvError::Closed),
                Err(error) => panic!("{error}: {:?}", self.stats()),
            }
            self.check();
            assert!(began.elapsed() < FOR_EVER, "it never ends");
        }
    }
}

/// Nothing that is done with a delivery after the end of its process makes a difference.
fn too_late(deliveries: Vec<Delivery<Item>>) {
    for (index, delivery) in deliveries.into_iter().enumerate() {
        match index % 6 {
            0 => assert_eq!(delivery.ack(), Err(AckError::TooLate)),
            1 => assert_eq!(delivery.ack_sync(), Err(AckError::TooLate)),
            2 => drop(delivery.ack_and_take().intact()),
            3 => delivery.nack(),
            4 => delivery.dead_letter("too late"),
            _ => delivery.release(),
        }
    }
}
