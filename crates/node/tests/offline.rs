//! The commands that need no running node, run as a user runs them.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grapevine_core::filter::Outcome;
use grapevine_store::collections::Collections;
use grapevine_store::disk::{DirectoryLock, RealDisk};
use grapevine_store::filters::{Entropy, Filters, Options, Scratch};
use grapevine_store::log::LogConfig;
use serde_json::Value;

type Done = Result<(), Box<dyn std::error::Error>>;

/// The program with an empty environment and `home` as its home directory.
fn grapevine(home: &Path, arguments: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .args(["--data-dir", "data"])
        .args(arguments)
        .output()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/vectors")
}

fn import(home: &Path, from: &Path) -> io::Result<Output> {
    grapevine(home, &["import", "bloomd", &from.to_string_lossy()])
}

fn open(directory: &Path) -> Result<Collections, Box<dyn std::error::Error>> {
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 30,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let entropy: Entropy = Arc::new(|| [7; 16]);
    let disk = Arc::new(RealDisk::new(directory.to_owned()));
    Ok(Collections::open(disk, options, entropy)?.0)
}

fn found(filters: &Filters, name: &str, keys: &[String]) -> Result<Vec<bool>, io::Error> {
    let handle = filters.get(name.as_bytes());
    let handle = handle.ok_or_else(|| io::Error::other(format!("{name} is not there")))?;
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let mut scratch = Scratch::default();
    filters
        .check(&handle, &keys, &mut scratch)
        .map_err(io::Error::other)?;
    Ok(scratch.found().to_vec())
}

fn named(row: &Value, template: &str, count: &str) -> Vec<String> {
    let template = row[template].as_str().unwrap_or_default();
    (0..row[count].as_u64().unwrap_or_default())
        .map(|i| template.replace("%d", &i.to_string()))
        .collect()
}

/// Every key of the C server's filters is there, and of the absent ones just those that it itself
/// took for present.
fn answers_as_the_c_server(filters: &Filters) -> Done {
    let text = fs::read(vectors().join("bloomd-data.json"))?;
    let vectors: Value = serde_json::from_slice(&text)?;
    let rows = vectors["filters"].as_array().ok_or("no rows")?;
    assert_eq!(rows.len(), 3);
    for row in rows {
        let name = row["name"].as_str().ok_or("no name")?;
        let there = found(filters, name, &named(row, "key_template", "keys"))?;
        assert!(
            !there.is_empty() && there.iter().all(|found| *found),
            "{name}"
        );
        let absent = found(filters, name, &named(row, "absent_template", "absent_keys"))?;
        let taken: Vec<usize> = (0..absent.len()).filter(|i| absent[*i]).collect();
        assert_eq!(
            serde_json::json!(taken),
            row["false_positive_indices"],
            "{name}"
        );
        let handle = filters.get(name.as_bytes()).ok_or("no filter")?;
        let promised = row["prob"].as_f64().ok_or("no error rate")?;
        assert!(
            handle.error() <= promised * (1.0 + 1e-12),
            "{name}: {}",
            handle.error()
        );
    }
    Ok(())
}

#[test]
fn a_bloomd_directory_is_taken_over_whole() -> Done {
    let home = tempfile::tempdir()?;
    let imported = import(home.path(), &vectors().join("bloomd-data"))?;
    assert_eq!(imported.status.code(), Some(0), "{}", err(&imported));
    let text = out(&imported);
    assert!(
        text.contains("grown: 3 layers, 69915 keys, 388856 bytes\n"),
        "{text}"
    );
    assert!(text.contains("3 filters imported, 0 refused"), "{text}");
    let data = home.path().join("data");
    let node = open(&data)?;
    let filters = node.filters();
    answers_as_the_c_server(filters)?;
    let fresh: Vec<String> = (0..2000).map(|i| format!("fresh-{i}")).collect();
    let keys: Vec<&[u8]> = fresh.iter().map(String::as_bytes).collect();
    let strict = filters.get(b"strict").ok_or("no filter")?;
    let mut scratch = Scratch::default();
    let position = filters.set(&strict, &keys, &mut scratch)?;
    filters.journal().commit(position)?;
    let new = scratch.outcomes().iter().filter(|o| **o == Outcome::New);
    assert!(new.count() >= 1999);
    drop(node);
    let node = open(&data)?;
    let filters = node.filters();
    answers_as_the_c_server(filters)?;
    assert!(found(filters, "strict", &fresh)?.iter().all(|found| *found));
    drop(node);
    let verified = grapevine(home.path(), &["verify"])?;
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));

    let again = import(home.path(), &vectors().join("bloomd-data"))?;
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("grown: there is a filter of that name already"));
    assert!(out(&again).contains("0 filters imported, 3 refused"));
    Ok(())
}

