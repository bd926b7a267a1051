//! The bytes of a stream that were read and are not yet a whole frame.

use std::io;

use libp2p::futures::{AsyncRead, AsyncReadExt as _};

use super::limits::READ_BYTES;

/// What an idle connection keeps.
const IDLE_BYTES: usize = 4 << 10;

#[derive(Debug, Default)]
pub(super) struct Intake {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Intake {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once; room is made for at least `needed` bytes in all, which the caller has checked
    /// against a limit.
    pub(super) async fn fill<S>(&mut self, stream: &mut S, needed: usize) -> io::Result<()>
    where
        S: AsyncRead + Unpin,
    {
        self.make_room(needed);
        let count = stream.read(&mut self.buffer[self.end..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        Ok(())
    }

    fn make_room(&mut self, needed: usize) {
        if self.start > 0 && self.start + needed > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A full buffer says that there is more to come than fits.
        let grown = if self.end == self.buffer.len() {
            (2 * self.buffer.len()).clamp(IDLE_BYTES, READ_BYTES)
        } else {
            0
        };
        let wanted = grown.max(self.start + needed);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }

    /// Gives back what large frames took. Called when the peer has nothing to say.
    pub(super) fn rest(&mut self) {
        if self.bytes().is_empty() && self.buffer.len() > IDLE_BYTES {
            *self = Intake::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::wire::group::{DATA_BYTES_MAX, HEADER_BYTES};
    use libp2p::futures::executor::block_on;
    use libp2p::futures::io::Cursor;

    #[test]
    fn any_stream_is_read_in_order_and_room_stays_bounded() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut stream = Cursor::new(data.clone());
        let (mut intake, mut read) = (Intake::default(), Vec::new());
        let sizes = [1, 5, 4096, 70_000, HEADER_BYTES + DATA_BYTES_MAX, 3];
        for size in sizes.into_iter().cycle() {
            while intake.bytes().len() < size {
                if block_on(intake.fill(&mut stream, size)).is_err() {
                    read.extend_from_slice(intake.bytes());
                    assert_eq!(read, data);
                    return;
                }
                assert!(intake.buffer.len() <= HEADER_BYTES + DATA_BYTES_MAX + READ_BYTES);
            }
            read.extend_from_slice(&intake.bytes()[..size]);
            intake.consume(size);
            intake.rest();
        }
    }

    #[test]
    fn a_resting_intake_keeps_what_was_not_used() {
        let mut stream = Cursor::new(vec![7; 100_000]);
        let mut intake = Intake::default();
        block_on(intake.fill(&mut stream, 50_000)).unwrap();
        let held = intake.bytes().len();
        intake.consume(1);
        intake.rest();
        assert_eq!(intake.bytes().len(), held - 1);
        intake.consume(held);
        intake.rest();
        assert_eq!(intake.buffer.capacity(), 0);
    }
}
