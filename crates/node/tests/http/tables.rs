//! Tables as resources, their rows, and their files.

use serde_json::{Value, json};

use super::server::Served;

pub(crate) fn create_table(served: &Served, encoded: &str) {
    let line = format!("PUT /api/v1/tables/{encoded}");
    assert_eq!(served.request(&line, "", b"").status, 201, "{encoded}");
}

pub(crate) fn set_row(served: &Served, path: &str, wish: &Value) -> Value {
    let line = format!("PUT /api/v1/tables/{path}");
    let set = served.request(&line, "", wish.to_string().as_bytes());
    assert_eq!(set.status, 200, "{path}: {set:?}");
    set.json()
}

fn delete_row(served: &Served, path: &str) -> u16 {
    let line = format!("DELETE /api/v1/tables/{path}");
    served.request(&line, "", b"").status
}

pub(crate) fn import(served: &Served, table: &str, lines: &[u8]) -> Value {
    let path = format!("/api/v1/tables/{table}/import");
    let merged = served.post(&path, "text/plain", lines);
    assert_eq!(merged.status, 200, "{merged:?}");
    merged.json()
}

fn export(served: &Served, table: &str) -> String {
    let file = served.get(&format!("/api/v1/tables/{table}/export"));
    assert_eq!(file.status, 200);
    file.text()
}

#[test]
fn a_table_is_made_once_and_described() {
    let served = Served::start();
    let made = served.request("PUT /api/v1/tables/t", "", b"");
    assert_eq!(
        (made.status, made.json()["outcome"].clone()),
        (201, json!("created"))
    );
    let again = served.request("PUT /api/v1/tables/t", "", b"");
    assert_eq!(
        (again.status, again.json()["outcome"].clone()),
        (200, json!("exists"))
    );
    set_row(&served, "t/rows/a", &json!({"values": ["1"]}));
    set_row(&served, "t/rows/b", &json!({"values": ["1"]}));
    assert_eq!(delete_row(&served, "t/rows/b"), 204);
    let info = served.get("/api/v1/tables/t").json();
    let position = info["measured"]["position"].as_u64().expect("a number");
    let expected = json!({"name": "t", "encoded": "t", "rows": 1, "gone_rows": 1, "linked": false,
                          "measured": {"rows": 1, "expiring": 0, "bytes": 2, "position": position},
                          "epoch": 0,
                          "links": {"interfaces": [], "received": false, "told": false},
                          "copies": null});
    assert_eq!(info, expected);
    for name in ["u1", "u2", "%FF"] {
        create_table(&served, name);
    }
    let list = served.get("/api/v1/tables?prefix=u&limit=1").json();
    assert_eq!(
        (&list["tables"][0]["name"], &list["next"]),
        (&json!("u1"), &json!("u1"))
    );
    let list = served
        .get("/api/v1/tables?prefix=u&limit=1&after=u1")
        .json();
    assert_eq!(
        (&list["tables"][0]["name"], &list["next"]),
        (&json!("u2"), &json!(null))
    );
    let list = served.get("/api/v1/tables").json();
    assert_eq!(list["tables"].as_array().map(Vec::len), Some(4));
    assert_eq!(list["tables"][3]["encoded"], "%FF");
    let refused = served.request("PUT /api/v1/tables/a%20b", "", b"");
    assert_eq!(refused.refusal(), (400, "name".to_owned()));
}

#[test]
fn a_row_is_set_read_and_deleted() {
    let served = Served::start();
    create_table(&served, "t");
    let first = set_row(&served, "t/rows/k", &json!({"values": ["a", "", "b c"]}));
    let row = served.get("/api/v1/tables/t/rows/k").json();
    let expected = json!({"key": "k", "encoded": "k", "version": first["version"],
        "values": ["a", "", "b c"], "values_encoded": null, "expires": null});
    assert_eq!(row, expected);
    let second = set_row(
        &served,
        "t/rows/k",
        &json!({"values": [""], "ttl_ms": 60_000}),
    );
    let version = |set: &Value| set["version"].as_str().and_then(|v| v.parse::<i64>().ok());
    assert!(version(&second) > version(&first), "{second} {first}");
    let row = served.get("/api/v1/tables/t/rows/k").json();
    assert_eq!(row["values"], json!([""]));
    assert_eq!(row["expires"], second["expires"]);
    assert!(
        row["expires"]
            .as_u64()
            .is_some_and(|at| at > 1_700_000_000_000)
    );
    assert_eq!(delete_row(&served, "t/rows/k"), 204);
    assert_eq!(delete_row(&served, "t/rows/k"), 404);
    let gone = served.get("/api/v1/tables/t/rows/k").refusal();
    assert_eq!(gone, (404, "not_found".to_owned()));
    for line in [
        "GET /api/v1/tables/none",
        "GET /api/v1/tables/none/rows",
        "GET /api/v1/tables/none/rows/k",
        "DELETE /api/v1/tables/none/rows/k",
        "POST /api/v1/tables/none/import",
        "GET /api/v1/tables/none/export",
        "GET /api/v1/tables/none/watch",
    ] {
        let refusal = served.request(line, "", b"").refusal();
        assert_eq!(refusal, (404, "no_table".to_owned()), "{line}");
    }
    let wish = b"{\"values\": [\"v\"]}";
    let refused = served.request("PUT /api/v1/tables/none/rows/k", "", wish);
    assert_eq!(refused.refusal(), (404, "no_table".to_owned()));
    assert_eq!(
        served.get("/api/v1/tables/none").status,
        404,
        "nothing was made"
    );
}

