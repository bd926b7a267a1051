//! A file of any length in blocks, each with a checksum that rests on the one before it.
//!
//! ```text
//! block = length u32, 1 to 262144 | XXH3-64 of (checksum before, payload) | payload
//! end   = 0 u32 | XXH3-64 of the checksum before
//! ```
//! The checksum before the first block is the caller's. So a block that is missing, doubled or
//! out of place is noticed like one that is damaged, and no length is taken on trust.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Longest payload of a block.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// What stands before a payload.
const PREFIX_BYTES: usize = 4 + 8;

fn checksum(before: u64, payload: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(&before.to_le_bytes());
    hash.update(payload);
    hash.digest()
}

/// Cuts what is written to it into blocks.
pub(super) struct BlockWriter<W> {
    output: W,
    payload: Vec<u8>,
    before: u64,
}

impl<W: Write> BlockWriter<W> {
    /// Writes to `output`, which has everything that `before` is the checksum of.
    pub(super) fn new(output: W, before: u64) -> Self {
        BlockWriter {
            output,
            payload: Vec::with_capacity(BLOCK_BYTES),
            before,
        }
    }

    /// Writes what is left and the end.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.payload.is_empty() {
            self.end_block()?;
        }
        self.end_block()?;
        Ok(self.output)
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.before = checksum(self.before, &self.payload);
        let length = self.payload.len() as u32;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(&self.before.to_le_bytes())?;
        self.output.write_all(&self.payload)?;
        self.payload.clear();
        Ok(())
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.payload.len());
        self.payload.extend_from_slice(&bytes[..taken]);
        if self.payload.len() == BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the payloads of blocks as one stream. What is wrong with a block is an error that
/// holds a [`Fault`].
pub(super) struct BlockReader<R> {
    input: R,
    payload: Vec<u8>,
    at: usize,
    before: u64,
    ended: bool,
}

impl<R: Read> BlockReader<R> {
    /// Reads from `input`, of which everything was read that `before` is the checksum of.
    pub(super) fn new(input: R, before: u64) -> Self {
        BlockReader {
            input,
            payload: Vec::new(),
            at: 0,
            before,
            ended: false,
        }
    }

    /// Checks that nothing is left: neither in the blocks nor behind them.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.read(&mut [0])? > 0 {
            return Err(corrupt("there is more in it than it says"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(corrupt("there is something behind its end")),
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let mut prefix = [0; PREFIX_BYTES];
        self.fill(&mut prefix)?;
        let (length, expected) = prefix.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let expected = u64::from_le_bytes(expected.try_into().expect("eight bytes"));
        if length > BLOCK_BYTES {
            return Err(corrupt("a block is longer than any"));
        }
        self.payload.resize(length, 0);
        self.at = 0;
        let mut payload = std::mem::take(&mut self.payload);
        self.fill(&mut payload)?;
        self.payload = payload;
        self.before = checksum(self.before, &self.payload);
        if self.before != expected {
            return Err(corrupt("the checksum does not match"));
        }
        self.ended = length == 0;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => corrupt("it is cut short"),
                _ => error,
            })
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.payload.len() && !self.ended {
            self.next_block()?;
        }
        let count = buffer.len().min(self.payload.len() - self.at);
        buffer[..count].copy_from_slice(&self.payload[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// What is wrong with the blocks.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(pub(super) &'static str);

fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Fault(what))
}

/// The checksum of what comes before the first block.
pub(super) fn start(header: &[u8]) -> u64 {
    xxh3_64(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new(), 7);
        writer.write_all(bytes).expect("memory");
        writer.finish().expect("memory")
    }

    fn read(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = BlockReader::new(file, 7);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        reader.finish()?;
        Ok(bytes)
    }

    #[test]
    fn any_length_comes_back() {
        for length in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
        ] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            assert_eq!(read(&written(&bytes)).expect("it reads"), bytes, "{length}");
        }
    }

    #[test]
    fn blocks_that_are_missing_doubled_or_out_of_place_are_noticed() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES).map(|n| (n / 1000) as u8).collect();
        let file = written(&bytes);
        let block = PREFIX_BYTES + BLOCK_BYTES;
        let blocks: Vec<&[u8]> = file.chunks(block).collect();
        for order in [
            &[1, 2, 3][..],
            &[0, 2, 3],
            &[0, 0, 1, 2, 3],
            &[1, 0, 2, 3],
            &[0, 1, 2],
        ] {
            let shuffled: Vec<u8> = order.iter().flat_map(|at| blocks[*at].to_vec()).collect();
            assert!(read(&shuffled).is_err(), "{order:?}");
        }
        let longer = [&file[..], b"x"].concat();
        assert!(read(&longer).is_err(), "something behind it");
    }
}
