//! Making a data directory anew whose operations are not what others have under their numbers.
//!
//! Such a directory cannot go on with what it has: of the numbers from the fork on it would claim
//! to have the others' operations, which it would never fetch, and its own would never be sent.
//! So a new directory begins that has no operations but knows its group, and what only the old one
//! may have becomes operations of the new one's own: rows and bits as they are; keys, by their
//! hashes, in filters beside those of the group, so that no layer is ever filled beyond what it was
//! made for. Everything else comes from the group again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow, Scope, Storage};
use grapevine_core::hash::KeyHash;
use grapevine_core::operation::{CatalogueChange, Operation, decode};
use grapevine_core::origin::Origin;
use grapevine_core::version::Dot;

use super::replacing::LostMember;
use super::{Opened, Restored};
use crate::backup::{BackupError, Copied};
use crate::collections::{Collections, begin};
use crate::disk::Disk;
use crate::filters::{Entropy, FilterError, Handle, Options};
use crate::identity::Identity;
use crate::journal::Found;

/// Bytes of operations read from the old log at a time.
const READ_BYTES: usize = 4 << 20;

/// From which number on what is there of an origin may be nowhere else.
type Firsts = BTreeMap<Origin, u64>;

/// What the old directory's log says of filters.
enum Changes {
    /// Every change is in it: these filters got bits that never were operations.
    Known(BTreeSet<FilterId>),
    /// It does not reach back far enough.
    Unknown,
}

/// Makes a data directory on the empty disk `new` from the one on `old`, a copy that nobody uses
/// and of which it is known where its history parts from that of others.
///
/// # Errors
/// When the old directory cannot be opened, a filter in it is damaged, or a disk refuses.
pub fn renew_apart(
    old: Arc<dyn Disk>,
    new: Arc<dyn Disk>,
    copied: Copied,
    options: Options,
    entropy: Entropy,
) -> Result<Restored, BackupError> {
    let opened = Opened::new(old, options, &entropy)?;
    carry_over(opened, new, copied, options, entropy)
}

/// The same from a directory that is open.
pub(super) fn carry_over(
    old: Opened,
    new: Arc<dyn Disk>,
    copied: Copied,
    options: Options,
    entropy: Entropy,
) -> Result<Restored, BackupError> {
    let Opened {
        collections: old,
        recovered,
    } = old;
    old.journal().sync()?;
    let before = *old.filters().identity();
    let identity = Identity {
        seed: before.seed,
        ..Identity::random(&*entropy)
    };
    begin(&new, options.log, &identity)?;
    let (new, _) = Collections::open(new, options, entropy)?;
    new.join(old.group())?;
    for row in old.members().rows() {
        new.enter_member(row.clone())?;
    }
    let firsts = old.journal().forks();
    old.tables().carry(new.tables(), &firsts)?;
    let bits: Vec<u16> = old.bitmap().bits().iter().collect();
    new.bitmap().set(&bits)?;
    carry_filters(&old, &new, &firsts)?;
    new.checkpoint()?;
    new.journal().sync()?;
    Ok(Restored {
        copied,
        recovered,
        before: before.origin,
        now: identity.origin,
        operations: old.journal().applied().get(before.origin),
        filters: new.filters().rows().len(),
        member: LostMember::of(&old, before.origin),
    })
}

fn carry_filters(old: &Collections, new: &Collections, firsts: &Firsts) -> Result<(), BackupError> {
    let is_apart = |dot: &Dot| {
        let first = firsts.get(&dot.origin);
        first.is_some_and(|first| dot.sequence >= *first)
    };
    let rows = old.filters().rows();
    let own = |row: &FilterRow| row.scope == Scope::Local || is_apart(&row.created);
    let (made, known): (Vec<FilterRow>, Vec<FilterRow>) = rows.into_iter().partition(own);
    let mut whole: BTreeSet<FilterId> = made.iter().map(|row| row.id).collect();
    let known: BTreeMap<FilterId, FilterRow> = known.into_iter().map(|row| (row.id, row)).collect();
    match look_at_log(old, firsts)? {
        Changes::Known(with_bits) => {
            whole.extend(with_bits);
            let mut beside = BTreeMap::new();
            visit_operations(old, firsts, |operation| {
                let Operation::Insert(insert) = operation else {
                    return Ok(());
                };
                match known.get(&insert.spent.filter) {
                    Some(row) if row.storage == Storage::Durable && !whole.contains(&row.id) => {
                        carry_keys(new, &mut beside, row, insert.hashes().collect())
                    }
                    _ => Ok(()),
                }
            })?;
        }
        Changes::Unknown => whole.extend(known.keys().copied()),
    }
    for row in made.iter().chain(known.values()) {
        if !whole.contains(&row.id) {
            continue;
        }
        if row.storage == Storage::Memory {
            if own(row) {
                new.filters().carry_empty(row)?;
            }
            continue;
        }
        let handle = old.filters().epoch(row.id).ok_or(FilterError::NotFound)?;
        let mut exported = Vec::new();
        let written = old.filters().export(&handle, &mut exported)?;
        written.map_err(|source| BackupError::Io {
            path: crate::filters::FILTERS_DIR.to_owned(),
            source,
        })?;
        new.filters().carry_whole(row, &mut &exported[..])?;
    }
    Ok(())
}

/// Visits the operations from `firsts` on that the old log has; false: it does not reach back to
/// all of them.
fn visit_operations(
    old: &Collections,
    firsts: &Firsts,
    mut visit: impl FnMut(&Operation<'_>) -> Result<(), FilterError>,
) -> Result<bool, BackupError> {
    let applied = old.journal().applied();
    let mut wanted = firsts.clone();
    wanted.retain(|origin, first| applied.get(*origin) >= *first);
    let mut place = None;
    while !wanted.is_empty() {
        let found = old.journal().read(&wanted, place, READ_BYTES)?;
        let Found::Runs { runs, next, end } = found else {
            return Ok(false);
        };
        for (origin, run) in runs {
            for bytes in &run.operations {
                // What is in the log was decoded when it was recovered.
                if let Ok(operation) = decode(bytes) {
                    visit(&operation)?;
                }
            }
            wanted.insert(origin, run.first + run.operations.len() as u64);
        }
        if end {
            break;
        }
        place = Some(next);
    }
    Ok(true)
}

fn look_at_log(old: &Collections, firsts: &Firsts) -> Result<Changes, BackupError> {
    let mut with_bits = BTreeSet::new();
    let whole = visit_operations(old, firsts, |operation| {
        if let Operation::Catalogue(CatalogueChange::AdoptLayer(epoch, ..)) = operation {
            with_bits.insert(epoch.filter);
        }
        Ok(())
    })?;
    Ok(if whole {
        Changes::Known(with_bits)
    } else {
        Changes::Unknown
    })
}

/// Puts keys of the filter of `row` into the one `beside` it, which is made when the first comes,
/// and another one where that is full: what several histories filled may be more than one may hold.
fn carry_keys(
    new: &Collections,
    beside: &mut BTreeMap<FilterId, Arc<Handle>>,
    row: &FilterRow,
    hashes: Vec<KeyHash>,
) -> Result<(), FilterError> {
    let filters = new.filters();
    let mut left = match beside.get(&row.id) {
        Some(handle) => filters.carry_keys(handle, hashes)?,
        None => hashes,
    };
    while !left.is_empty() {
        let handle = filters.carry_empty(row)?;
        left = filters.carry_keys(&handle, left)?;
        beside.insert(row.id, handle);
    }
    Ok(())
}
