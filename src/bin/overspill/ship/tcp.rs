//! `--to tcp:ADDR`: connects, and connects again.
//!
//! Plain TCP has no receipts. With `--framing lines` a batch counts when the network stack has taken it and the
//! connection still stood afterwards; a peer that closes its side counts as gone. With `--framing ack` it counts
//! when the receiver has confirmed it.

use crate::args::Framing;
use crate::failure::Failure;
use crate::ship::destination::{Destination, Outcome, lines};
use crate::ship::frame::{self, GREETING, RECEIPT_BYTES};
use crate::ship::patience::Patient;
use crate::ship::record::Line;
use crate::stop::Flag;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A receiver that doesn't greet within this time isn't one of ours.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for a plain peer to read what it was sent.
const LINGER: Duration = Duration::from_secs(1);

pub(crate) struct TcpDestination {
    address: String,
    framing: Framing,
    connection: Option<Patient>,
    /// The number of the next batch.
    number: u64,
    /// Ends all waiting.
    abandon: Flag,
}

impl TcpDestination {
    pub(crate) fn new(address: &str, framing: Framing, abandon: Flag) -> Self {
        Self {
            address: address.to_owned(),
            framing,
            connection: None,
            number: 0,
            abandon,
        }
    }

    fn attempt(&mut self, batch: &[Line<'_>]) -> io::Result<()> {
        let mut peer = match self.connection.take() {
            Some(peer) => peer,
            None => connect(&self.address, self.framing, &self.abandon)?,
        };
        match self.framing {
            Framing::Lines => {
                check_open(&peer)?;
                peer.write_all(&lines(batch))?;
                check_open(&peer)?;
            }
            Framing::Ack => {
                self.number += 1;
                peer.write_all(&frame::encode_batch(self.number, batch))?;
                let mut receipt = [0; RECEIPT_BYTES];
                peer.read_exact(&mut receipt)?;
                if frame::decode_receipt(receipt)? != self.number {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a receipt for another batch",
                    ));
                }
            }
        }
        // Only a connection that has served is used again.
        self.connection = Some(peer);
        Ok(())
    }
}

impl Destination for TcpDestination {
    fn deliver(&mut self, batch: &[Line<'_>]) -> Result<Outcome, Failure> {
        Ok(self
            .attempt(batch)
            .map_or_else(Outcome::Away, |()| Outcome::Taken))
    }

    /// A socket that is closed with unread bytes in it resets the connection, and with it what the peer
    /// has not read yet. So this side ends first, and waits a moment for the other.
    fn finish(&mut self) {
        if let Some(peer) = self.connection.take() {
            let deadline = Instant::now() + LINGER;
            let mut stream = peer.stream();
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(LINGER));
            while matches!(stream.read(&mut [0; 1024]), Ok(1..)) && Instant::now() < deadline {}
        }
    }
}

fn connect(address: &str, framing: Framing, abandon: &Flag) -> io::Result<Patient> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                let mut peer = Patient::new(stream, abandon.clone())?;
                if framing == Framing::Ack {
                    greet(&mut peer)?;
                }
                return Ok(peer);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn greet(peer: &mut Patient) -> io::Result<()> {
    // A batch waits for its receipt, so nothing is gained by waiting longer for a machine that vanished.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(peer.stream()).set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    peer.write_all(&GREETING)?;
    let slice = peer.stream().read_timeout()?;
    peer.stream().set_read_timeout(Some(GREETING_TIMEOUT))?;
    let mut greeting = [0; GREETING.len()];
    // Not through `Patient`: a peer that stays silent must not be waited for.
    let read = peer.stream().read_exact(&mut greeting);
    peer.stream().set_read_timeout(slice)?;
    match read {
        Ok(()) if greeting == GREETING => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not speak --framing ack",
        )),
    }
}

/// Fails if the peer has closed or reset the connection. What it sends is thrown away.
fn check_open(peer: &Patient) -> io::Result<()> {
    let mut stream = peer.stream();
    stream.set_nonblocking(true)?;
    let gone = loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => {
                break Some(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the peer closed the connection",
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
            Err(error) => break Some(error),
        }
    };
    stream.set_nonblocking(false)?;
    gone.map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
