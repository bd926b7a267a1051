//! The bound on the memory that all filters of a node take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bound and what is taken of it.
#[derive(Debug)]
pub struct MemoryBound {
    limit: u64,
    used: AtomicU64,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes of filters do not fit: {used} of {limit} bytes are in use (limits.memory)")]
pub struct OverBound {
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes in use.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

impl MemoryBound {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(MemoryBound {
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// Bytes that filters take now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that they may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn take(&self, wanted: u64) -> Result<(), OverBound> {
        self.used
            .fetch_update(Relaxed, Relaxed, |used| {
                used.checked_add(wanted).filter(|sum| *sum <= self.limit)
            })
            .map(drop)
            .map_err(|used| OverBound {
                wanted,
                used,
                limit: self.limit,
            })
    }
}

/// Bytes taken from the bound, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    bound: Arc<MemoryBound>,
    bytes: AtomicU64,
}

impl Reservation {
    /// Nothing yet.
    pub(super) fn empty(bound: &Arc<MemoryBound>) -> Self {
        Reservation {
            bound: Arc::clone(bound),
            bytes: AtomicU64::new(0),
        }
    }

    /// Takes more.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), OverBound> {
        self.bound.take(bytes)?;
        self.bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.bound.used.fetch_sub(*self.bytes.get_mut(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_the_bound_holds() {
        let bound = MemoryBound::new(100);
        let first = Reservation::empty(&bound);
        first.grow(60).unwrap();
        let second = Reservation::empty(&bound);
        let refused = OverBound {
            wanted: 41,
            used: 60,
            limit: 100,
        };
        assert_eq!(second.grow(41), Err(refused));
        assert_eq!(
            second.grow(u64::MAX).map_err(|error| error.wanted),
            Err(u64::MAX)
        );
        second.grow(40).unwrap();
        drop(first);
        assert_eq!(bound.used(), 40);
        drop(second);
        assert_eq!(bound.used(), 0);
    }
}
