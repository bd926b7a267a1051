//! Filters as files.

use super::server::{MEMORY, Served};

fn export(served: &Served, name: &str) -> Vec<u8> {
    let answer = served.get(&format!("/api/v1/filters/{name}/export"));
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: application/octet-stream")
    );
    answer.body
}

#[test]
fn a_filter_travels_as_a_file() {
    let served = Served::start();
    served.create("old");
    let keys: Vec<String> = (0..30_000).map(|number| format!("key-{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let new = served.set("old", &keys)["new"].clone();
    let file = export(&served, "old");
    assert!(file.len() as u64 > 64 << 10, "more than one piece");

    // On another node, with another seed.
    let other = Served::start();
    let loaded = other.request("PUT /api/v1/filters/new/import", "", &file);
    assert_eq!(loaded.status, 201);
    assert_eq!(loaded.json()["inserted"], new);
    let check = other.post(
        "/api/v1/filters/new/check",
        "text/plain",
        keys.join("\n").as_bytes(),
    );
    assert_eq!(check.json()["no"], 0);
    let again = other.request("PUT /api/v1/filters/new/import", "", &file);
    assert_eq!(again.refusal(), (409, "exists".to_owned()));

    served.create("more");
    served.set("more", &["something else"]);
    let merged = served.request("POST /api/v1/filters/more/merge", "", &file);
    assert_eq!(merged.status, 200);
    assert!(
        merged.json()["adopted"]
            .as_u64()
            .is_some_and(|layers| layers > 0)
    );
    let check = served.post(
        "/api/v1/filters/more/check",
        "text/plain",
        keys.join("\n").as_bytes(),
    );
    assert_eq!(check.json()["no"], 0);
    // What was made there has that node's seed.
    other.create("own");
    let unlike = other.request("POST /api/v1/filters/own/merge", "", &file);
    assert_eq!(unlike.refusal(), (409, "unlike".to_owned()));
}

#[test]
fn files_that_are_no_filters_are_refused_and_leave_nothing() {
    let served = Served::start();
    served.create("f");
    served.set("f", &["a"]);
    let file = export(&served, "f");
    let mut flipped = file.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let longer = [&file[..], b"x"].concat();
    let used = served.engine.filters().memory().used();
    for (what, bytes) in [
        ("empty", &b""[..]),
        ("noise", b"GrpvnFlt but not really"),
        ("cut", &file[..file.len() - 1]),
        ("flipped", &flipped),
        ("longer", &longer),
    ] {
        let refused = served.request("PUT /api/v1/filters/g/import", "", bytes);
        assert_eq!(refused.refusal(), (400, "file".to_owned()), "{what}");
        let refused = served.request("POST /api/v1/filters/f/merge", "", bytes);
        assert_eq!(refused.refusal(), (400, "file".to_owned()), "{what}");
    }
    assert_eq!(served.get("/api/v1/filters/g").status, 404);
    assert_eq!(served.engine.filters().memory().used(), used);
}

#[test]
fn an_import_keeps_to_the_memory_bound() {
    let served = Served::start();
    let wish = b"{\"capacity\": 15000000, \"error\": 0.0001}";
    let made = served.request("PUT /api/v1/filters/big", "", wish);
    assert_eq!(made.status, 201);
    let bytes = made.json()["filter"]["bytes"].as_u64().expect("a number");
    assert!(bytes > MEMORY / 2);
    let file = export(&served, "big");
    // Of two that fit alone one gives way to the other, but not one that is in memory only.
    let copied = served.request("PUT /api/v1/filters/second/import", "", &file);
    assert_eq!(copied.status, 201);
    let wish = b"{\"capacity\": 15000000, \"error\": 0.0001, \"in_memory\": true}";
    assert_eq!(
        served
            .request("PUT /api/v1/filters/pinned", "", wish)
            .status,
        201
    );
    let refused = served.request("PUT /api/v1/filters/copy/import", "", &file);
    assert_eq!(refused.refusal(), (507, "memory".to_owned()));
}
