//! The collections as replication sees them.

mod histories;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grapevine_core::bitmap::{Bitmap, ROWS_MAX};
use grapevine_core::catalogue::{FilterId, validate_name};
use grapevine_core::history::History;
use grapevine_core::membership::{MemberError, MemberRow};
use grapevine_core::operation::{Stream, encode_adopted_version, encode_member};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{
    Applied, Blob, BlockHashes, BlockLines, Cursor, LayerName, LegacyName, Line, Page, PageError,
    Part, Read, Replica, Run, Shown, Source, Unavailable, Wait,
};
use grapevine_core::version::{Dot, VersionVector};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::view::View;
use super::{Collections, EnterError, Hindrance};
use crate::filters::{FilterError, Revisions, SharedRow};
use crate::journal::Found;
use crate::log;
use crate::manifest::Manifest;
use crate::tables::Kept;

use super::divergence::Diverged;

/// The catalogue of filters, with the rights of their layers; its keys are their ids.
const SECTION_FILTERS: u8 = 1;
/// The members of the group; its keys are theirs.
const SECTION_MEMBERS: u8 = 2;
/// The bitmap, on one page: its bits as bytes.
const SECTION_BITMAP: u8 = 3;
/// The rows of all tables; their keys are those of records.
const SECTION_ROWS: u8 = 4;
/// What is known of removed rows, by origin.
const SECTION_KNOWLEDGE: u8 = 5;
/// The tables by name.
const SECTION_TABLES: u8 = 6;
/// Rows that are kept in mind because a copy lacks them; of more the next comparison tells.
const KEPT_MAX: usize = 16_384;
/// The marks in the operations of origins; its keys are those.
const SECTION_HISTORIES: u8 = 7;
/// The floors of tables, by the names of those.
const SECTION_FLOORS: u8 = 8;
/// What a member's row takes beside its body, about.
const MEMBER_OVERHEAD_BYTES: usize = 80;

/// The collections of a node, for its sync machine. One at a time: what it keeps is the version
/// as of the last call.
pub struct Exchange {
    view: View,
    applied: VersionVector,
    durable: VersionVector,
    /// Filters that the pages of a snapshot named so far.
    named: BTreeSet<FilterId>,
    /// What the state that is being compared lacks, and should not.
    kept: Vec<Kept>,
    kept_filters: Vec<FilterId>,
    /// What the pages of histories say that the copy had.
    shown: Shown,
}

impl Exchange {
    /// Over these collections.
    pub fn new(collections: Arc<Collections>) -> Self {
        let mut exchange = Exchange {
            view: View::new(collections),
            applied: VersionVector::default(),
            durable: VersionVector::default(),
            named: BTreeSet::new(),
            kept: Vec::new(),
            kept_filters: Vec::new(),
            shown: Shown::new(),
        };
        exchange.refresh();
        exchange
    }

    /// Looks at the journal again; true if something became durable or was applied since.
    pub fn refresh(&mut self) -> bool {
        let journal = self.view.collections.journal();
        let (applied, durable) = (journal.applied(), journal.durable());
        let moved = applied != self.applied || durable != self.durable;
        (self.applied, self.durable) = (applied, durable);
        moved
    }

