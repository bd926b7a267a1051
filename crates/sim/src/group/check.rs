//! What must hold: on every node at any time, and on all of them in the end.

use std::collections::BTreeMap;

use grapevine_core::catalogue::{FilterRow, Scope};
use grapevine_core::filter::Filter;
use grapevine_core::version::VersionVector;
use grapevine_store::collections::Collections;

use super::ledger::Epoch;
use super::workload::{KEYS, key_bytes};
use super::{Checked, World};
use crate::branch::Branch;

impl World {
    /// A node has every key of an operation that it has, and has lost nothing that it
    /// acknowledged itself; no layer holds more than it may.
    pub(super) fn check_node(&mut self, node: usize) -> Checked {
        if let Some(spoken_for) = self.member_spoken_for(node) {
            return Err(spoken_for);
        }
        let collections = self.collections(node);
        let applied = self.applied(node);
        let rows = rows(&collections);
        let mut creators: BTreeMap<_, u32> = BTreeMap::new();
        for row in rows.values() {
            for layer in &row.layers {
                *creators.entry((row.id, layer.shape.id.index)).or_default() += 1;
            }
            if collections
                .filters()
                .get(&row.name)
                .is_some_and(|h| !h.also().is_empty())
            {
                self.outcome.hit(Branch::NamesUnited);
            }
        }
        if creators.values().any(|count| *count > 1) {
            self.hit(Branch::LayersApart);
        }
        let mut musts = Vec::new();
        for (id, epoch) in &self.ledger.epochs {
            let Some(row) = rows.get(id) else {
                let known = epoch.created.is_some_and(|ack| applied.covers(ack.dot));
                if known && !epoch.may_be_dropped {
                    return Err(format!("node {node} has lost filter {id}"));
                }
                continue;
            };
            if self.is_healing(node, *id) {
                continue;
            }
            let filter = filter(&collections, row).map_err(|e| format!("node {node}: {e}"))?;
            // Bits of one that is about to be dropped here may be nowhere any more.
            let kept = epoch.keys.iter().filter(|_| !epoch.may_be_dropped);
            for (key, acks) in kept {
                let must = acks
                    .iter()
                    .any(|ack| ack.binds(node) || applied.covers(ack.dot));
                let has = filter.contains(filter.key(&key_bytes(*key)));
                if must && !has && !self.has_elsewhere(node, &epoch.name, *key)? {
                    return Err(format!(
                        "node {node} has not key {key} of {id}, acknowledged as {acks:?}"
                    ));
                }
                if must {
                    musts.push((*id, *key));
                }
            }
            let life = self.nodes[node].life;
            for (at, of, key) in &epoch.volatile {
                let here = (*at, *of) == (node, life) && !epoch.may_be_dropped;
                if here && !filter.contains(filter.key(&key_bytes(*key))) {
                    return Err(format!("node {node} has forgotten key {key} of {id}"));
                }
            }
            check_filter(&filter, epoch, self.tampering.forks)
                .map_err(|what| format!("node {node}, filter {id}: {what}"))?;
        }
        for (id, key) in musts {
            self.check_answer(node, id, key)?;
        }
        self.check_tables(node, false)?;
        self.check_leases(node, false)?;
        self.check_bits(node, false)
    }

    /// What a node has by the numbers of operations, as far as these say which they are.
    pub(super) fn applied(&self, node: usize) -> VersionVector {
        if self.tampering.ambiguous {
            return VersionVector::default();
        }
        self.collections(node).journal().applied()
    }

