//! Children that others leave behind. The first process of a container is given every process whose
//! parent has ended, and each of them stays, dead, until it is waited for. Nobody but that first
//! process can, so it does; from children of this program's own it keeps away, since who started one
//! waits for it and wants to know how it ended.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// The process that is given them.
const FIRST_PROCESS: u32 = 1;

/// Children of this program's own that are not waited for yet. Held while one is started, so that
/// none can end before it is here.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
/// One of them was waited for.
static WAITED: Notify = Notify::const_new();

fn own() -> MutexGuard<'static, BTreeSet<i32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a child of one's own from being taken for one of others. To be dropped once it was waited
/// for.
pub(crate) struct Claim(i32);

impl Drop for Claim {
    fn drop(&mut self) {
        own().remove(&self.0);
        // Those of others may have stood behind it.
        WAITED.notify_one();
    }
}

/// Starts a child of one's own.
pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Claim)> {
    let mut own = own();
    let child = command.spawn()?;
    let id = i32::try_from(child.id()).map_err(io::Error::other)?;
    own.insert(id);
    Ok((child, Claim(id)))
}

/// Waits for the children of others as long as this process runs, if it is the first one. To be
/// called within a runtime.
///
/// # Errors
/// When the signal that tells of them cannot be caught.
pub(crate) fn adopt() -> io::Result<()> {
    if std::process::id() != FIRST_PROCESS {
        return Ok(());
    }
    let mut ended = signal(SignalKind::child())?;
    tokio::spawn(async move {
        loop {
            reap();
            tokio::select! {
                _ = ended.recv() => {}
                () = WAITED.notified() => {}
            }
        }
    });
    Ok(())
}

/// Waits for those that have ended, up to the first that is this program's own.
fn reap() {
    const LOOK: WaitPidFlag = WaitPidFlag::WEXITED
        .union(WaitPidFlag::WNOHANG)
        .union(WaitPidFlag::WNOWAIT);
    loop {
        let own = own();
        // No children at all is an error, too.
        let Some(id) = waitid(Id::All, LOOK).ok().and_then(|status| status.pid()) else {
            return;
        };
        if own.contains(&id.as_raw()) {
            return;
        }
        if waitpid(id, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Set in the process that this test starts: there it has all children to itself.
    const ALONE: &str = "GRAPEVINE_TEST_ALONE";
    const DEADLINE: Duration = Duration::from_secs(30);

    #[test]
    fn orphans_are_waited_for_and_own_children_left_to_who_started_them() {
        if std::env::var_os(ALONE).is_some() {
            return adopts_and_leaves();
        }
        let program = std::env::current_exe().expect("this program");
        let name =
            "orphans::tests::orphans_are_waited_for_and_own_children_left_to_who_started_them";
        let output = Command::new(program)
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{output:?}"
        );
    }

    fn adopts_and_leaves() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("allowed");
        for status in 1..20 {
            // It leaves one behind, and ends later than that.
            let script = format!("(sleep 0.01 & exec true); sleep 0.02; exit {status}");
            let (mut child, claim) =
                spawn(Command::new("sh").args(["-c", &script])).expect("sh is there");
            let done = std::sync::atomic::AtomicBool::new(false);
            let ended = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        reap();
                        std::thread::yield_now();
                    }
                });
                let ended = child.wait();
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                ended
            });
            drop(claim);
            assert_eq!(ended.expect("nobody took it").code(), Some(status));
        }
        let begun = Instant::now();
        while waitid(
            Id::All,
            WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
        )
        .is_ok()
        {
            assert!(begun.elapsed() < DEADLINE, "children are left");
            reap();
            std::thread::yield_now();
        }
    }
}
