//! Files in blocks of whole lines, as they are sent to a node, with a bar that shows how far it is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of lines sent in one request.
const BLOCK_BYTES: usize = 1 << 20;
/// Longest line that is sent at all; the node's own limit is usually less.
const LINE_BYTES_MAX: usize = 64 << 20;

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
    input: Box<dyn Read>,
    path: String,
    /// Bytes in the file, when that is known.
    pub(super) length: Option<u64>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given out last.
    given: usize,
    /// Lines in the blocks that were given.
    pub(super) lines: u64,
    ended: bool,
}

impl LineBlocks {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &OsStr) -> Result<Self, LineBlocksError> {
        let shown = Path::new(path).display().to_string();
        let (input, length): (Box<dyn Read>, _) = if path == "-" {
            (Box::new(io::stdin().lock()), None)
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

    fn new(input: Box<dyn Read>, path: String, length: Option<u64>) -> Self {
        LineBlocks {
            input,
            path,
            length,
            buffer: Vec::new(),
            given: 0,
            lines: 0,
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
            if let Some(last) = memchr::memrchr(b'\n', &self.buffer) {
                self.given = last + 1;
            }
            if self.ended {
                self.given = self.buffer.len();
            }
            if self.given > 0 {
                let block = &self.buffer[..self.given];
                self.lines += memchr::memchr_iter(b'\n', block).count() as u64;
                return Ok(Some(block));
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

    fn fill(&mut self, wanted: usize) -> Result<(), LineBlocksError> {
        let missing = wanted.saturating_sub(self.buffer.len()) as u64;
        let read = self
            .input
            .as_mut()
            .take(missing)
            .read_to_end(&mut self.buffer);
        let read = read.map_err(|source| LineBlocksError::File {
            path: self.path.clone(),
            source,
        })?;
        self.ended = (read as u64) < missing;
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
