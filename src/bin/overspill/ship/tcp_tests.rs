//! The TCP destination against peers that come, go and say nonsense.

use super::*;
use overspill::ItemId;
use std::net::TcpListener;
use std::thread;

fn destination(listener: &TcpListener, framing: Framing) -> TcpDestination {
    let address = listener.local_addr().unwrap().to_string();
    TcpDestination::new(&address, framing, Flag::default())
}

fn batch(text: &str) -> [Line<'_>; 1] {
    [Line {
        id: Some(ItemId {
            channel: [7; 16],
            incarnation: 1,
            seq: 0,
        }),
        came_as: None,
        place: None,
        text: text.as_bytes(),
    }]
}

/// The receiver's side of a connection, up to the first batch.
fn welcome(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&GREETING).unwrap();
    stream.read_exact(&mut [0; GREETING.len()]).unwrap();
    stream
}

#[test]
fn a_batch_without_a_receipt_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut destination = destination(&listener, Framing::Ack);
    let receiver = thread::spawn(move || {
        let first = frame::read_batch(&mut welcome(&listener)).unwrap().unwrap();
        let mut again = welcome(&listener);
        let second = frame::read_batch(&mut again).unwrap().unwrap();
        again.write_all(&frame::encode_receipt(second.0)).unwrap();
        (first.1, second.1)
    });
    let batch = batch("one\n");
    assert!(destination.attempt(&batch).is_err());
    destination.attempt(&batch).unwrap();
    let (first, second) = receiver.join().unwrap();
    assert_eq!(Line::reread(&first[0]).came_as, batch[0].id);
    assert_eq!(first, second);
}

#[test]
fn a_receipt_for_another_batch_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut destination = destination(&listener, Framing::Ack);
    let receiver = thread::spawn(move || {
        let mut peer = welcome(&listener);
        frame::read_batch(&mut peer).unwrap();
        peer.write_all(&frame::encode_receipt(u64::MAX)).unwrap();
        drop(peer);
    });
    assert!(destination.attempt(&batch("one\n")).is_err());
    receiver.join().unwrap();
}

#[test]
fn a_plain_peer_that_has_closed_has_taken_nothing_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut destination = destination(&listener, Framing::Lines);
    let (close, closes) = std::sync::mpsc::channel::<()>();
    let receiver = thread::spawn(move || {
        let mut taken = [[0; 4]; 2];
        for taken in &mut taken {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(taken).unwrap();
            let _ = closes.recv();
        }
        taken
    });
    destination.attempt(&batch("one\n")).unwrap();
    close.send(()).unwrap();
    // The peer's closing arrives before the next batch goes out: it would vanish in the network stack.
    let peer = destination.connection.as_ref().unwrap();
    peer.stream().set_read_timeout(None).unwrap();
    assert_eq!(peer.stream().peek(&mut [0]).unwrap(), 0);
    assert!(destination.attempt(&batch("two\n")).is_err());
    destination.attempt(&batch("two\n")).unwrap();
    drop(close);
    assert_eq!(receiver.join().unwrap(), [*b"one\n", *b"two\n"]);
}

#[test]
fn a_peer_that_is_silent_is_left_when_the_shipper_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut destination = destination(&listener, Framing::Ack);
    let abandon = destination.abandon.clone();
    let sender = thread::spawn(move || destination.attempt(&batch("one\n")).unwrap_err().kind());
    let mut peer = welcome(&listener);
    frame::read_batch(&mut peer).unwrap();
    abandon.raise();
    assert_eq!(sender.join().unwrap(), io::ErrorKind::ConnectionAborted);
}

#[test]
fn a_peer_that_speaks_something_else_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut destination = destination(&listener, Framing::Ack);
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        stream
    });
    let error = destination.attempt(&batch("one\n")).unwrap_err();
    assert!(error.to_string().contains("--framing ack"), "{error}");
    peer.join().unwrap();
}
