//! `--framing ack` against peers that say just what a test wants.

use crate::processes::{ACK, Place, figure, free_address, until};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const GREETING: &[u8; 17] = b"overspill-ship/2\n";

/// A line as its sender names it: incarnation, sequence number, text.
type Sent = (u64, u64, &'static str);

/// The bytes of a batch from the channel with this id.
fn batch(number: u64, channel: u8, lines: &[Sent]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (incarnation, seq, text) in lines {
        for number in [*incarnation, *seq, 0, 0] {
            payload.extend(number.to_le_bytes());
        }
        payload.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        payload.extend(text.as_bytes());
    }
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend([channel; 16]);
    bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(&payload);
    bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
    bytes
}

/// A connection as a sender makes it.
fn connect(address: &str) -> TcpStream {
    let mut stream = None;
    until("the listener", || {
        stream = TcpStream::connect(address).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream.write_all(GREETING).unwrap();
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, GREETING);
    stream
}

/// Sends a batch and waits for its receipt.
fn send(stream: &mut TcpStream, number: u64, channel: u8, lines: &[Sent]) {
    stream.write_all(&batch(number, channel, lines)).unwrap();
    let mut receipt = [0; 12];
    stream.read_exact(&mut receipt).unwrap();
    assert_eq!(receipt[..8], number.to_le_bytes());
}

/// The text of the first line of the next batch, which gets no receipt.
fn refuse_a_batch(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(GREETING).unwrap();
    stream.read_exact(&mut [0; GREETING.len()]).unwrap();
    let mut header = [0; 32];
    stream.read_exact(&mut header).unwrap();
    let len = u32::from_le_bytes(header[24..28].try_into().unwrap());
    let mut payload = vec![0; len as usize + 4];
    stream.read_exact(&mut payload).unwrap();
    let len = u32::from_le_bytes(payload[32..36].try_into().unwrap()) as usize;
    payload[36..36 + len].to_vec()
}

#[test]
fn a_receiver_drops_what_it_has_whenever_and_however_it_comes_again() {
    let place = Place::new();
    let address = free_address();
    let (tcp, out) = (format!("tcp:{address}"), place.file("out"));
    let start = || place.ship("spool", &tcp, &out, &ACK);
    let receiver = start();
    let mut one = connect(&address);
    send(&mut one, 1, 1, &[(1, 0, "a0\n"), (1, 1, "a1\n")]);
    // On the same connection, on a new one with more behind it, and after a kill of the receiver.
    send(&mut one, 2, 1, &[(1, 0, "a0\n"), (1, 1, "a1\n")]);
    let mut other = connect(&address);
    send(&mut other, 1, 1, &[(1, 1, "a1\n"), (1, 2, "a2\n")]);
    // Another channel has numbers of its own.
    send(&mut other, 2, 2, &[(1, 0, "b0\n"), (1, 1, "b1\n")]);
    receiver.kill();
    let _receiver = start();
    let mut again = connect(&address);
    send(&mut again, 1, 1, &[(1, 2, "a2\n"), (1, 3, "a3\n")]);
    // A crash of the sender: a number is given out once more.
    send(&mut again, 2, 1, &[(2, 2, "A2\n")]);
    send(&mut again, 3, 2, &[(1, 1, "b1\n"), (1, 2, "b2\n")]);
    let expected = "a0\na1\na2\nb0\nb1\na3\nA2\nb2\n";
    let read = || fs::read_to_string(place.path("out")).unwrap_or_default();
    until("the last line", || read().ends_with("b2\n"));
    assert_eq!(read(), expected);
}

#[test]
fn a_receiver_that_never_confirms_gets_the_same_lines_first_until_one_does() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = format!("tcp:{}", listener.local_addr().unwrap());
    let (log, stats) = (place.file("in"), place.text("stats"));
    place.write(0..3000);
    let options = ["--framing", "ack", "--stats-file", &stats];
    let _sender = place.ship("spool", &log, &tcp, &options);
    for _ in 0..3 {
        assert!(refuse_a_batch(&listener).starts_with(b"0000000 "));
    }
    drop(listener);
    let _receiver = place.ship("receiving", &tcp, &place.file("out"), &ACK);
    until("every line", || place.lines("out") >= 3000);
    place.assert_same("in", "out");
    until("the acknowledgements", || {
        figure(&stats, "acknowledged") == Some(3001)
    });
    assert_eq!(figure(&stats, "dead_lettered"), Some(0));
    assert_ne!(figure(&stats, "redelivered"), Some(0));
}
