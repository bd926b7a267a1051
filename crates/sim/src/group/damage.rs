//! Files of layers, and of rows, that rot or go missing on one node, while another one has everything
//! that it has: they heal from the others, and nothing that was acknowledged is lost.

use grapevine_core::catalogue::{FilterId, Scope, Storage};
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Disk, OpenMode};
use grapevine_store::tables::ROWS_FILE;

use super::histories::Tampering;
use super::network::Event;
use super::{Checked, Faults, World};
use crate::branch::Branch;
use crate::random::Random;

/// Longest time for which a node with a damaged file is down, in milliseconds.
const DOWN_MAX_MS: u64 = 5000;

/// What is damaged in a seed. It has its own random numbers, so that what it draws changes
/// nothing else.
pub(super) struct Damage {
    random: Random,
    /// Whether files are damaged at all: not where the only healthy copy may be taken back or go,
    /// nor where numbers do not say what another node has.
    allowed: bool,
    /// The node whose file was damaged last.
    pub(super) node: Option<usize>,
    /// That was its file of rows.
    of_rows: bool,
    /// Rows have been missing since, and it was not seen yet that they are whole.
    lacking: bool,
}

impl Damage {
    pub(super) fn new(seed: u64, faults: Faults, tampering: &Tampering) -> Self {
        let mut random = Random::new(seed ^ 0x726f_7474_656e);
        let allowed =
            random.one_in(2) && !faults.restores && !faults.leaves && !tampering.is_enabled();
        Damage {
            random,
            allowed,
            node: None,
            of_rows: false,
            lacking: false,
        }
    }
}

/// Whether a filter is damaged on a node, which looks at all of its files.
fn is_damaged(collections: &Collections, id: FilterId) -> bool {
    let handle = collections.filters().epoch(id);
    handle.is_some_and(|handle| {
        // Why it does not load is what is asked for.
        drop(collections.filters().load(&handle));
        handle.damage().is_some()
    })
}

impl World {
    /// Whether that filter waits on that node for its bits.
    pub(super) fn is_healing(&self, node: usize, id: FilterId) -> bool {
        self.damage.node == Some(node) && is_damaged(&self.collections(node), id)
    }

    /// Whether the rows of a node are damaged.
    pub(super) fn rows_are_healing(&self, node: usize) -> bool {
        self.damage.node == Some(node)
            && self.damage.of_rows
            && self.nodes[node].is_up()
            && self.collections(node).damaged_rows().is_some()
    }

    /// A node whose file of rows was damaged has started, and reads all of it, as nodes do now and then.
    pub(super) fn note_lacking(&mut self, node: usize) {
        if self.damage.node == Some(node) && self.damage.of_rows {
            self.scrub_rows(node);
        }
        if self.rows_are_healing(node) {
            self.damage.lacking = true;
            self.hit(Branch::RowsLacking);
        }
    }

    fn scrub_rows(&self, node: usize) {
        let collections = self.collections(node);
        while let Ok(false) = collections.tables().scrub(&|| true) {}
    }

    /// Rows that are whole again have everything at once.
    pub(super) fn check_healed_rows(&mut self, node: usize) -> Checked {
        let was_lacking = self.damage.lacking && self.damage.node == Some(node);
        if !was_lacking || self.rows_are_healing(node) {
            return Ok(());
        }
        self.damage.lacking = false;
        self.hit(Branch::RowsHealed);
        self.note(|| format!("rows of {node} are whole again"));
        self.check_node(node)
    }

    /// Notes that what was damaged on a node is whole again; false: it is not.
    pub(super) fn note_mended(&mut self, node: usize) -> bool {
        let collections = self.collections(node);
        let mut rows = collections.filters().rows().into_iter();
        let rows_damaged = collections.damaged_rows().is_some();
        if rows_damaged || rows.any(|row| is_damaged(&collections, row.id)) {
            return false;
        }
        if !self.damage.of_rows {
            self.hit(Branch::LayerHealed);
        }
        self.damage.node = None;
        true
    }

