//! `grapevine filter …` as a process against the server.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use grapevine::http::TokenSource;

use super::server::Served;

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

fn command(node: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command
        .arg("filter")
        .env_remove("GRAPEVINE_TOKEN_FILE")
        .env("GRAPEVINE_NODE", node)
        .stdin(Stdio::null());
    command
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().expect("an exit code"),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(served: &Served, line: &str) -> Ended {
    let mut command = command(&served.address.to_string());
    ended(command.args(line.split(' ')).output().expect("it runs"))
}

/// Runs it and gives its output; it has to succeed.
fn done(served: &Served, line: &str) -> String {
    let ended = run(served, line);
    assert_eq!(ended.code, 0, "{line}: {}{}", ended.output, ended.errors);
    ended.output
}

#[test]
fn filters_are_made_used_and_dropped() {
    let served = Served::start();
    assert_eq!(done(&served, "list"), "");
    assert_eq!(
        done(&served, "create a --capacity 500 --error 0.01"),
        "created\n"
    );
    let exists = run(&served, "create a --capacity 600");
    assert_eq!((exists.code, &*exists.output), (0, "exists\n"));
    assert!(exists.errors.contains("capacity 500"), "{}", exists.errors);
    assert_eq!(done(&served, "create b/c --in-memory --fixed"), "created\n");
    assert_eq!(done(&served, "set a x y x"), "new\nnew\nseen\n");
    assert_eq!(done(&served, "check a x y"), "yes\nyes\n");
    let some = run(&served, "check a x z");
    assert_eq!((some.code, &*some.output), (3, "yes\nno\n"));
    let list = done(&served, "list");
    assert!(list.starts_with("a\t2\t500\t"), "{list}");
    assert_eq!(list.lines().count(), 2);
    assert_eq!(done(&served, "list b").lines().count(), 1);
    let json: serde_json::Value =
        serde_json::from_str(&done(&served, "list --json")).expect("JSON");
    assert_eq!(json[1]["name"], "b/c");
    assert_eq!(done(&served, "list zzz --json"), "[]\n");
    assert!(done(&served, "info a").contains("\ninserted\t2\n"));
    let json = done(&served, "info b/c --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["storage"], "memory");
    done(&served, "flush a");
    done(&served, "flush");
    done(&served, "close a");
    assert_eq!(done(&served, "check a x"), "yes\n");
    let asked = run(&served, "clear a");
    assert_eq!(asked.code, 2, "{}", asked.errors);
    assert!(asked.errors.contains("--yes"));
    done(&served, "clear a --yes");
    let cleared = done(&served, "list");
    assert!(cleared.starts_with("a\t0\t500\t"), "{cleared}");
    assert_eq!(run(&served, "check a x").output, "no\n");
    assert_eq!(done(&served, "set a x"), "new\n");
    assert_eq!(done(&served, "check a x"), "yes\n");
    let asked = run(&served, "drop a");
    assert_eq!(asked.code, 2, "{}", asked.errors);
    assert!(asked.errors.contains("--yes"));
    done(&served, "drop a --yes");
    assert_eq!(done(&served, "list").lines().count(), 1);
}

#[test]
fn a_full_filter_fails_the_command() {
    let served = Served::start();
    done(&served, "create f --capacity 1 --fixed");
    let set = run(&served, "set f a b a");
    assert_eq!((set.code, &*set.output), (1, "new\nfull\nseen\n"));
    let path = served.directory().join("keys");
    std::fs::write(&path, "a\nb\nc\n").expect("written");
    let import = run(&served, &format!("import f {}", path.display()));
    assert_eq!(import.code, 1);
    assert_eq!(
        import.output,
        "3 keys: 0 new, 1 seen, 2 not added: the filter is full\n"
    );
}

#[test]
fn what_is_absent_is_exit_code_3() {
    let served = Served::start();
    for line in [
        "info no",
        "drop no --yes",
        "set no x",
        "check no x",
        "flush no",
        "close no",
        "clear no --yes",
        "export no -",
        "merge no -",
        "check no --input -",
    ] {
        let ended = run(&served, line);
        assert_eq!(ended.code, 3, "{line}: {}", ended.errors);
        assert_eq!(ended.output, "", "{line}");
        assert!(ended.errors.contains("does not exist"), "{line}");
    }
    assert_eq!(run(&served, "set a").code, 2);
    assert_eq!(run(&served, "check a").code, 2);
    let refused = run(&served, "create x --error 2");
    assert_eq!(refused.code, 2);
    assert!(
        refused
            .errors
            .contains("a probability from 1e-15 to below 1"),
        "{}",
        refused.errors
    );
}

#[test]
fn names_and_keys_may_be_any_bytes() {
    let served = Served::start();
    let run = |words: &[&[u8]]| {
        let words = words.iter().map(|word| OsStr::from_bytes(word));
        let node = served.address.to_string();
        command(&node).args(words).output().expect("it runs")
    };
    assert_eq!(run(&[b"create", b"../\xff%"]).stdout, b"created\n");
    let set = run(&[b"set", b"../\xff%", b"\xfe\xff", b"", b"two\nlines"]);
    assert_eq!(set.stdout, b"new\nnew\nnew\n");
    let check = run(&[
        b"check",
        b"../\xff%",
        b"\xfe\xff",
        b"",
        b"two\nlines",
        b"two",
    ]);
    assert_eq!(check.stdout, b"yes\nyes\nyes\nno\n");
    assert!(run(&[b"list"]).stdout.starts_with(b"../\xff%\t3\t"));
}

#[test]
fn lines_are_imported_and_checked_in_bulk() {
    let served = Served::start();
    let path = served.directory().join("keys.txt");
    let lines: String = (0..200_000)
        .map(|number| format!("key {number}\n"))
        .collect();
    std::fs::write(&path, lines + "\nkey 1\nlast").expect("written");
    let path = path.display();
    let first = run(&served, &format!("import urls {path}"));
    assert_eq!(first.code, 0, "{}", first.errors);
    assert!(first.errors.contains("made the filter"), "{}", first.errors);
    let (keys, counts) = first
        .output
        .trim_end()
        .split_once(" keys: ")
        .expect("counts");
    assert_eq!(keys, "200002");
    let (new, seen) = counts.split_once(" new, ").expect("counts");
    let seen: u64 = seen
        .strip_suffix(" seen")
        .and_then(|n| n.parse().ok())
        .expect("a count");
    assert_eq!(new.parse::<u64>().map(|new| new + seen), Ok(200_002));
    assert!((1..100).contains(&seen), "{seen}");
    let again = run(&served, &format!("import urls {path}"));
    assert_eq!(again.output, "200002 keys: 0 new, 200002 seen\n");
    assert_eq!(again.errors, "");
    let check = done(&served, &format!("check urls --input {path}"));
    assert_eq!(
        check,
        "200002 keys: 200002 yes, 0 no (1.000000; configured 0.0001)\n"
    );

    let mut child = command(&served.address.to_string())
        .args(["check", "urls", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let absent: String = (0..100_000)
        .map(|number| format!("absent {number}\n"))
        .collect();
    stdin.write_all(absent.as_bytes()).expect("it reads");
    drop(stdin);
    let ended = ended(child.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, 3, "{}", ended.errors);
    let yes = ended
        .output
        .strip_prefix("100000 keys: ")
        .and_then(|rest| rest.split(' ').next());
    let yes: u64 = yes.and_then(|yes| yes.parse().ok()).expect("a count");
    assert!(yes < 30, "{yes} false positives, 10 expected");

    std::fs::write(served.directory().join("long"), vec![b'x'; 5000]).expect("written");
    let long = served.directory().join("long");
    let refused = run(&served, &format!("import urls {}", long.display()));
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("limits.line"), "{}", refused.errors);
}

#[test]
fn files_go_out_and_come_back() {
    let served = Served::start();
    done(&served, "create a");
    done(&served, "set a x y z");
    let path = served.directory().join("a.filter");
    let shown = path.display();
    assert_eq!(done(&served, &format!("export a {shown}")), "");
    let mode = std::fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let whole = command(&served.address.to_string())
        .args(["export", "a", "-"])
        .output()
        .expect("it runs");
    assert_eq!(whole.stdout, std::fs::read(&path).expect("it is there"));
    assert!(done(&served, &format!("load b {shown}")).starts_with("3 keys, 1 layers, "));
    assert_eq!(done(&served, "check b x y z"), "yes\nyes\nyes\n");
    assert_eq!(run(&served, &format!("load b {shown}")).code, 1);
    done(&served, "create c");
    assert_eq!(
        done(&served, &format!("merge c {shown}")),
        "0 layers merged, 1 added\n"
    );
    assert_eq!(done(&served, "check c x y z"), "yes\nyes\nyes\n");
    assert_eq!(run(&served, &format!("export none {shown}")).code, 3);
    let missing = run(&served, "load d /nonexistent/file");
    assert_eq!(missing.code, 1);
    assert!(
        missing.errors.contains("/nonexistent/file"),
        "{}",
        missing.errors
    );
}

#[test]
fn a_token_is_taken_from_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    std::fs::write(&path, "hunter2\n").expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).expect("kept from others");
    let token = TokenSource::open(Some(&path)).expect("a token");
    let served = Served::with_token(token);
    let without = run(&served, "list");
    assert_eq!(without.code, 1);
    assert!(
        without.errors.contains("--token-file"),
        "{}",
        without.errors
    );
    let shown = path.display();
    assert_eq!(
        done(&served, &format!("create a --token-file {shown}")),
        "created\n"
    );
    let by_variable = command(&served.address.to_string())
        .arg("list")
        .env("GRAPEVINE_TOKEN_FILE", &path)
        .output();
    assert_eq!(ended(by_variable.expect("it runs")).code, 0);
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let mut served = Served::start();
    served.stop();
    let ended = run(&served, "list");
    assert_eq!(ended.code, 1);
    assert!(
        ended.errors.contains(&served.address.to_string()),
        "{}",
        ended.errors
    );
    assert!(ended.errors.contains("grapevine serve"), "{}", ended.errors);
}

#[test]
fn a_plan_needs_no_node() {
    let output = command("127.0.0.1:1")
        .args(["plan", "--capacity", "1000000", "--error", "0.0001"])
        .output();
    let plan = ended(output.expect("it runs"));
    assert_eq!(plan.code, 0, "{}", plan.errors);
    let first: Vec<&str> = plan
        .output
        .lines()
        .nth(1)
        .expect("a layer")
        .split('\t')
        .collect();
    assert_eq!(first[..2], ["1", "1000000"]);
    assert_eq!(first[4], "19.17");
    let wrong = command("127.0.0.1:1")
        .args(["plan", "--capacity", "10", "--error", "2"])
        .output();
    assert_eq!(ended(wrong.expect("it runs")).code, 2);
}

#[test]
fn what_does_not_exist_is_named_with_the_nearest_that_does() {
    let served = Served::start();
    let none = run(&served, "check vistors alice");
    assert_eq!(none.code, 3);
    assert_eq!(
        none.errors,
        "grapevine: filter vistors does not exist, nor does any other; `grapevine filter create \
         NAME` makes one\n"
    );
    done(&served, "create visitors");
    done(&served, "create other");
    for line in ["check vistors alice", "info vistors", "drop vistors --yes"] {
        let absent = run(&served, line);
        assert_eq!(absent.code, 3, "{line}");
        assert_eq!(
            absent.errors,
            "grapevine: filter vistors does not exist; the nearest is visitors\n"
        );
    }
    let far = run(&served, "info nothing-like-it");
    assert!(
        far.errors.contains("`grapevine filter list` lists"),
        "{}",
        far.errors
    );
}

#[test]
fn wrong_arguments_are_wrong_usage() {
    let served = Served::start();
    for line in [
        "create x --error nan",
        "create x --error inf",
        "create x --error 1",
        "create x --error 1e-16",
        "create x --capacity 0",
        "create x --capacity 1.5",
        "create x --capacity many",
        "plan --capacity 1e6 --error nan",
        "create  ",
        "info ",
        "drop x",
    ] {
        let refused = run(&served, line);
        assert_eq!(refused.code, 2, "{line}: {}", refused.errors);
        assert_eq!(refused.output, "", "{line}");
    }
    assert_eq!(done(&served, "list"), "", "nothing was made");
    let nameless = run(&served, "info ");
    assert_eq!(
        nameless.errors,
        "grapevine: a name has 1 to 200 bytes, not 0\n"
    );
    let mut blank = command(&served.address.to_string());
    let blank = ended(blank.args(["create", "a b"]).output().expect("it runs"));
    assert_eq!(blank.code, 2, "{}", blank.errors);
}

#[test]
fn counts_and_errors_are_taken_and_shown_as_people_write_them() {
    let served = Served::start();
    for (name, capacity) in [("a", "20k"), ("b", "2e4"), ("c", "20_000")] {
        let line = format!("create {name} --capacity {capacity} --error 0.001");
        assert_eq!(done(&served, &line), "created\n");
    }
    let listed = done(&served, "list");
    assert_eq!(listed.lines().count(), 3);
    for line in listed.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!((fields[2], fields[4]), ("20000", "0.001"), "{line}");
    }
    assert!(done(&served, "info a").contains("\nlayer.0.error\t0.0009\n"));
}

#[test]
fn a_file_that_is_cut_short_is_said_to_be() {
    let served = Served::start();
    done(&served, "create a");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.filter");
    let file = file.to_str().expect("text");
    done(&served, &format!("export a {file}"));
    let whole = std::fs::read(file).expect("it is there");
    for length in [0, 5, 20, whole.len() / 2] {
        std::fs::write(file, &whole[..length]).expect("written");
        let refused = run(&served, &format!("load b {file}"));
        assert_eq!(refused.code, 1, "{length}");
        assert!(
            refused.errors.contains("cut short"),
            "{length}: {}",
            refused.errors
        );
    }
}
