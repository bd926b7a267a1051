//! Tables that are read, replaced and edited by several processes at once.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use grapevine_core::plain_table::merge;

use crate::harness::wait_for;
use crate::workbench::{Workbench, errors};

const PROCESSES: usize = 20;

fn all_end_well(children: Vec<Child>) {
    for child in children {
        let ended = child.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", errors(&ended));
    }
}

fn start(bench: &Workbench, arguments: &[&str]) -> Child {
    let mut command = bench.command();
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

#[test]
fn parallel_updates_lose_nothing() {
    let bench = Workbench::new();
    bench.write("t", "shared\t5\tx\n");
    let keys: Vec<String> = (0..PROCESSES).map(|n| format!("key-{n:02}")).collect();
    let children = keys.iter().flat_map(|key| {
        let own = start(&bench, &["update", "t", key, "value"]);
        [own, start(&bench, &["update", "t", "shared", key])]
    });
    all_end_well(children.collect());
    let table = String::from_utf8(bench.read("t")).expect("text");
    let found: Vec<&str> = table
        .lines()
        .filter_map(|row| row.split('\t').next())
        .collect();
    let mut wanted: Vec<&str> = keys.iter().map(String::as_str).collect();
    wanted.push("shared");
    assert_eq!(found, wanted);
    // Each update rested on the one before.
    let version = table.lines().last().and_then(|row| row.split('\t').nth(1));
    let version: i64 = version
        .and_then(|text| text.parse().ok())
        .expect("a version");
    assert!(version >= 5 + PROCESSES as i64, "{version}");
    assert_eq!(bench.files().len(), 1);
}

#[test]
fn parallel_merges_lose_nothing() {
    let bench = Workbench::new();
    bench.write("t", "");
    let texts: Vec<String> = (0..PROCESSES)
        .map(|n| {
            (0..50)
                .map(|row| format!("{n}-{row}\t{row}\tvalue {row}\n"))
                .collect()
        })
        .collect();
    let names: Vec<String> = (0..PROCESSES).map(|n| format!("foreign-{n}")).collect();
    for (name, text) in names.iter().zip(&texts) {
        bench.write(name, text);
    }
    let children = names
        .iter()
        .map(|name| start(&bench, &["merge", "t", name]));
    all_end_well(children.collect());
    let all = texts.concat();
    assert_eq!(Ok(bench.read("t")), merge(&[all.as_bytes()]));
}

#[test]
fn tables_that_are_merged_into_each_other_do_not_wait_for_each_other() {
    let bench = Workbench::new();
    bench.write("one", "a\t1\tx\n");
    bench.write("two", "b\t2\ty\n");
    let children = (0..PROCESSES).map(|n| {
        let tables = if n % 2 == 0 {
            ["one", "two"]
        } else {
            ["two", "one"]
        };
        start(&bench, &["merge", tables[0], tables[1]])
    });
    let children = children.collect();
    all_end_well(children);
    for table in ["one", "two"] {
        assert_eq!(bench.read(table), b"a\t1\tx\nb\t2\ty\n");
    }
}

#[test]
fn a_reader_sees_a_whole_table() {
    let bench = Workbench::new();
    let table = |value: &str| -> String {
        (0..2000)
            .map(|row| format!("{row:04}\t1\t{value}\n"))
            .collect()
    };
    // Of another length each, so that a mix of two would show.
    let (old, new) = (
        table("old"),
        table("the other value").replace("\t1\t", "\t2\t"),
    );
    bench.write("t", &old);
    bench.write("foreign", &new);
    let shown = |value: &str| table(value).replace("\t1\t", "\t").into_bytes();
    let whole = [shown("old"), shown("the other value")];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0, 0];
            while !stop.load(Ordering::Relaxed) {
                let ended = bench.run(&["show", "t"]);
                assert!(ended.status.success(), "{}", errors(&ended));
                let which = whole.iter().position(|whole| *whole == ended.stdout);
                seen[which.expect("a whole table")] += 1;
            }
            seen
        });
        for _ in 0..20 {
            assert!(bench.run(&["merge", "t", "foreign"]).status.success());
            // Put back as p2ptbl puts tables: whole.
            let back = bench.write("back", &old);
            fs::rename(back, bench.tables().join("t")).expect("renamed");
        }
        stop.store(true, Ordering::Relaxed);
        let seen = reader.join().expect("no failed check");
        assert!(seen.iter().sum::<i32>() > 0);
    });
}

#[test]
fn who_waited_for_a_table_that_was_replaced_takes_the_new_one() {
    let bench = Workbench::new();
    let path = bench.write("t", "a\t1\told\n");
    let held = fs::File::open(&path).expect("a table");
    held.lock().expect("nobody else has it");
    let update = start(&bench, &["update", "t", "b", "mine"]);
    wait_for("the update to wait for the lock", || {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let process = format!(" {} ", update.id());
        let waits = |line: &str| line.contains("->") && line.contains(&process);
        locks.lines().any(waits).then_some(())
    });
    let new = bench.write("new", "a\t2\tnew\n");
    fs::rename(new, &path).expect("renamed");
    held.unlock().expect("it was locked");
    all_end_well(vec![update]);
    let table = String::from_utf8(bench.read("t")).expect("text");
    assert!(
        table.starts_with("a\t2\tnew\nb\t") && table.ends_with("\tmine\n"),
        "{table}"
    );
}

#[test]
fn a_table_edited_without_a_lock_meanwhile_keeps_the_edit() {
    let bench = Workbench::new();
    let path = bench.write("t", "a\t1\tx\n");
    // The program edits the table behind p2ptbl's back, once.
    let edit = format!(
        "test -e edited || {{ printf 'b\\t1\\ty\\n' >>{}; >edited; }}; cat",
        path.display()
    );
    let ended = bench.run(&["filter", "t", "sh", "-c", &edit]);
    assert!(ended.status.success(), "{}", errors(&ended));
    let shown = bench.run(&["show", "t"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "a\tx\nb\ty\n");
}

#[test]
fn permissions_and_links_stay() {
    let bench = Workbench::new();
    let path = bench.write("folder/table", "a\t1\tx\n");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
    let link = bench.tables().join("link");
    symlink("folder/table", &link).expect("a link");
    assert!(bench.run(&["update", "link", "b", "y"]).status.success());
    assert!(link.is_symlink());
    let found = path.metadata().expect("it is there");
    assert_eq!(found.permissions().mode() & 0o777, 0o640);
    assert_eq!(bench.run(&["get", "link", "b"]).stdout, b"y\n");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let bench = Workbench::new();
    let path = bench.write("t", "a\t5\tx\n");
    bench.write("older", "a\t4\tx\n");
    let before = path.metadata().expect("it is there").ino();
    assert!(bench.run(&["merge", "t", "older"]).status.success());
    assert_eq!(path.metadata().expect("it is there").ino(), before);
}

#[test]
fn a_table_that_cannot_be_replaced_stays() {
    let bench = Workbench::new();
    let mut file = OpenOptions::new();
    let path = bench.write("t", "");
    let mut file = file.append(true).open(&path).expect("a table");
    file.write_all(b"a\t1\tx\n").expect("written");
    file.set_len((1 << 30) + 1)
        .expect("a long file without blocks");
    let ended = bench.run(&["update", "t", "b", "y"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        errors(&ended).contains("more than a table may have"),
        "{}",
        errors(&ended)
    );
    assert_eq!(path.metadata().expect("it is there").len(), (1 << 30) + 1);
    // Not left to be read with all the others: it is long.
    fs::remove_file(path).expect("removed");
    assert!(bench.files().is_empty());
}
