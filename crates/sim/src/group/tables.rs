//! Tables of the group: rows set and deleted on any node, and what must come of them.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::table::Row;
use grapevine_core::version::{Dot, VersionVector};
use grapevine_store::collections::Collections;
use grapevine_store::tables::{Deletion, KeyedRow, TableError, Written};

use super::drops::Drops;
use super::ledger::Ack;
use super::{Checked, World};
use crate::branch::Branch;

/// Names of tables.
const TABLES: [&[u8]; 2] = [b"leases", b"services"];
/// Keys of a table are the numbers below this: few, so that they meet.
const KEYS: u64 = 4;
/// A row is read as of this time: none of the workload's expires.
const NOW_MS: u64 = 0;

/// What was done with one key of a table.
#[derive(Debug, Default)]
pub(super) struct KeyHistory {
    /// Acknowledged rows with their versions.
    pub(super) changes: Vec<(Ack, i64)>,
    /// Acknowledged deletions with what the node had seen.
    pub(super) deletions: Vec<(Ack, VersionVector)>,
    /// Versions of all deletions that were tried.
    tried_deletions: Vec<i64>,
    /// Operations that put a value there. A value is set once, but files carry it on.
    put: BTreeMap<Vec<u8>, Vec<Dot>>,
    /// Versions with which values were put there.
    put_versions: BTreeSet<i64>,
}

/// What is known of tables.
#[derive(Debug, Default)]
pub(super) struct TableLedger {
    /// Acknowledged creations.
    pub(super) created: BTreeMap<Life, Vec<Ack>>,
    pub(super) keys: BTreeMap<(Life, Vec<u8>), KeyHistory>,
    pub(super) drops: Drops,
    values: u64,
}

