//! Which boxes were opened lately.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use grapevine_core::wire::hbbp::{MAC_BYTES, NONCE_BYTES, Sealed};

/// How long a box is remembered.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// Boxes that are remembered. Only holders of the keys can fill this; the oldest go first.
pub(super) const REMEMBERED_MAX: usize = 1 << 16;

/// Nonce and MAC: nobody can change the one, or anything else of a box, and keep the other.
type Mark = [u8; NONCE_BYTES + MAC_BYTES];

/// The boxes that were opened within [`REMEMBERED_FOR`], at most [`REMEMBERED_MAX`].
#[derive(Debug, Default)]
pub(super) struct ReplayWindow {
    seen: HashSet<Mark>,
    /// In the order they came.
    order: VecDeque<(Instant, Mark)>,
}

impl ReplayWindow {
    /// Takes note of a box that was opened at `now`; false when it was opened before.
    pub(super) fn is_new(&mut self, sealed: &Sealed<'_>, now: Instant) -> bool {
        self.forget(now);
        let mut mark = [0; NONCE_BYTES + MAC_BYTES];
        mark[..NONCE_BYTES].copy_from_slice(sealed.nonce);
        mark[NONCE_BYTES..].copy_from_slice(sealed.mac);
        if !self.seen.insert(mark) {
            return false;
        }
        self.order.push_back((now, mark));
        if self.order.len() > REMEMBERED_MAX {
            self.forget_oldest();
        }
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((seen, _)) = self.order.front()
            && now.saturating_duration_since(*seen) > REMEMBERED_FOR
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, mark)) = self.order.pop_front() {
            self.seen.remove(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_new(window: &mut ReplayWindow, number: usize, now: Instant) -> bool {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let sealed = Sealed {
            nonce: &nonce,
            mac: &[0; MAC_BYTES],
            cipher_text: b"",
        };
        window.is_new(&sealed, now)
    }

    #[test]
    fn a_box_is_new_once_within_the_window() {
        let mut window = ReplayWindow::default();
        let start = Instant::now();
        assert!(is_new(&mut window, 1, start));
        assert!(!is_new(&mut window, 1, start));
        assert!(is_new(&mut window, 2, start));
        assert!(!is_new(&mut window, 1, start + REMEMBERED_FOR));
        let later = start + REMEMBERED_FOR + Duration::from_nanos(1);
        assert!(is_new(&mut window, 1, later));
        assert_eq!((window.seen.len(), window.order.len()), (1, 1));
    }

    #[test]
    fn two_boxes_with_one_nonce_are_two() {
        let mut window = ReplayWindow::default();
        for mac in [[0; MAC_BYTES], [1; MAC_BYTES]] {
            let sealed = Sealed {
                nonce: &[7; NONCE_BYTES],
                mac: &mac,
                cipher_text: b"",
            };
            assert!(window.is_new(&sealed, Instant::now()));
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut window = ReplayWindow::default();
        let now = Instant::now();
        for number in 0..=REMEMBERED_MAX {
            assert!(is_new(&mut window, number, now));
        }
        assert_eq!(window.seen.len(), REMEMBERED_MAX);
        assert!(!is_new(&mut window, 1, now));
        assert!(is_new(&mut window, 0, now));
    }
}
