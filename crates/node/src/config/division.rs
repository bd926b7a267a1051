//! What `limits.memory` is for: one limit, divided once.

use grapevine_store::tables::RowsMemory;

const MIB: u64 = 1 << 20;

/// Who may have how much of the memory limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryDivision {
    /// Bits of filters: what the others leave.
    pub(crate) filters: u64,
    /// Tables: pages of their file, rows that are not in it yet, recent changes.
    pub(crate) rows: RowsMemory,
    /// Replies that wait for clients to take them.
    pub(crate) replies: u64,
    /// Requests that have not ended: long lines and keys.
    pub(crate) requests: u64,
}

impl MemoryDivision {
    pub(crate) fn of(limit: u64) -> Self {
        let share = |parts: u64, min: u64, max: u64| (limit / parts).clamp(min, max);
        let replies = share(8, MIB, 256 * MIB);
        let requests = share(16, MIB, 128 * MIB);
        let cache = share(8, MIB, 1024 * MIB);
        let unwritten = share(8, MIB, 128 * MIB);
        let recent = share(32, MIB / 4, 64 * MIB);
        let others = replies + requests + cache + unwritten + recent;
        let bytes = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        MemoryDivision {
            filters: limit.saturating_sub(others),
            rows: RowsMemory {
                cache: bytes(cache),
                unwritten: bytes(unwritten),
                recent: bytes(recent),
            },
            replies,
            requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_make_up_the_limit_and_filters_have_most_of_it() {
        for limit in [
            16 * MIB,
            17 * MIB + 1,
            64 * MIB,
            1024 * MIB,
            1 << 40,
            u64::MAX,
        ] {
            let MemoryDivision {
                filters,
                rows,
                replies,
                requests,
            } = MemoryDivision::of(limit);
            let rows = (rows.cache + rows.unwritten + rows.recent) as u64;
            assert_eq!(filters + rows + replies + requests, limit);
            assert!(filters >= limit / 2, "{filters} of {limit}");
        }
        let small = MemoryDivision::of(64 * MIB);
        assert_eq!((small.filters, small.replies), (34 * MIB, 8 * MIB));
        assert_eq!(small.requests, 4 * MIB);
        assert_eq!((small.rows.cache, small.rows.unwritten), (8 << 20, 8 << 20));
    }
}