/// One of the tables that had a name: the name, and the number of its epoch.
pub(super) type Life = (&'static [u8], u64);

impl TableLedger {
    pub(super) fn new(seed: u64) -> Self {
        TableLedger {
            drops: Drops::new(seed),
            ..TableLedger::default()
        }
    }

    /// Keeps the acknowledgements that `change` does not take back.
    pub(super) fn each(&mut self, change: &mut impl FnMut(&mut Ack) -> bool) {
        for acks in self.created.values_mut() {
            acks.retain_mut(&mut *change);
        }
        for history in self.keys.values_mut() {
            history.changes.retain_mut(|(ack, _)| change(ack));
            history.deletions.retain_mut(|(ack, _)| change(ack));
        }
        self.drops.each(change);
    }

    /// A value is put there with this version.
    pub(super) fn put(&mut self, name: Life, key: &[u8], value: Vec<u8>, dot: Dot, version: i64) {
        let history = self.key(name, key);
        history.put.entry(value).or_default().push(dot);
        history.put_versions.insert(version);
    }

    fn key(&mut self, name: Life, key: &[u8]) -> &mut KeyHistory {
        self.keys.entry((name, key.to_vec())).or_default()
    }
}

fn rows(collections: &Collections, name: &[u8]) -> Result<Option<Vec<KeyedRow>>, String> {
    let page = collections
        .tables()
        .page(name, b"", usize::MAX, usize::MAX, NOW_MS);
    let page = page.map_err(|error| format!("reading a table: {error}"))?;
    Ok(page.map(|page| page.rows))
}

impl World {
    /// A change of a table.
    pub(super) fn change_table(&mut self, node: usize) -> Checked {
        let name = *self.random.pick(&TABLES).unwrap_or(&TABLES[0]);
        self.change_table_named(node, name)
    }

    /// A change of this table.
    pub(super) fn change_table_named(&mut self, node: usize, name: &'static [u8]) -> Checked {
        if self.rows_are_healing(node) {
            return self.be_refused(node, name);
        }
        if !self.has_table(node, name)? {
            return self.create_table(node, name);
        }
        match self.random.below(10) {
            0..5 => self.set_row(node, name),
            5..9 => self.delete_row(node, name),
            _ => self.merge_rows(node, name),
        }
    }

    /// A row is set, in any case.
    pub(super) fn write_row(&mut self, node: usize) -> Checked {
        let name = TABLES[0];
        if self.rows_are_healing(node) {
            return self.be_refused(node, name);
        }
        if !self.has_table(node, name)? {
            self.create_table(node, name)?;
        }
        self.set_row(node, name)
    }

    fn has_table(&self, node: usize, name: &[u8]) -> Result<bool, String> {
        Ok(self.epoch_of(node, name)?.is_some())
    }

    /// The number of the epoch of a node's table; none: it has no such table.
    pub(super) fn epoch_of(&self, node: usize, name: &[u8]) -> Result<Option<u64>, String> {
        let epoch = self.collections(node).tables().epoch(name);
        let epoch = epoch.map_err(|error| format!("asking for a table: {error}"))?;
        Ok(epoch.map(|epoch| epoch.map_or(0, |epoch| epoch.number)))
    }

    /// The table of that name that a node has.
    fn life(&self, node: usize, name: &'static [u8]) -> Result<Life, String> {
        let number = self.epoch_of(node, name)?;
        Ok((name, number.ok_or("a table that was there is not")?))
    }

    /// A node whose rows are damaged says so, whatever it is asked.
    fn be_refused(&mut self, node: usize, name: &[u8]) -> Checked {
        let collections = self.collections(node);
        let tables = collections.tables();
        let key = self.any_key();
        let answers = [
            tables.get(name, &key, NOW_MS).err(),
            tables.set(name, &key, b"x", None).err(),
            tables.delete(name, &key, NOW_MS).err(),
            tables.page(name, b"", 1, 1, NOW_MS).err(),
            tables.changes(name, 0, 1).err(),
            tables.list().err(),
        ];
        let named = |answer: &Option<TableError>| matches!(answer, Some(TableError::Damaged(_)));
        if !answers.iter().all(named) {
            return Err(format!("node {node} with damaged rows answers {answers:?}"));
        }
        Ok(())
    }

    fn create_table(&mut self, node: usize, name: &'static [u8]) -> Checked {
        let created = self.collections(node).tables().create(name);
        created.map_err(|error| format!("create a table: {error}"))?;
        let position = self.collections(node).journal().appended();
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("create table {} on {node}", name.escape_ascii()));
        let life = self.life(node, name)?;
        let acks = self.ledger.tables.created.entry(life).or_default();
        acks.push(ack);
        Ok(())
    }

    fn any_key(&mut self) -> Vec<u8> {
        format!("key-{}", self.random.below(KEYS)).into_bytes()
    }

    fn own_dot(&self, node: usize) -> Dot {
        let collections = self.collections(node);
        let origin = collections.journal().origin();
        Dot {
            origin,
            sequence: collections.journal().applied().get(origin),
        }
    }

    fn set_row(&mut self, node: usize, name: &'static [u8]) -> Checked {
        let key = self.any_key();
        self.ledger.tables.values += 1;
        let value = format!("value-{}", self.ledger.tables.values).into_bytes();
        let set = self
            .collections(node)
            .tables()
            .set(name, &key, &value, None);
        let written = set.map_err(|error| format!("set a row: {error}"))?;
        let Written::Row { version, position } = written else {
            return Err("a table that was there is not".to_owned());
        };
        let (dot, life) = (self.own_dot(node), self.life(node, name)?);
        self.ledger.tables.put(life, &key, value, dot, version);
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("set row {} {version} on {node}", key.escape_ascii()));
        let history = self.ledger.tables.key(life, &key);
        history.changes.push((ack, version));
        Ok(())
    }

    fn delete_row(&mut self, node: usize, name: &'static [u8]) -> Checked {
        let key = self.any_key();
        let seen = self.collections(node).journal().applied();
        let deleted = self.collections(node).tables().delete(name, &key, NOW_MS);
        let deleted = deleted.map_err(|error| format!("delete a row: {error}"))?;
        let Deletion::Deleted { version, position } = deleted else {
            return Ok(());
        };
        let life = self.life(node, name)?;
        let history = self.ledger.tables.key(life, &key);
        history.tried_deletions.push(version);
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("delete row {} {version} on {node}", key.escape_ascii()));
        self.hit(Branch::RowDeleted);
        let history = self.ledger.tables.key(life, &key);
        history.deletions.push((ack, seen));
        Ok(())
    }

    /// The rows of any node's table are merged on another.
    fn merge_rows(&mut self, node: usize, name: &'static [u8]) -> Checked {
        let from = self.random.below(self.nodes.len() as u64) as usize;
        if !self.nodes[from].is_up() || self.rows_are_healing(from) {
            return Ok(());
        }
        let Some(rows) = rows(&self.collections(from), name)? else {
            return Ok(());
        };
        let before = self.own_dot(node).sequence;
        let merged = self.collections(node).tables().merge(name, rows.clone());
        let merged = merged.map_err(|error| format!("merge rows: {error}"))?;
        let merged = merged.ok_or("a table that was there is not")?;
        let last = self.own_dot(node);
        let life = self.life(node, name)?;
        // Any of the operations may have carried any of the values.
        for (key, row) in rows.iter().filter(|_| last.sequence > before) {
            let history = self.ledger.tables.key(life, key);
            let value = row.values().unwrap_or_default().to_vec();
            history.put.entry(value).or_default().push(last);
            history.put_versions.insert(row.version);
        }
        self.acknowledge(node, merged.position)?;
        self.note(|| format!("merge {merged:?} on {node}"));
        self.hit(Branch::RowsMerged);
        Ok(())
    }

    /// A node has every row of an operation that it has, or a later one of its key. With `all`,
    /// it has those that were safely acknowledged anywhere. Nothing is there that was deleted by
    /// somebody who had seen it.
    pub(super) fn check_tables(&self, node: usize, all: bool) -> Checked {
        if !all && self.rows_are_healing(node) {
            return Ok(());
        }
        let collections = self.collections(node);
        let applied = self.applied(node);
        let must = |ack: &Ack| ack.binds(node) || applied.covers(ack.dot) || (all && ack.is_safe());
        self.check_drops(node, must)?;
        for (life, acks) in &self.ledger.tables.created {
            self.stands(node, *life, acks.iter().any(must))?;
        }
        for ((life, key), history) in &self.ledger.tables.keys {
            let bound = history.changes.iter().any(|(ack, _)| must(ack));
            if !self.stands(node, *life, bound)? {
                continue;
            }
            let (name, _) = life;
            let found = collections.tables().get(name, key, NOW_MS);
            let found = found.map_err(|error| format!("node {node}: {error}"))?;
            let row = found.and_then(|found| found.row);
            let deleted = history.tried_deletions.iter().max().copied();
            let latest = match &row {
                // A directory that was made anew may have one that was deleted with a later one.
                Some(row) if self.tampering.ambiguous => deleted.max(Some(row.version)),
                Some(row) => Some(row.version),
                None => deleted,
            };
            for (ack, version) in history.changes.iter().filter(|(ack, _)| must(ack)) {
                if latest.is_none_or(|latest| latest < *version) {
                    let key = key.escape_ascii();
                    return Err(format!(
                        "node {node} has {row:?} at {key}, version {version} was acknowledged: {ack:?}"
                    ));
                }
            }
            if let Some(row) = row.filter(|_| !self.tampering.ambiguous) {
                check_not_back(node, key, &row, history, must)?;
            }
        }
        Ok(())
    }
}

