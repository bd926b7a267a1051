//! The files of a log that somebody else is writing, held open to be copied: its owner may remove
//! them meanwhile, the bytes stay until they are let go.

use std::io;
use std::sync::Arc;

use super::Position;
use super::segment::{self, SEGMENT_HEADER_LEN};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Most segments held at once: each takes a file descriptor. With segments of the default length
/// that is 32 GiB of log after the last snapshot.
pub(crate) const HELD_SEGMENTS_MAX: usize = 512;
const COPY_BYTES: u64 = 1 << 20;

/// Segments next to each other, open.
pub(crate) struct HeldSegments {
    files: Vec<(Position, Arc<dyn DiskFile>)>,
}

impl HeldSegments {
    /// Holds the segments from the one with position `from` on. None when the log does not hold
    /// that position, or no longer.
    pub(crate) fn open(disk: &dyn Disk, dir: &str, from: Position) -> io::Result<Option<Self>> {
        let segments = segment::list(disk, dir)?;
        let first = segments.partition_point(|start| *start <= from);
        let Some(first) = first.checked_sub(1) else {
            return Ok(None);
        };
        let mut held = HeldSegments { files: Vec::new() };
        for start in &segments[first..] {
            if !held.add(disk, dir, *start)? {
                return Ok(None);
            }
        }
        Ok(Some(held))
    }

    /// Holds those as well that were begun since, as far as they follow without a hole.
    pub(crate) fn extend(&mut self, disk: &dyn Disk, dir: &str) -> io::Result<()> {
        for start in segment::list(disk, dir)? {
            let end = match self.files.last() {
                Some((last, _)) if start <= *last => continue,
                Some((last, file)) => last + file.len()?.saturating_sub(SEGMENT_HEADER_LEN as u64),
                None => 0,
            };
            if start != end || !self.add(disk, dir, start)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False when it is gone.
    fn add(&mut self, disk: &dyn Disk, dir: &str, start: Position) -> io::Result<bool> {
        if self.files.len() >= HELD_SEGMENTS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("more than {HELD_SEGMENTS_MAX} log segments since the last snapshot"),
            ));
        }
        match disk.open(&segment::path(dir, start), OpenMode::Read) {
            Ok(file) => {
                self.files.push((start, file));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies them as they are now, durably but for their names; gives the bytes copied. What was
    /// copied is durable where it came from too: an operation that a power cut takes back there
    /// must not live on in the copy, since its number is then given to another one.
    pub(crate) fn copy_to(&self, disk: &dyn Disk, dir: &str) -> io::Result<u64> {
        let mut bytes = 0;
        for (start, file) in &self.files {
            bytes += copy_file(&**file, disk, &segment::path(dir, *start))?;
            file.sync()?;
        }
        Ok(bytes)
    }
}

/// Copies an open file, as long as it is now; gives its length.
pub(crate) fn copy_file(file: &dyn DiskFile, disk: &dyn Disk, path: &str) -> io::Result<u64> {
    let length = file.len()?;
    let copy = disk.open(path, OpenMode::Create)?;
    let mut buffer = vec![0; length.min(COPY_BYTES) as usize];
    let mut done = 0;
    while done < length {
        let part = (length - done).min(COPY_BYTES) as usize;
        file.read_at(done, &mut buffer[..part])?;
        copy.write_at(done, &buffer[..part])?;
        done += part as u64;
    }
    copy.sync()?;
    Ok(length)
}
