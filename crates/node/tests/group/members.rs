//! Who belongs to the group, who is alive, who leaves.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use super::*;

fn wait_for_member(node: &Node, name: &str, what: &str, state: &str) {
    wait_for(&format!("{name} to be {state}"), || {
        member(node, name).filter(|one| one[what] == state)
    });
}

#[test]
fn a_crash_is_known_to_all_and_so_is_the_return() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let c_dir = dir.path().join("c");
    let c = start(&c_dir, &[&a]);
    for node in [&a, &b] {
        for name in ["a", "b", "c"] {
            wait_for_member(node, name, "liveness", "alive");
        }
    }
    c.kill();
    for node in [&a, &b] {
        wait_for_member(node, "c", "liveness", "down");
        // It still belongs to the group.
        wait_for_member(node, "c", "state", "joined");
    }
    let _c = start(&c_dir, &[&a]);
    for node in [&a, &b] {
        wait_for_member(node, "c", "liveness", "alive");
    }
}

#[test]
fn a_node_that_leaves_keeps_its_data_and_may_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b_dir = dir.path().join("b");
    let b = start(&b_dir, &[]);
    let address = a.address("group.listen").to_string();
    let joined = grapevine(&b, &["group", "join", &address]);
    assert_eq!(joined.status.code(), Some(0), "{}", text(&joined.stderr));
    assert!(text(&joined.stdout).starts_with("joined\ta\t12D3KooW"));
    assert_eq!(a.bloomd().ask("create f"), "Done\n");
    assert_eq!(a.bloomd().ask("s f before"), "Yes\n");
    wait_for_key(&b, "f", "before");

    let asked = grapevine(&b, &["group", "leave"]);
    assert_eq!(asked.status.code(), Some(2), "nobody agreed");
    let left = grapevine(&b, &["group", "leave", "--yes"]);
    assert_eq!(left.status.code(), Some(0), "{}", text(&left.stderr));
    assert!(!text(&left.stderr).contains("no other member"));
    wait_for_member(&a, "b", "state", "left");
    let alone = status(&b);
    assert_eq!(
        (&alone["left"], &alone["met"], &alone["connected"]),
        (&true.into(), &false.into(), &0.into())
    );
    assert_ne!(alone["id"], status(&a)["id"]);
    assert_eq!(b.bloomd().ask("c f before"), "Yes\n");
    assert_eq!(a.bloomd().ask("s f after"), "Yes\n");

    // It stays outside over a restart, until it is told to join again.
    assert!(b.stop().success());
    let b = start(&b_dir, &[]);
    assert_eq!(status(&b)["left"], true);
    assert_eq!(b.bloomd().ask("c f after"), "No\n");
    let joined = grapevine(&b, &["group", "join", &address]);
    assert_eq!(joined.status.code(), Some(0), "{}", text(&joined.stderr));
    wait_for_key(&b, "f", "after");
    for node in [&a, &b] {
        wait_for_member(node, "a", "state", "joined");
        wait_for_member(node, "b", "state", "joined");
    }
    assert_eq!(status(&a)["id"], status(&b)["id"]);
}

#[test]
fn who_has_a_node_join_and_leave_is_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[]);
    let address = a.address("group.listen").to_string();
    let done = |words: &[&str]| {
        let done = grapevine(&b, words);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    };
    done(&["group", "join", &address]);
    done(&["filter", "create", "f"]);
    wait_for("others to follow", || {
        let forgot = grapevine(&b, &["filter", "forget", "f"]);
        forgot.status.success().then_some(())
    });
    done(&["group", "leave", "--yes"]);
    let log = log_of(b);
    let acts = log
        .lines()
        .filter_map(|line| line.split_once("grapevine::audit: "));
    let acts: Vec<&str> = acts
        .filter_map(|(_, act)| act.split_once(" (HTTP, from 127.0.0.1:"))
        .map(|(act, _)| act)
        .collect();
    let wanted = [
        "joined a group",
        "created filter f",
        "forgot the bits of filter f",
        "entered that a member left",
    ];
    assert_eq!(acts, wanted, "{log}");
}

#[test]
fn a_node_that_changes_groups_does_not_bring_the_old_ones_members() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let c = start(&dir.path().join("c"), &[]);
    let d = start(&dir.path().join("d"), &[&c]);
    for node in [&a, &b, &c, &d] {
        wait_for_peers(node, 1);
    }
    assert_eq!(a.bloomd().ask("create f"), "Done\n");
    assert_eq!(a.bloomd().ask("s f of-a"), "Yes\n");
    wait_for_key(&b, "f", "of-a");
    let left = grapevine(&b, &["group", "leave", "--yes"]);
    assert_eq!(left.status.code(), Some(0), "{}", text(&left.stderr));
    let address = c.address("group.listen").to_string();
    let joined = grapevine(&b, &["group", "join", &address]);
    assert_eq!(joined.status.code(), Some(0), "{}", text(&joined.stderr));
    // Its data comes with it.
    wait_for_key(&d, "f", "of-a");
    wait_for_peers(&d, 2);
    assert!(member(&d, "a").is_none(), "it belongs to another group");
    wait_for_member(&a, "b", "state", "left");
    wait_for_member(&a, "a", "state", "joined");
}