/// No deletion was made by somebody who had seen all that put this value there. A row with a version
/// that nobody put there was written again above a floor, by a node that met it as a stray: that
/// is one more that put it there, which the deleter had not seen.
fn check_not_back(
    node: usize,
    key: &[u8],
    row: &Row,
    history: &KeyHistory,
    must: impl Fn(&Ack) -> bool,
) -> Checked {
    let key = key.escape_ascii();
    let Some(put) = history.put.get(row.values().unwrap_or_default()) else {
        return Err(format!(
            "node {node} has {row:?} at {key}, which nobody set"
        ));
    };
    if !history.put_versions.contains(&row.version) {
        return Ok(());
    }
    let undone = history
        .deletions
        .iter()
        .find(|(ack, seen)| must(ack) && put.iter().all(|dot| seen.covers(*dot)));
    undone.map_or(Ok(()), |(ack, _)| {
        Err(format!(
            "node {node} has {row:?} at {key}, deleted by {ack:?} after {put:?}"
        ))
    })
}

/// The tables as readers see them, a line each, for a comparison.
pub(super) fn lines(collections: &Collections) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let tables = collections.tables().list();
    for summary in tables.map_err(|error| format!("listing tables: {error}"))? {
        let rows = rows(collections, &summary.table.name)?;
        lines.push(format!("table {:?} {rows:?}", summary.table));
    }
    Ok(lines)
}
