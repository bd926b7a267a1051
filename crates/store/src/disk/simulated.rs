//! A disk in memory that forgets like a real one.
//!
//! Each file has *live* bytes (what a read shows), *durable* bytes (what the device holds) and the
//! ordered list of changes between them. A sync applies the list to the durable bytes; a power cut
//! applies only what the [`CrashPlan`] lets through. Names work the same way, per directory.
//!
//! Everything is deterministic: the same calls, seeds and plans give the same bytes.

mod crash;
mod fault;
mod tree;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, OpenMode, check_dir, check_path, parent};
pub use crash::{CrashPlan, NameFate, WriteFate};
pub use fault::Operation;
use fault::{Faults, Outcome};
use tree::{Change, NameChange, Tree};

/// Capacity of a disk that was given none, in bytes.
const UNLIMITED: u64 = u64::MAX;

/// A simulated [`Disk`]. Clones share one state; [`SimulatedDisk::fork`] copies it.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    tree: Tree,
    faults: Faults,
    capacity: u64,
    /// Grows with each crash and kill; handles of an earlier epoch are dead.
    epoch: u64,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Inverts a bit of the file, if it is the one that rots.
    fn rot(&mut self, inode: u64) -> io::Result<()> {
        let Some(path) = self.faults.rotting.clone() else {
            return Ok(());
        };
        let length = self.tree.inode(inode)?.live.len() as u64;
        if length > 0 && self.tree.file(&path).ok() == Some(inode) {
            self.tree.flip_bit(&path, length / 2, 0)?;
        }
        Ok(())
    }
}

