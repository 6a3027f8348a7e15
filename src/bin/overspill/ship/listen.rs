//! `--from tcp:ADDR`: accepts connections and takes lines from each, or batches that it confirms.

use crate::args::Framing;
use crate::failure::Failure;
use crate::ship::frame::{self, GREETING};
use crate::ship::intake::{Intake, Refused};
use crate::ship::patience::Patient;
use crate::ship::record::{LogRecord, Rest, take_lines};
use crate::ship::report::Reporter;
use crate::stop::Flag;
use parking_lot::Mutex;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How often a listener without connections looks at the stop flag.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(50);
/// Each connection has a thread; beyond this the next one waits in the system's queue.
const CONNECTIONS_MAX: usize = 512;

#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    framing: Framing,
    reporter: Reporter,
}

/// What the connections share.
struct Hall<'a> {
    intake: &'a Intake,
    stop: &'a Flag,
    reporter: &'a Reporter,
    connections: AtomicUsize,
    left: Mutex<Vec<LogRecord>>,
    failure: Mutex<Option<Failure>>,
}

impl Listener {
    pub(crate) fn bind(
        address: &str,
        framing: Framing,
        reporter: Reporter,
    ) -> Result<Self, Failure> {
        let unusable = |error| {
            Failure::of(
                "listen on",
                address,
                error,
                "choose a free address of this machine",
            )
        };
        let socket = TcpListener::bind(address).map_err(unusable)?;
        socket.set_nonblocking(true).map_err(unusable)?;
        let local = socket.local_addr().map_err(unusable)?;
        reporter.say(format!("listening on {local}"));
        Ok(Self {
            socket,
            framing,
            reporter,
        })
    }

    /// Serves until `stop` is up. Hands back lines of plain connections that the channel didn't accept.
    pub(crate) fn run(self, intake: &Intake, stop: &Flag) -> Result<Vec<LogRecord>, Failure> {
        let hall = Hall {
            intake,
            stop,
            reporter: &self.reporter,
            connections: AtomicUsize::new(0),
            left: Mutex::default(),
            failure: Mutex::default(),
        };
        thread::scope(|scope| {
            while !stop.is_up() && hall.failure.lock().is_none() {
                let has_room = hall.connections.load(Ordering::Relaxed) < CONNECTIONS_MAX;
                match if has_room {
                    self.socket.accept()
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                } {
                    Ok((stream, peer)) => {
                        hall.connections.fetch_add(1, Ordering::Relaxed);
                        let (hall, framing) = (&hall, self.framing);
                        scope.spawn(move || {
                            hall.serve(stream, peer, framing);
                            hall.connections.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    // No connection yet, one that has gone again, or no descriptor left: all pass.
                    Err(_) => {
                        stop.wait(ACCEPT_INTERVAL);
                    }
                }
            }
        });
        match hall.failure.into_inner() {
            Some(failure) => Err(failure),
            None => Ok(hall.left.into_inner()),
        }
    }
}

impl Hall<'_> {
    fn serve(&self, stream: TcpStream, peer: SocketAddr, framing: Framing) {
        let served = Patient::new(stream, self.stop.clone()).and_then(|patient| match framing {
            Framing::Lines => self.take_lines(patient),
            Framing::Ack => self.take_batches(patient),
        });
        match served {
            Err(error) if !self.stop.is_up() => self
                .reporter
                .say(format!("connection from {peer}: {error}")),
            _ => {}
        }
    }

    fn take_lines(&self, mut peer: Patient) -> io::Result<()> {
        let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        let mut is_over = false;
        while !is_over {
            let read = peer.read(&mut chunk);
            is_over = !matches!(read, Ok(1..));
            buffer.extend_from_slice(
                chunk
                    .get(..*read.as_ref().unwrap_or(&0))
                    .unwrap_or_default(),
            );
            // A line that was cut by a reset or a stop is no line; one that the peer ended itself is.
            let rest = if matches!(read, Ok(0)) {
                Rest::IsALine
            } else {
                Rest::Waits
            };
            let lines = take_lines(&mut buffer, rest).into_iter();
            match self.intake.admit(lines.map(LogRecord::bare).collect()) {
                Ok(()) => {
                    read?;
                }
                Err(Refused::Stopped(left)) => {
                    self.left.lock().extend(left);
                    return Ok(());
                }
                Err(refused) => return self.refuse(refused),
            }
        }
        Ok(())
    }

    fn take_batches(&self, mut peer: Patient) -> io::Result<()> {
        peer.write_all(&GREETING)?;
        let mut greeting = [0; GREETING.len()];
        peer.read_exact(&mut greeting)?;
        if greeting != GREETING {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a sender: it must use --framing ack",
            ));
        }
        let mut peer = BufReader::new(peer);
        while let Some((number, records)) = frame::read_batch(&mut peer)? {
            match self.intake.admit(records) {
                Ok(()) => peer.get_mut().write_all(&frame::encode_receipt(number))?,
                // Without a receipt the sender keeps them.
                Err(Refused::Stopped(_)) => return Ok(()),
                Err(refused) => return self.refuse(refused),
            }
        }
        Ok(())
    }

    fn refuse(&self, refused: Refused) -> io::Result<()> {
        if let Refused::Failed(failure) = refused {
            self.failure.lock().get_or_insert(failure);
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "closed: no room in the channel",
        ))
    }
}