    /// What two nodes that stay do not have in common, if anything.
    pub(super) fn difference(&mut self) -> Result<Option<String>, String> {
        let mut first: Option<(usize, String)> = None;
        for node in 0..self.nodes.len() {
            if self.nodes[node].left {
                continue;
            }
            if !self.nodes[node].is_up() {
                return Ok(Some(format!("node {node} is down")));
            }
            let differs = self.member_that_differs(node);
            if let Some(what) = differs.or_else(|| self.member_that_seems_dead(node)) {
                return Ok(Some(what));
            }
            let state = state(&self.collections(node)).map_err(|e| format!("node {node}: {e}"));
            let state = match state {
                Err(damaged) if self.damage.node == Some(node) => return Ok(Some(damaged)),
                state => state?,
            };
            match &first {
                None => first = Some((node, state)),
                Some((_, other)) if *other == state => {}
                Some((other, theirs)) => {
                    let differ = theirs.lines().zip(state.lines()).find(|(a, b)| a != b);
                    return Ok(Some(match differ {
                        Some((a, b)) => {
                            let (kind, a, b) = where_they_part(a, b);
                            format!("{kind}: {other} has …{a}, {node} has …{b}")
                        }
                        None => {
                            let (a, b) = (theirs.lines().count(), state.lines().count());
                            let longer = if a > b { theirs } else { &state };
                            let more = longer.lines().nth(a.min(b)).unwrap_or_default();
                            format!("{other} has {a} lines, {node} {b}: {more}")
                        }
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Everything that was safely acknowledged is on every node.
    pub(super) fn check_end(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            if self.nodes[node].left {
                continue;
            }
            self.note_synced(node);
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].left {
                continue;
            }
            self.check_node(node)?;
            self.check_bits(node, true)?;
            self.check_tables(node, true)?;
            self.check_leases(node, true)?;
            let collections = self.collections(node);
            let rows = rows(&collections);
            for (id, epoch) in &self.ledger.epochs {
                let safely_dropped = epoch.dropped.iter().any(super::ledger::Ack::is_safe);
                if self.tampering.ambiguous {
                    self.check_name(node, epoch)?;
                    continue;
                }
                let Some(row) = rows.get(id) else {
                    let safe = epoch.created.is_some_and(|ack| ack.is_safe());
                    if safe && !epoch.may_be_dropped {
                        return Err(format!("in the end node {node} has no filter {id}"));
                    }
                    continue;
                };
                if safely_dropped {
                    return Err(format!("in the end node {node} has dropped filter {id}"));
                }
                let filter = filter(&collections, row).map_err(|e| format!("node {node}: {e}"))?;
                for (key, acks) in &epoch.keys {
                    let safe = acks.iter().any(super::ledger::Ack::is_safe);
                    if safe && !filter.contains(filter.key(&key_bytes(*key))) {
                        return Err(format!("in the end node {node} has not key {key} of {id}"));
                    }
                }
                for (at, life, key) in &epoch.volatile {
                    let lives = self.nodes[*at].life == *life && !self.nodes[*at].left;
                    if lives && !filter.contains(filter.key(&key_bytes(*key))) {
                        return Err(format!(
                            "in the end node {node} has not key {key} of {id}, kept in memory on {at}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where directories were made anew, what was safe is in filters of the same name.
    fn check_name(&self, node: usize, epoch: &Epoch) -> Checked {
        let name = epoch.name.escape_ascii();
        if self.ledger.dropped_names.contains(&epoch.name) {
            return Ok(());
        }
        let handle = self.collections(node).filters().get(&epoch.name);
        if handle.is_none() && epoch.created.is_some_and(|ack| ack.is_safe()) {
            return Err(format!("in the end node {node} has no filter {name}"));
        }
        for (key, acks) in &epoch.keys {
            let safe = acks.iter().any(super::ledger::Ack::is_safe);
            if safe && !self.has_elsewhere(node, &epoch.name, *key)? {
                return Err(format!(
                    "in the end node {node} has not key {key} of {name}, acknowledged as {acks:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a key is in any filter of that name, if a directory that was made anew may have put
    /// it there.
    fn has_elsewhere(&self, node: usize, name: &[u8], key: u64) -> Result<bool, String> {
        if !self.tampering.ambiguous {
            return Ok(false);
        }
        let collections = self.collections(node);
        for row in rows(&collections).values().filter(|row| row.name == name) {
            let filter = filter(&collections, row)?;
            if filter.contains(filter.key(&key_bytes(key))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a line is about, and the two of them from a little before they part.
fn where_they_part<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str, &'a str) {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(80);
    let part = |line: &'a str| line.get(from..line.len().min(same + 200)).unwrap_or(line);
    let kind = a.get(..a.len().min(50)).unwrap_or(a);
    (kind, part(a), part(b))
}

/// The group's filters of a node.
fn rows(collections: &Collections) -> BTreeMap<grapevine_core::catalogue::FilterId, FilterRow> {
    let rows = collections.filters().rows().into_iter();
    let rows = rows.filter(|row| row.scope == Scope::Group);
    rows.map(|row| (row.id, row)).collect()
}

fn filter(collections: &Collections, row: &FilterRow) -> Result<std::sync::Arc<Filter>, String> {
    let filters = collections.filters();
    let handle = filters.epoch(row.id).ok_or("a row without a filter")?;
    filters.whole(&handle).map_err(|error| error.to_string())
}

/// No layer holds more keys than it may, and none that was never put in.
fn check_filter(filter: &Filter, epoch: &Epoch, forks: u64) -> Checked {
    let carried = forks > 0;
    for layer in filter.layers() {
        // Each history of a directory may have given its rights to others.
        let (inserted, capacity) = (layer.inserted(), layer.shape().capacity * (1 + forks));
        if inserted > capacity {
            return Err(format!(
                "layer {:?} of {capacity} keys holds {inserted}: {:?}",
                layer.id(),
                layer.rights().known()
            ));
        }
    }
    // What was drawn and what is there may part when nodes forget.
    for layer in filter.layers().filter(|_| epoch.in_memory && !carried) {
        let inside = |key: &u64| layer.contains(filter.key(&key_bytes(*key)).hash);
        let (inserted, capacity) = ((0..KEYS).filter(inside).count(), layer.shape().capacity);
        if inserted as u64 > capacity {
            let id = layer.id();
            return Err(format!(
                "layer {id:?} of {capacity} keys has {inserted} in it"
            ));
        }
    }
    // Where keys were carried into a filter, the ledger does not know all that are in it; and two
    // copies of a directory have drawn the same rights.
    for key in (0..KEYS).filter(|_| !carried) {
        if !epoch.attempted.contains(&key) && filter.contains(filter.key(&key_bytes(key))) {
            return Err(format!("key {key} was never put in and is there"));
        }
    }
    Ok(())
}

/// Everything that all nodes must have in common, a line each.
fn state(collections: &Collections) -> Result<String, String> {
    let mut lines = vec![format!("version {:?}", collections.journal().durable())];
    lines.push(format!("members {:?}", collections.members()));
    lines.push(super::bits::line(collections));
    lines.extend(super::tables::lines(collections)?);
    for (id, row) in rows(collections) {
        lines.push(format!("row {row:?}"));
        let filter = filter(collections, &row)?;
        // Not those that wait for an operation whose bits are still being fetched.
        for entered in &row.layers {
            let layer = filter
                .layer(entered.shape.id)
                .ok_or("a row's layer is missing")?;
            let mut words = vec![0; layer.word_count()];
            layer.copy_words(0, &mut words);
            let bits: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
            let hash = words.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, word| {
                (hash ^ word).wrapping_mul(0x0100_0000_01B3)
            });
            lines.push(format!(
                "layer {id} {:?} {bits} bits {hash:016x} {:?}",
                layer.id(),
                layer.rights().known()
            ));
        }
    }
    Ok(lines.join("\n"))
}