impl SimulatedDisk {
    /// An empty disk without a capacity limit.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            tree: Tree::default(),
            faults: Faults::default(),
            capacity: UNLIMITED,
            epoch: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// An independent copy of the present state, its pending faults included.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.lock().clone())),
        }
    }

    /// Writes that would make the live bytes of all files exceed `bytes` fail with
    /// [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// While `none_left`, no file can be opened: the process has no file descriptor left. Those
    /// that are open work.
    pub fn take_descriptors(&self, none_left: bool) {
        self.lock().faults.take_descriptors(none_left);
    }

    /// Makes the `nth` (0 = next) coming operation of this kind fail with `error`. A failed write
    /// leaves half of its bytes; a failed sync leaves what it should have synced clean in memory
    /// and absent from the device, as Linux does.
    pub fn fail_next(&self, operation: Operation, nth: u64, error: io::ErrorKind) {
        self.lock().faults.plan(operation, nth, error);
    }

    /// Cuts the power during changing operation number `nth` (0 = next; see
    /// [`SimulatedDisk::operations`]). That operation is in flight: it returns an error, and its
    /// effect is unsynced. Everything after fails until [`crash`](Self::crash).
    pub fn cut_power_at_operation(&self, nth: u64) {
        self.lock().faults.cut_after_operations(nth);
    }

    /// Like [`cut_power_at_operation`](Self::cut_power_at_operation), counted in syncs (of files
    /// and of directories); that sync takes no effect.
    pub fn cut_power_at_sync(&self, nth: u64) {
        self.lock().faults.cut_after_syncs(nth);
    }

    /// Changing operations so far: everything but reads and queries.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().faults.operations()
    }

    /// Syncs of files and directories so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().faults.syncs()
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.lock().faults.is_down()
    }

    /// The power goes and comes back: what was never synced becomes what `plan` says, the rest
    /// stands. Planned faults are forgotten, older handles are dead.
    pub fn crash(&self, plan: CrashPlan) {
        let mut state = self.lock();
        state.tree.crash(plan);
        state.restart();
    }

    /// The process is killed and started again, the machine stays up: all live bytes survive,
    /// synced or not. Older handles are dead.
    pub fn kill(&self) {
        self.lock().restart();
    }

    /// Bit rot: inverts bit `bit` (0 = lowest) of the byte at `offset`, live and durable.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        self.lock().tree.flip_bit(path, offset, bit)
    }

    /// From now on a bit in the middle of that file is inverted whenever it is synced, live and
    /// durable; of none, no more.
    pub fn rot_when_synced(&self, path: Option<&str>) {
        self.lock().faults.rotting = path.map(str::to_owned);
    }

    /// The live bytes of a file, past all faults: for checkers.
    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        let inode = state.tree.file(path)?;
        Ok(state.tree.inode(inode)?.live.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that failed an assertion elsewhere must not hide its message behind this one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn restart(&mut self) {
        self.faults.restart();
        self.epoch += 1;
    }

    /// Counts a change to names and says what becomes of it; the names change either way unless
    /// the operation fails outright.
    fn change_name(
        &mut self,
        operation: Operation,
        dir: &str,
        change: NameChange,
    ) -> io::Result<()> {
        let outcome = self.faults.begin(operation)?;
        if let Outcome::Fail(kind) = outcome {
            return Err(kind.into());
        }
        self.tree.change_name(dir, change);
        outcome.finish()
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        check_path(path)?;
        let mut state = self.lock();
        state.faults.check_up()?;
        state.faults.check_descriptors()?;
        let found = state.tree.file(path);
        let inode = match (mode, found) {
            (OpenMode::Create, Ok(inode)) => {
                let outcome = state.faults.begin(Operation::SetLen)?;
                if let Outcome::Fail(kind) = outcome {
                    return Err(kind.into());
                }
                state.tree.inode(inode)?.change(Change::SetLen(0));
                outcome.finish()?;
                inode
            }
            (OpenMode::Create, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                state.tree.check_parent(path)?;
                let inode = state.tree.new_inode();
                let change = NameChange::Link {
                    path: path.to_owned(),
                    inode,
                };
                state.change_name(Operation::Create, parent(path), change)?;
                inode
            }
            (_, found) => found?,
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            inode,
            epoch: state.epoch,
            writable,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        check_dir(dir)?;
        let state = self.lock();
        state.faults.check_up()?;
        Ok(state.tree.list(dir))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.faults.check_up()?;
        if state.tree.is_dir(path) {
            return Ok(());
        }
        state.tree.check_parent(path)?;
        if state.tree.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let change = NameChange::MakeDir {
            path: path.to_owned(),
        };
        state.change_name(Operation::CreateDir, parent(path), change)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_path(from)?;
        check_path(to)?;
        if parent(from) != parent(to) {
            // Its durability would hang on two directories; nothing here needs it.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.lock();
        state.faults.check_up()?;
        state.tree.file(from)?;
        let change = NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        state.change_name(Operation::Rename, parent(to), change)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.faults.check_up()?;
        state.tree.file(path)?;
        let change = NameChange::Unlink {
            path: path.to_owned(),
        };
        state.change_name(Operation::Remove, parent(path), change)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut state = self.lock();
        state.faults.check_up()?;
        if !state.tree.is_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !state.tree.list(path).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let change = NameChange::RemoveDir {
            path: path.to_owned(),
        };
        state.change_name(Operation::Remove, parent(path), change)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        check_dir(dir)?;
        let mut state = self.lock();
        state.faults.check_up()?;
        if !state.tree.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match state.faults.begin(Operation::SyncDir)? {
            Outcome::Proceed => state.tree.sync_names(dir),
            // The journal aborts: names that were not durable never will be.
            Outcome::Fail(kind) => {
                state.tree.forget_names(dir);
                return Err(kind.into());
            }
            Outcome::Cut => return Outcome::Cut.finish(),
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        check_dir(path)?;
        let state = self.lock();
        state.faults.check_up()?;
        Ok(state.tree.is_dir(path) || state.tree.file(path).is_ok())
    }

    fn free_space(&self) -> io::Result<u64> {
        let state = self.lock();
        state.faults.check_up()?;
        Ok(state.capacity.saturating_sub(state.tree.used()))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    epoch: u64,
    writable: bool,
}

impl SimulatedFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        state.faults.check_up()?;
        if state.epoch != self.epoch {
            return Err(io::Error::other("handle from before the restart"));
        }
        Ok(state)
    }

    fn writable_state(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable {
            self.state()
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.tree.inode(self.inode)?.live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.faults.begin_read()?;
        let live = &state.tree.inode(self.inode)?.live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = live.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.writable_state()?;
        let outcome = state.faults.begin(Operation::Write)?;
        let mut written = bytes.len();
        let mut result = outcome.finish();
        if let Outcome::Fail(_) = outcome {
            written /= 2;
        } else {
            let len = state.tree.inode(self.inode)?.live.len() as u64;
            let growth = offset
                .saturating_add(bytes.len() as u64)
                .saturating_sub(len);
            if state.tree.used().saturating_add(growth) > state.capacity {
                written /= 2;
                result = Err(io::ErrorKind::StorageFull.into());
            }
        }
        let change = Change::Write {
            offset,
            bytes: bytes[..written].to_vec(),
        };
        state.tree.inode(self.inode)?.change(change);
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable_state()?;
        let outcome = state.faults.begin(Operation::SetLen)?;
        if let Outcome::Fail(kind) = outcome {
            return Err(kind.into());
        }
        state.tree.inode(self.inode)?.change(Change::SetLen(len));
        outcome.finish()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.faults.begin(Operation::Sync)?;
        match outcome {
            Outcome::Proceed => {
                state.tree.inode(self.inode)?.sync();
                state.rot(self.inode)?;
            }
            Outcome::Fail(_) => state.tree.inode(self.inode)?.forget_dirty(),
            Outcome::Cut => {}
        }
        outcome.finish()
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.tree.inode(self.inode)?.reread();
        Ok(())
    }
}