#[test]
fn what_cannot_be_imported_is_named_and_the_rest_goes_on() -> Done {
    let home = tempfile::tempdir()?;
    let source = home.path().join("source");
    for name in ["small", "strict"] {
        let to = source.join(format!("bloomd.{name}"));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(vectors().join(format!("bloomd-data/bloomd.{name}")))? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    let layer = source.join("bloomd.small/data.000.mmap");
    let bytes = fs::read(&layer)?;
    fs::write(&layer, &bytes[..bytes.len() / 2])?;
    let file = home.path().join("bloomd.conf");
    fs::write(&file, "[bloomd]\ndata_dir = source\nodd = 1\n")?;
    let imported = import(home.path(), &file)?;
    assert_eq!(imported.status.code(), Some(1));
    assert!(err(&imported).contains(&"bloomd.small/data.000.mmap".to_owned()));
    assert!(
        out(&imported).contains("strict: 1 layers, 5000 keys"),
        "{}",
        out(&imported)
    );
    assert!(
        out(&imported).contains("passed over: odd"),
        "{}",
        out(&imported)
    );
    let _lock = DirectoryLock::acquire(&home.path().join("data"))?;
    let refused = import(home.path(), &source)?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("stop it first"), "{}", err(&refused));
    let empty = home.path().join("empty");
    fs::create_dir(&empty)?;
    drop(_lock);
    // A child that another test is just starting may hold the lock for a moment longer.
    let begun = Instant::now();
    let mut code = import(home.path(), &empty)?.status.code();
    while code == Some(1) && begun.elapsed() < Duration::from_secs(10) {
        code = import(home.path(), &empty)?.status.code();
    }
    assert_eq!(code, Some(3));
    Ok(())
}

#[test]
fn backup_and_restore_give_the_same_answers_under_another_origin() -> Done {
    let home = tempfile::tempdir()?;
    let imported = import(home.path(), &vectors().join("bloomd-data"))?;
    assert_eq!(imported.status.code(), Some(0));
    let lock = DirectoryLock::acquire(&home.path().join("data"))?;
    let made = grapevine(home.path(), &["backup", "copy"])?;
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(
        out(&made).starts_with("copy: 3 filters, 8 layers, "),
        "{}",
        out(&made)
    );
    let in_place = grapevine(home.path(), &["restore", "copy"])?;
    assert_eq!(in_place.status.code(), Some(1));
    assert!(
        err(&in_place).contains("not an empty directory"),
        "{}",
        err(&in_place)
    );
    drop(lock);
    let other = ["--data-dir", "other/place", "restore", "copy"];
    let restored = grapevine(home.path(), &other)?;
    assert_eq!(restored.status.code(), Some(2), "one directory is enough");
    fs::rename(home.path().join("data"), home.path().join("old"))?;
    let restored = grapevine(home.path(), &["restore", "copy"])?;
    assert_eq!(restored.status.code(), Some(0), "{}", err(&restored));
    answers_as_the_c_server(open(&home.path().join("data"))?.filters())?;
    let origin = |place: &str| -> io::Result<String> {
        let text = fs::read_to_string(home.path().join(place).join("identity"))?;
        let line = text.lines().find(|line| line.starts_with("origin "));
        Ok(line.unwrap_or_default().to_owned())
    };
    assert_eq!(origin("old")?, origin("copy")?);
    assert_ne!(origin("old")?, origin("data")?);
    Ok(())
}

#[test]
fn verify_names_the_damaged_file() -> Done {
    let home = tempfile::tempdir()?;
    let none = grapevine(home.path(), &["verify"])?;
    assert_eq!(none.status.code(), Some(1));
    assert!(err(&none).contains("no data directory"), "{}", err(&none));
    import(home.path(), &vectors().join("bloomd-data"))?;
    let lock = DirectoryLock::acquire(&home.path().join("data"))?;
    let clean = grapevine(home.path(), &["verify"])?;
    assert_eq!(clean.status.code(), Some(0), "{}", out(&clean));
    let pid = format!("(pid {})", std::process::id());
    assert!(out(&clean).contains(&pid), "{}", out(&clean));
    drop(lock);
    let manifest = home.path().join("data/manifest");
    let mut bytes = fs::read(&manifest)?;
    bytes[20] ^= 1;
    fs::write(&manifest, bytes)?;
    let damaged = grapevine(home.path(), &["verify", "--json"])?;
    assert_eq!(damaged.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&damaged.stdout)?;
    assert_eq!(report["findings"][0]["file"], "manifest");
    assert_eq!(report["clean"], false);
    assert_eq!(report["node_pid"], Value::Null);
    Ok(())
}

