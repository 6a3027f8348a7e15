//! Items that come together: all of them are admitted in one look at the state, whatever the limits are by then.

use crate::buffers::{keep_records, take_records};
use crate::config::WhenFull;
use crate::core::Shared;
use crate::error::SendError;
use crate::feed::{Batch, Places};
use crate::records::Records;
use crate::route::Route;
use crate::seq::Seq;
use crate::state::{Phase, State, Writer};
use crate::wait::Wakes;
use std::collections::VecDeque;
use std::sync::Arc;

impl<T> Shared<T> {
    /// Admits what is in `batch`, whatever the limits, and gives its places back. The last number given out.
    pub(crate) fn admit_batch(
        self: &Arc<Self>,
        batch: &Arc<Batch<T>>,
        places: Places,
        writer: Writer,
    ) -> Result<Option<Seq>, SendError<T>> {
        let mut items = VecDeque::new();
        let mut last = None;
        self.enter(|state, wakes| {
            state.unreserve(places.in_front, wakes);
            // From `Halting` on the batch is the worker's, which saves it.
            if state.phase == Phase::Open && state.close_batch(batch) {
                state.placing += 1;
                items = batch.take().into();
                last = admit_direct(state, &mut items, wakes);
                if items.is_empty() {
                    state.end_placing(wakes);
                    state.keep_batch(batch, std::mem::take(&mut items));
                }
            }
        });
        if items.is_empty() {
            Ok(last)
        } else {
            self.admit_encoded(batch, items, writer)
        }
    }

    /// Encodes the `items` of a batch and admits them, and ends their placing. An item that can't be encoded comes back in
    /// the error; a second one in the same batch is counted in `dropped.unencodable`.
    fn admit_encoded(
        self: &Arc<Self>,
        batch: &Arc<Batch<T>>,
        items: VecDeque<T>,
        writer: Writer,
    ) -> Result<Option<Seq>, SendError<T>> {
        let mut encoded = self.encode_items(items);
        let (mut last, mut left) = (None, Vec::new());
        self.enter(|state, wakes| {
            self.place_items(state, &mut encoded, writer, &mut last, &mut left, wakes);
            let unencodable = encoded.unencodable.len() as u64;
            state.ledger.drop_unencodable(unencodable);
            state.end_placing(wakes);
            state.keep_batch(batch, VecDeque::new());
            if encoded.failure.is_some() && last.is_some() {
                // Its sender doesn't come to write it.
                state.kick(wakes);
            }
        });
        keep_records(encoded.records);
        // Items are foreign code, too: they go outside the lock.
        encoded.items.clear();
        drop((left, encoded.unencodable));
        batch.give_room(encoded.items);
        encoded.failure.map_or(Ok(last), Err)
    }

    fn encode_items(&self, mut items: VecDeque<T>) -> Encoded<T> {
        let mut records = take_records();
        let mut failure = None;
        let mut unencodable = Vec::new();
        for _ in 0..items.len() {
            let Some(item) = items.pop_front() else {
                break;
            };
            match records.push(|buffer| self.encode_into(item, buffer)) {
                Ok(item) => items.push_back(item),
                Err(error) if failure.is_none() => failure = Some(error),
                Err(error) => unencodable.push(error),
            }
        }
        Encoded {
            items,
            records,
            failure,
            unencodable,
        }
    }

    /// Gives each item its place, and all that are left to staging together as soon as nothing else can become of them.
    fn place_items(
        &self,
        state: &mut State<T>,
        encoded: &mut Encoded<T>,
        writer: Writer,
        last: &mut Option<Seq>,
        left: &mut Vec<T>,
        wakes: &mut Wakes,
    ) {
        let when_full = self.settings.when_full;
        let waits = matches!(when_full, WhenFull::Block | WhenFull::DropOldest);
        for index in 0..encoded.records.count() {
            let size = encoded.records.size_from(index);
            if state.front_is_closed() && (waits || state.has_disk_for(size)) {
                *last = Some(state.stage_many(&encoded.records, index, writer, wakes));
                return;
            }
            let Some(item) = encoded.items.pop_front() else {
                return;
            };
            let record = encoded.records.get(index);
            let route = match (state.route(record.len()), when_full) {
                (Route::Front, _) => Route::Front,
                // Places are given out before sizes are known: an item may be larger than what is left.
                (Route::Full, WhenFull::DropNewest) => {
                    state.note_full(record.len(), wakes);
                    state.ledger.drop_newest();
                    left.push(item);
                    continue;
                }
                (Route::Full, WhenFull::Reject) if encoded.failure.is_none() => {
                    state.note_full(record.len(), wakes);
                    encoded.failure = Some(SendError::Full(item));
                    continue;
                }
                _ => Route::Staging,
            };
            let (seq, rest) = state.admit_encoded(item, record, route, writer, wakes);
            *last = Some(seq);
            left.extend(rest);
        }
    }
}

/// Items and their records.
struct Encoded<T> {
    items: VecDeque<T>,
    records: Records,
    /// What becomes of the first item that can't be had.
    failure: Option<SendError<T>>,
    unencodable: Vec<SendError<T>>,
}

/// Admits items directly for as long as they may go to front unencoded.
fn admit_direct<T>(
    state: &mut State<T>,
    items: &mut VecDeque<T>,
    wakes: &mut Wakes,
) -> Option<Seq> {
    let count = state.direct_room().min(items.len());
    if count == 0 {
        return None;
    }
    state.admit_many_direct(items.drain(..count), wakes);
    Some(state.next_seq - 1)
}