#[test]
fn rows_that_cannot_be_are_refused() {
    let served = Served::start();
    create_table(&served, "t");
    let long_key = "k".repeat(1025);
    let fine = json!({"values": ["v"]});
    for (key, wish, status, code) in [
        ("a%09b", fine.clone(), 400, "key"),
        ("a%0Ab", fine.clone(), 400, "key"),
        ("a%0D", fine.clone(), 400, "key"),
        ("%00", fine.clone(), 400, "key"),
        ("a%", fine.clone(), 400, "name"),
        (&long_key, fine.clone(), 413, "key_too_long"),
        ("k", json!({"values": []}), 400, "value"),
        ("k", json!({}), 400, "value"),
        (
            "k",
            json!({"values": ["v"], "values_encoded": ["v"]}),
            400,
            "value",
        ),
        ("k", json!({"values": ["a\tb"]}), 400, "value"),
        ("k", json!({"values": ["a\nb"]}), 400, "value"),
        ("k", json!({"values": ["a\rb"]}), 400, "value"),
        ("k", json!({"values": ["\0"]}), 400, "value"),
        ("k", json!({"values_encoded": ["%4"]}), 400, "value"),
        (
            "k",
            json!({"values": ["v".repeat(65_537)]}),
            413,
            "value_too_long",
        ),
        (
            "k",
            json!({"values": ["v".repeat(600_000)]}),
            413,
            "body_too_long",
        ),
        ("k", json!({"values": ["v"], "ttl_ms": 0}), 400, "ttl"),
        (
            "k",
            json!({"values": ["v"], "ttl_ms": u64::MAX}),
            400,
            "ttl",
        ),
        ("k", json!({"values": ["v"], "ttl_ms": -1}), 400, "body"),
        ("k", json!({"values": "v"}), 400, "body"),
        ("k", json!({"values": ["v"], "version": 3}), 400, "body"),
    ] {
        let line = format!("PUT /api/v1/tables/t/rows/{key}");
        let refused = served.request(&line, "", wish.to_string().as_bytes());
        let shown: String = wish.to_string().chars().take(60).collect();
        assert_eq!(
            refused.refusal(),
            (status, code.to_owned()),
            "{key} {shown}"
        );
    }
    let empty = served.request("PUT /api/v1/tables/t/rows/", "", b"{}");
    assert_eq!(empty.refusal(), (400, "key".to_owned()));
    assert_eq!(served.get("/api/v1/tables/t").json()["rows"], 0);
    // The largest there may be.
    let key = "k".repeat(1024);
    let wish = json!({"values": ["v".repeat(65_536)]});
    set_row(&served, &format!("t/rows/{key}"), &wish);
    assert_eq!(served.get("/api/v1/tables/t").json()["rows"], 1);
}

#[test]
fn a_version_that_leaves_no_room_is_refused_and_counted() {
    let served = Served::start();
    create_table(&served, "t");
    let merged = import(&served, "t", b"k\t9223372036854775807\tlast\nl\t7\tin\n");
    assert_eq!(
        (&merged["changed"], &merged["refused"]),
        (&1.into(), &1.into())
    );
    assert_eq!(served.get("/api/v1/tables/t/rows/k").status, 404);
    set_row(&served, "t/rows/k", &json!({"values": ["v"]}));
}

#[test]
fn keys_and_values_are_any_bytes_that_a_line_can_hold() {
    let served = Served::start();
    create_table(&served, "t%2F..%FF");
    for key in ["..", "a%2Fb", "%FF", "%C3%A9", "rows", "%3F%23%20%25"] {
        let path = format!("t%2F..%FF/rows/{key}");
        let wish = json!({"values_encoded": ["%FE%20", "plain"]});
        set_row(&served, &path, &wish);
        let row = served.get(&format!("/api/v1/tables/{path}")).json();
        assert_eq!(row["values_encoded"], json!(["%FE%20", "plain"]), "{key}");
        let canonical = row["encoded"].as_str().expect("text");
        let again = served.get(&format!("/api/v1/tables/t%2F..%FF/rows/{canonical}"));
        assert_eq!(again.json(), row);
    }
    assert_eq!(served.get("/api/v1/tables/t%2F..%FF").json()["rows"], 6);
}