#[test]
fn doctor_says_who_has_a_port() -> Done {
    let home = tempfile::tempdir()?;
    let free = ["group.listen", "bloomd.udp", "rmbd.udp", "http.listen"]
        .map(|key| format!("{key}=127.0.0.1:0"));
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let with = |first: &str| -> io::Result<Output> {
        let tcp = format!("bloomd.tcp={first}");
        let mut arguments = vec!["doctor", "--json", "--set", &tcp];
        arguments.extend(free.iter().flat_map(|free| ["--set", free]));
        grapevine(home.path(), &arguments)
    };
    let well = with("127.0.0.1:0")?;
    assert_eq!(well.status.code(), Some(0), "{}", out(&well));
    let report: Value = serde_json::from_slice(&well.stdout)?;
    let subjects: Vec<&str> = report["checks"]
        .as_array()
        .ok_or("no checks")?
        .iter()
        .filter_map(|check| check["subject"].as_str())
        .collect();
    for subject in [
        "memory",
        "clock",
        "file descriptors",
        "free space",
        "file system",
    ] {
        assert!(
            subjects.contains(&subject),
            "{subject} is not in {subjects:?}"
        );
    }
    assert!(!home.path().join("data").exists(), "nothing was made");
    let ill = with(&address.to_string())?;
    assert_eq!(ill.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&ill.stdout)?;
    let failed: Vec<&Value> = report["checks"]
        .as_array()
        .ok_or("no checks")?
        .iter()
        .filter(|check| check["verdict"] == "fail")
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let found = failed[0]["found"].as_str().unwrap_or_default();
    let pid = format!("(pid {})", std::process::id());
    assert!(
        found.starts_with("taken by ") && found.ends_with(&pid),
        "{found}"
    );
    Ok(())
}

#[test]
fn commands_on_files_refuse_a_node_that_is_named() -> Done {
    let home = tempfile::tempdir()?;
    for command in [
        &["verify"][..],
        &["backup", "copy"],
        &["restore", "copy"],
        &["doctor"],
        &["serve"],
    ] {
        let refused = grapevine(home.path(), &[command, &["--node", "127.0.0.1:1"]].concat())?;
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        assert!(err(&refused).contains("--data-dir"), "{}", err(&refused));
    }
    // In the environment it is meant for other commands.
    let verified = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .env_clear()
        .env("HOME", home.path())
        .env("GRAPEVINE_NODE", "127.0.0.1:1")
        .arg("verify")
        .output()?;
    assert!(
        err(&verified).contains("no data directory"),
        "{}",
        err(&verified)
    );
    Ok(())
}

#[test]
fn a_copy_is_not_made_inside_of_what_it_copies() -> Done {
    let home = tempfile::tempdir()?;
    assert_eq!(
        import(home.path(), &vectors().join("bloomd-data"))?
            .status
            .code(),
        Some(0)
    );
    std::os::unix::fs::symlink("data", home.path().join("link"))?;
    let before = fs::read_dir(home.path().join("data"))?.count();
    for place in [
        "data",
        "data/copy",
        "link/copy",
        "data/filters/copy",
        "x/../data/copy",
    ] {
        let refused = grapevine(home.path(), &["backup", place])?;
        assert_eq!(refused.status.code(), Some(1), "{place}");
        let said = format!("{place} is, or is inside, ");
        assert!(err(&refused).contains(&said), "{}", err(&refused));
    }
    assert_eq!(fs::read_dir(home.path().join("data"))?.count(), before);
    assert_eq!(
        grapevine(home.path(), &["backup", "copy"])?.status.code(),
        Some(0)
    );
    std::os::unix::fs::symlink("copy", home.path().join("alias"))?;
    for place in ["copy", "copy/data", "alias/deep/data"] {
        let refused = Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .env_clear()
            .env("HOME", home.path())
            .current_dir(home.path())
            .args(["restore", "copy", "--data-dir", place])
            .output()?;
        assert_eq!(refused.status.code(), Some(1), "{place}");
        assert!(
            err(&refused).contains("is, or is inside, copy"),
            "{}",
            err(&refused)
        );
    }
    assert_eq!(
        grapevine(home.path(), &["--set", "node.name=x", "verify"])?
            .status
            .code(),
        Some(0)
    );
    Ok(())
}

#[test]
fn secrets_are_listed_without_being_shown() -> Done {
    let home = tempfile::tempdir()?;
    let secret = |arguments: &[&str]| {
        let arguments = [&["group", "secret"], arguments, &["--file", "ring"]].concat();
        grapevine(home.path(), &arguments)
    };
    for id in ["old", "new"] {
        assert!(secret(&["new", id])?.status.success());
    }
    assert!(secret(&["use", "new"])?.status.success());
    let listed = out(&secret(&["list"])?);
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let [new, old] = &lines[..] else {
        panic!("{listed}");
    };
    assert_eq!((new[0], new[2]), ("new", "in use"));
    assert_eq!((old[0], old[2]), ("old", "accepted"));
    assert_ne!(new[1], old[1]);
    let json: Value = serde_json::from_str(&out(&secret(&["list", "--json"])?))?;
    assert_eq!(json[0]["fingerprint"], new[1]);
    assert_eq!(
        (&json[0]["in_use"], &json[1]["in_use"]),
        (&true.into(), &false.into())
    );
    for line in fs::read_to_string(home.path().join("ring"))?.lines() {
        let key = line.split(' ').next_back().unwrap_or(line);
        assert!(key.len() >= 64 && !listed.contains(&key[..16]), "{listed}");
    }
    Ok(())
}