    /// The last trouble met since this was asked, in words.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.view.trouble.take()
    }

    fn hinder(&mut self, origin: Origin, hindrance: Hindrance) -> Option<Wait> {
        match hindrance {
            Hindrance::Needs(dot) => Some(Wait::For(dot)),
            Hindrance::Parts(parts) => Some(Wait::Parts(parts)),
            // Tried again: room may be made, a node that takes no writes is restarted.
            Hindrance::Memory(_) | Hindrance::NoFile(_) | Hindrance::ReadOnly(_) => {
                self.view
                    .note(&format_args!("operations of {origin} wait: {hindrance}"));
                None
            }
            Hindrance::Operation(_)
            | Hindrance::Misplaced
            | Hindrance::Member(_)
            | Hindrance::UnknownLayer => {
                self.view.note(&format_args!(
                    "an operation of {origin} is refused: {hindrance}"
                ));
                Some(Wait::Refused)
            }
        }
    }

    fn merge_filters(
        &mut self,
        page: &Page,
        version: &VersionVector,
    ) -> Result<Vec<Part>, PageError> {
        let section = page.section;
        let malformed = PageError::Rows { section, at: 0 };
        let after = key(&page.after).ok_or(malformed)?;
        let up_to = page.next.as_deref().map(key);
        up_to
            .map_or(Some(None), |key| key.map(Some))
            .ok_or(malformed)?;
        let mut rows: Vec<SharedRow> = decode_rows(page)?;
        let named = |shared: &SharedRow| validate_name(&shared.row.name).is_ok();
        if !rows.iter().all(named) {
            return Err(malformed);
        }
        if after.is_none() {
            self.named.clear();
            self.kept.clear();
            self.kept_filters.clear();
        }
        self.named.extend(rows.iter().map(|shared| shared.row.id));
        let filters = self.view.collections.filters();
        filters.keep_known(&mut rows, version);
        let merged = filters.merge_rows(after, &rows);
        merged.map_err(|blocked| {
            self.view.note(&format_args!("a snapshot waits: {blocked}"));
            PageError::Room
        })
    }

    fn merge_members(&mut self, page: &Page) -> Result<Vec<Part>, PageError> {
        let rows: Vec<MemberRow> = decode_rows(page)?;
        for row in rows {
            match self.view.collections.take_over_member(row) {
                Ok(()) => {}
                // There or here one was entered first; neither gives way.
                Err(EnterError::Member(error @ MemberError::TooMany)) => {
                    self.view.note(&error);
                }
                Err(error) => {
                    self.view.note(&error);
                    return Err(PageError::Room);
                }
            }
        }
        Ok(Vec::new())
    }

    fn merge_bitmap(&mut self, page: &Page) -> Result<Vec<Part>, PageError> {
        let malformed = PageError::Rows {
            section: page.section,
            at: 0,
        };
        if !page.after.is_empty() || page.next.is_some() {
            return Err(malformed);
        }
        let theirs = Bitmap::from_bytes(ROWS_MAX, &page.bytes).map_err(|_| malformed)?;
        match self.view.collections.bitmap().take_over(&theirs) {
            Ok(()) => Ok(Vec::new()),
            Err(error) => {
                self.view.note(&error);
                Err(PageError::Room)
            }
        }
    }
}

/// The origin that a page begins or ends with; the outer none: it is not one.
fn origin(bytes: &[u8]) -> Option<Option<Origin>> {
    if bytes.is_empty() {
        return Some(None);
    }
    bytes.try_into().ok().map(|bytes| Some(Origin::new(bytes)))
}

/// The id that a page begins or ends with; the outer none: it is not one.
pub(super) fn key(bytes: &[u8]) -> Option<Option<FilterId>> {
    if bytes.is_empty() {
        return Some(None);
    }
    bytes.try_into().ok().map(|id| Some(FilterId::new(id)))
}

pub(super) fn encode_rows(rows: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(rows).expect("rows are plain data")
}

pub(super) fn decode_rows<T: DeserializeOwned>(page: &Page) -> Result<T, PageError> {
    rmp_serde::from_slice(&page.bytes).map_err(|_| PageError::Rows {
        section: page.section,
        at: 0,
    })
}

impl Collections {
    /// Enters a member's row that came with a snapshot.
    fn take_over_member(&self, row: MemberRow) -> Result<(), EnterError> {
        let mut encoded = Vec::new();
        encode_member(&mut encoded, &row);
        let mut system = self.lock_system();
        if system.members.merge(row)? {
            self.journal
                .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded))?;
            self.tell_filters(&system);
        }
        Ok(())
    }

    /// The revisions that the files of layers have at least, as the manifest on disk says. Where
    /// it cannot be read they are not needed: no start will hold the files against it.
    fn file_revisions(&self) -> Revisions {
        let manifest = Manifest::read(&*self.disk).ok().flatten();
        let revisions = manifest.iter().flat_map(Manifest::file_revisions);
        revisions
            .map(|(filter, layer, revision)| ((filter, layer), revision))
            .collect()
    }

    /// Everything up to `version` has been merged into memory: makes it durable, then says so.
    /// `named` are the filters that the snapshot has: what `version` made beside them was dropped
    /// before, also if the operation that made it came here after its page. Where all of `version`
    /// is in already, no operation is lacking that can have dropped them: they are kept, and given.
    fn adopt(
        &self,
        version: &VersionVector,
        named: &BTreeSet<FilterId>,
        shown: &Shown,
    ) -> Result<Vec<FilterId>, FilterError> {
        let comparing = self.journal.applied().includes(version);
        self.filters.take_over_arrivals()?;
        if !comparing {
            self.filters.drop_unnamed(version, named)?;
        }
        self.filters.drop_unmade(version)?;
        self.filters.take_over_rights()?;
        let revisions = || self.file_revisions();
        let rows_healed = self.tables.heal(version);
        if self.filters.heal(version, revisions)? || rows_healed {
            // Else a restart would hold the new files against the old manifest.
            self.checkpoint_whole(&|| true)?;
        }
        if comparing {
            // What was merged is in the next snapshot of this node; nothing rests on it before.
            self.filters.relay_drops()?;
            self.filters.forget_partial()?;
            return Ok(self.filters.unnamed(version, named));
        }
        if !self.checkpoint_whole(&|| true)? {
            return Err(FilterError::Damaged(
                "a snapshot is taken over once neither a filter nor the rows are damaged".into(),
            ));
        }
        let mut encoded = Vec::new();
        encode_adopted_version(&mut encoded, version);
        self.journal.append_version(version, shown, |entry| {
            entry.extend_from_slice(&encoded);
        })?;
        self.filters.keep_partial();
        self.filters.rename_all();
        self.filters.relay_drops()?;
        self.journal.sync()?;
        Ok(Vec::new())
    }
}

