//! Memory or disk? The one decision that order depends on, as a pure function.
//!
//! The invariant: every item in front is older than every item that waits behind it, in the backlog or in
//! staging. So an item may go to front only while nothing waits behind.

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Items that front still takes.
    pub(crate) front_room: usize,
    /// Anything is on disk, in staging, in read-ahead, or on its way to front.
    pub(crate) waiting: bool,
    /// Encoded bytes in staging.
    pub(crate) staged_bytes: u64,
    /// Encoded bytes that staging may hold.
    pub(crate) staging_max: u64,
    /// Bytes of blocks that the disk surely takes, those in staging included. It may take several times as many.
    pub(crate) disk_room: u64,
    /// Every item goes to disk before its sender goes on.
    pub(crate) write_ahead: bool,
}

/// Where an item goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Ready to be received at once. In write-ahead mode its bytes go to staging too.
    Front,
    /// Encoded, behind everything else.
    Staging,
    /// Nowhere yet: the writer is behind, and what room it will leave is known when it has written.
    Behind,
    /// Nowhere: the disk takes no more.
    Full,
}

impl View {
    /// Where an item goes that takes `bytes` in a block.
    pub(crate) fn route(&self, bytes: u64) -> Route {
        let front = !self.waiting && self.front_room > 0;
        if front && !self.write_ahead {
            return Route::Front;
        }
        let after = self.staged_bytes.saturating_add(bytes);
        // How much more the disk takes is known when what is staged is written. So it isn't full for an item that it surely
        // takes alone, however much a fast sender has staged.
        if bytes > self.disk_room {
            Route::Full
        } else if after > self.staging_max.min(self.disk_room) && self.staged_bytes > 0 {
            Route::Behind
        } else if front {
            Route::Front
        } else {
            Route::Staging
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every view over small numbers, with every item size.
    fn every_case(mut check: impl FnMut(View, u64, Route)) {
        for front_room in 0..3 {
            for waiting in [false, true] {
                for staged_bytes in 0..4 {
                    for staging_max in 1..4 {
                        for disk_room in 0..5 {
                            for write_ahead in [false, true] {
                                for bytes in 0..6 {
                                    let view = View {
                                        front_room,
                                        waiting,
                                        staged_bytes,
                                        staging_max,
                                        disk_room,
                                        write_ahead,
                                    };
                                    check(view, bytes, view.route(bytes));
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_overtakes_what_waits() {
        every_case(|view, _, route| {
            if route == Route::Front {
                assert!(!view.waiting && view.front_room > 0, "{view:?}");
            }
        });
    }

    #[test]
    fn memory_first_leaves_the_disk_alone_while_front_has_room() {
        every_case(|view, _, route| {
            if !view.write_ahead && !view.waiting && view.front_room > 0 {
                assert_eq!(route, Route::Front, "{view:?}");
            }
        });
    }

    #[test]
    fn staging_keeps_its_limit_but_always_takes_one_item() {
        every_case(|view, bytes, route| {
            let staged = route == Route::Staging || (route == Route::Front && view.write_ahead);
            if staged {
                assert!(
                    view.staged_bytes == 0 || view.staged_bytes + bytes <= view.staging_max,
                    "{view:?}"
                );
                assert!(view.staged_bytes + bytes <= view.disk_room, "{view:?}");
            }
            if route == Route::Behind {
                assert!(
                    view.staged_bytes > 0,
                    "an empty staging must take the item: {view:?}"
                );
            }
        });
    }

    #[test]
    fn a_disk_is_full_only_for_what_it_would_not_take_with_nothing_staged() {
        every_case(|view, bytes, route| {
            let alone = View {
                staged_bytes: 0,
                ..view
            };
            assert_eq!(
                route == Route::Full,
                alone.route(bytes) == Route::Full,
                "{view:?}"
            );
        });
    }
}