/// Nobody speaks for others: what was deleted while a member was away would come back with it, were
/// it taken for one that has left.
#[test]
fn who_leaves_and_comes_back_says_nothing_of_those_who_are_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b_dir = dir.path().join("b");
    let b = start(&b_dir, &[&a]);
    let c = start(&dir.path().join("c"), &[&a]);
    let done = |node: &Node, arguments: &[&str]| {
        let done = grapevine(node, arguments);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    };
    for node in [&a, &b, &c] {
        wait_for_peers(node, 2);
    }
    done(&a, &["table", "create", "t"]);
    done(&a, &["table", "set", "t", "k", "v"]);
    wait_for("the row on b", || {
        let got = grapevine(&b, &["table", "get", "t", "k"]);
        got.status.success().then_some(())
    });
    assert!(b.stop().success());
    wait_for_peers(&a, 1);
    done(&c, &["group", "leave", "--yes"]);
    let address = a.address("group.listen").to_string();
    done(&c, &["group", "join", &address]);
    for node in [&a, &c] {
        wait_for_peers(node, 1);
        for name in ["a", "b", "c"] {
            wait_for_member(node, name, "state", "joined");
        }
        for name in ["a", "c"] {
            wait_for_member(node, name, "liveness", "alive");
        }
    }
    done(&a, &["table", "delete", "t", "k"]);
    let gone = || {
        let table = grapevine(&a, &["table", "info", "t", "--json"]);
        let table: serde_json::Value = serde_json::from_slice(&table.stdout).expect("JSON");
        table["gone_rows"].as_u64().expect("a number")
    };
    let b = start(&b_dir, &[&a]);
    for node in [&a, &b] {
        wait_for_peers(node, 2);
    }
    wait_for("the tombstone to be of no use", || {
        (gone() == 0).then_some(())
    });
    for node in [&a, &b, &c] {
        let got = grapevine(node, &["table", "get", "t", "k"]);
        assert_eq!(got.status.code(), Some(3), "{}", text(&got.stdout));
        for name in ["admissions", "strangers"] {
            let name = format!("grapevine_group_{name}_refused_total");
            let found = super::status::metrics(node, &name);
            assert_eq!(found, [format!("{name} 0")]);
        }
    }
    for node in [a, c] {
        let log = log_of(node);
        assert!(!log.contains("not taken into the group"), "{log}");
    }
}

/// Each was now and then not answered for 10 s: the address was not called again so soon.
#[test]
fn joins_that_are_refused_and_leaves_in_turn_are_each_answered_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let c = start(&dir.path().join("c"), &[]);
    let d = start(&dir.path().join("d"), &[&c]);
    for node in [&a, &b, &c, &d] {
        wait_for_peers(node, 1);
    }
    let [own, other] = [&a, &c].map(|node| node.address("group.listen").to_string());
    for round in 0..20 {
        let refused = grapevine(&b, &["group", "join", &other]);
        let said = text(&refused.stderr);
        assert!(said.contains("another group"), "round {round}: {said}");
        for arguments in [["group", "leave", "--yes"], ["group", "join", &own]] {
            let done = grapevine(&b, &arguments);
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(0), "round {round}: {said}");
        }
    }
    wait_for_peers(&b, 1);
}

#[test]
fn a_dead_member_is_entered_as_left_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b_dir = dir.path().join("b");
    let b = start(&b_dir, &[&a]);
    wait_for_peers(&a, 1);
    let refused = grapevine(&a, &["group", "leave", "b", "--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("b is connected"));
    let absent = grapevine(&a, &["group", "leave", "nobody", "--yes"]);
    assert_eq!(absent.status.code(), Some(3));
    let misspelt = grapevine(&a, &["group", "leave", "B", "--yes"]);
    let said = text(&misspelt.stderr);
    assert!(said.contains("\"B\"; the nearest is b\n"), "{said}");
    b.kill();
    wait_for_peers(&a, 0);
    let left = grapevine(&a, &["group", "leave", "b", "--yes"]);
    assert_eq!(left.status.code(), Some(0), "{}", text(&left.stderr));
    wait_for_member(&a, "b", "state", "left");
    // It was not dead.
    let _b = start(&b_dir, &[&a]);
    wait_for_member(&a, "b", "state", "joined");
}

#[test]
fn joining_where_nobody_is_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    for (address, said, code) in [
        ("127.0.0.1:1", "127.0.0.1:1", 1),
        ("nonsense", "host:port", 2),
    ] {
        let refused = grapevine(&a, &["group", "join", address]);
        assert_eq!(refused.status.code(), Some(code), "{address}");
        assert!(text(&refused.stderr).contains(said), "{refused:?}");
    }
}

#[test]
fn members_are_listed_for_people_and_every_metric_is_documented() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let _b = start(&dir.path().join("b"), &[&a]);
    wait_for_peers(&a, 1);
    wait_for_member(&a, "b", "liveness", "alive");
    wait_for("b's clock", || {
        let b = member(&a, "b")?;
        b["link"]["clock_ahead_ms"].as_i64()
    });
    let listed = text(&grapevine(&a, &["group", "members"]).stdout);
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|row| row.split('\t').collect())
        .collect();
    let b = rows.iter().find(|row| row[0] == "b").expect("b's row");
    assert_eq!((b[1], b[2], b[3]), ("joined", "alive", "connected"));
    // Both go by one clock.
    let ahead: i64 = b[8].parse().expect("milliseconds");
    assert!(b.len() == 9 && ahead.abs() < 10_000, "{b:?}");
    let shown = text(&grapevine(&a, &["group", "status"]).stdout);
    assert!(shown.contains("connected\t1\n"), "{shown}");

    let mut stream = std::net::TcpStream::connect(a.address("http.listen")).expect("it is served");
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).expect("text");
    let there: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE grapevine_group_"))
        .map(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            format!("grapevine_group_{name}")
        })
        .collect();
    let documented: BTreeSet<String> = include_str!("../../../../docs/http.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("grapevine_group_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(there, documented);
    assert!(metrics.contains("grapevine_group_members 2\n"), "{metrics}");
    assert!(metrics.contains("grapevine_group_peers 1\n"), "{metrics}");
}
