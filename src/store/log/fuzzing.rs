//! Segments as a fuzzer would like to write them: it doesn't guess a checksum, so they are made to fit.

use super::format::{Home, Lane as Kind, encode_header, file_name};
use super::{LogOptions, LogStore};
use crate::block::{Block, BlockBuilder, Compression, MAGIC, Seal};
use crate::dir::{ChannelId, Identity};
use crate::disk;
use crate::seq::Seq;
use crate::store::{ReadError, Store};
use std::path::Path;
use std::sync::Arc;

const CHANNEL: ChannelId = [9; 16];
const NAME: Seq = 3;

/// Bytes as the only segment of a log, and as a program that writes one.
pub(crate) fn segment(bytes: &[u8]) {
    for kind in [Kind::Tail, Kind::Older] {
        try_segment(kind, bytes);
        try_segment(kind, &sealed(CHANNEL, b"somebody", kind, NAME, bytes));
    }
}

/// The segment of that name that `program` describes, for the channel whose identity file this is.
pub(crate) fn segment_of(identity: &[u8], is_older: bool, name: Seq, program: &[u8]) -> Vec<u8> {
    let channel = Identity::decode(identity).map_or(CHANNEL, |identity| identity.channel);
    sealed(channel, identity, kind(is_older), name, program)
}

/// The file of the segment of that name.
pub(crate) fn name_of(is_older: bool, name: Seq) -> String {
    file_name(kind(is_older), name)
}

fn kind(is_older: bool) -> Kind {
    if is_older { Kind::Older } else { Kind::Tail }
}

/// A header, and then what each three bytes of `program` say: a block in its place or a little off, or rubbish.
fn sealed(channel: ChannelId, identity: &[u8], kind: Kind, name: Seq, program: &[u8]) -> Vec<u8> {
    let mut out = encode_header(kind, name, identity);
    let home = Home::new(&channel, kind, name);
    let mut next = name;
    for step in program.as_chunks::<3>().0 {
        let [what, a, b] = *step;
        match what % 8 {
            0..4 => {
                let first = next.saturating_add((what >> 4).into());
                next = put_block(&mut out, home, first, a, b);
            }
            4 => {
                let far = [u64::MAX - u64::from(a), u64::from(a) << 56, a.into()];
                let first = far.into_iter().cycle().nth(b.into()).unwrap_or(0);
                next = put_block(&mut out, home, first.max(name), b, b);
            }
            5 => out.extend_from_slice(&MAGIC),
            6 => out.resize(out.len() + usize::from(a % 32), b),
            _ => {
                let at = usize::from(a) * usize::from(b) % out.len();
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= what;
                }
            }
        }
    }
    out
}

fn put_block(out: &mut Vec<u8>, home: Home, first: Seq, count: u8, before: u8) -> Seq {
    let mut builder = BlockBuilder::new(first, 1, 64);
    // Some are worth compressing.
    let len = if count & 0x80 == 0 { 3 } else { 300 };
    for record in 0..=count % 4 {
        builder.push(&vec![record; len]);
    }
    let block = builder.seal(&Seal {
        prev_end: first.saturating_sub(before.into()),
        cursor: first / 2,
        compression: Compression::Lz4,
        ..Seal::default()
    });
    // One whose numbers pass the last one that there is stays as nobody could have written it.
    let next = Block::parse(block.as_bytes().to_vec()).map_or(first, |block| block.end());
    let place = home.place(out.len() as u64);
    out.extend_from_slice(&block.header_at(place));
    out.extend_from_slice(block.payload());
    next
}

fn try_segment(kind: Kind, bytes: &[u8]) {
    let Ok(root) = tempfile::tempdir() else {
        return;
    };
    let path = root.path().join(file_name(kind, NAME));
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let most = bytes.len();
    let mut store = open(root.path());
    let found = walk(&mut store, most);
    let mut again = open(root.path());
    assert_eq!(walk(&mut again, most), found, "read twice");
    let first = store.end();
    // Numbers that don't ascend are somebody's lie: then only the end is certain.
    let is_in_order = found.last().is_none_or(|(_, end)| *end <= first);
    if is_in_order && first < u64::MAX / 2 {
        let mut builder = BlockBuilder::new(first, 1, 8);
        builder.push(b"new");
        let block = Arc::new(builder.seal(&Seal::default()));
        let stored = store
            .append(&[Arc::clone(&block)])
            .and_then(|()| store.sync());
        assert!(stored.is_ok(), "{stored:?}");
        for mut store in [store, open(root.path())] {
            assert_eq!(store.end(), first + 1);
            let blocks = walk(&mut store, most);
            assert_eq!(blocks.last(), Some(&(first, first + 1)), "{found:?}");
        }
    }
}

fn open(dir: &Path) -> LogStore {
    let options = LogOptions {
        disk: disk::real(),
        dir: dir.to_owned(),
        channel: CHANNEL,
        identity: b"somebody".to_vec(),
        segment_bytes: 600,
        keep_unsynced: false,
    };
    match LogStore::open(options) {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    }
}

/// The numbers of all blocks, in ascending order; ends, whatever the bytes are.
fn walk(store: &mut LogStore, most: usize) -> Vec<(Seq, Seq)> {
    let (mut blocks, mut at, mut damages) = (Vec::new(), 0, 0);
    loop {
        match store.read(at) {
            Ok(Some(block)) => {
                assert!(block.end() > at, "no way forward from {at}");
                blocks.push((block.first(), block.end()));
                at = block.end();
            }
            Ok(None) => return blocks,
            Err(ReadError::Damaged { resume, .. }) => {
                assert_eq!(resume, Some(at));
                damages += 1;
                assert!(damages <= most, "the same damage again and again");
            }
            Err(ReadError::Store(error)) => panic!("{error}"),
        }
    }
}
