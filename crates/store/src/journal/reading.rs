//! Reading operations for peers: only what is durable leaves the node.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use grapevine_core::operation::{EntryHeader, Stream};
use grapevine_core::origin::Origin;
use grapevine_core::version::{Dot, VersionVector};

use super::{Found, Journal, Run, lock};
use crate::log::{Cursor, Position, ReadError, Stop};

impl Journal {
    /// A position before which there is nothing that a copy with `version` lacks.
    pub fn position_of(&self, version: &VersionVector) -> Position {
        let versions = lock(&self.versions);
        let held = versions.notes.iter().rev();
        held.filter(|note| version.includes(&note.version))
            .map(|note| note.position)
            .next()
            .unwrap_or(0)
    }

    /// The last place known from which all of `wanted` (origin to first number) can be read.
    fn seek(&self, wanted: &BTreeMap<Origin, u64>) -> Option<Cursor> {
        let start = self.log.start();
        let versions = lock(&self.versions);
        let note = versions.notes.iter().rev().find(|note| {
            note.position >= start
                && wanted
                    .iter()
                    .all(|(origin, first)| note.version.get(*origin) < *first)
        })?;
        Some(Cursor {
            entry: note.position,
            frame: note.position,
        })
    }

    /// Reads durable operations of the group's stream in log order: those `wanted` (origin to
    /// first number), from `place` on, or from wherever the first of them may be. Stops after
    /// about `bytes_max` bytes.
    pub fn read(
        &self,
        wanted: &BTreeMap<Origin, u64>,
        place: Option<Cursor>,
        bytes_max: usize,
    ) -> Result<Found, ReadError> {
        let durable = lock(&self.durable).clone();
        let place = place.filter(|place| place.frame >= self.log.start());
        let Some(from) = place.or_else(|| self.seek(wanted)) else {
            return Ok(Found::Gone);
        };
        let mut reader = Reader {
            next: wanted.clone(),
            runs: Vec::new(),
            bytes: 0,
            gap: false,
        };
        let mut end = true;
        let next = self.log.read_on(from, |position, entry| {
            if position >= durable.position {
                return ControlFlow::Break(Stop::Before);
            }
            if reader.bytes >= bytes_max {
                end = false;
                return ControlFlow::Break(Stop::Before);
            }
            reader.take(entry);
            if reader.gap {
                ControlFlow::Break(Stop::Before)
            } else {
                ControlFlow::Continue(())
            }
        });
        let next = match next {
            Err(ReadError::Gone { .. }) => return Ok(Found::Gone),
            next => next?,
        };
        // An origin whose operations came in with a snapshot is not in the log.
        let missing = |(origin, next): (&Origin, &u64)| durable.version.get(*origin) >= *next;
        if reader.gap || (end && reader.next.iter().any(missing)) {
            return Ok(Found::Gone);
        }
        Ok(Found::Runs {
            runs: reader.runs,
            next,
            end,
        })
    }
}

struct Reader {
    next: BTreeMap<Origin, u64>,
    runs: Vec<(Origin, Run)>,
    bytes: usize,
    gap: bool,
}

impl Reader {
    fn take(&mut self, entry: &[u8]) {
        let Ok((header, operation)) = EntryHeader::decode(entry) else {
            return;
        };
        let Dot { origin, sequence } = header.dot;
        let next = self.next.get_mut(&origin);
        let Some(next) = next.filter(|next| header.stream == Stream::Group && sequence >= **next)
        else {
            return;
        };
        if sequence > *next {
            self.gap = true;
            return;
        }
        *next += 1;
        self.bytes += operation.len();
        match self.runs.last_mut() {
            Some((last, run)) if *last == origin => run.operations.push(operation.to_vec()),
            _ => {
                let run = Run {
                    first: sequence,
                    operations: vec![operation.to_vec()],
                };
                self.runs.push((origin, run));
            }
        }
    }
}
