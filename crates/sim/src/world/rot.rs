//! Bits flip in files at rest: it must be found and named, never served.

use grapevine_store::disk::Disk;
use grapevine_store::filters::FilterError;

use super::{Checked, World};
use crate::branch::Branch;
use crate::node;

/// Paths of all files that have bytes.
fn files(disk: &dyn Disk, dir: &str, found: &mut Vec<(String, u64)>) -> std::io::Result<()> {
    for name in disk.list(dir)? {
        let path = if dir.is_empty() {
            name
        } else {
            format!("{dir}/{name}")
        };
        let length = disk
            .open(&path, grapevine_store::disk::OpenMode::Read)
            .and_then(|file| file.len());
        match length {
            Ok(0) => {}
            Ok(length) => found.push((path, length)),
            Err(_) => files(disk, &path, found)?,
        }
    }
    Ok(())
}

impl World {
    /// Flips one bit in one file of a node that ended cleanly, and starts it.
    pub(super) fn rot(&mut self) -> Checked {
        if self.random.one_in(2) {
            self.collections()?
                .checkpoint()
                .map_err(|error| error.to_string())?;
        }
        self.restart_cleanly()?;
        let marked = self.filters()?.journal().mark_synced();
        marked.map_err(|error| error.to_string())?;
        self.collections = None;
        self.disk.kill();
        let mut all = Vec::new();
        files(&self.disk, "", &mut all).map_err(|error| error.to_string())?;
        let Some((path, length)) = self.random.pick(&all).cloned() else {
            return Err("a data directory without files".to_owned());
        };
        let (offset, bit) = (self.random.below(length), self.random.below(8) as u8);
        self.note(format!("rot in {path} at {offset}.{bit}"));
        self.disk
            .flip_bit(&path, offset, bit)
            .map_err(|error| error.to_string())?;
        let entropy = node::entropy(self.plan.seed, &self.drawn);
        let opened = node::open(&self.disk, self.plan.mutation, self.options, entropy);
        let collections = match opened {
            Ok((collections, _)) => collections,
            Err(error) => {
                self.hit(Branch::RotRefused);
                let error = error.to_string();
                self.note(format!("  refused: {error}"));
                return if error.contains(&path) {
                    Ok(())
                } else {
                    Err(format!("rot in {path} is reported as: {error}"))
                };
            }
        };
        self.collections = Some(collections);
        self.check_rotten(&path)
    }

    fn check_rotten(&mut self, path: &str) -> Checked {
        let names: Vec<_> = self.ledger.names().clone().into_iter().collect();
        let mut damaged = false;
        for (name, (_, hidden)) in names {
            let filters = self.filters()?;
            let Some(handle) = filters.get(&name) else {
                if hidden {
                    continue;
                }
                return Err(format!("rot in {path} hides {name:?}"));
            };
            match filters.load(&handle) {
                Err(FilterError::Damaged(reason)) if reason.contains(path) => damaged = true,
                Err(FilterError::Damaged(reason)) => {
                    return Err(format!("rot in {path} is reported as: {reason}"));
                }
                _ => self.check_filter(&handle)?,
            }
        }
        self.hit(if damaged {
            Branch::RotDamaged
        } else {
            Branch::RotHarmless
        });
        Ok(())
    }
}
