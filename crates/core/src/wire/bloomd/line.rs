//! Lines in a buffer of received bytes.

use memchr::memchr;

/// The complete lines at the start of a buffer, without their line ends.
///
/// A line ends with `\n`; exactly one `\r` before it is dropped. What follows the last `\n` is an
/// unfinished line and stays in the buffer: after the iterator has ended, drop
/// [`consumed`](Self::consumed) bytes, append what arrives next and go on. How the bytes were cut
/// into reads never changes the lines, nor which line is too long.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    buffer: &'a [u8],
    length_max: usize,
    /// Start of the next line.
    start: usize,
    /// No line feed lies between `start` and here.
    scanned: usize,
    too_long: bool,
}

impl<'a> Lines<'a> {
    /// Lines of `buffer`, each of at most `length_max` bytes before its `\n`.
    pub fn new(buffer: &'a [u8], length_max: usize) -> Self {
        Self::resume(buffer, length_max, 0)
    }

    /// As [`new`](Self::new), for a buffer whose first `scanned` bytes are known to hold no `\n`:
    /// what [`unfinished`](Self::unfinished) said before more bytes were appended. A long line that
    /// arrives in small pieces is thus searched once, not once per piece.
    pub fn resume(buffer: &'a [u8], length_max: usize, scanned: usize) -> Self {
        Lines {
            buffer,
            length_max,
            start: 0,
            scanned: scanned.min(buffer.len()),
            too_long: false,
        }
    }

    /// Bytes taken by the lines given out so far.
    pub fn consumed(&self) -> usize {
        self.start
    }

    /// Length in bytes of the unfinished line at the end of the buffer, once the iterator has ended.
    pub fn unfinished(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether the iterator ended at a line, finished or not, of more than the allowed bytes.
    /// Answer [`LineTooLong`](super::ClientError::LineTooLong), then
    /// [pass over it](Self::pass_over).
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Drops the line at which the iterator stands, or as much of it as has arrived. Returns
    /// whether its end was among that, so that the iterator can go on; if not, the next buffer
    /// begins inside that line, and it has to be passed over there first.
    pub fn pass_over(&mut self) -> bool {
        let from = self.start.max(self.scanned);
        let end = memchr(b'\n', &self.buffer[from..]);
        self.start = end.map_or(self.buffer.len(), |at| from + at + 1);
        self.too_long = false;
        end.is_some()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let from = self.start.max(self.scanned);
        let found = memchr(b'\n', &self.buffer[from..]);
        let end = found.map_or(self.buffer.len(), |at| from + at);
        if end - self.start > self.length_max || self.too_long {
            self.too_long = true;
            return None;
        }
        if found.is_none() {
            self.scanned = end;
            return None;
        }
        let line = &self.buffer[self.start..end];
        self.start = end + 1;
        Some(without_carriage_return(line))
    }
}

impl std::iter::FusedIterator for Lines<'_> {}

#[inline]
fn without_carriage_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