    /// Damages a file of a node, if another one has everything that it has.
    pub(super) fn damage_any(&mut self) -> Checked {
        if !self.damage.allowed || self.healed {
            return Ok(());
        }
        // One at a time: what it had before has come back, or comes.
        if let Some(before) = self.damage.node {
            if !self.nodes[before].is_up() {
                return Ok(());
            }
            if !self.note_mended(before) {
                return Ok(());
            }
        }
        let node = self.damage.random.below(self.nodes.len() as u64) as usize;
        // One whose filters do not fit its memory has no room to gather a copy.
        if !self.nodes[node].is_up() || self.nodes[node].bound.is_ever_small() {
            return Ok(());
        }
        self.nodes[node].sync()?;
        self.note_synced(node);
        if let Some(path) = self.file_of(node) {
            self.damage_file(node, &path)?;
        }
        Ok(())
    }

    /// A file of a layer, or of rows, that another node has too.
    fn file_of(&mut self, node: usize) -> Option<String> {
        let collections = self.collections(node);
        let durable = collections.journal().durable();
        let has_all = |other: usize| {
            let running = self.nodes[other].running.as_ref();
            let journal = running.map(|running| running.collections.journal());
            other != node && journal.is_some_and(|journal| journal.durable().includes(&durable))
        };
        let read_only = collections.journal().read_only().is_some();
        if read_only || !(0..self.nodes.len()).any(has_all) {
            return None;
        }
        // Where copies seem to lack rows, those that heal would believe them.
        let hides_rows = self.ledger.clocks.hides_rows();
        let has_rows = self.nodes[node].disk.exists(ROWS_FILE).ok()?;
        if has_rows && !hides_rows && self.damage.random.one_in(2) {
            // Where the log was cut, the rows that it lacks have to come from others.
            self.take_checkpoint(node).ok()?;
            self.note_synced(node);
            let log = self.nodes[node].disk.list("log").ok()?;
            let is_whole = log.contains(&format!("{:020}.log", 0));
            if !is_whole || self.damage.random.one_in(8) {
                return Some(ROWS_FILE.to_owned());
            }
        }
        let mut paths = Vec::new();
        let rows = collections.filters().rows().into_iter();
        for row in rows.filter(|row| row.scope == Scope::Group && row.storage == Storage::Durable) {
            if !collections.journal().covers(row.created) {
                continue;
            }
            let directory = format!("filters/{}", row.id);
            let names = self.nodes[node].disk.list(&directory).ok()?;
            let layers = names.iter().filter(|name| name.ends_with(".layer"));
            paths.extend(layers.map(|name| format!("{directory}/{name}")));
        }
        self.damage.random.pick(&paths).cloned()
    }

    fn damage_file(&mut self, node: usize, path: &str) -> Checked {
        self.stop_now(node)?;
        let disk = &self.nodes[node].disk;
        let random = &mut self.damage.random;
        let mut damage = || -> std::io::Result<()> {
            let file = disk.open(path, OpenMode::ReadWrite)?;
            let length = file.len()?;
            match random.below(4) {
                0 => disk.remove(path),
                1 => file.set_len(0),
                2 => file.set_len(length / 2),
                _ => disk.flip_bit(path, random.below(length), 1),
            }
        };
        damage().map_err(|error| error.to_string())?;
        self.damage.node = Some(node);
        self.damage.of_rows = path == ROWS_FILE;
        self.hit(match self.damage.of_rows {
            true => Branch::RowsDamaged,
            false => Branch::LayerDamaged,
        });
        self.note(|| format!("damage {path} on {node}"));
        let at = self.now + 1 + self.damage.random.below(DOWN_MAX_MS);
        self.nodes[node].start_planned = true;
        self.network.at(at, Event::Start { node });
        Ok(())
    }
}
