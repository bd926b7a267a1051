//! `grapevine table …` as a process against the server.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use super::server::Served;

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

fn run(served: &Served, words: &[&[u8]]) -> Ended {
    ended(command(served, words).output().expect("it runs"))
}

fn command(served: &Served, words: &[&[u8]]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command
        .arg("table")
        .args(words.iter().map(|word| OsStr::from_bytes(word)))
        .env_remove("GRAPEVINE_TOKEN_FILE")
        .env("GRAPEVINE_NODE", served.address.to_string())
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

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

/// Runs it and gives its output; it has to succeed and say nothing else.
fn done(served: &Served, line: &str) -> String {
    let ended = run(served, &words(line));
    assert_eq!(
        (ended.code, &*ended.errors),
        (0, ""),
        "{line}: {}",
        ended.output
    );
    ended.output
}

#[test]
fn rows_are_set_read_shown_and_deleted() {
    let served = Served::start();
    assert_eq!(done(&served, "list"), "");
    assert_eq!(done(&served, "create t"), "");
    assert_eq!(done(&served, "create t"), "");
    assert_eq!(done(&served, "set t b x y"), "");
    assert_eq!(done(&served, "set t a z --ttl 1h"), "");
    assert_eq!(done(&served, "get t b"), "x\ty\n");
    assert_eq!(done(&served, "show t"), "a\tz\nb\tx\ty\n");
    assert_eq!(done(&served, "list"), "t\t2\t0\n");
    let set: serde_json::Value =
        serde_json::from_str(&done(&served, "set t c v --json")).expect("JSON");
    let row: serde_json::Value =
        serde_json::from_str(&done(&served, "get t c --json")).expect("JSON");
    assert_eq!(row["version"], set["version"]);
    let rows: serde_json::Value =
        serde_json::from_str(&done(&served, "show t --json")).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    assert!(rows[0]["expires"].is_u64() && rows[1]["expires"].is_null());
    let tables: serde_json::Value =
        serde_json::from_str(&done(&served, "list --json")).expect("JSON");
    assert_eq!(tables[0]["rows"], 3);
    assert_eq!(done(&served, "list zzz --json"), "[]\n");
    assert_eq!(done(&served, "delete t b"), "");
    for line in ["get t b", "delete t b", "get t none --json"] {
        let absent = run(&served, &words(line));
        assert_eq!(
            (absent.code, &*absent.output, &*absent.errors),
            (3, "", ""),
            "{line}"
        );
    }
}

#[test]
fn a_table_that_is_not_there_is_exit_code_3_and_named() {
    let served = Served::start();
    for line in [
        "set no k v",
        "get no k",
        "delete no k",
        "show no",
        "show no --json",
        "watch no",
        "import no -",
        "export no -",
    ] {
        let ended = run(&served, &words(line));
        assert_eq!(
            (ended.code, &*ended.output),
            (3, ""),
            "{line}: {}",
            ended.errors
        );
        assert!(
            ended.errors.contains("does not exist, nor does any other"),
            "{line}"
        );
    }
}

#[test]
fn what_a_table_cannot_carry_is_refused_and_never_altered() {
    let served = Served::start();
    done(&served, "create t");
    let long_key = [b'k'; 1025];
    let long_value = [b'v'; 65_537];
    for (key, value, said) in [
        (&b""[..], &b"v"[..], "1 to 1024 bytes, not 0"),
        (b"a\tb", b"v", "0x09 at 1"),
        (b"a\nb", b"v", "0x0a at 1"),
        (&long_key, b"v", "not 1025"),
        (b"k", b"a\tb", "value 1 holds a tab"),
        (b"k", b"a\nb", "0x0a at 1"),
        (b"k", &long_value, "not 65537"),
    ] {
        let refused = run(&served, &[b"set", b"t", key, value]);
        assert_eq!(refused.code, 2, "{}", refused.errors);
        assert!(refused.errors.contains(said), "{}", refused.errors);
    }
    for key in [&b""[..], b"a\tb"] {
        assert_eq!(run(&served, &[b"get", b"t", key]).code, 2);
        assert_eq!(run(&served, &[b"delete", b"t", key]).code, 2);
    }
    for line in [
        "set t k",
        "set t",
        "set t k v --ttl 0s",
        "set t k v --ttl 5",
        "get t",
    ] {
        assert_eq!(run(&served, &words(line)).code, 2, "{line}");
    }
    assert_eq!(run(&served, &[b"create", b"a b"]).code, 2);
    assert_eq!(done(&served, "show t"), "");
    // All else is carried as it is.
    let value = b"\xff  \\t \x1b \"".as_slice();
    let set = run(&served, &[b"set", b"t", b"../\xfe% ", b"", value]);
    assert_eq!(set.code, 0, "{}", set.errors);
    let shown = command(&served, &[b"show", b"t"])
        .output()
        .expect("it runs");
    assert_eq!(shown.stdout, [b"../\xfe% \t\t", value, b"\n"].concat());
    let got = command(&served, &[b"get", b"t", b"../\xfe% "]).output();
    assert_eq!(got.expect("it runs").stdout, [b"\t", value, b"\n"].concat());
}

#[test]
fn files_go_in_and_out() {
    let served = Served::start();
    done(&served, "create t");
    let path = served.directory().join("rows");
    let lines: String = (0..120_000)
        .map(|n| format!("key-{n:06}\t{n}\tvalue {n}\n"))
        .collect();
    std::fs::write(&path, &lines).expect("written");
    let shown = path.display();
    assert_eq!(
        done(&served, &format!("import t {shown}")),
        "120000 rows: 120000 changed, 0 not\n"
    );
    assert_eq!(
        done(&served, &format!("import t {shown}")),
        "120000 rows: 0 changed, 120000 not\n"
    );
    let out = served.directory().join("out");
    assert_eq!(done(&served, &format!("export t {}", out.display())), "");
    assert!(std::fs::read_to_string(&out).expect("it is there") == lines);
    assert!(done(&served, "export t -") == lines);
    assert_eq!(done(&served, "show t").lines().count(), 120_000);

    // Behind the first block: the line's number is that of the file.
    std::fs::write(&path, format!("{lines}bad\n")).expect("written");
    let refused = run(&served, &words(&format!("import t {shown}")));
    assert_eq!(refused.code, 1);
    assert!(
        refused.errors.contains("line 120001 has no tab"),
        "{}",
        refused.errors
    );
    assert!(refused.errors.contains("after "), "{}", refused.errors);
    let missing = run(&served, &words("import t /nonexistent/file"));
    assert_eq!(missing.code, 1);
    let empty = run(&served, &words("import t -"));
    assert_eq!(
        (empty.code, &*empty.output),
        (0, "0 rows: 0 changed, 0 not\n")
    );
    // A file that cannot be written leaves nothing behind.
    let nowhere = run(&served, &words("export t /nonexistent/file"));
    assert_eq!(nowhere.code, 1);
}

#[test]
fn a_table_is_described_dropped_and_made_anew() {
    let served = Served::start();
    done(&served, "create t");
    done(&served, "set t a x");
    done(&served, "set t b yy --ttl 1h");
    let info = done(&served, "info t");
    for line in [
        "name\tt",
        "rows\t2",
        "expiring\t1",
        "bytes\t5",
        "epoch\t0",
        "told\tfalse",
    ] {
        assert!(info.lines().any(|found| found == line), "{line}: {info}");
    }
    let json = done(&served, "info t --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["measured"]["rows"], &json["linked"]),
        (&2.into(), &false.into())
    );
    let asked = run(&served, &words("drop t"));
    assert_eq!(asked.code, 2, "{}", asked.errors);
    assert!(asked.errors.contains("--yes"), "{}", asked.errors);
    assert_eq!(done(&served, "get t a"), "x\n");
    done(&served, "drop t --yes");
    for line in [
        "drop t --yes",
        "info t",
        "get t a",
        "set t a x",
        "export t -",
    ] {
        let absent = run(&served, &words(line));
        assert_eq!(absent.code, 3, "{line}: {}", absent.errors);
    }
    assert_eq!(done(&served, "list"), "");
    done(&served, "create t");
    assert_eq!(done(&served, "show t"), "");
    done(&served, "set t c z");
    assert_eq!(done(&served, "show t"), "c\tz\n");
    assert!(done(&served, "info t").contains("epoch\t2\n"));
}

#[test]
fn a_row_is_touched() {
    let served = Served::start();
    done(&served, "create t");
    let version = |text: String| {
        let row: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (row["version"].clone(), row["expires"].as_u64())
    };
    let set = version(done(&served, "set t k v --ttl 1m --json"));
    let touched = version(done(&served, "touch t k --ttl 1h --json"));
    assert!(
        touched.0 != set.0 && touched.1 > set.1,
        "{set:?} {touched:?}"
    );
    assert_eq!(done(&served, "get t k"), "v\n");
    assert_eq!(run(&served, &words("touch t no --ttl 1h")).code, 3);
    assert_eq!(run(&served, &words("touch u k --ttl 1h")).code, 3);
    assert_eq!(run(&served, &words("touch t k")).code, 2);
}

#[test]
fn files_of_json_lines_keep_expiries_and_any_bytes() {
    let served = Served::start();
    done(&served, "create t");
    let odd = run(
        &served,
        &[b"set", b"t", b"\xff%", b"\xfe", b"", b"--ttl", b"1h"],
    );
    assert_eq!(odd.code, 0, "{}", odd.errors);
    done(&served, "set t plain v");
    let file = done(&served, "export t - --format jsonl");
    assert_eq!(file.lines().count(), 2, "{file}");
    let path = served.directory().join("rows.jsonl");
    std::fs::write(&path, &file).expect("written");
    done(&served, "create u");
    let import = format!("import u {} --format jsonl", path.display());
    assert_eq!(done(&served, &import), "2 rows: 2 changed, 0 not\n");
    assert_eq!(done(&served, "export u - --format jsonl"), file);
    assert_eq!(done(&served, &import), "2 rows: 0 changed, 2 not\n");
    // The number of a line is that of the file, also behind the first block.
    let line = format!("{}\n", file.lines().next().expect("a line"));
    let lines = line.repeat(8000);
    std::fs::write(&path, format!("{lines}{{\"key\": \"k\"}}\n")).expect("written");
    let refused = run(&served, &words(&import));
    assert_eq!(refused.code, 1);
    let said = &refused.errors;
    assert!(
        said.contains("line 8001: ") && said.contains("version"),
        "{said}"
    );
    let other = run(&served, &words("export t - --format xml"));
    assert_eq!(other.code, 2);
}
