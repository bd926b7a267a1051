//! File descriptors: what connections may have of them, so that files never go without.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for files, listeners, members of the group and handlers: a quarter of what the
/// process may have, within these bounds.
const KEPT_MIN: u64 = 64;
const KEPT_MAX: u64 = 2048;
/// Gateways whose connections are bounded by `limits.connections`: bloomd's and HTTP.
const GATEWAYS: u64 = 2;
/// Connections beyond the bound that are still asked how the node is.
pub(crate) const HEALTH_CONNECTIONS: usize = 16;
/// What a descriptor in reserve is open on.
const RESERVE: &str = "/dev/null";

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Division {
    /// What the process may have.
    pub(crate) limit: u64,
    /// Connections of each gateway.
    pub(crate) connections: usize,
}

impl Division {
    /// For a process that may have `limit` descriptors, where `wanted` connections per gateway
    /// are configured.
    pub(crate) fn of(limit: u64, wanted: usize) -> Self {
        let kept = (limit / 4).clamp(KEPT_MIN, KEPT_MAX) + HEALTH_CONNECTIONS as u64;
        let room = limit.saturating_sub(kept) / GATEWAYS;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Division {
            limit,
            connections: wanted.min(room.max(1)),
        }
    }

    /// The division in this process.
    pub(crate) fn here(wanted: usize) -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        Division::of(limit.unwrap_or(u64::MAX), wanted)
    }
}

/// Lets the process open as many files as the system allows it; a soft limit of 1024 is a
/// default for programs that know only `select`.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("raising the limit of open files: {error}");
    }
}

/// A descriptor in reserve: given up, there is one for what must not wait.
#[derive(Debug)]
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        Spare(File::open(RESERVE).ok())
    }

    /// Gives the descriptor up, if it is there.
    pub(crate) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes one again, if it was given up and there is one.
    pub(crate) fn take_back(&mut self) {
        if self.0.is_none() {
            self.0 = File::open(RESERVE).ok();
        }
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

/// Whether a connection was not accepted because no descriptor is left.
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    let used_up = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    used_up.contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_what_files_need() {
        for limit in [1, 64, 100, 256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            for wanted in [1, 100, 4096, 1_000_000] {
                let connections = Division::of(limit, wanted).connections;
                assert!((1..=wanted).contains(&connections));
                let taken = 2 * connections as u64 + HEALTH_CONNECTIONS as u64;
                let kept = (limit / 4).clamp(KEPT_MIN, KEPT_MAX);
                assert!(
                    connections == 1 || taken + kept <= limit,
                    "{limit}, {wanted}"
                );
            }
        }
        assert_eq!(Division::of(1024, 4096).connections, 376);
        assert_eq!(Division::of(65_536, 4096).connections, 4096);
    }
}
