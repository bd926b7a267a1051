//! Tables that are dropped and made again: what a drop may take, and what must not come back.

use std::collections::BTreeMap;

use grapevine_core::operation::{Operation, decode, encode_row, encode_rows_of};
use grapevine_store::collections::Collections;
use grapevine_store::tables::Dropping;

use super::ledger::Ack;
use super::tables::Life;
use super::{Checked, World};
use crate::branch::Branch;
use crate::random::Random;

/// The table that is dropped now and then.
const TABLE: &[u8] = b"switches";

/// What is known of drops.
#[derive(Debug)]
pub(super) struct Drops {
    /// Its own, so that seeds without drops are as they were.
    random: Random,
    /// Whether tables are dropped in this seed.
    happen: bool,
    /// The largest epoch of each table that somebody tried to drop: all rows of it and of those before
    /// may be gone.
    tried: BTreeMap<&'static [u8], u64>,
    /// Where nodes went from one group to another: epochs count within each.
    group: Option<[u8; 16]>,
    several_groups: bool,
    /// Acknowledged drops.
    done: BTreeMap<Life, Vec<Ack>>,
}

impl Default for Drops {
    fn default() -> Self {
        Drops::new(0)
    }
}

impl Drops {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6472_6f70_7300);
        Drops {
            happen: random.one_in(2),
            random,
            tried: BTreeMap::new(),
            group: None,
            several_groups: false,
            done: BTreeMap::new(),
        }
    }

    /// A node is connected to others in this group.
    pub(super) fn in_group(&mut self, group: [u8; 16]) {
        self.several_groups |= *self.group.get_or_insert(group) != group;
    }

    /// Keeps the acknowledgements that `change` does not take back.
    pub(super) fn each(&mut self, change: &mut impl FnMut(&mut Ack) -> bool) {
        for acks in self.done.values_mut() {
            acks.retain_mut(&mut *change);
        }
    }
}

impl World {
    /// Now and then a change of the table that is dropped, or its drop.
    pub(super) fn change_switches(&mut self, node: usize) -> Checked {
        let drops = &mut self.ledger.tables.drops;
        if !drops.happen || !self.nodes[node].is_up() || !drops.random.one_in(4) {
            return Ok(());
        }
        if self.counts_alone(node) {
            return Ok(());
        }
        let drops = &mut self.ledger.tables.drops;
        // What a node dropped alone does not count for its group, and the tables of both would be one.
        let drops = drops.random.one_in(5) && self.collections(node).group().met;
        if drops && !self.rows_are_healing(node) && self.epoch_of(node, TABLE)?.is_some() {
            return self.drop_table(node);
        }
        self.change_table_named(node, TABLE)
    }

    /// Whether a node has left its group, and is not back: its tables' epochs are other ones.
    fn counts_alone(&self, node: usize) -> bool {
        let has_left = self.nodes[node]
            .id()
            .is_some_and(|id| self.operator.gone.contains(&id));
        let group = self.collections(node).group().id;
        has_left
            && self
                .ledger
                .tables
                .drops
                .group
                .is_some_and(|main| main != group)
    }

    fn drop_table(&mut self, node: usize) -> Checked {
        let number = self.epoch_of(node, TABLE)?.unwrap_or_default();
        let tried = self.ledger.tables.drops.tried.entry(TABLE).or_default();
        *tried = number.max(*tried);
        let dropped = self.collections(node).tables().drop_table(TABLE);
        let dropped = dropped.map_err(|error| format!("drop a table: {error}"))?;
        let Dropping::Dropped(position) = dropped else {
            return Err("a table that was there is not dropped".to_owned());
        };
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("drop table of epoch {number} on {node}: {ack:?}"));
        self.hit(Branch::TableDropped);
        if number > 0 {
            self.hit(Branch::TableDroppedAgain);
        }
        let done = &mut self.ledger.tables.drops.done;
        done.entry((TABLE, number)).or_default().push(ack);
        Ok(())
    }

    /// A node that knows of a drop has none of the tables that it ended.
    pub(super) fn check_drops(&self, node: usize, must: impl Fn(&Ack) -> bool) -> Checked {
        if self.ledger.tables.drops.several_groups || self.counts_alone(node) {
            return Ok(());
        }
        for ((name, dropped), acks) in &self.ledger.tables.drops.done {
            let there = self.epoch_of(node, name)?;
            if let Some(ack) = acks.iter().find(|ack| must(ack))
                && there.is_some_and(|there| there <= *dropped)
            {
                return Err(format!(
                    "node {node} has a table of epoch {there:?}, dropped by {ack:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a node has this very table. Where it is `bound` to have what was put there, only a
    /// drop can have taken the table.
    pub(super) fn stands(&self, node: usize, life: Life, bound: bool) -> Result<bool, String> {
        let (name, number) = life;
        let drops = &self.ledger.tables.drops;
        let several = drops.several_groups || self.counts_alone(node);
        if several && drops.tried.contains_key(name) {
            return Ok(false);
        }
        let there = self.epoch_of(node, name)?;
        if there == Some(number) {
            return Ok(true);
        }
        let tried = drops.tried.get(name);
        let dropped = tried.is_some_and(|tried| *tried >= number);
        let later = there.is_none_or(|there| there > number);
        if bound && !(dropped && later) {
            return Err(format!(
                "node {node} has table {} of epoch {there:?}, and must have {number}; dropped: {tried:?}",
                name.escape_ascii()
            ));
        }
        Ok(false)
    }
}

/// An operation whose rows are taken for those of the table that is here now; none: it has no rows.
pub(super) fn of_present_table(collections: &Collections, bytes: &[u8]) -> Option<Vec<u8>> {
    let Ok(Operation::Rows(rows)) = decode(bytes) else {
        return None;
    };
    let present = collections.tables().epoch(rows.name).ok()??;
    let mut again = Vec::new();
    encode_rows_of(&mut again, rows.name, present);
    for row in rows.iter() {
        encode_row(&mut again, row.key, &row.row, row.made_by);
    }
    Some(again)
}
