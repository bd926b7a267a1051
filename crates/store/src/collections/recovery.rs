//! Opening a data directory: the snapshot, then the log's tail over it.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use grapevine_core::catalogue::Catalogue;
use grapevine_core::membership::{GroupIdentity, MemberError, MemberRow, Members};
use grapevine_core::operation::{EntryHeader, Operation, decode};

use super::creation::read_or_make;
use super::rows::{is_of_a_state, is_of_tables, open_tables};
use super::{Collections, GroupBitmap, OpenError, System, lineage};
use crate::disk::Disk;
use crate::filters::{Blocked, Entropy, FILTERS_DIR, Filters, Options};
use crate::journal::{Journal, LOG_DIR};
use crate::log::{Cut, Log, Position};
use crate::manifest::{Manifest, ManifestError};
use crate::tables::{Extent, LostRows, RowsMemory};

/// What opening a data directory found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The directory was empty and is now a data directory.
    pub created: bool,
    /// Operations replayed from the log.
    pub operations: u64,
    /// Keys in them.
    pub keys: u64,
    /// Rows of tables in them.
    pub rows: u64,
    /// What was cut off the log's end because it had not been written whole.
    pub cut: Option<Cut>,
    /// Filters that cannot be used because a file of theirs is corrupt, with the reason.
    pub damaged: Vec<(Vec<u8>, Arc<str>)>,
    /// The file of rows was not what it was.
    pub lost_rows: Option<LostRows>,
    /// It was as of this position of the log, earlier than the manifest says, and the log had the rest.
    pub older_rows: Option<Position>,
    /// What is wrong with the newest manifest: recovery went on from the one before.
    pub lost_manifest: Option<Arc<str>>,
}