impl Replica for Exchange {
    fn applied(&self) -> &VersionVector {
        &self.applied
    }

    fn durable(&self) -> &VersionVector {
        &self.durable
    }

    fn mark(&self, origin: Origin, count: u64) -> u64 {
        self.view.collections.journal().mark(origin, count)
    }

    fn history(&self, origin: Origin) -> History {
        self.view.collections.journal().history(origin)
    }

    fn shown(&self) -> &Shown {
        &self.shown
    }

    fn read(
        &mut self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes: usize,
    ) -> Read {
        let cursor = cursor.map(|Cursor(entry, frame)| log::Cursor { entry, frame });
        match self.view.collections.journal().read(wanted, cursor, bytes) {
            Ok(Found::Runs { runs, next, end }) => Read::Runs {
                runs: runs
                    .into_iter()
                    .map(|(origin, run)| Run {
                        origin,
                        first: run.first,
                        operations: run.operations,
                    })
                    .collect(),
                next: Cursor(next.entry, next.frame),
                end,
            },
            Ok(Found::Gone) => Read::Gone,
            Err(error) => {
                self.view.note(&error);
                Read::Gone
            }
        }
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        let mut applied = Applied {
            count: 0,
            waits: None,
        };
        for (sequence, operation) in (first..).zip(operations) {
            let dot = Dot { origin, sequence };
            match self.view.collections.apply(dot, operation) {
                Ok(()) => applied.count += 1,
                Err(hindrance) => {
                    applied.waits = self.hinder(origin, hindrance);
                    break;
                }
            }
        }
        let last = first - 1 + applied.count as u64;
        self.applied.advance(origin, last);
        applied
    }

    fn fetched(&mut self, part: Part, waiting: Option<Dot>) {
        self.view.collections.filters().part_fetched(part, waiting);
    }

    fn made(&self, filter: FilterId) -> Option<Dot> {
        self.view.collections.filters().made(filter)
    }

    fn give_up(&mut self, part: Part, waiting: Option<Dot>) {
        self.view.note(&format_args!(
            "bits of filter {} are no longer where they were: it was dropped there",
            part.filter()
        ));
        self.view.collections.filters().part_given_up(part, waiting);
    }

    fn sections(&self) -> &[u8] {
        &[
            // Before anything is concluded from numbers, and with what came in meanwhile.
            SECTION_HISTORIES,
            SECTION_FILTERS,
            SECTION_MEMBERS,
            SECTION_BITMAP,
            SECTION_KNOWLEDGE,
            // Of a table that was dropped no row is there: it is ended here before rows are missed.
            SECTION_TABLES,
            SECTION_ROWS,
            SECTION_FLOORS,
            SECTION_HISTORIES,
        ]
    }

