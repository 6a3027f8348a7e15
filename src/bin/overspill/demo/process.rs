//! The demo's shippers: real processes of this very program.

use crate::failure::Failure;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running `overspill ship`. Killed when it goes out of scope; and it ends by itself when this process
/// ends, whatever ends it, because its stdin ends then.
pub(crate) struct Shipper {
    child: Child,
    name: &'static str,
}

impl Shipper {
    pub(crate) fn start(
        name: &'static str,
        dir: &Path,
        from: &str,
        to: &str,
    ) -> Result<Self, Failure> {
        let failed = |error| {
            Failure::of(
                "start",
                "the program once more",
                error,
                "check that it can be executed",
            )
        };
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .args([
                "ship",
                "--framing",
                "ack",
                "--quiet",
                "--stop-with-stdin",
                "--from",
                from,
                "--to",
                to,
            ])
            .arg("--dir")
            .arg(dir)
            .arg("--stats-file")
            .arg(stats_file(dir))
            .stdin(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, name })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.check()?;
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed
            .map(drop)
            .map_err(|error| Failure::of("kill", self.name, error, "try again"))
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(error) => Err(Failure::of("watch", self.name, error, "try again")),
        }
    }

    /// Lets it drain, save and exit.
    pub(crate) fn stop(mut self, within: Duration) -> Result<(), Failure> {
        self.check()?;
        drop(self.child.stdin.take());
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(status)),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(Failure::new(format!(
            "the {} did not stop within {within:?}; please report it",
            self.name
        )))
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        Failure::new(format!(
            "the {} ended with {status}; its message is above",
            self.name
        ))
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn stats_file(dir: &Path) -> std::path::PathBuf {
    dir.with_extension("stats")
}
