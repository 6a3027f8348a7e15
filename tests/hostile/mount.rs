//! Small file systems of a test's own, where the system lets it have them.

use super::note;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct Mount {
    dir: TempDir,
}

impl Mount {
    /// A file system of `bytes` bytes. `None`, with a line that says so, where nothing may be mounted.
    pub(crate) fn of_size(bytes: u64, what_is_skipped: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let options = format!("size={bytes},mode=0700");
        let mounted = succeeds(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(dir.path()),
        );
        if !mounted {
            note(&format!(
                "skipped, this user may not mount a tmpfs: {what_is_skipped}"
            ));
        }
        mounted.then_some(Self { dir })
    }

    /// A directory in it that nobody has made yet.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Nothing on it can be changed any more.
    pub(crate) fn make_read_only(&self) {
        let remounted = succeeds(
            Command::new("mount")
                .args(["-o", "remount,ro"])
                .arg(self.path()),
        );
        assert!(remounted, "who may mount may remount");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A channel that a failing test leaves behind may still have files open: then at least nobody sees it.
        let path = self.dir.path();
        let _ = succeeds(Command::new("umount").arg(path))
            || succeeds(Command::new("umount").arg("-l").arg(path));
    }
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
