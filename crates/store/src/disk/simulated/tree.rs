//! Files and names of the simulated disk, live and durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::disk::parent;

/// A change of a file's bytes that is not durable yet.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Change {
    pub(super) fn apply(&self, target: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = index(*offset);
                let end = start.saturating_add(bytes.len());
                if target.len() < end {
                    target.resize(end, 0);
                }
                target[start..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => target.resize(index(*len), 0),
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// One file, whatever names it.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// After a failed sync: still to be read, clean, and never going to reach the device.
    pub(super) fn forget_dirty(&mut self) {
        self.pending.clear();
    }

    /// The live bytes become what the device and the dirty pages hold.
    pub(super) fn reread(&mut self) {
        self.live = self.durable.clone();
        for change in &self.pending {
            change.apply(&mut self.live);
        }
    }
}

/// A change of names in one directory.
#[derive(Clone)]
pub(super) enum NameChange {
    Link { path: String, inode: u64 },
    Unlink { path: String },
    Rename { from: String, to: String },
    MakeDir { path: String },
    RemoveDir { path: String },
}

/// All names at one moment.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<String, u64>,
    pub(super) dirs: BTreeSet<String>,
}

impl Names {
    pub(super) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Link { path, inode } => {
                self.files.insert(path.clone(), *inode);
            }
            NameChange::Unlink { path } => {
                self.files.remove(path);
            }
            NameChange::Rename { from, to } => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
            }
            NameChange::MakeDir { path } => {
                self.dirs.insert(path.clone());
            }
            NameChange::RemoveDir { path } => {
                self.dirs.remove(path);
            }
        }
    }

    pub(super) fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }
}

/// The whole content of the disk.
#[derive(Clone, Default)]
pub(super) struct Tree {
    pub(super) live: Names,
    pub(super) durable: Names,
    /// Per directory, in order.
    pub(super) pending: BTreeMap<String, Vec<NameChange>>,
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
}

impl Tree {
    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        if self.live.dirs.contains(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.live
            .files
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&inode)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.next_inode
    }

    pub(super) fn is_dir(&self, path: &str) -> bool {
        self.live.has_dir(path)
    }

    pub(super) fn check_parent(&self, path: &str) -> io::Result<()> {
        if self.is_dir(parent(path)) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let paths = self.live.files.keys().chain(&self.live.dirs);
        let inside = paths.filter(|path| parent(path) == dir);
        let mut names: Vec<String> = inside
            .map(|path| {
                path.rsplit_once('/')
                    .map_or(path.as_str(), |(_, name)| name)
                    .to_owned()
            })
            .collect();
        names.sort_unstable();
        names
    }

    pub(super) fn used(&self) -> u64 {
        let len = |inode: &u64| {
            self.inodes
                .get(inode)
                .map_or(0, |file| file.live.len() as u64)
        };
        self.live.files.values().map(len).sum()
    }

    pub(super) fn change_name(&mut self, dir: &str, change: NameChange) {
        self.live.apply(&change);
        self.pending.entry(dir.to_owned()).or_default().push(change);
    }

    pub(super) fn sync_names(&mut self, dir: &str) {
        for change in self.pending.remove(dir).unwrap_or_default() {
            self.durable.apply(&change);
        }
    }

    pub(super) fn forget_names(&mut self, dir: &str) {
        self.pending.remove(dir);
    }

    pub(super) fn flip_bit(&mut self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        let inode = self.file(path)?;
        let inode = self.inode(inode)?;
        let mask = 1u8
            .checked_shl(u32::from(bit))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let at = index(offset);
        *inode.live.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= mask;
        }
        Ok(())
    }
}
