//! A node that comes from a backup of a member takes that member's place.

use super::*;

const FILE: &str = "replacing";

/// Runs `grapevine restore` for a data directory that no node uses.
fn restore(data_dir: &Path, arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg("restore")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_remove("GRAPEVINE_NODE")
        .output()
        .expect("it runs")
}

fn key(node: &Node) -> String {
    status(node)["me"]["key"]
        .as_str()
        .expect("a key")
        .to_owned()
}

/// What a node's table of members says of a key.
fn state(node: &Node, key: &str) -> Option<String> {
    let status = status(node);
    let members = status["members"].as_array().expect("members");
    let known = members.iter().find(|member| member["key"] == key)?;
    Some(known["state"].as_str().expect("a state").to_owned())
}

fn wait_for_state(node: &Node, key: &str, wanted: &str) {
    wait_for(&format!("{key} to be {wanted}"), || {
        (state(node, key)? == wanted).then_some(())
    });
}

/// The note of a node that waits with replacing a member.
fn wait_for_note(node: &Node, why: &str) {
    wait_for(why, || {
        let notes = status(node)["notes"].to_string();
        (notes.contains("is not replaced yet") && notes.contains(why)).then_some(())
    });
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn gone_rows(node: &Node) -> Value {
    let said = done(&grapevine(node, &["status", "--json"]));
    let said: Value = serde_json::from_str(&said).expect("JSON");
    said["tables"]["gone_rows"].clone()
}

#[test]
fn a_restored_node_replaces_the_member_that_was_lost_and_nobody_who_is_alive() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let c = start(&dir.path().join("c"), &[&a]);
    for node in [&a, &b, &c] {
        wait_for_peers(node, 2);
    }
    done(&grapevine(&a, &["table", "create", "t"]));
    done(&grapevine(&a, &["table", "set", "t", "k", "v"]));
    wait_for("the row to be on c", || {
        let row = grapevine(&c, &["table", "get", "t", "k"]);
        (text(&row.stdout) == "v\n").then_some(())
    });
    let (backup, new) = (dir.path().join("backup"), dir.path().join("new/c"));
    done(&grapevine(&c, &["backup", &backup.display().to_string()]));
    let lost = key(&c);
    let said = done(&restore(&new, &[backup.as_os_str(), "--replace".as_ref()]));
    let promise = format!("replaces member c, key {lost}, once");
    assert!(said.contains(&promise), "{said}");

    // The member is alive: the node waits, and still does after a crash.
    let restored = start(&new, &[&a]);
    wait_for_note(&restored, "that member is alive");
    restored.kill();
    assert!(new.join(FILE).exists());
    let restored = start(&new, &[&a]);
    wait_for_note(&restored, "that member is alive");
    let now = key(&restored);
    assert_eq!(state(&a, &lost).as_deref(), Some("joined"));

    c.kill();
    done(&grapevine(&a, &["table", "delete", "t", "k"]));
    assert_eq!(gone_rows(&a), 1, "the lost member may still have the row");
    for node in [&a, &b, &restored] {
        wait_for_state(node, &lost, "left");
        wait_for_state(node, &now, "joined");
        wait_for("the deleted row to be removed", || {
            (gone_rows(node) == 0).then_some(())
        });
    }
    wait_for("the wish to be removed", || {
        (!new.join(FILE).exists()).then_some(())
    });
    wait_for("the note to go", || {
        (status(&restored)["notes"] == serde_json::json!([])).then_some(())
    });
}

#[test]
fn a_restore_names_the_member_and_a_directory_made_anew_keeps_the_wish() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("a");
    let node = start(&place, &[]);
    let lost = key(&node);
    wait_for_state(&node, &lost, "joined");
    assert!(node.stop().success());
    let backup = dir.path().join("backup");
    let copied = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg("backup")
        .arg(&backup)
        .arg("--data-dir")
        .arg(&place)
        .env_remove("GRAPEVINE_NODE")
        .output();
    done(&copied.expect("it runs"));

    let plain = restore(&dir.path().join("plain"), &[backup.as_os_str()]);
    let said = done(&plain);
    assert!(
        said.contains(&format!("was member a, key {lost};")),
        "{said}"
    );
    let advice = text(&plain.stderr);
    assert!(
        advice.contains(&format!("grapevine group leave {lost}\n")),
        "{advice}"
    );
    assert!(!dir.path().join("plain").join(FILE).exists());

    done(&restore(
        &place,
        &["--in-place".as_ref(), "--replace".as_ref()],
    ));
    let first = std::fs::read(place.join(FILE)).expect("the wish");
    // Made anew once more before it ran: it is no member, and the wish stays.
    let again = restore(&place, &["--in-place".as_ref(), "--replace".as_ref()]);
    assert_eq!(again.status.code(), Some(1));
    let refusal = text(&again.stderr);
    assert!(refusal.contains("leave --replace out"), "{refusal}");
    done(&restore(&place, &["--in-place".as_ref()]));
    assert_eq!(std::fs::read(place.join(FILE)).expect("the wish"), first);

    // It is the whole group, so nobody has to be asked.
    let node = start(&place, &[]);
    wait_for_state(&node, &lost, "left");
    wait_for("the wish to be removed", || {
        (!place.join(FILE).exists()).then_some(())
    });
}
