//! Waiting that a flag can end: reads and writes on a socket, and the pauses between attempts.

use crate::ship::report::Reporter;
use crate::stop::Flag;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a read or write waits before it looks at the flag.
const SLICE: Duration = Duration::from_millis(200);

/// A socket whose reads and writes take as long as the other side needs, until the flag is up.
#[derive(Debug)]
pub(crate) struct Patient {
    stream: TcpStream,
    end: Flag,
}

impl Patient {
    pub(crate) fn new(stream: TcpStream, end: Flag) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        // A machine that vanished sends nothing, not even a reset.
        let alive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15));
        socket2::SockRef::from(&stream).set_tcp_keepalive(&alive)?;
        Ok(Self { stream, end })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// `Ok(None)`: try again.
    fn judge(&self, result: io::Result<usize>) -> io::Result<Option<usize>> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match result {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => {
                if self.end.is_up() {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "stopped"));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = self.stream.read(buffer);
            if let Some(read) = self.judge(result)? {
                return Ok(read);
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = self.stream.write(bytes);
            if let Some(written) = self.judge(result)? {
                return Ok(written);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pauses that double, with jitter: a hundred shippers don't come back in the same instant.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LAST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause before the next attempt: half of it fixed, half of it random.
    fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(Self::LAST);
        pause
    }

    /// Says whether the flag is up.
    pub(crate) fn wait(&mut self, end: &Flag) -> bool {
        end.wait(self.pause())
    }
}

/// A destination that takes nothing, as its user hears of it: once when it begins, once when it is over.
#[derive(Debug)]
pub(crate) struct Outage {
    destination: String,
    since: Option<Instant>,
    backoff: Backoff,
    reporter: Reporter,
    abandon: Flag,
}

impl Outage {
    pub(crate) fn none_yet(destination: String, reporter: Reporter, abandon: Flag) -> Self {
        Self {
            destination,
            since: None,
            backoff: Backoff::new(),
            reporter,
            abandon,
        }
    }

    /// Waits before the next attempt; says whether there is to be none.
    pub(crate) fn wait(&mut self, error: &io::Error) -> bool {
        if self.abandon.is_up() {
            return true;
        }
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.reporter.say(format!(
                "cannot deliver to {}: {error}; trying again until it is back",
                self.destination
            ));
        }
        self.backoff.wait(&self.abandon)
    }

    pub(crate) fn is_over(&mut self) {
        if let Some(since) = self.since.take() {
            self.backoff = Backoff::new();
            let seconds = since.elapsed().as_secs_f64();
            self.reporter
                .say(format!("{} is back after {seconds:.1} s", self.destination));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::new();
        let mut expected = Backoff::FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(
                pause >= expected / 2 && pause <= expected,
                "{pause:?} of {expected:?}"
            );
            expected = (expected * 2).min(Backoff::LAST);
        }
    }

    #[test]
    fn a_read_from_a_silent_peer_ends_with_the_flag() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_silent, _) = listener.accept().unwrap();
        let end = Flag::default();
        let mut patient = Patient::new(stream, end.clone()).unwrap();
        let reader = std::thread::spawn(move || patient.read(&mut [0]).unwrap_err().kind());
        end.raise();
        assert_eq!(reader.join().unwrap(), io::ErrorKind::ConnectionAborted);
    }
}