    fn page(&mut self, section: u8, after: &[u8], bytes_max: usize) -> Option<Page> {
        let (next, bytes) = match section {
            SECTION_FILTERS => {
                let filters = self.view.collections.filters();
                let rows = filters.shared_rows(key(after)?, bytes_max);
                let (rows, next) = self.view.show(rows).ok()?;
                (next.map(|id| id.bytes().to_vec()), encode_rows(&rows))
            }
            SECTION_MEMBERS => {
                let members = self.view.collections.members();
                let (mut rows, mut next, mut bytes) = (Vec::new(), None, 0);
                let records = members.records().into_iter();
                for row in records.filter(|row| row.node.bytes()[..] > *after) {
                    if bytes >= bytes_max {
                        next = rows.last().map(|row: &MemberRow| row.node.bytes().to_vec());
                        break;
                    }
                    bytes += row.body.len() + MEMBER_OVERHEAD_BYTES;
                    rows.push(row);
                }
                let rows = self.view.show(Ok(encode_rows(&rows))).ok()?;
                (next, rows)
            }
            SECTION_BITMAP => {
                let bits = self.view.collections.bitmap().hold().to_bytes();
                (None, self.view.show(Ok(bits)).ok()?)
            }
            SECTION_ROWS | SECTION_KNOWLEDGE | SECTION_TABLES | SECTION_FLOORS => {
                self.page_of_tables(section, after, bytes_max)?
            }
            SECTION_HISTORIES => {
                let histories = self.shared_histories(origin(after)?, bytes_max);
                self.view.show(Ok(histories)).ok()?
            }
            _ => return None,
        };
        Some(Page {
            section,
            after: after.to_vec(),
            next,
            bytes,
        })
    }

    fn merge_page(&mut self, page: &Page, source: Source<'_>) -> Result<Vec<Part>, PageError> {
        match page.section {
            SECTION_FILTERS => self.merge_filters(page, source.version),
            SECTION_MEMBERS => self.merge_members(page),
            SECTION_BITMAP => self.merge_bitmap(page),
            SECTION_ROWS | SECTION_KNOWLEDGE | SECTION_TABLES | SECTION_FLOORS => {
                self.merge_tables(page, source)
            }
            SECTION_HISTORIES => self.merge_histories(page, source.version),
            unknown => Err(PageError::Section(unknown)),
        }
    }

    fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        self.view.block_hashes(layer, first, count_max)
    }

    fn block_count(&mut self, layer: LayerName) -> Option<u32> {
        self.view.block_count(layer)
    }

    fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        self.view.differing(layer, first, hashes)
    }

    fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32> {
        self.view.line_hashes(layer, block, salt)
    }

    fn lines(
        &mut self,
        layer: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        self.view.lines(layer, block, salt, hashes)
    }

    fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool {
        self.view.merge_lines(layer, block, lines)
    }

    fn blob(&mut self, legacy: LegacyName, offset: u64, bytes_max: usize) -> Option<Blob> {
        let filters = self.view.collections.filters();
        let piece = filters.foreign_piece(legacy, offset, bytes_max);
        piece.map(|(total, bytes)| Blob { total, bytes })
    }

    fn merge_blob(&mut self, legacy: LegacyName, offset: u64, blob: &Blob) -> Option<u64> {
        let filters = self.view.collections.filters();
        let taken = filters.take_foreign_piece(legacy, offset, &blob.bytes);
        self.view.take(taken)
    }

    fn adopt(&mut self, version: &VersionVector) {
        if std::mem::take(&mut self.view.lacking) {
            return;
        }
        let named = std::mem::take(&mut self.named);
        let shown = std::mem::take(&mut self.shown);
        let collections = Arc::clone(&self.view.collections);
        match collections.adopt(version, &named, &shown) {
            Ok(kept) => self.kept_filters = kept.into_iter().take(KEPT_MAX).collect(),
            Err(error) => {
                self.view
                    .note(&format_args!("taking a snapshot over: {error}"));
            }
        }
        self.refresh();
    }

    fn compared(&mut self, peer: Origin) {
        let collections = Arc::clone(&self.view.collections);
        for id in std::mem::take(&mut self.kept_filters) {
            if let Some(name) = collections.filters().name_of(id) {
                collections.note_divergence(peer, Diverged::Filter(name), 1);
            }
        }
        let kept = std::mem::take(&mut self.kept);
        match collections.tables().write_kept(&kept) {
            Ok(counts) => {
                for (name, count) in counts {
                    collections.note_divergence(peer, Diverged::Table(name), count);
                }
            }
            Err(error) => {
                self.view.note(&error);
            }
        }
        self.refresh();
    }

    fn wants_state(&self) -> bool {
        let collections = &self.view.collections;
        collections.filters().wants_healing() || collections.tables().damage().is_some()
    }

    fn forget_partial(&mut self) {
        self.named.clear();
        self.shown.clear();
        if let Err(error) = self.view.collections.filters().forget_partial() {
            self.view.note(&error);
        }
    }

    fn shortages(&mut self, _now: u64) -> Vec<(FilterId, u64)> {
        self.view.collections.filters().shortages()
    }

    fn grant(&mut self, filter: FilterId, to: Origin, wanted: u64) {
        if let Err(error) = self.view.collections.filters().grant(filter, to, wanted) {
            self.view.note(&error);
        }
    }
}
