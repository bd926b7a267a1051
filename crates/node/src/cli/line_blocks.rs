//! Files in blocks of whole lines, as they are sent to a node, with a bar that shows how far it is.
//!
//! A carriage return before a line's end is dropped, as bloomd's protocol does, and so is a byte
//! order mark. What a pipe has given is sent after a moment, however little it is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of lines sent in one request.
const BLOCK_BYTES: usize = 1 << 20;
/// Longest line that is sent at all; the node's own limit is usually less.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Bytes that are read at once, and how often ahead of what is sent.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;
/// Whole lines wait at most so long for more of them.
const PATIENCE: Duration = Duration::from_millis(200);
/// What a file begins with that is no text of ours, and what it is then.
const FOREIGN_STARTS: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "packed by gzip: unpack it first (gzip -dc)"),
    (
        b"\x28\xb5\x2f\xfd",
        "packed by zstd: unpack it first (zstd -dc)",
    ),
    (b"\xfd7zXZ\0", "packed by xz: unpack it first (xz -dc)"),
    (
        b"\xff\xfe",
        "UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)",
    ),
    (
        b"\xfe\xff",
        "UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)",
    ),
];
/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why there is no next block.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineBlocksError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It is no text.
    #[error("{path} is {what}")]
    Foreign {
        /// The file.
        path: String,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// A line does not end.
    #[error("{path}: line {line} is longer than {limit} bytes")]
    TooLong {
        /// The file.
        path: String,
        /// The line.
        line: u64,
        /// Longest line that is sent.
        limit: usize,
    },
}

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:30} {bytes}/{total_bytes} {msg} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A file in blocks of whole lines.
pub(super) struct LineBlocks {
    chunks: Receiver<io::Result<Vec<u8>>>,
    path: String,
    /// Bytes in the file, when that is known.
    pub(super) length: Option<u64>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given out last.
    given: usize,
    /// What was given out, if that is not the same as in the buffer.
    stripped: Vec<u8>,
    /// Lines in the blocks that were given.
    pub(super) lines: u64,
    began: bool,
    ended: bool,
}

