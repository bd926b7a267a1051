//! Operations of other origins, as peers send them.

use std::sync::Arc;

use grapevine_core::membership::MemberError;
use grapevine_core::operation::{CatalogueChange, Insert, Operation, OperationError, decode};
use grapevine_core::sync::Part;
use grapevine_core::version::Dot;

use super::Collections;
use crate::filters::{Blocked, OverBound};
use crate::journal::ReadOnly;

/// Why an operation was not taken in. Nothing was changed; the ones after it have to wait too.
#[derive(Debug, thiserror::Error)]
pub enum Hindrance {
    /// It rests on an operation that is not in yet, or on what that did.
    #[error("it rests on operation {} of {}, which is not here yet", .0.sequence, .0.origin)]
    Needs(Dot),
    /// Its bytes make no operation that this version knows.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// It is no operation that a node may send to another, or says another dot than its own.
    #[error("it is none that a node sends to others")]
    Misplaced,
    /// A row of a member in it cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Its bits never were operations: they are to be fetched first.
    #[error("bits of {} layers are to be fetched first", .0.len())]
    Parts(Vec<Part>),
    /// It names a layer that was never opened.
    #[error("it changes a layer that was never opened")]
    UnknownLayer,
    /// Its filter was unloaded again and again before it could be changed.
    #[error(transparent)]
    Memory(#[from] OverBound),
    /// No file can be opened for the moment.
    #[error("no file can be opened now: {0}")]
    NoFile(Arc<str>),
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

impl From<Blocked> for Hindrance {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Memory(over) => Hindrance::Memory(over),
            Blocked::UnknownLayer => Hindrance::UnknownLayer,
            Blocked::Parts(parts) => Hindrance::Parts(parts),
            Blocked::NoFile(reason) => Hindrance::NoFile(reason),
            Blocked::ReadOnly(error) => Hindrance::ReadOnly(error),
        }
    }
}

impl Collections {
    /// Takes in the operation `dot` of another origin, the next one of it.
    pub fn apply(&self, dot: Dot, bytes: &[u8]) -> Result<(), Hindrance> {
        let operation = decode(bytes)?;
        match self.apply_decoded(dot, bytes, &operation) {
            // What opened it is in, of another history.
            Err(Hindrance::UnknownLayer) if let Some(needed) = operation.needs() => {
                Err(Hindrance::Needs(needed))
            }
            applied => applied,
        }
    }

    fn apply_decoded(
        &self,
        dot: Dot,
        bytes: &[u8],
        operation: &Operation<'_>,
    ) -> Result<(), Hindrance> {
        if !operation.is_for_all() || dot.origin == self.journal.origin() {
            return Err(Hindrance::Misplaced);
        }
        if let Some(needed) = self.lacks(operation) {
            return Err(Hindrance::Needs(needed));
        }
        let mut append = || self.journal.append_foreign(dot, bytes);
        match operation {
            Operation::Insert(insert) => {
                self.filters.apply_insert(dot.origin, insert, &mut append)?;
            }
            Operation::Draw(drawn) => {
                self.filters.apply_draw(dot.origin, drawn, &mut append)?;
            }
            Operation::Grant(grant) => self.filters.apply_grant(dot.origin, grant, &mut append)?,
            Operation::Catalogue(change) => {
                if !says_its_dot(change, dot) {
                    return Err(Hindrance::Misplaced);
                }
                match change {
                    CatalogueChange::Import(row, rights) => {
                        self.filters.apply_import(dot, row, rights, &mut append)?;
                    }
                    CatalogueChange::AdoptLayer(epoch, layer, rights) => {
                        self.filters
                            .apply_adopted(dot, *epoch, *layer, rights, &mut append)?;
                    }
                    change => self.filters.apply_change(change, &mut append)?,
                }
                if let CatalogueChange::Create(row) | CatalogueChange::Import(row, _) = change {
                    self.filters.confirm(row.id);
                }
                self.filters.relay_drops()?;
            }
            Operation::Member(row) => {
                let mut system = self.lock_system();
                match system.members.merge(row.clone()) {
                    // Its origin is followed all the same, and it hears that it is not let in.
                    Ok(_) | Err(MemberError::TooMany) => {}
                    Err(error) => return Err(error.into()),
                }
                append()?;
                self.tell_filters(&system);
            }
            Operation::Bits(bits) => self.bitmap.apply(*bits, append)?,
            Operation::Table(row) => self.tables.apply_table(row, append)?,
            Operation::DropTable(dropped) => self.tables.apply_drop(dropped, append)?,
            Operation::Rows(rows) => self.tables.apply_rows(dot, rows, append)?,
            Operation::Mark(mark) => {
                self.journal.append_foreign_mark(dot, bytes, Some(*mark))?;
            }
            Operation::Group(_)
            | Operation::AdoptVersion(_)
            | Operation::Marks(..)
            | Operation::Fork(_) => {
                return Err(Hindrance::Misplaced);
            }
        }
        Ok(())
    }

    /// The operation that an operation rests on, if what that one made is not here.
    pub(super) fn lacks(&self, operation: &Operation<'_>) -> Option<Dot> {
        let needed = operation.needs()?;
        match operation {
            Operation::Insert(Insert { spent, .. }) | Operation::Draw(spent) => {
                self.filters.lacking(spent.filter, spent.layer, needed)
            }
            Operation::Grant(grant) => self.filters.lacking(grant.filter, grant.layer, needed),
            _ => (!self.journal.covers(needed)).then_some(needed),
        }
    }
}

/// Whether what a change makes names the operation that makes it.
fn says_its_dot(change: &CatalogueChange, dot: Dot) -> bool {
    match change {
        CatalogueChange::Create(row) | CatalogueChange::Import(row, _) => {
            row.created == dot && row.scope == grapevine_core::catalogue::Scope::Group
        }
        CatalogueChange::OpenLayer(_, layer) => layer.opened == dot,
        _ => true,
    }
}
