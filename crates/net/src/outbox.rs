//! What waits to be sent to one peer, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use grapevine_core::wire::group::{DATA_BYTES_MAX, Goodbye, HEADER_BYTES, Kind, push_frame};
use tokio::sync::Notify;

use super::limits::{BATCH_BYTES, FRAME_OVERHEAD_BYTES, OUTBOX_BYTES_MAX};

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As much as may wait for this peer is waiting. [`Event::Writable`](super::Event::Writable)
    /// says when half of it is gone.
    #[error("the peer's queue is full")]
    Full,
    /// The session is over, or never was.
    #[error("the peer's session is over")]
    Gone,
    /// The frame is over [`DATA_BYTES_MAX`].
    #[error("a frame of {0} bytes, the limit is {DATA_BYTES_MAX}")]
    TooLarge(usize),
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something was put in, or the end was said.
    work: Notify,
    /// The end was said.
    ending: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// Of the frames, with their overhead.
    bytes: usize,
    end: Option<Goodbye>,
    /// Somebody was told that it is full.
    refused: bool,
}

/// What the writer has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing waits.
    Idle,
    /// Bytes were appended. `writable`: somebody who was refused may try again.
    Write { writable: bool },
    /// Everything is sent, and this is the last word.
    End(Goodbye),
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        if frame.len() > DATA_BYTES_MAX {
            return Err(SendError::TooLarge(frame.len()));
        }
        let cost = frame.len() + FRAME_OVERHEAD_BYTES;
        let mut state = self.state();
        if state.end.is_some() {
            return Err(SendError::Gone);
        }
        if state.bytes + cost > OUTBOX_BYTES_MAX {
            state.refused = true;
            return Err(SendError::Full);
        }
        state.bytes += cost;
        state.frames.push_back(frame);
        let first = state.frames.len() == 1;
        drop(state);
        if first {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Nothing more is taken; what waits is sent, then the goodbye. The first one counts.
    pub(super) fn end(&self, goodbye: Goodbye) {
        self.state().end.get_or_insert(goodbye);
        self.work.notify_one();
        self.ending.notify_one();
    }

    /// Why it takes nothing more.
    pub(super) fn ended(&self) -> Option<Goodbye> {
        self.state().end.clone()
    }

    /// Bytes that wait, with the overhead of each frame.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Returns once there may be work.
    pub(super) async fn changed(&self) {
        self.work.notified().await;
    }

    /// Returns once the end was said.
    pub(super) async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Moves frames into `batch` until it has about [`BATCH_BYTES`].
    pub(super) fn take(&self, batch: &mut Vec<u8>) -> Work {
        let mut state = self.state();
        if state.frames.is_empty() {
            return state.end.clone().map_or(Work::Idle, Work::End);
        }
        while let Some(frame) = state.frames.front() {
            if !batch.is_empty() && batch.len() + HEADER_BYTES + frame.len() > BATCH_BYTES {
                break;
            }
            // The size was checked when it was put in.
            let pushed = push_frame(batch, Kind::Data, frame);
            debug_assert!(pushed.is_ok(), "a frame of the outbox is within its limit");
            state.bytes -= frame.len() + FRAME_OVERHEAD_BYTES;
            state.frames.pop_front();
        }
        let writable = state.refused && state.bytes <= OUTBOX_BYTES_MAX / 2;
        state.refused &= !writable;
        if state.frames.is_empty() && state.frames.capacity() > 1024 {
            state.frames = VecDeque::new();
        }
        Work::Write { writable }
    }
}

#[cfg(test)]
mod tests {
    use grapevine_core::wire::group::{Decoded, Reason, decode};

    use super::*;

    fn frames(batch: &[u8]) -> Vec<usize> {
        let (mut rest, mut lengths) = (batch, Vec::new());
        while let Ok(Decoded::Whole(frame, end)) = decode(rest) {
            lengths.push(frame.content.len());
            rest = &rest[end..];
        }
        assert!(rest.is_empty());
        lengths
    }

    #[test]
    fn bytes_are_bounded_also_those_of_empty_frames() {
        for length in [0, 1000, DATA_BYTES_MAX] {
            let outbox = Outbox::default();
            let frame = Bytes::from(vec![0; length]);
            let mut taken = 0;
            while outbox.push(frame.clone()).is_ok() {
                taken += 1;
            }
            assert_eq!(taken, OUTBOX_BYTES_MAX / (length + FRAME_OVERHEAD_BYTES));
            assert_eq!(outbox.push(frame), Err(SendError::Full));
            assert!(outbox.bytes() <= OUTBOX_BYTES_MAX);
        }
        let large = Bytes::from(vec![0; DATA_BYTES_MAX + 1]);
        let refused = Outbox::default().push(large);
        assert_eq!(refused, Err(SendError::TooLarge(DATA_BYTES_MAX + 1)));
    }

    #[test]
    fn a_batch_has_many_small_frames_or_one_large_one() {
        let outbox = Outbox::default();
        for length in [10, 20, BATCH_BYTES - 30, DATA_BYTES_MAX, 5] {
            outbox.push(Bytes::from(vec![0; length])).unwrap();
        }
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        while outbox.take(&mut batch) != Work::Idle {
            batches.push(frames(&batch));
            batch.clear();
        }
        let expected: [&[usize]; 4] = [&[10, 20], &[BATCH_BYTES - 30], &[DATA_BYTES_MAX], &[5]];
        assert_eq!(batches, expected);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn who_was_refused_is_called_once_when_half_is_gone() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; DATA_BYTES_MAX]);
        while outbox.push(frame.clone()).is_ok() {}
        let (mut calls, mut bytes_then) = (0, 0);
        let mut batch = Vec::new();
        while let Work::Write { writable } = outbox.take(&mut batch) {
            batch.clear();
            if writable {
                calls += 1;
                bytes_then = outbox.bytes();
            }
        }
        assert_eq!(calls, 1);
        assert!(bytes_then <= OUTBOX_BYTES_MAX / 2 && bytes_then > OUTBOX_BYTES_MAX / 4);
    }

    #[test]
    fn the_goodbye_comes_last_and_nothing_after_it() {
        let outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"x")).unwrap();
        outbox.end(Reason::Stopping.into());
        outbox.end(Reason::Full.into());
        assert_eq!(outbox.push(Bytes::new()), Err(SendError::Gone));
        let mut batch = Vec::new();
        assert_eq!(outbox.take(&mut batch), Work::Write { writable: false });
        assert_eq!(outbox.take(&mut batch), Work::End(Reason::Stopping.into()));
    }
}