impl Collections {
    /// Opens the data directory on `disk`, making one if it is empty. Whoever calls holds its
    /// lock.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        entropy: Entropy,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_within(disk, options, RowsMemory::default(), entropy)
    }

    /// The same with bounds on the memory of tables.
    pub fn open_within(
        disk: Arc<dyn Disk>,
        options: Options,
        rows: RowsMemory,
        entropy: Entropy,
    ) -> Result<(Self, Recovered), OpenError> {
        let mut config = options.log;
        let (salt, mark) = halves(entropy());
        config.salt = salt;
        let begun = read_or_make(&disk, config, &entropy)?;
        let (identity, manifest) = (begun.identity, begun.manifest);
        Filters::make_directory(&*disk).map_err(of_filters)?;
        let (id, position) = (identity.origin.bytes(), manifest.position());
        let lost_manifest = begun.lost.as_ref().map(|error| error.to_string().into());
        let opened = Log::open(Arc::clone(&disk), LOG_DIR, id, config, position);
        // Where the log does not go back to it, the manifest before is of no use.
        let (log, report) = opened.map_err(|error| begun.lost.unwrap_or(error.into()))?;
        let before = begun.before.as_ref();
        let before = before.filter(|one| one.position() >= log.start());
        let revisions: Vec<_> = manifest.file_revisions().collect();
        let group = manifest.group.unwrap_or_else(|| GroupIdentity {
            id: entropy(),
            seed: identity.seed,
            met: false,
        });
        let members = members_of(manifest.members, group.id, position)?;
        let journal = Arc::new(Journal::new(log, identity.origin, manifest.bookmark, mark));
        let bitmap = GroupBitmap::new(Arc::clone(&journal), &manifest.bitmap)
            .map_err(ManifestError::from)?;
        let hidden = manifest.hidden.into_iter().map(|name| name.into_vec());
        let expected = manifest.tables;
        let lineage = lineage(&group, identity.origin);
        let extent = Extent::of(expected, before);
        let (tables, lost_rows) = open_tables(&disk, &journal, &entropy, rows, (extent, lineage))?;
        let filters = Filters::new(
            Arc::clone(&disk),
            identity,
            options,
            entropy,
            Arc::clone(&journal),
            Catalogue::from_rows(manifest.rows, hidden),
        );
        filters.refuse_older(revisions.into_iter());
        let in_file = tables.in_file();
        let collections = Collections {
            disk,
            options,
            journal,
            filters,
            system: Mutex::new(System { group, members }),
            bitmap,
            tables,
            checkpointing: Mutex::new(()),
            unreadable: Mutex::new(None),
            snapshot_position: AtomicU64::new(position),
            tried: AtomicU64::new(position),
            keep_from: AtomicU64::new(Position::MAX),
            diverged: Mutex::default(),
        };
        let mut recovered = Recovered {
            created: begun.created,
            cut: report.cut,
            lost_rows,
            lost_manifest,
            ..Recovered::default()
        };
        if let Some(before) = before {
            collections.replay_older_rows(before, expected, position, &mut recovered)?;
        }
        collections.replay_all(position, in_file, expected, &mut recovered)?;
        collections.settle_replayed(before.filter(|_| recovered.lost_manifest.is_some()))?;
        recovered.damaged = collections.filters.damaged();
        Ok((collections, recovered))
    }

    /// What follows from the whole of what was replayed. A manifest that took the place of a lost one is
    /// given.
    fn settle_replayed(&self, in_place: Option<&Manifest>) -> Result<(), OpenError> {
        self.tell_filters(&self.lock_system());
        self.filters.rename_all();
        // A node that has left its group is on its own, and has what others made.
        let applied = self.journal.applied();
        let alone = {
            let system = self.lock_system();
            let only_its_own = applied
                .iter()
                .all(|(origin, _)| origin == self.journal.origin());
            !system.group.met && system.members.joined().count() <= 1 && only_its_own
        };
        let begun = self.filters.begin_again(alone);
        begun.map_err(|error| of_filters(std::io::Error::other(error)))?;
        // Files are removed once what dropped them is durable.
        if self.journal.read_only().is_none() {
            self.journal.sync()?;
            self.filters.remove_orphans().map_err(of_filters)?;
        }
        self.settle_lost_rows();
        if let (Some(manifest), None) = (in_place, self.journal.read_only())
            && let Err(error) = manifest.write(&*self.disk)
        {
            drop(self.journal.fail(|| error.to_string()));
        }
        Ok(())
    }

    /// Replays the journal from the snapshot's position on, and of rows that are lost all of it.
    fn replay_all(
        &self,
        from: Position,
        in_file: Position,
        expected: Position,
        recovered: &mut Recovered,
    ) -> Result<(), OpenError> {
        // Without a file before the snapshot there was no table before it.
        let whole_log = self.replay_lost_rows(from)? || expected == 0;
        self.replay(from, in_file, recovered)?;
        let applied = self.journal.applied();
        let rebuilt = self.tables.replayed(applied, whole_log, expected);
        if let Some(lost) = &mut recovered.lost_rows {
            lost.rebuilt = rebuilt;
        }
        Ok(())
    }

    /// Replays the journal. The tables have everything up to `in_file`.
    fn replay(
        &self,
        from: Position,
        in_file: Position,
        recovered: &mut Recovered,
    ) -> Result<(), OpenError> {
        let mut failure = None;
        self.journal.log().read_from(from, |position, entry| {
            match self.replay_entry(position, in_file, entry, recovered) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn replay_entry(
        &self,
        position: Position,
        in_file: Position,
        entry: &[u8],
        recovered: &mut Recovered,
    ) -> Result<(), OpenError> {
        let wrong = |source| OpenError::Operation { position, source };
        let (header, bytes) = EntryHeader::decode(entry).map_err(wrong)?;
        let operation = decode(bytes).map_err(wrong)?;
        recovered.operations += 1;
        if is_of_a_state(&header, &operation) {
            self.tables.replayed_of_a_state();
        }
        if let Operation::Insert(insert) = &operation {
            recovered.keys += insert.hashes().len() as u64;
        }
        let of_tables = is_of_tables(&operation);
        // An append gives the end of its entry, and so do rows say when they changed.
        let end = position + (crate::log::frame::ENTRY_PREFIX_LEN + entry.len()) as Position;
        if of_tables && end <= in_file {
            self.journal.replayed(&header, end);
            return Ok(());
        }
        if let Operation::Rows(rows) = &operation {
            recovered.rows += rows.count() as u64;
        }
        self.replay_operation(position, end, &header, &operation)?;
        self.journal.replayed(&header, end);
        Ok(())
    }

    pub(super) fn replay_operation(
        &self,
        position: Position,
        end: Position,
        header: &EntryHeader,
        operation: &Operation<'_>,
    ) -> Result<(), OpenError> {
        let origin = header.dot.origin;
        let mut there = || Ok(end);
        let effected = match operation {
            Operation::Insert(insert) => self.filters.apply_insert(origin, insert, &mut there),
            Operation::Draw(drawn) => self.filters.apply_draw(origin, drawn, &mut there),
            Operation::Grant(grant) => self.filters.apply_grant(origin, grant, &mut there),
            Operation::Catalogue(change) => self.filters.replay_change(change, &mut there),
            Operation::Member(row) => {
                match self.lock_system().members.merge(row.clone()) {
                    // It was not entered when it came either.
                    Ok(_) | Err(MemberError::TooMany) => Ok(()),
                    Err(source) => return Err(OpenError::Member { position, source }),
                }
            }
            Operation::Group(group) => {
                self.lock_system().belong_to(*group);
                Ok(self.replay_lineage(group)?)
            }
            Operation::Mark(mark) => {
                self.journal.replayed_mark(header.dot, *mark);
                Ok(())
            }
            Operation::Marks(origin, history) => {
                self.journal.replayed_marks(*origin, history);
                Ok(())
            }
            Operation::Fork(first) => {
                self.journal.replayed_fork(*first);
                Ok(())
            }
            Operation::AdoptVersion(version) => {
                self.journal.replayed_version(version);
                Ok(())
            }
            Operation::Bits(bits) => Ok(self.bitmap.apply(*bits, there)?),
            Operation::Table(row) => Ok(self.tables.apply_table(row, there)?),
            Operation::DropTable(dropped) => Ok(self.tables.replay_drop(dropped, end)?),
            Operation::Rows(rows) => Ok(self.tables.replay_rows(header.dot, rows, end)?),
        };
        effected.map_err(|blocked| match blocked {
            Blocked::Memory(over) => OpenError::Memory(over),
            Blocked::UnknownLayer | Blocked::Parts(_) => OpenError::UnknownLayer { position },
            Blocked::NoFile(reason) => OpenError::Io {
                path: FILTERS_DIR.to_owned(),
                source: std::io::Error::other(reason.to_string()),
            },
            Blocked::ReadOnly(error) => OpenError::ReadOnly(error),
        })
    }
}

fn members_of(
    rows: Vec<MemberRow>,
    group: [u8; 16],
    position: Position,
) -> Result<Members, OpenError> {
    let mut members = Members::new(group);
    for row in rows {
        let merged = members.merge(row);
        merged.map_err(|source| OpenError::Member { position, source })?;
    }
    Ok(members)
}

/// What follows from 16 random bytes: a salt, and a mark, of which 0 would be none.
fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let number = |from: usize| {
        let bytes = bytes[from..from + 8].try_into();
        u64::from_le_bytes(bytes.expect("eight bytes"))
    };
    (number(0), number(8).max(1))
}

fn of_filters(source: std::io::Error) -> OpenError {
    OpenError::Io {
        path: FILTERS_DIR.to_owned(),
        source,
    }
}
