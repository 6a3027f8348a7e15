//! A caller of letters for tests, which keeps to the order: numbers are finished after the letter is there, and a ledger
//! that knows them is on the device before letters leave.

use super::tests::try_open;
use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use std::io::IoSlice;
use std::time::UNIX_EPOCH;

pub(super) const LIMITS: LetterLimits = LetterLimits {
    bytes_max: 1 << 20,
    file_bytes: 1500,
};
pub(super) const ITEMS: u8 = 10;
/// What the simulated device writes in one piece: blocks and ledger are never torn.
const SECTOR: usize = 512;

/// The rest of a channel: a store of blocks, and a ledger of finished items, both in files of the same disk.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) disk: SimDisk,
    pub(super) letters: Letters,
    pub(super) incarnation: u64,
    pub(super) next_seq: u64,
    pub(super) blocks: u64,
    /// Items whose numbers are finished because there is a letter.
    pub(super) finished: Vec<u8>,
    /// Letters in their order.
    pub(super) expected: Vec<u8>,
    /// An intent may be on the device, and there will be no block for it.
    pub(super) is_in_doubt: bool,
    /// Items whose purge was tried.
    pub(super) purged: Vec<u8>,
    pub(super) promises: Vec<Promise>,
}

/// What holds from a number of changes on.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) changes: usize,
    pub(super) finished: Vec<u8>,
    pub(super) purged: Vec<u8>,
    /// Letters of which a purge that is under way takes all or none.
    pub(super) purging: Vec<u8>,
}

/// Where everything is after a crash.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) letters: Vec<u8>,
    pub(super) stored: Vec<u8>,
    pub(super) finished: Vec<u8>,
}

pub(super) fn letter(item: u8) -> DeadLetter {
    DeadLetter {
        seq: item.into(),
        incarnation: 1,
        encoded_in: 1,
        attempts: 1,
        reason: "no".to_owned(),
        // Some are longer than a sector.
        bytes: vec![item; if item.is_multiple_of(3) { 700 } else { 30 }],
        at: UNIX_EPOCH,
    }
}

pub(super) fn item(letter: &DeadLetter) -> u8 {
    assert_eq!(*letter, self::letter(letter.bytes[0]));
    letter.bytes[0]
}

pub(super) fn fresh_disk() -> SimDisk {
    let disk = SimDisk::default();
    for name in ["/store", "/ledger"] {
        disk.open(name.as_ref(), How::Create).unwrap();
    }
    disk.sync_dir("/".as_ref()).unwrap();
    SimDisk::of(disk.device())
}

pub(super) fn put(disk: &SimDisk, path: &str, sector: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut bytes = bytes.to_vec();
    bytes.resize(SECTOR, 0);
    let mut file = disk.open(path.as_ref(), How::Write)?;
    file.write_at(&mut [IoSlice::new(&bytes)], sector * SECTOR as u64)?;
    file.sync()
}