impl LineBlocks {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &OsStr) -> Result<Self, LineBlocksError> {
        let shown = Path::new(path).display().to_string();
        let (input, length): (Box<dyn Read + Send>, _) = if path == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let opened = File::open(path).and_then(|file| {
                let facts = file.metadata()?;
                Ok((file, facts.is_file().then_some(facts.len())))
            });
            let (file, length) = opened.map_err(|source| LineBlocksError::File {
                path: shown.clone(),
                source,
            })?;
            (Box::new(file), length)
        };
        Ok(Self::new(input, shown, length))
    }

    fn new(mut input: Box<dyn Read + Send>, path: String, length: Option<u64>) -> Self {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        // It ends with the input, or when nobody wants more of it.
        thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match input.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let ends = !matches!(read, Ok(1..));
                let read = read.map(|count| {
                    chunk.truncate(count);
                    chunk
                });
                if sender.send(read).is_err() || ends {
                    return;
                }
            }
        });
        LineBlocks {
            chunks,
            path,
            length,
            buffer: Vec::new(),
            given: 0,
            stripped: Vec::new(),
            lines: 0,
            began: false,
            ended: false,
        }
    }

    /// The next lines: about [`BLOCK_BYTES`], more only when one line is longer.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, LineBlocksError> {
        self.buffer.drain(..self.given);
        self.given = 0;
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted)?;
            self.begin()?;
            if let Some(last) = memchr::memrchr(b'\n', &self.buffer) {
                self.given = last + 1;
            }
            if self.ended {
                self.given = self.buffer.len();
            }
            if self.given > 0 {
                return Ok(Some(self.take_given()));
            }
            if self.ended {
                return Ok(None);
            }
            if wanted >= LINE_BYTES_MAX {
                return Err(LineBlocksError::TooLong {
                    path: self.path.clone(),
                    line: self.lines + 1,
                    limit: LINE_BYTES_MAX,
                });
            }
            wanted *= 2;
        }
    }

    /// Looks at the first bytes, once they are there.
    fn begin(&mut self) -> Result<(), LineBlocksError> {
        if std::mem::replace(&mut self.began, true) {
            return Ok(());
        }
        let start = &self.buffer;
        if let Some((_, what)) = FOREIGN_STARTS.iter().find(|(by, _)| start.starts_with(by)) {
            return Err(LineBlocksError::Foreign {
                path: self.path.clone(),
                what,
            });
        }
        if start.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// What is given out, without the carriage returns before line ends.
    fn take_given(&mut self) -> &[u8] {
        let block = &self.buffer[..self.given];
        self.lines += memchr::memchr_iter(b'\n', block).count() as u64;
        if memchr::memchr(b'\r', block).is_none() {
            return block;
        }
        self.stripped.clear();
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            let (text, end) = match line.strip_suffix(b"\n") {
                Some(text) => (text, &b"\n"[..]),
                None => (line, &b""[..]),
            };
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            self.stripped.extend_from_slice(text);
            self.stripped.extend_from_slice(end);
        }
        &self.stripped
    }

    /// Reads until so many bytes are there, or whole lines and no more within a moment.
    fn fill(&mut self, wanted: usize) -> Result<(), LineBlocksError> {
        let began = Instant::now();
        let mut has_line = memchr::memchr(b'\n', &self.buffer).is_some();
        while self.buffer.len() < wanted && !self.ended {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let chunk = match has_line {
                true => self.chunks.recv_timeout(left),
                false => self.chunks.recv().map_err(RecvTimeoutError::from),
            };
            match chunk {
                Ok(Ok(chunk)) => {
                    self.ended = chunk.is_empty();
                    has_line |= memchr::memchr(b'\n', &chunk).is_some();
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(Err(source)) => {
                    let path = self.path.clone();
                    return Err(LineBlocksError::File { path, source });
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: Vec<u8>) -> Result<Vec<Vec<u8>>, LineBlocksError> {
        let input = Box::new(io::Cursor::new(text));
        let mut lines = LineBlocks::new(input, "test".to_owned(), None);
        let mut blocks = Vec::new();
        while let Some(block) = lines.next()? {
            blocks.push(block.to_vec());
        }
        Ok(blocks)
    }

    #[test]
    fn blocks_are_whole_lines_and_nothing_is_lost() -> Result<(), LineBlocksError> {
        assert_eq!(blocks(Vec::new())?, Vec::<Vec<u8>>::new());
        assert_eq!(blocks(b"a\nb".to_vec())?, [b"a\nb"]);
        let mut text: Vec<u8> = (0..400_000)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        text.extend_from_slice(&vec![b'x'; 3 * BLOCK_BYTES]);
        text.extend_from_slice(b"\nend");
        let blocks = blocks(text.clone())?;
        assert!(blocks.len() > 2);
        let whole = blocks.len() - 1;
        assert!(blocks[..whole].iter().all(|block| block.ends_with(b"\n")));
        assert_eq!(blocks.concat(), text);
        Ok(())
    }

    #[test]
    fn carriage_returns_before_line_ends_and_a_byte_order_mark_go() -> Result<(), LineBlocksError> {
        let text = b"\xef\xbb\xbfa\r\nb\r\r\n\r\nc\rd\ne\r".to_vec();
        assert_eq!(blocks(text)?.concat(), b"a\nb\r\n\nc\rd\ne");
        Ok(())
    }

    #[test]
    fn what_is_no_text_is_named() {
        let utf_16 = "a\n".encode_utf16().flat_map(u16::to_le_bytes);
        let utf_16: Vec<u8> = [0xff, 0xfe].into_iter().chain(utf_16).collect();
        let gzip = crate::gzip::pack(b"a\n").expect("memory");
        for (text, named) in [(utf_16, "test is UTF-16"), (gzip, "test is packed by gzip")] {
            let refused = blocks(text).expect_err("no text").to_string();
            assert!(refused.starts_with(named), "{refused}");
        }
    }

    /// A pipe that goes on after a moment of its own.
    struct Slow(Receiver<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.recv().unwrap_or_default();
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    #[test]
    fn what_a_pipe_gave_is_sent_though_it_goes_on() -> Result<(), LineBlocksError> {
        let (sender, receiver) = sync_channel(1);
        let mut lines = LineBlocks::new(Box::new(Slow(receiver)), "test".to_owned(), None);
        for (given, wanted) in [(&b"a\nb"[..], Some(&b"a\n"[..])), (b"c\n", Some(b"bc\n"))] {
            sender.send(given.to_vec()).expect("it is read");
            assert_eq!(lines.next()?, wanted);
        }
        drop(sender);
        assert_eq!(lines.next()?, None);
        Ok(())
    }

    #[test]
    fn an_endless_line_is_refused_with_its_number() {
        let input = Box::new(b"one\ntwo\n".chain(io::repeat(b'x')));
        let mut lines = LineBlocks::new(input, "test".to_owned(), None);
        assert!(matches!(lines.next(), Ok(Some(b"one\ntwo\n"))));
        let refused = lines.next().err();
        assert!(
            matches!(refused, Some(LineBlocksError::TooLong { line: 3, .. })),
            "{refused:?}"
        );
    }
}
