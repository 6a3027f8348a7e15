//! No more are out than may be, and who waits for that gets on.

use super::{builder, take};
use crate::common::{Alarm, FOR_EVER, send};
use futures::StreamExt;
use overspill::{Delivery, RecvError, RecvTimeoutError, TryRecvError};
use std::task::Poll;

#[test]
fn no_more_are_out_than_may_be_and_an_ack_lets_the_next_one_out() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path()).in_flight_max(3).open().unwrap();
    let rx = channel.acking_receiver();
    send(&channel, 0..10);
    let mut out = take(&rx, 3);
    assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
    let mut many = Vec::new();
    assert_eq!(rx.try_recv_many(&mut many, 5), Err(TryRecvError::Empty));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| rx.recv_timeout(FOR_EVER).map(Delivery::ack_and_take));
        out.remove(1).ack().unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(3));
    });
    // What comes back may go out again at once.
    out.remove(0).release();
    assert_eq!(*rx.try_recv().unwrap(), 0);
}

#[test]
fn a_halt_wakes_receivers_that_wait_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path()).in_flight_max(1).open().unwrap();
    send(&channel, 0..2);
    let rx = channel.acking_receiver();
    let out = take(&rx, 1);
    let mut waiting = Box::pin(rx.recv_async());
    let alarm = Alarm::new();
    assert!(alarm.poll(waiting.as_mut()).is_pending());
    channel.halt().unwrap();
    assert!(alarm.rang());
    let ended = alarm.poll(waiting.as_mut());
    assert!(matches!(ended, Poll::Ready(Err(RecvError::Halted))));
    let ended = rx.recv_timeout(FOR_EVER).unwrap_err();
    assert_eq!(ended, RecvTimeoutError::Halted);
    drop(out);
}

#[test]
fn every_waiting_receiver_gets_on_as_acknowledgements_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path()).in_flight_max(2).open().unwrap();
    let rx = channel.acking_receiver();
    std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..4)
            .map(|_| {
                let rx = rx.clone();
                scope.spawn(move || rx.iter().map(Delivery::ack_and_take).collect::<Vec<u64>>())
            })
            .collect();
        send(&channel, 0..500);
        channel.close();
        let mut taken: Vec<u64> = consumers
            .into_iter()
            .flat_map(|consumer| consumer.join().unwrap())
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn what_comes_back_reaches_the_limit_past_those_who_wait_for_items_and_do_not_look() {
    let dir = tempfile::tempdir().unwrap();
    let channel = builder(dir.path()).in_flight_max(1).open().unwrap();
    let rx = channel.acking_receiver();
    let alarms = [(); 4].map(|()| Alarm::new());
    let mut first = Box::pin(rx.recv_async());
    assert!(alarms[0].poll(first.as_mut()).is_pending());
    let mut stream = rx.stream();
    let mut idle = stream.next();
    assert!(alarms[1].poll(std::pin::Pin::new(&mut idle)).is_pending());
    let mut dropped = Box::pin(rx.recv_async());
    assert!(alarms[2].poll(dropped.as_mut()).is_pending());
    send(&channel, 0..1);
    let Poll::Ready(Ok(out)) = alarms[0].poll(first.as_mut()) else {
        panic!("it was sent");
    };
    let mut at_the_limit = Box::pin(rx.recv_async());
    assert!(alarms[3].poll(at_the_limit.as_mut()).is_pending());
    out.release();
    assert!(alarms[1].rang() && alarms[2].rang() && !alarms[3].rang());
    drop(dropped);
    assert!(alarms[3].rang());
    let got = alarms[3].poll(at_the_limit.as_mut());
    assert!(matches!(got, Poll::Ready(Ok(delivery)) if *delivery == 0));
}
