//! The process ends, in every way, and comes back.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use grapevine_core::catalogue::FilterId;
use grapevine_store::collections::{OpenError, Recovered};
use grapevine_store::disk::Operation;

use super::{Checked, World};
use crate::branch::Branch;
use crate::node;

/// Starts that may be cut short one after the other.
const STARTS_MAX: usize = 6;

impl World {
    /// Opens the directory; the power may go meanwhile.
    pub(super) fn start(&mut self) -> Checked {
        for _ in 0..STARTS_MAX {
            match self.open() {
                // What cannot be read without power is damaged until the next start.
                Ok(recovered) if !recovered.damaged.is_empty() && self.disk.is_down() => {
                    self.note(format!("  the power went: {recovered:?}"));
                    self.hit(Branch::CutInRecovery);
                    self.collections = None;
                    self.crash_disk();
                }
                Ok(recovered) => {
                    self.note(format!("  opened: {recovered:?}"));
                    if recovered.cut.is_some() {
                        self.hit(Branch::TornTail);
                    }
                    if recovered.operations > 0 {
                        self.hit(Branch::Replay);
                    }
                    return match recovered.damaged.first() {
                        Some((_, reason)) if self.fault != Some(Operation::Read) => {
                            Err(format!("damaged after a restart: {reason}"))
                        }
                        _ => Ok(()),
                    };
                }
                Err(_) if self.disk.is_down() => {
                    self.hit(Branch::CutInRecovery);
                    self.crash_disk();
                }
                Err(error) if self.fault.take().is_some() => {
                    self.note(format!("  refused: {error}"));
                    self.disk.kill();
                }
                Err(error) => return Err(format!("the directory does not open: {error}")),
            }
        }
        let recovered = self.open().map_err(|error| error.to_string())?;
        self.note(format!("  opened at last: {recovered:?}"));
        Ok(())
    }

    fn open(&mut self) -> Result<Recovered, OpenError> {
        let entropy = node::entropy(self.plan.seed, &self.drawn);
        let (collections, recovered) =
            node::open(&self.disk, self.plan.mutation, self.options, entropy)?;
        self.collections = Some(collections);
        Ok(recovered)
    }

    fn crash_disk(&mut self) {
        let plan = node::crash_plan(&mut self.random);
        self.note(format!("  crash {plan:?}"));
        self.disk.crash(plan);
    }

    /// The power goes: what was synced is there, what was not may be.
    pub(super) fn power_cut(&mut self) -> Checked {
        self.note("power cut".to_owned());
        self.hit(Branch::PowerCut);
        self.collections = None;
        self.crash_disk();
        self.fault = None;
        self.disk.set_capacity(u64::MAX);
        self.disk_full = false;
        if !self.ending && self.random.one_in(4) {
            self.disk.cut_power_at_operation(self.random.below(20));
        }
        self.recover(self.ledger.synced)
    }

    /// The process is killed: what was committed is there, unless a sync failed; then the system
    /// has forgotten what it should have written.
    pub(super) fn kill(&mut self) -> Checked {
        if self.fault == Some(Operation::SyncDir) {
            // A file system whose journal failed takes no more changes until it is mounted anew.
            return self.power_cut();
        }
        self.note("kill".to_owned());
        self.hit(Branch::Kill);
        self.collections = None;
        self.disk.kill();
        self.disk.set_capacity(u64::MAX);
        self.disk_full = false;
        let forgot = self.fault.take() == Some(Operation::Sync);
        if !self.ending && self.random.one_in(8) {
            let nth = self.random.below(10);
            self.note(format!("  read {nth} will fail"));
            self.disk.fail_next(Operation::Read, nth, ErrorKind::Other);
            self.fault = Some(Operation::Read);
        }
        let ledger = &self.ledger;
        self.recover(if forgot {
            ledger.synced
        } else {
            ledger.committed
        })
    }

    /// Everything is made durable and the process ends by itself.
    pub(super) fn restart_cleanly(&mut self) -> Checked {
        if let Ok(filters) = self.filters()
            && filters.journal().read_only().is_none()
            && self.fault.is_none()
        {
            let synced = filters.journal().sync().and_then(|position| {
                filters.journal().mark_synced()?;
                Ok(position)
            });
            if let Ok(position) = synced {
                self.ledger.synced = position;
                self.ledger.committed = position;
            }
        }
        if self.disk.is_down() {
            return self.power_cut();
        }
        self.note("end".to_owned());
        self.kill()
    }

    fn recover(&mut self, floor: u64) -> Checked {
        let pending = std::mem::take(&mut self.since_snapshot);
        pending.into_iter().for_each(|branch| self.hit(branch));
        if std::mem::take(&mut self.reclaimable) {
            self.hit(Branch::ReclaimAfterRestart);
        }
        let visible = self.start_again()?;
        if self.ledger.recover(floor, &visible)? {
            self.hit(Branch::RolledBack);
        }
        if self.fault.take() == Some(Operation::Read) {
            // What could not be read for a moment must not be lost for good.
            let snapshot = self.collections()?.checkpoint();
            self.note(format!(
                "  snapshot while something was unreadable: {snapshot:?}"
            ));
            self.collections = None;
            self.disk.kill();
            self.start_again()?;
        }
        self.check_all()?;
        self.check_second_recovery()
    }

    /// Starts; gives what answers. Filters that were kept in memory have begun again.
    fn start_again(&mut self) -> Result<BTreeMap<Vec<u8>, FilterId>, String> {
        self.start()?;
        let visible: BTreeMap<_, _> = self
            .filters()?
            .list(b"")
            .iter()
            .map(|handle| (handle.name().to_vec(), handle.id()))
            .collect();
        for (name, id) in &visible {
            if !self.ledger.epochs.contains_key(id) {
                self.ledger.begin_again(name, *id);
            }
        }
        Ok(visible)
    }

    /// A request failed. Was there a reason, and what follows?
    pub(super) fn failed(&mut self, what: &str, error: &str) -> Checked {
        self.note(format!("  {what} failed: {error}"));
        if self.disk.is_down() {
            return Ok(());
        }
        if self.filters()?.journal().read_only().is_none() {
            let planned = self.fault.is_some() || self.disk_full;
            return if planned {
                Ok(())
            } else {
                Err(format!("{what} failed without a reason: {error}"))
            };
        }
        self.hit(Branch::ReadOnly);
        if self.disk_full {
            self.hit(Branch::DiskFull);
        } else if self.fault.is_none() {
            return Err(format!("read-only without a reason: {error}"));
        }
        self.check_read_only()?;
        self.kill()
    }
}