pub(super) fn get(disk: &SimDisk, path: &str) -> Vec<Vec<u8>> {
    let mut file = disk.open(path.as_ref(), How::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes.chunks(SECTOR).map(<[u8]>::to_vec).collect()
}

/// A block: its first number, its incarnation, and how many items there are.
pub(super) fn block(first: u64, incarnation: u64, items: &[u8]) -> Vec<u8> {
    let count = u8::try_from(items.len()).unwrap();
    let head = [first.to_le_bytes(), incarnation.to_le_bytes()].concat();
    [&head, &[count, 1][..], items].concat()
}

pub(super) fn items_of(block: &[u8]) -> &[u8] {
    &block[18..18 + usize::from(block[16])]
}

impl Caller {
    pub(super) fn open(disk: &SimDisk, incarnation: u64) -> Self {
        let letters = try_open(disk, LIMITS).unwrap();
        Self {
            disk: disk.clone(),
            letters,
            incarnation,
            next_seq: 1000,
            blocks: get(disk, "/store").len() as u64,
            finished: Vec::new(),
            expected: Vec::new(),
            is_in_doubt: false,
            purged: Vec::new(),
            promises: Vec::new(),
        }
    }

    pub(super) fn promise(&mut self, purging: &[u8]) {
        self.promises.push(Promise {
            changes: self.disk.changes(),
            finished: self.finished.clone(),
            purged: self.purged.clone(),
            purging: purging.to_vec(),
        });
    }

    pub(super) fn give_up(&mut self, items: &[u8]) -> Result<(), StoreError> {
        let letters: Vec<_> = items.iter().copied().map(letter).collect();
        self.letters.append(&letters)?;
        self.finished.extend(items);
        self.expected.extend(items);
        self.promise(&[]);
        Ok(())
    }

    pub(super) fn save_ledger(&self) -> Result<(), StoreError> {
        put(&self.disk, "/ledger", 0, &as_bits(&self.finished))
            .map_err(|error| StoreError::io("write", Path::new("/ledger"), error))
    }

    /// An intent that is in doubt is withdrawn; then its numbers may go to other items.
    pub(super) fn withdraw(&mut self) -> Result<(), StoreError> {
        if self.is_in_doubt {
            self.letters.resolve(false)?;
            self.is_in_doubt = false;
            let other = block(self.next_seq, self.incarnation, &[]);
            self.store(&other);
        }
        Ok(())
    }

    /// A block whose fate is unknown is written again until it is there.
    pub(super) fn store(&mut self, block: &[u8]) {
        while put(&self.disk, "/store", self.blocks, block).is_err() {
            self.disk.heal();
        }
        self.blocks += 1;
        self.next_seq += 100;
    }

    pub(super) fn requeue(&mut self, bytes_max: u64) -> Result<(), StoreError> {
        self.withdraw()?;
        self.save_ledger()?;
        let Some(piece) = self.letters.next_piece(bytes_max)? else {
            return Ok(());
        };
        let items: Vec<u8> = piece.letters().iter().map(item).collect();
        assert_eq!(items, self.expected[..items.len()]);
        let (first, incarnation) = (self.next_seq, self.incarnation);
        self.is_in_doubt = true;
        self.letters.begin_requeue(&piece, first, incarnation)?;
        self.is_in_doubt = false;
        self.store(&block(first, incarnation, &items));
        self.expected.drain(..items.len());
        if self.letters.resolve(true).is_err() {
            self.disk.heal();
            self.letters.resolve(true)?;
        }
        self.promise(&[]);
        Ok(())
    }

    pub(super) fn purge(&mut self) -> Result<(), StoreError> {
        self.withdraw()?;
        self.save_ledger()?;
        let all = self.expected.clone();
        self.purged.extend(&all);
        self.promise(&all);
        let outcome = self.letters.purge();
        self.promise(&[]);
        assert_eq!(outcome?, all.len() as u64);
        self.expected.clear();
        Ok(())
    }

    /// What a faultless process shows at any moment.
    pub(super) fn assert_as_expected(&self) {
        let items: Vec<u8> = self.letters.iter().map(|letter| item(&letter)).collect();
        assert_eq!(items, self.expected);
    }
}

pub(super) fn as_bits(items: &[u8]) -> Vec<u8> {
    (0..ITEMS)
        .map(|item| items.contains(&item).into())
        .collect()
}

pub(super) fn from_bits(sectors: &[Vec<u8>]) -> Vec<u8> {
    let is_set = |item: &u8| {
        sectors
            .first()
            .is_some_and(|bits| bits[usize::from(*item)] == 1)
    };
    (0..ITEMS).filter(is_set).collect()
}

/// What the next process does first.
pub(super) fn recover(disk: &SimDisk, incarnation: u64) -> (Caller, Found) {
    let mut caller = Caller::open(disk, incarnation);
    let mut finished = from_bits(&get(disk, "/ledger"));
    let mut told = Vec::new();
    caller.letters.scan(|id| told.push(id)).unwrap();
    for id in told {
        assert_eq!(id.incarnation, 1);
        let item = u8::try_from(id.seq).unwrap();
        if !finished.contains(&item) {
            finished.push(item);
        }
    }
    caller.finished.clone_from(&finished);
    caller.save_ledger().unwrap();
    // An answer is for good, so what it says is on the device first.
    disk.open("/store".as_ref(), How::Write)
        .unwrap()
        .sync()
        .unwrap();
    let blocks = get(disk, "/store");
    if let Some(intent) = caller.letters.pending_intent().cloned() {
        let begins = block(intent.first_seq, intent.incarnation, &[]);
        let was_stored = blocks.iter().any(|block| block[..16] == begins[..16]);
        caller.letters.resolve(was_stored).unwrap();
    }
    let letters: Vec<u8> = caller.letters.iter().map(|letter| item(&letter)).collect();
    caller.expected.clone_from(&letters);
    assert_eq!(caller.letters.count().unwrap(), letters.len() as u64);
    let stored = blocks.iter().filter(|block| block[17] == 1);
    let stored = stored.flat_map(|block| items_of(block).to_vec()).collect();
    let found = Found {
        letters,
        stored,
        finished,
    };
    (caller, found)
}

/// Every item is in exactly one place, and what was promised is kept.
pub(super) fn check(found: &Found, promise: &Promise) {
    for item in 0..ITEMS {
        let is_waiting = !found.finished.contains(&item);
        let kept = found.letters.iter().chain(&found.stored);
        let places = usize::from(is_waiting) + kept.filter(|kept| **kept == item).count();
        let may_be_gone = promise.purged.contains(&item);
        assert!(
            places == 1 || places == 0 && may_be_gone,
            "item {item} is in {places} places: {found:?} {promise:?}"
        );
        assert!(
            !is_waiting || !promise.finished.contains(&item),
            "item {item} comes again: {found:?} {promise:?}"
        );
    }
    let mut ascending = found.letters.clone();
    ascending.sort_unstable();
    assert_eq!(found.letters, ascending);
    let left = promise
        .purging
        .iter()
        .filter(|item| found.letters.contains(item));
    let left = left.count();
    assert!(
        left == 0 || left == promise.purging.len(),
        "{found:?} {promise:?}"
    );
}

pub(super) fn promise_at(promises: &[Promise], changes: usize) -> Promise {
    let known = promises.iter().rfind(|promise| promise.changes <= changes);
    let mut promise = known.cloned().unwrap_or(Promise {
        changes: 0,
        finished: Vec::new(),
        purged: Vec::new(),
        purging: Vec::new(),
    });
    // What was purged counts from the beginning of the purge.
    let later = promises.iter().filter(|promise| promise.changes <= changes);
    promise.purged = later.flat_map(|promise| promise.purged.clone()).collect();
    promise
}
