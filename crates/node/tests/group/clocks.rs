//! A wall clock that is wrong: all report it, and its node makes no rows with a time to live until
//! it is right.

use std::path::PathBuf;

use super::harness::{Node, http, wait_for};
use super::*;

const HOUR_S: i64 = 3600;

/// A wall clock that a test sets, for whichever node is started with it.
struct WallClock {
    library: PathBuf,
    ahead: PathBuf,
}

impl WallClock {
    fn new(dir: &Path, ahead: i64) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/group/clock.c");
        let clock = WallClock {
            library: dir.join("clock.so"),
            ahead: dir.join("ahead"),
        };
        clock.set(ahead);
        // Whoever links Rust programs has it.
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&clock.library, &source])
            .output()
            .expect("cc runs");
        assert!(built.status.success(), "{}", text(&built.stderr));
        clock
    }

    /// It is `ahead` seconds ahead from now on.
    fn set(&self, ahead: i64) {
        // Replaced whole: a node may be reading it.
        let next = self.ahead.with_extension("next");
        std::fs::write(&next, ahead.to_string()).expect("written");
        std::fs::rename(&next, &self.ahead).expect("renamed");
    }

    fn start(&self, dir: &Path, join: &[&Node]) -> Node {
        let variables = [
            ("LD_PRELOAD", &*self.library),
            ("CLOCK_AHEAD", &*self.ahead),
        ];
        start_as(dir, join, &[], &variables)
    }
}

fn table(node: &Node, arguments: &[&str]) -> Output {
    grapevine(node, &[&["table"], arguments].concat())
}

fn done(node: &Node, arguments: &[&str]) {
    let output = table(node, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn ready(node: &Node) -> String {
    let (status, said) = http(node.address("http.listen"), "GET /readyz", "");
    assert_eq!(status, 200, "{said}");
    said
}

/// Waits until a node says so where it is asked whether it is well.
fn wait_for_note(node: &Node, note: &str) {
    wait_for(&format!("the note {note:?}"), || {
        ready(node).contains(note).then_some(())
    });
}

/// What a node says to a row with a time to live.
fn lease(node: &Node) -> (u16, String) {
    let wish = r#"{"values": ["v"], "ttl_ms": 3600000}"#;
    let request = "PUT /api/v1/tables/t/rows/lease";
    http(node.address("http.listen"), request, wish)
}

/// The last column of a member's line in `group members`.
fn offset(node: &Node, name: &str) -> String {
    let listed = text(&grapevine(node, &["group", "members"]).stdout);
    let line = listed
        .lines()
        .find(|line| line.starts_with(&format!("{name}\t")));
    let last = line.and_then(|line| line.rsplit('\t').next());
    last.unwrap_or_default().to_owned()
}

fn metric(node: &Node, name: &str) -> String {
    let (_, metrics) = http(node.address("http.listen"), "GET /metrics", "");
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.unwrap_or_default().to_owned()
}

#[test]
fn a_node_that_is_off_makes_no_rows_that_expire_until_its_clock_is_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = WallClock::new(dir.path(), -HOUR_S);
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    done(&a, &["create", "t"]);
    let c = clock.start(&dir.path().join("c"), &[&a, &b]);
    for node in [&a, &b, &c] {
        wait_for_peers(node, 2);
    }
    let reason = "behind most of the members it hears; rows with a time to live are refused until \
                  it is right";
    wait_for_note(&c, reason);
    wait_for("c to have the table", || {
        table(&c, &["get", "t", "none"])
            .status
            .code()
            .filter(|code| *code == 3)
    });
    let refused = table(&c, &["set", "t", "k", "v", "--ttl", "1h"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains(reason), "{refused:?}");
    let (status, said) = lease(&c);
    assert_eq!(status, 503, "{said}");
    assert!(said.contains(r#""code":"clock""#), "{said}");
    assert_eq!(
        metric(&c, "grapevine_group_clock_off"),
        "grapevine_group_clock_off 1"
    );
    let status = status_of_clock(&c);
    assert_eq!(
        (&status["members"], &status["heard"]),
        (&2.into(), &2.into())
    );
    // Everything else goes on, and the others are not concerned.
    done(&c, &["set", "t", "own", "v"]);
    done(&c, &["delete", "t", "own"]);
    for node in [&a, &b] {
        wait_for_note(node, "the clock of c is 3600 s behind this node's");
        assert_eq!(lease(node).0, 200);
        assert_eq!(
            metric(node, "grapevine_group_clock_off"),
            "grapevine_group_clock_off 0"
        );
        let ahead: i64 = offset(node, "c").parse().expect("milliseconds");
        assert!(ahead.abs_diff(-HOUR_S * 1000) < 20_000, "{ahead}");
    }
    wait_for("the lease of a or b on c", || {
        table(&c, &["get", "t", "lease"])
            .status
            .success()
            .then_some(())
    });

    clock.set(0);
    wait_for("c to take rows that expire", || {
        (lease(&c).0 == 200).then_some(())
    });
    for node in [&a, &b, &c] {
        wait_for("no note", || (ready(node) == "ready\n").then_some(()));
    }
    let log = log_of(c);
    // Of the first member that it heard or of both, once.
    assert_eq!(
        log.matches("this node's clock is 3600 s behind").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("no longer off").count(), 1, "{log}");
    let log = log_of(a);
    assert_eq!(log.matches("the clock of c is").count(), 1, "{log}");
}

fn status_of_clock(node: &Node) -> Value {
    status(node)["clock"]["off"].clone()
}

#[test]
fn of_two_nodes_neither_knows_who_is_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = WallClock::new(dir.path(), HOUR_S);
    let a = start(&dir.path().join("a"), &[]);
    done(&a, &["create", "t"]);
    let b = clock.start(&dir.path().join("b"), &[&a]);
    wait_for_note(&a, "behind the only member it hears");
    wait_for_note(&b, "ahead of the only member it hears");
    assert_eq!(lease(&a).0, 503);
    clock.set(0);
    wait_for("both to take rows that expire", || {
        (lease(&a).0 == 200 && lease(&b).0 == 200).then_some(())
    });
}
