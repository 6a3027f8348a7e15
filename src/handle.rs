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

/// What every handle says about its channel; clones of it are counted.
macro_rules! every_handle {
    ($name:ident) => {
        impl<T> $name<T> {
            /// Items that wait, in memory and on disk.
            pub fn len(&self) -> usize {
                self.handle.shared.len()
            }

            /// True when nothing waits.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// True when the intake has ended: by `close`, `halt`, or the drop of all handles of one end.
            pub fn is_closed(&self) -> bool {
                self.handle.shared.is_closed()
            }

            /// Exact figures of this moment.
            pub fn stats(&self) -> $crate::stats::Stats {
                self.handle.shared.stats()
            }
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self {
                    handle: self.handle.clone(),
                }
            }
        }

        impl<T> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.handle.shared.describe(stringify!($name), f)
            }
        }
    };
}
pub(crate) use every_handle;
