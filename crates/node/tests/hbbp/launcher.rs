//! The program on its way to become a handler.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use crate::directory::set_mode;

fn launch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg0("grapevine-hbbp-handler")
        .args(arguments)
        .env("KEPT", "yes")
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_handler_has_its_limits_and_its_key_for_a_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("task");
    let lines = "#!/bin/sh\necho \"$# $(ulimit -t) $(ulimit -v) $(umask) $KEPT\"\n";
    std::fs::write(&script, lines).expect("written");
    set_mode(&script, 0o755);
    let script = script.to_str().expect("text");
    let output = launch(&["7", "1073741824", "tied", script, "task"]);
    assert_eq!(text(&output.stdout), "0 7 1048576 0022 yes\n");
    let output = launch(&["none", "none", "free", script, "task"]);
    assert!(
        text(&output.stdout).starts_with("0 unlimited"),
        "{output:?}"
    );
    let output = launch(&["none", "none", "free", "/bin/sh", "the key"]);
    assert!(output.status.success(), "{output:?}");
    // A program that is none of a script's sees the key as its name.
    let output = launch(&["none", "none", "free", "/bin/cat", "task/with/no/such/file"]);
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn a_broken_pipe_ends_handlers_as_it_ends_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("task");
    std::fs::write(&script, "#!/bin/sh\ngrep SigIgn /proc/self/status\n").expect("written");
    set_mode(&script, 0o755);
    let output = launch(&[
        "none",
        "none",
        "free",
        script.to_str().expect("text"),
        "task",
    ]);
    let said = text(&output.stdout);
    let ignored = said.trim().rsplit('\t').next().expect("a mask");
    let ignored = u64::from_str_radix(ignored, 16).expect("a mask");
    const PIPE: u64 = 1 << (13 - 1);
    assert_eq!(ignored & PIPE, 0, "{said}");
}

#[test]
fn what_is_no_program_is_said_in_the_systems_words() {
    for (path, said) in [
        ("/nonexistent", "exec: No such file or directory\n"),
        ("/etc/passwd/x", "exec: Not a directory\n"),
        ("/", "exec: Permission denied\n"),
        ("", "exec: No such file or directory\n"),
    ] {
        let output = launch(&["none", "none", "free", path, "task"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stderr), said, "{path:?}");
    }
}
