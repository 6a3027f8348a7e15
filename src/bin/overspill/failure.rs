//! The one line that a failed run ends with.

use std::fmt::{self, Display};

/// What happened, to what, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// `cannot <operation> <subject>: <error>; <remedy>`.
    pub(crate) fn of(
        operation: &str,
        subject: impl Display,
        error: impl Display,
        remedy: &str,
    ) -> Self {
        Self(format!("cannot {operation} {subject}: {error}; {remedy}"))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An operating system's message may span lines; a log reader's grep must find it whole.
        f.write_str(&self.0.replace('\n', " "))
    }
}
