//! What a handle is: a share of the channel that is counted, so that the last one ends it.

use crate::core::Shared;
use std::sync::Arc;

/// Which ends of the channel a handle keeps open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Both,
    Sends,
    Receives,
    Neither,
}

impl Role {
    fn sends(self) -> usize {
        usize::from(matches!(self, Self::Both | Self::Sends))
    }

    fn receives(self) -> usize {
        usize::from(matches!(self, Self::Both | Self::Receives))
    }
}

/// A counted share of the channel.
pub(crate) struct Handle<T> {
    pub(crate) shared: Arc<Shared<T>>,
    role: Role,
}

impl<T> Handle<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, role: Role) -> Self {
        shared.enter(|state, _| {
            state.handles += 1;
            state.senders += role.sends();
            state.receivers += role.receives();
        });
        Self { shared, role }
    }

    pub(crate) fn share(&self, role: Role) -> Self {
        Self::new(Arc::clone(&self.shared), role)
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        self.share(self.role)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let last = self.shared.enter(|state, wakes| {
            state.handles -= 1;
            state.senders -= self.role.sends();
            state.receivers -= self.role.receives();
            if state.senders == 0 || state.receivers == 0 {
                state.wake_everybody(wakes);
            }
            state.handles == 0
        });
        if last {
            self.shared.halt_unattended();
        }
    }
}