#[test]
fn an_expired_row_is_absent_everywhere() {
    let served = Served::start();
    create_table(&served, "t");
    set_row(&served, "t/rows/k", &json!({"values": ["v"], "ttl_ms": 1}));
    let begun = std::time::Instant::now();
    while served.get("/api/v1/tables/t/rows/k").status != 404 {
        assert!(begun.elapsed().as_secs() < 30, "it never went");
    }
    assert_eq!(
        served.get("/api/v1/tables/t/rows").json()["rows"],
        json!([])
    );
    assert_eq!(export(&served, "t"), "");
    assert_eq!(delete_row(&served, "t/rows/k"), 404);
}

#[test]
fn rows_come_in_pages() {
    let served = Served::start();
    create_table(&served, "t");
    let lines: String = ["a", "ab", "ab1", "ab2", "ac", "b"]
        .iter()
        .map(|key| format!("{key}\t1\tv\n"))
        .collect();
    import(&served, "t", lines.as_bytes());
    let pages = |query: &str, limit: usize| {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/tables/t/rows?limit={limit}{query}{after}");
            let page = served.get(&path).json();
            let rows = page["rows"].as_array().expect("rows");
            assert!(rows.len() <= limit, "{page}");
            keys.extend(
                rows.iter()
                    .map(|row| row["key"].as_str().expect("text").to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return keys.join(" "),
            }
        }
    };
    for limit in 1..8 {
        assert_eq!(pages("", limit), "a ab ab1 ab2 ac b", "{limit}");
        assert_eq!(pages("&prefix=ab", limit), "ab ab1 ab2", "{limit}");
        assert_eq!(pages("&prefix=ab1", limit), "ab1", "{limit}");
        assert_eq!(pages("&prefix=aa", limit), "", "{limit}");
        assert_eq!(pages("&prefix=c", limit), "", "{limit}");
    }
    let behind = served
        .get("/api/v1/tables/t/rows?prefix=ab&after=ab1")
        .json();
    assert_eq!(behind["rows"][0]["key"], "ab2");
    for query in ["limit=0", "limit=1001", "prefx=a", "after=%"] {
        let refused = served.get(&format!("/api/v1/tables/t/rows?{query}"));
        assert_eq!(refused.status, 400, "{query}");
    }
}

#[test]
fn lines_are_merged_by_version_and_exported_in_order() {
    let served = Served::start();
    create_table(&served, "t");
    let merged = import(&served, "t", b"b\t5\tx\ty\na\t1\t\n\nb\t4\told\nc\t-9\tz");
    assert_eq!(merged, json!({"rows": 4, "changed": 3, "refused": 0}));
    let again = import(&served, "t", b"b\t5\tx\ty\nc\t-10\tolder\nc\t-8\tnew\n");
    assert_eq!(again, json!({"rows": 3, "changed": 1, "refused": 0}));
    assert_eq!(export(&served, "t"), "a\t1\t\nb\t5\tx\ty\nc\t-8\tnew\n");
    let last = import(&served, "t", b"new\t9223372036854775806\tv\nmore\t1\tv\n");
    assert_eq!(last, json!({"rows": 2, "changed": 1, "refused": 1}));
    assert_eq!(
        import(&served, "t", b""),
        json!({"rows": 0, "changed": 0, "refused": 0})
    );
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_stays() {
    let served = Served::start();
    create_table(&served, "t");
    let good: String = (0..20_000).map(|n| format!("key-{n:05}\t1\tv\n")).collect();
    let lines = format!("{good}bad\t9223372036854775808\tv\nnever\t1\tv\n");
    let path = "/api/v1/tables/t/import";
    let refused = served.post(path, "text/plain", lines.as_bytes());
    assert_eq!(refused.refusal(), (400, "line".to_owned()));
    let message = refused.json()["error"]["message"].to_string();
    for part in [
        "line 20001:",
        "9223372036854775807",
        "20000 rows",
        "20000 of them",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(export(&served, "t"), good);
    let refused = served.post(&format!("{path}?line=500"), "text/plain", b"a\t1\tv\nb");
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("line 501 has no tab"), "{message}");
    assert!(message.contains("the 1 rows before it are in"), "{message}");
    let long = vec![b'x'; 300_000];
    let refused = served.post(path, "text/plain", &long);
    assert_eq!(refused.refusal(), (400, "line".to_owned()));
    let refused = served.post(&format!("{path}?line=x"), "text/plain", b"");
    assert_eq!(refused.refusal(), (400, "parameter".to_owned()));
}

#[test]
fn many_rows_go_in_and_come_out() {
    let served = Served::start();
    create_table(&served, "t");
    let lines: String = (0..200_000)
        .map(|n| format!("key-{n:06}\t{n}\tvalue {n}\n"))
        .collect();
    assert_eq!(import(&served, "t", lines.as_bytes())["changed"], 200_000);
    assert!(export(&served, "t") == lines);
    let metrics = served.get("/metrics").text();
    for line in [
        "grapevine_tables 1",
        "grapevine_table_rows{table=\"t\"} 200000",
        "grapevine_table_imported_rows_total 200000",
        "grapevine_table_import_changes_total 200000",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}");
    }
}
