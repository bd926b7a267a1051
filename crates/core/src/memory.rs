//! The one place with `unsafe`: two hints to the machine that change no value. A cache line is
//! asked for before it is needed, and a large fresh allocation is put on huge pages.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

/// Smallest allocation, in bytes, worth a word with the kernel about huge pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Asks the processor to bring the cache line of `word` in. Costs no wait and cannot fault.
#[inline(always)]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT0 reads nothing architecturally and never faults, and the address comes
    // from a live reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(std::ptr::from_ref(word).cast::<i8>(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// `count` zero words. Large blocks come straight from the kernel, which hands out zero pages as
/// they are first touched, so the call takes no time that grows with `count`; they are asked to
/// be huge pages, since a filter is read at random and would otherwise miss the TLB each time.
pub(crate) fn zeroed_words(count: usize) -> Vec<AtomicU64> {
    let words: Vec<AtomicU64> = bytemuck::zeroed_vec(count);
    advise_huge_pages(&words);
    words
}

fn advise_huge_pages(words: &[AtomicU64]) {
    let bytes = size_of_val(words);
    if bytes < HUGE_PAGE_BYTES {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = words.as_ptr().cast::<u8>();
        let skip = start.align_offset(PAGE);
        let length = (bytes - skip) & !(PAGE - 1);
        // SAFETY: the range lies inside one live allocation, starts on a page, and
        // MADV_HUGEPAGE changes how pages are backed but never what they hold. Its result is a
        // refusal of a hint and is of no consequence.
        unsafe {
            libc::madvise(
                start.add(skip).cast_mut().cast(),
                length,
                libc::MADV_HUGEPAGE,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn fresh_words_are_zero_writable_and_may_be_prefetched() {
        for count in [0, 1, 7, 1 << 19] {
            let words = zeroed_words(count);
            assert_eq!(words.len(), count);
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            if let (Some(first), Some(last)) = (words.first(), words.last()) {
                prefetch(first);
                prefetch(last);
                last.store(7, Ordering::Relaxed);
                assert_eq!(last.load(Ordering::Relaxed), 7);
            }
        }
    }
}
