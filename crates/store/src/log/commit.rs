//! Group commit, sync, marks, and the change from one segment to the next.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::error::{Failure, LogError, Step};
use super::reached::{self, REACHED_EVERY_BYTES, Reached};
use super::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader};
use super::{Log, Position, Writer, frame, lock};
use crate::disk::{OpenMode, is_passing};

impl Log {
    /// Makes sure that everything before `up_to` was handed to the operating system. One caller
    /// writes what all wait for; the others find it done.
    pub fn commit(&self, up_to: Position) -> Result<(), LogError> {
        self.check_working()?;
        if self.committed() >= up_to {
            return Ok(());
        }
        let mut writer = lock(&self.writer);
        self.check_working()?;
        if self.committed() < up_to {
            self.write_open(&mut writer)?;
        }
        let appended = self.committed();
        if appended < up_to {
            return Err(LogError::NotAppended {
                position: up_to,
                appended,
            });
        }
        Ok(())
    }

    /// Commits what was appended and makes it durable. Returns the position up to which the log
    /// is durable. Appends and commits go on meanwhile; a caller that finds another one's sync
    /// under way waits for it, and does its own only if that one did not cover it.
    pub fn sync(&self) -> Result<Position, LogError> {
        let target = self.appended();
        self.commit(target)?;
        self.sync_to(target)
    }

    /// Writes an empty frame that carries the synced position, and syncs it, when the last data
    /// is durable and no frame on disk says so yet. From then on a damaged frame before it is told
    /// apart from a torn one. Returns whether a mark was written; data that waits or is not synced
    /// makes it wait.
    pub fn mark_synced(&self) -> Result<bool, LogError> {
        let mut writer = lock(&self.writer);
        self.check_working()?;
        let data_end = writer.data_end;
        let durable = self.synced() >= data_end;
        if !durable {
            return Ok(false);
        }
        if writer.carried >= data_end {
            self.note_reached(writer.header.start, data_end)?;
            return Ok(false);
        }
        let mut open = lock(&self.open);
        if !open.bytes.is_empty() {
            return Ok(false);
        }
        open.begin_frame();
        self.appended.store(open.end(), Ordering::Release);
        drop(open);
        self.write_open(&mut writer)?;
        let segment = writer.header.start;
        drop(writer);
        self.sync_to(self.committed())?;
        // The mark itself holds no entry: nothing is lost with it.
        self.note_reached(segment, data_end)?;
        Ok(true)
    }

    /// Syncs and marks: the last call before a clean end.
    pub fn close(&self) -> Result<(), LogError> {
        self.sync()?;
        self.mark_synced().map(drop)
    }

    /// Begins a new segment if the present one holds at least `bytes`, so that what comes before
    /// can be removed once a snapshot covers it. Returns whether it did.
    pub fn roll_over(&self, bytes: u64) -> Result<bool, LogError> {
        let mut writer = lock(&self.writer);
        self.check_working()?;
        self.write_open(&mut writer)?;
        if writer.end - writer.header.start < bytes.max(1) {
            return Ok(false);
        }
        self.begin_segment(&mut writer)
    }

    /// Waits for the write and the sync under way. Of a log that has failed none follows.
    pub(crate) fn wait_for_writers(&self) {
        drop(lock(&self.writer));
        drop(lock(&self.syncing));
    }

