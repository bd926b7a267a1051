//! The programs' arguments, words and exit codes.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn applet(name: &str, arguments: &[&str], directory: &Path) -> Output {
    let program = directory.join(name);
    if !program.exists() {
        symlink(env!("CARGO_BIN_EXE_grapevine"), &program).expect("a link");
    }
    Command::new(format!("./{name}"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("HBBP_KEYDIR")
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn keys_are_made_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = applet("hbbp_keygen", &["ignored"], directory.path());
    assert!(made.status.success() && said(&made).is_empty());
    let mut keys = Vec::new();
    for (file, mode) in [
        ("recv.pub", 0o444),
        ("recv.priv", 0o400),
        ("send.pub", 0o444),
        ("send.priv", 0o400),
    ] {
        let path = directory.path().join(file);
        let found = path.metadata().expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(found & !mode, 0, "{file}: {found:o}");
        keys.push(std::fs::read(&path).expect("readable"));
    }
    assert!(keys.iter().all(|key| key.len() == 32));
    let again = applet("hbbp_keygen", &[], directory.path());
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(said(&again), "recv.pub already exists\n");
    assert_eq!(
        std::fs::read(directory.path().join("recv.pub")).expect("readable"),
        keys[0]
    );
}

#[test]
fn keys_made_before_one_that_exists_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("send.pub"), "mine").expect("written");
    let made = applet("hbbp_keygen", &[], directory.path());
    assert_eq!(made.status.code(), Some(1));
    assert_eq!(said(&made), "send.pub already exists\n");
    let mut left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["hbbp_keygen", "send.pub"]);
}

#[test]
fn the_daemon_says_what_is_wrong_before_it_goes_on_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    for (arguments, words) in [
        (&["a", "b"][..], "usage: ./hbbpd [interface]\n"),
        (&["nonexistent"], "interface not found\n"),
        (&[""], "interface not found\n"),
    ] {
        let output = applet("hbbpd", arguments, directory.path());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said(&output), words);
    }
    let output = applet("hbbpc", &[], directory.path());
    assert_eq!(said(&output), "usage: ./hbbpc interface task [message|-]\n");
}

#[test]
fn the_commands_refuse_what_no_listener_would_take() {
    let grapevine = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .arg("hbbp")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    };
    for (key, why) in [("/a", "begins with"), ("a/../b", "\"..\""), ("", "empty")] {
        let output = grapevine(&["send", "nonexistent", key, "text"]);
        assert_eq!(output.status.code(), Some(2), "wrong usage");
        assert!(said(&output).contains(why), "{output:?}");
    }
    let output = grapevine(&["send", "nonexistent", "task", "text"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(&output),
        "grapevine: interface nonexistent does not exist; `ip link` lists those that do\n"
    );
    let output = grapevine(&["listen", "nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("interface nonexistent does not exist"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    assert!(grapevine(&["keygen", path]).status.success());
    assert_eq!(grapevine(&["keygen", path]).status.code(), Some(1));
}
