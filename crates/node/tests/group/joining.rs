//! What a node says of addresses where nobody answers.

use super::*;

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    held.local_addr().expect("an address")
}

#[test]
fn an_address_that_does_not_answer_is_shown_and_logged_until_it_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = nobody();
    let join = format!("group.join={address}");
    let node = start_with(&dir.path().join("a"), &[], &[&join]);
    let called = wait_for("a call that failed", || {
        let called = status(&node)["joining"][0].clone();
        (called["attempts"].as_u64()? > 0 && called["next_attempt_ms"].is_u64()).then_some(called)
    });
    assert_eq!(called["address"], address.to_string());
    assert_eq!(called["reason"], "nobody answers");
    assert!(called["last_attempt_ms_ago"].as_u64() > Some(0), "{called}");
    assert_eq!(called["peer"], Value::Null);
    let plain = text(&grapevine(&node, &["group", "status"]).stdout);
    let line = format!("joining\t{address}\tnobody answers\t");
    assert!(plain.contains(&line), "{plain}");

    let listen = format!("group.listen={address}");
    let late = start_with(&dir.path().join("b"), &[], &[&listen]);
    wait_for_peers(&node, 1);
    assert_eq!(status(&node)["joining"], serde_json::json!([]));
    let key = status(&late)["me"]["key"].clone();
    late.kill();
    let called = wait_for("the address to be called again", || {
        let called = status(&node)["joining"][0].clone();
        called["reason"].is_string().then_some(called)
    });
    assert_eq!(called["peer"], key, "who answered is remembered");

    let log = log_of(node);
    let said = format!("calling {address}: nobody answers; next attempt in ");
    let lines = log.lines().filter(|line| line.contains(&said));
    // Once, and at most once more after the session was lost, however often it was called.
    assert!((1..=2).contains(&lines.clone().count()), "{log}");
    assert!(lines.clone().all(|line| line.contains("INFO")), "{log}");
}
