//! The marks in the operations that are in, and where they are not those that others have.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use grapevine_core::history::History;
use grapevine_core::operation::{EntryHeader, Stream, encode_fork, encode_marks};
use grapevine_core::origin::Origin;
use grapevine_core::sync::Shown;
use grapevine_core::version::{Dot, VersionVector};

use super::{Journal, ReadOnly, Versions, lock};
use crate::log::{EntryBuffer, Position};

impl Journal {
    /// Appends that everything up to `version` is in, by other ways than its operations.
    /// `shown` has the marks in them where they came from.
    pub fn append_version(
        &self,
        version: &VersionVector,
        shown: &Shown,
        write: impl FnOnce(&mut EntryBuffer<'_>),
    ) -> Result<Position, ReadOnly> {
        let mut appender = self.log.begin()?;
        let mut versions = lock(&self.versions);
        let adopted = versions.adopted_histories(version, shown, self.origin);
        let stream = Stream::Local;
        let mut dot = Dot {
            origin: self.origin,
            sequence: versions.local,
        };
        for (origin, history) in &adopted {
            dot.sequence += 1;
            let mut entry = EntryHeader { stream, dot }.encode().to_vec();
            encode_marks(&mut entry, *origin, history);
            appender.entry(&entry)?;
        }
        dot.sequence += 1;
        let header = EntryHeader { stream, dot }.encode();
        appender.entry_with(|buffer| {
            buffer.extend_from_slice(&header);
            write(buffer);
        })?;
        // Under the lock that appends, like every change of the version: a bookmark that has the
        // entry before its position has the version too.
        versions.arriving = adopted;
        versions.adopt(version, self.origin);
        let position = appender.finish();
        versions.advance(stream, dot);
        versions.note(position);
        drop(versions);
        self.bell.ring();
        Ok(position)
    }

    /// Appends that what is here of an origin from `first` on is not known to be anywhere else;
    /// none if that was known.
    pub fn append_fork(&self, first: Dot) -> Result<Option<Position>, ReadOnly> {
        let mut appender = self.log.begin()?;
        let mut versions = lock(&self.versions);
        if !versions.is_new_fork(first) {
            return Ok(None);
        }
        let stream = Stream::Local;
        let dot = Dot {
            origin: self.origin,
            sequence: versions.local + 1,
        };
        let mut entry = EntryHeader { stream, dot }.encode().to_vec();
        encode_fork(&mut entry, first);
        appender.entry(&entry)?;
        let position = appender.finish();
        versions.forks.insert(first.origin, first.sequence);
        versions.advance(stream, dot);
        versions.note(position);
        drop(versions);
        self.bell.ring();
        Ok(Some(position))
    }

    /// From which number on what is here of an origin is not known to be anywhere else.
    pub fn forks(&self) -> BTreeMap<Origin, u64> {
        lock(&self.versions).forks.clone()
    }

    /// The last mark in the first `count` operations of an origin; 0: it is not known.
    pub fn mark(&self, origin: Origin, count: u64) -> u64 {
        let versions = lock(&self.versions);
        let history = versions.histories.get(&origin);
        history.map_or(0, |history| history.at(count))
    }

    /// The marks known in the operations of an origin.
    pub fn history(&self, origin: Origin) -> History {
        let versions = lock(&self.versions);
        versions.histories.get(&origin).cloned().unwrap_or_default()
    }

    /// How many operations are in of the origins after `after`, at most `count` origins, and the
    /// marks known in them.
    pub(crate) fn histories(
        &self,
        after: Option<Origin>,
        count: usize,
    ) -> Vec<(Origin, (u64, History))> {
        let from = after.map_or(Unbounded, Excluded);
        let versions = lock(&self.versions);
        let histories = versions.histories.range((from, Unbounded));
        let histories = histories.take(count).map(|(origin, history)| {
            let applied = versions.applied.get(*origin);
            (*origin, (applied, history.clone()))
        });
        histories.collect()
    }

    /// Notes a mark that was read from the log while it was being replayed.
    pub(crate) fn replayed_mark(&self, dot: Dot, mark: u64) {
        lock(&self.versions)
            .history(dot.origin)
            .mark(dot.sequence, mark);
    }

    /// Notes the marks of a version that comes next in the log.
    pub(crate) fn replayed_marks(&self, origin: Origin, history: &History) {
        let mut versions = lock(&self.versions);
        versions.arriving.insert(origin, history.clone());
    }

    /// Notes where histories part, read from the log while it was being replayed.
    pub(crate) fn replayed_fork(&self, first: Dot) {
        let mut versions = lock(&self.versions);
        if versions.is_new_fork(first) {
            versions.forks.insert(first.origin, first.sequence);
        }
    }
}

impl Versions {
    /// The histories of the origins of which `version` has more than is here, once it is adopted.
    pub(super) fn adopted_histories(
        &self,
        version: &VersionVector,
        theirs: &Shown,
        me: Origin,
    ) -> BTreeMap<Origin, History> {
        let more = version
            .iter()
            .filter(|(origin, count)| *origin != me && *count > self.applied.get(*origin));
        let adopted = more.map(|(origin, count)| {
            let mut history = self.histories.get(&origin).cloned().unwrap_or_default();
            let unknown = History::unknown();
            let theirs = theirs.get(&origin).map_or(&unknown, |(_, history)| history);
            history.adopt(self.applied.get(origin), theirs, count);
            (origin, history)
        });
        adopted.collect()
    }

    pub(super) fn history(&mut self, origin: Origin) -> &mut History {
        self.histories.entry(origin).or_default()
    }

    fn is_new_fork(&self, first: Dot) -> bool {
        let known = self.forks.get(&first.origin);
        known.is_none_or(|known| first.sequence < *known)
    }
}
