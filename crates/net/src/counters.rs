//! What a transport has done since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; all start at 0 and only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of frames that were sent, with their headers.
    pub sent: AtomicU64,
    /// Bytes of frames that were received, without their headers.
    pub received: AtomicU64,
    /// Frames that were received.
    pub frames_received: AtomicU64,
    /// Frames that were passed over: of kinds that only a newer version knows.
    pub passed_over: AtomicU64,
    /// Sessions that began.
    pub admitted: AtomicU64,
    /// Connections that were not let in.
    pub refused: AtomicU64,
    /// Calls that came to nothing.
    pub dial_failures: AtomicU64,
}

impl Counters {
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.frames_received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
