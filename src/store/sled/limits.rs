//! The sizes that sled is run with, and why.

/// Segments of a channel without a quota.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Below this a value would hold little more than a block's header.
const SEGMENT_BYTES_LEAST: u64 = 64 << 10;
/// sled keeps in memory what was written to or read from an open database, and two are open at a
/// time: this bounds the memory, and is the least amount of space that is given back at once.
const DATABASE_BYTES: u64 = 16 << 20;
/// Under a very large quota databases grow up to here, for the sake of a short directory.
const DATABASE_BYTES_MOST: u64 = 64 << 20;

/// The least quota, in bytes, that this store works with.
pub(crate) const QUOTA_BYTES_LEAST: u64 = 1 << 20;

/// How much larger the log can grow than the blocks that it takes. It is 1.02 times with blocks that
/// fill a value; blocks of a single tiny record took 4.1.
const GROWTH_MOST: u64 = 6;

/// sled's `segment_size` under a quota of `disk_bytes_max` bytes: a power of two.
pub(super) fn segment_bytes(disk_bytes_max: Option<u64>) -> usize {
    let share = disk_bytes_max.map_or(SEGMENT_BYTES, |quota| quota / 32);
    let power = 1 << share.max(1).ilog2();
    usize::try_from(power.clamp(SEGMENT_BYTES_LEAST, SEGMENT_BYTES)).unwrap_or(1 << 20)
}

/// Bytes of log per database under a quota of `disk_bytes_max` bytes: whole segments.
pub(super) fn database_bytes(disk_bytes_max: Option<u64>) -> u64 {
    let Some(quota) = disk_bytes_max else {
        return DATABASE_BYTES;
    };
    let share = (quota / 8)
        .min(DATABASE_BYTES)
        .max(quota / 1024)
        .min(DATABASE_BYTES_MOST);
    let segment = segment_bytes(disk_bytes_max) as u64;
    (share / segment).max(2) * segment
}

/// Bytes that opening a database may add to it: sled fills up the last segment of its log and writes a
/// snapshot beside it.
pub(super) fn opening_bytes(log_bytes: u64, segment_bytes: usize) -> u64 {
    log_bytes.next_multiple_of(segment_bytes as u64) - log_bytes + log_bytes / 64 + (8 << 10)
}

/// Bytes to keep back for opening databases on a full disk: the newest, to append or to learn where it
/// ends, and the oldest, to read it; when that is drained, its removal makes room for the next.
pub(super) fn reserve_bytes(database_bytes: u64, segment_bytes: usize) -> u64 {
    2 * (segment_bytes as u64 + opening_bytes(database_bytes, segment_bytes))
}

/// Bytes that an append may take whatever its size: a segment that is begun, and a new database with the
/// first segment of its own.
pub(super) fn beginning_bytes(segment_bytes: usize, identity_bytes: usize) -> u64 {
    2 * segment_bytes as u64 + identity_bytes as u64 + (16 << 10)
}

/// Bytes of blocks that surely fit into `free` bytes of disk in one append: a beginning, and the growth of what
/// is appended.
pub(super) fn headroom(free: u64, segment_bytes: usize, identity_bytes: usize) -> u64 {
    free.saturating_sub(beginning_bytes(segment_bytes, identity_bytes)) / GROWTH_MOST
}

/// The largest value that never ends in a blob file.
///
/// What sled logs as one item must stay below a quarter of a segment, and a leaf of up to 17 values
/// is one item: 14 KiB in a segment of 1 MiB leaves room for the keys.
pub(crate) const fn value_bytes_max(segment_bytes: usize) -> usize {
    segment_bytes / 512 * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_leaf_stays_below_the_blob_threshold_at_every_segment_size() {
        for power in 16..=24 {
            let segment = 1usize << power;
            let keys_and_framing = 17 * 32 + 128;
            assert!(17 * value_bytes_max(segment) + keys_and_framing < segment / 4 - 64);
        }
    }

    #[test]
    fn sizes_follow_the_quota_within_their_limits() {
        assert_eq!(
            (segment_bytes(None), database_bytes(None)),
            (1 << 20, DATABASE_BYTES)
        );
        assert_eq!(segment_bytes(Some(QUOTA_BYTES_LEAST)), 64 << 10);
        assert_eq!(segment_bytes(Some(u64::MAX)), 1 << 20);
        assert_eq!(segment_bytes(Some(0)), 64 << 10);
        assert_eq!(value_bytes_max(1 << 20), 14 << 10);
    }
}