    /// Removes the segments that end at or before `position`, oldest first. The newest one stays.
    /// Returns how many went.
    pub fn truncate_before(&self, position: Position) -> Result<usize, LogError> {
        // Only removals wait for each other; commits may begin segments meanwhile.
        let _removing = lock(&self.removing);
        let mut removed = 0;
        while let Some(oldest) = self.ends_before(position) {
            let path = segment::path(&self.dir, oldest);
            // Synced one by one: no order of lost removals may leave a hole in the middle.
            let result = self
                .disk
                .remove(&path)
                .and_then(|()| self.disk.sync_dir(&self.dir));
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message = error.to_string();
                    return Err(LogError::Remove {
                        segment: oldest,
                        message,
                    });
                }
            }
            lock(&self.segments).remove(0);
            removed += 1;
        }
        Ok(removed)
    }

    /// The oldest segment, if it ends at or before `position` and is not the newest.
    fn ends_before(&self, position: Position) -> Option<Position> {
        match lock(&self.segments).as_slice() {
            &[oldest, next, ..] if next <= position => Some(oldest),
            _ => None,
        }
    }

    fn sync_to(&self, target: Position) -> Result<Position, LogError> {
        let _syncing = lock(&self.syncing);
        self.check_working()?;
        if self.synced() >= target {
            return Ok(self.synced());
        }
        // In this order: what was committed lies in this file or in one that was synced when it
        // was completed.
        let committed = self.committed();
        let file = Arc::clone(&lock(&self.tail));
        let start = lock(&self.segments).last().copied().unwrap_or_default();
        file.sync()
            .map_err(|error| self.fail(Step::Sync, start, &error))?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = self.publish_synced(committed);
        if committed.saturating_sub(lock(&self.reached).end) >= REACHED_EVERY_BYTES {
            self.note_reached(start, committed)?;
        }
        Ok(synced)
    }

    /// Notes beside the segments that the log is durable up to `end`, and that `segment` is there.
    /// Where no file can be opened for the moment, the note before stands: it is less, and true.
    fn note_reached(&self, segment: Position, end: Position) -> Result<(), LogError> {
        let mut reached = lock(&self.reached);
        let now = Reached {
            segment: reached.segment.max(segment),
            end: reached.end.max(end),
        };
        if now != *reached {
            match reached::write(&*self.disk, &self.dir, self.id, now) {
                Ok(()) => *reached = now,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(self.fail(Step::Reach, now.segment, &error)),
            }
        }
        Ok(())
    }

    fn publish_synced(&self, position: Position) -> Position {
        self.synced
            .fetch_max(position, Ordering::AcqRel)
            .max(position)
    }

    /// Remembers the first failure; from here on nothing is taken.
    pub(super) fn fail(&self, step: Step, segment: Position, error: &io::Error) -> LogError {
        let cause = Failure {
            step,
            segment,
            kind: error.kind(),
            message: error.to_string(),
        };
        let mut first = false;
        let cause = self.failure.get_or_init(|| {
            first = true;
            cause
        });
        if first && let Some(alarm) = self.alarm.get() {
            alarm(cause);
        }
        LogError::Failed {
            cause: cause.clone(),
        }
    }

    /// Takes the open batch out and writes it.
    fn write_open(&self, writer: &mut Writer) -> Result<(), LogError> {
        let mut batch = std::mem::take(&mut writer.spare);
        {
            let mut open = lock(&self.open);
            batch.reset(open.end());
            std::mem::swap(&mut *open, &mut batch);
        }
        let result = self.write_batch(writer, &mut batch);
        let end = batch.end();
        batch.reset(end);
        writer.spare = batch;
        result?;
        self.committed.store(end, Ordering::Release);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write_batch(&self, writer: &mut Writer, batch: &mut Batch) -> Result<(), LogError> {
        let mut first = 0;
        while first < batch.frames.len() {
            let free = self
                .config
                .segment_size
                .saturating_sub(self.segment_len(writer));
            let mut last = last_that_fits(batch, first, free);
            if last == first {
                if writer.end > writer.header.start && self.begin_segment(writer)? {
                    continue;
                }
                // Alone in its segment, whatever its length, or in one that is to be the last for
                // now.
                last = first + 1;
            }
            self.write_frames(writer, batch, first, last)?;
            first = last;
        }
        Ok(())
    }

    fn segment_len(&self, writer: &Writer) -> u64 {
        SEGMENT_HEADER_LEN as u64 + (writer.end - writer.header.start)
    }

    /// Seals and writes the frames `first..last`, which go into the present segment.
    fn write_frames(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        first: usize,
        last: usize,
    ) -> Result<(), LogError> {
        let synced = self.synced();
        let base = batch.base;
        for index in first..last {
            let (from, to) = (batch.frames[index], batch.frame_end(index));
            let position = base + from as u64;
            frame::seal(
                &mut batch.bytes[from..to],
                position,
                synced,
                writer.header.salt,
            );
            if to - from > frame::FRAME_HEADER_LEN {
                writer.data_end = base + to as u64;
            }
        }
        let (from, to) = (batch.frames[first], batch.frame_end(last - 1));
        let start = writer.header.start;
        assert_eq!(
            writer.end,
            base + from as u64,
            "frames lie next to each other"
        );
        writer
            .file
            .write_at(writer.header.offset(writer.end), &batch.bytes[from..to])
            .map_err(|error| self.fail(Step::Write, start, &error))?;
        writer.end = base + to as u64;
        writer.carried = writer.carried.max(synced);
        self.counters
            .bytes
            .fetch_add((to - from) as u64, Ordering::Relaxed);
        self.counters
            .frames
            .fetch_add((last - first) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs the present segment for good and begins the next one. A segment thus exists only when
    /// all before it are whole and durable, so damage in those is never taken for a torn tail.
    /// False when no file can be opened for the moment: the present segment goes on.
    fn begin_segment(&self, writer: &mut Writer) -> Result<bool, LogError> {
        // Not two syncs of one file at once: the system reports an error to one of them only.
        let _syncing = lock(&self.syncing);
        self.check_working()?;
        let complete = writer.header.start;
        writer
            .file
            .sync()
            .map_err(|error| self.fail(Step::Sync, complete, &error))?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let start = writer.end;
        let path = segment::unfinished_path(&self.dir, start);
        let file = match self.disk.open(&path, OpenMode::Create) {
            Err(error) if is_passing(&error) => return Ok(false),
            opened => opened.map_err(|error| self.fail(Step::Begin, start, &error))?,
        };
        let header = SegmentHeader {
            start,
            id: self.id,
            salt: self.config.salt,
        };
        let file = segment::begin(&*self.disk, &self.dir, file, &header)
            .map_err(|error| self.fail(Step::Begin, start, &error))?;
        writer.file = Arc::clone(&file);
        writer.header = header;
        writer.carried = start;
        lock(&self.segments).push(start);
        *lock(&self.tail) = file;
        self.counters.segments.fetch_add(1, Ordering::Relaxed);
        self.publish_synced(start);
        // Before anything is in it: without it the log would end where this one begins.
        self.note_reached(start, start)?;
        Ok(true)
    }
}

/// The end of the run of frames from `first` on that fit into `free` bytes.
fn last_that_fits(batch: &Batch, first: usize, free: u64) -> usize {
    let from = batch.frames[first];
    (first..batch.frames.len())
        .take_while(|index| (batch.frame_end(*index) - from) as u64 <= free)
        .last()
        .map_or(first, |index| index + 1)
}
