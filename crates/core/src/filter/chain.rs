//! An append-only list that is read without a lock or a reference count. A filter's layers are
//! looked at for every key and added a few times in its life.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bucket `b` holds `2^b` items, so this many buckets hold 8191.
const BUCKETS: usize = 13;

/// Most items of a chain.
pub(super) const CHAIN_MAX: usize = (1 << BUCKETS) - 1;

/// Room for items that are filled in one after the other.
type Bucket<T> = OnceLock<Box<[OnceLock<T>]>>;

/// The list.
pub(super) struct Chain<T> {
    length: AtomicUsize,
    buckets: [Bucket<T>; BUCKETS],
    append: Mutex<()>,
}

impl<T> Chain<T> {
    pub(super) fn new() -> Self {
        Chain {
            length: AtomicUsize::new(0),
            buckets: std::array::from_fn(|_| OnceLock::new()),
            append: Mutex::new(()),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &T {
        let bucket = (index + 1).ilog2() as usize;
        let items = self.buckets[bucket]
            .get()
            .expect("an index below the length has a bucket");
        items[index + 1 - (1 << bucket)]
            .get()
            .expect("an index below the length is filled")
    }

    /// The items, oldest first.
    #[inline]
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Appends `item` unless one that is `same` is there already; gives the one that is. None
    /// when the chain is as long as it can be.
    pub(super) fn push(&self, item: T, same: impl Fn(&T) -> bool) -> Option<&T> {
        let _alone = self.append.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.len();
        if let Some(present) = (0..index).find(|index| same(self.get(*index))) {
            return Some(self.get(present));
        }
        if index >= CHAIN_MAX {
            return None;
        }
        let bucket = (index + 1).ilog2() as usize;
        let items = self.buckets[bucket]
            .get_or_init(|| (0..1usize << bucket).map(|_| OnceLock::new()).collect());
        let place = &items[index + 1 - (1 << bucket)];
        let item = place.get_or_init(|| item);
        self.length.store(index + 1, Ordering::Release);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_order_up_to_the_bound() {
        let chain = Chain::new();
        assert!(chain.is_empty());
        for number in 0..CHAIN_MAX {
            assert_eq!(chain.push(number, |other| *other == number), Some(&number));
            assert_eq!(chain.push(number, |other| *other == number), Some(&number));
        }
        assert_eq!(chain.push(CHAIN_MAX, |_| false), None);
        assert!(chain.iter().copied().eq(0..CHAIN_MAX));
        assert!(chain.iter().rev().copied().eq((0..CHAIN_MAX).rev()));
    }
}
