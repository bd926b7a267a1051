//! A panic ends the process with a report.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::{env, thread};

/// Set in the child only: this test runs its own executable again to watch it end.
const CHILD: &str = "GRAPEVINE_FAILURE_TEST_CHILD";

/// The number of the signal that `abort` raises.
const SIGABRT: i32 = 6;

#[test]
fn a_panic_in_any_thread_is_reported_and_aborts() -> Result<(), Box<dyn std::error::Error>> {
    if env::var_os(CHILD).is_some() {
        grapevine::failure::abort_on_panic();
        let worker = thread::Builder::new().name("wheelwright".to_owned());
        let ended = worker
            .spawn(|| panic!("the {} wheel came off", "third"))?
            .join();
        return Err(format!("the process went on after {ended:?}").into());
    }
    let child = Command::new(env::current_exe()?)
        .args([
            "--exact",
            "a_panic_in_any_thread_is_reported_and_aborts",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()?;
    let report = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{report}");
    for part in [
        concat!("grapevine ", env!("CARGO_PKG_VERSION"), " stopped"),
        "thread: wheelwright",
        "tests/failure.rs:",
        "message: the third wheel came off",
        "backtrace:",
        concat!(env!("CARGO_PKG_REPOSITORY"), "/issues"),
    ] {
        assert!(report.contains(part), "{part:?} is not in:\n{report}");
    }
    Ok(())
}
