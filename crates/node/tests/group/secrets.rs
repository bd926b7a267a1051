//! Secrets are replaced without cutting anybody off.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::*;

fn secret(file: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["group", "secret"])
        .args(arguments)
        .arg("--file")
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may not read.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn change(file: &Path, arguments: &[&str], input: &str) {
    let done = secret(file, arguments, input);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}

#[test]
fn a_secret_is_replaced_while_the_group_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = ["a.secret", "b.secret"].map(|name| dir.path().join(name));
    change(&files[0], &["new", "old"], "");
    let mode = std::fs::metadata(&files[0])
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let line = std::fs::read_to_string(&files[0]).expect("text");
    change(&files[1], &["add", "-"], &line);

    let setting = |file: &Path| format!("group.secret_file={}", file.display());
    let a = start_with(&dir.path().join("a"), &[], &[&setting(&files[0])]);
    let b = start_with(&dir.path().join("b"), &[&a], &[&setting(&files[1])]);
    wait_for_peers(&a, 1);
    assert_eq!(a.bloomd().ask("create f"), "Done\n");

    change(&files[0], &["new", "fresh"], "");
    let ring = std::fs::read_to_string(&files[0]).expect("text");
    let fresh = ring
        .lines()
        .find(|line| line.starts_with("fresh "))
        .expect("a line");
    change(&files[1], &["add", "-"], fresh);
    for arguments in [["use", "fresh"], ["remove", "old"]] {
        for (file, node) in files.iter().zip([&a, &b]) {
            change(file, &arguments, "");
            signal(node, rustix::process::Signal::HUP);
        }
        let key = arguments[0];
        assert_eq!(a.bloomd().ask(&format!("s f {key}")), "Yes\n");
        wait_for_key(&b, "f", key);
    }
    let ring = std::fs::read_to_string(&files[1]).expect("text");
    assert_eq!(ring.trim(), fresh);
    wait_for_peers(&b, 1);
    // The line of each change names the secrets and shows none.
    signal(&b, rustix::process::Signal::HUP);
    let log = log_of(b);
    let changes = log
        .lines()
        .filter_map(|line| line.split_once("grapevine::audit: "));
    let changes: Vec<&str> = changes.map(|(_, change)| change).collect();
    let changed = |ids: &str| format!("changed the secrets of the group, now {ids} (SIGHUP)");
    assert_eq!(changes, [changed("fresh, old"), changed("fresh")], "{log}");
    assert!(!log.contains(fresh.split(' ').nth(1).expect("a secret")));
}

#[test]
fn what_would_lose_the_secret_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    assert_eq!(secret(&file, &["use", "x"], "").status.code(), Some(1));
    change(&file, &["new", "only"], "");
    let before = std::fs::read(&file).expect("bytes");
    for (arguments, said) in [
        (["remove", "only"], "only secret"),
        (["use", "other"], "no key"),
        (["new", "only"], "already"),
        (["add", "-"], "not a key"),
    ] {
        let refused = secret(&file, &arguments, "no key\n");
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(text(&refused.stderr).contains(said), "{refused:?}");
        assert_eq!(std::fs::read(&file).expect("bytes"), before);
    }
}
