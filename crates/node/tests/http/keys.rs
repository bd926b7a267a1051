//! Keys in, answers out.

use std::io::Write;

use serde_json::json;

use super::server::{Answer, KEY_MAX, Served};

const SET: &str = "/api/v1/filters/f/set";
const CHECK: &str = "/api/v1/filters/f/check";

fn lengths(keys: &[&[u8]]) -> Vec<u8> {
    keys.iter()
        .flat_map(|key| [&(key.len() as u32).to_le_bytes()[..], key].concat())
        .collect()
}

#[test]
fn the_three_forms_of_keys_mean_the_same() {
    let served = Served::start();
    served.create("f");
    let set = served.post(
        SET,
        "application/json",
        b"{\"keys\":[\"a\",\"\xc3\xa9\",\"\"]}",
    );
    assert_eq!(
        set.json(),
        json!({"keys": 3, "new": 3, "seen": 0, "full": 0, "results": [true, true, true]})
    );
    let text = served.post(CHECK, "text/plain; charset=utf-8", b"a\n\nb\n\xc3\xa9");
    assert_eq!(
        text.json(),
        json!({"keys": 3, "yes": 2, "no": 1, "results": [true, false, true]})
    );
    let raw = lengths(&[b"", b"a", b"a\nb", b"\xff\x00"]);
    let octets = served.post(CHECK, "application/octet-stream", &raw);
    assert_eq!(octets.json()["results"], json!([true, true, false, false]));
    let counts = served.post(
        &format!("{SET}?results=none"),
        "application/octet-stream",
        &raw,
    );
    assert_eq!(
        counts.json(),
        json!({"keys": 4, "new": 2, "seen": 2, "full": 0})
    );
    assert_eq!(
        served.post(CHECK, "text/plain", b"").json(),
        json!({"keys": 0, "yes": 0, "no": 0, "results": []})
    );
}

#[test]
fn bodies_that_are_no_keys_are_refused() {
    let served = Served::start();
    served.create("f");
    let long = vec![b'x'; KEY_MAX + 1];
    let huge = vec![b'x'; 5 << 20];
    let length = u32::MAX.to_le_bytes();
    for (media_type, body, status, code) in [
        ("text/plain", &long[..], 413, "key_too_long"),
        ("text/plain", &huge, 413, "key_too_long"),
        ("application/octet-stream", &length, 413, "key_too_long"),
        ("application/octet-stream", b"\x05\0\0\0abc", 400, "body"),
        ("application/json", b"{\"keys\":[1]}", 400, "body"),
        ("application/json", b"[\"a\"]", 400, "body"),
        ("application/x-www-form-urlencoded", b"a", 415, "media_type"),
    ] {
        let refused = served.post(SET, media_type, body);
        assert_eq!(refused.refusal(), (status, code.to_owned()), "{media_type}");
    }
    let named = served.post(SET, "text/plain", &long).text();
    assert!(named.contains("1000 bytes (limits.line)"), "{named}");
    let none = served.request(&format!("POST {SET}"), "", b"a").refusal();
    assert_eq!(none, (415, "media_type".to_owned()));
    let query = served.post(&format!("{SET}?results=some"), "text/plain", b"a");
    assert_eq!(query.refusal(), (400, "parameter".to_owned()));
    let absent = served
        .post("/api/v1/filters/g/set", "text/plain", b"a")
        .refusal();
    assert_eq!(absent, (404, "not_found".to_owned()));
}

#[test]
fn a_chunked_body_is_read_across_its_chunks() {
    let served = Served::start();
    served.create("f");
    let mut stream = served.connect();
    let head = format!(
        "POST {SET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    for chunk in ["one\ntw", "o", "\nth", "ree"] {
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        stream.write_all(chunk.as_bytes()).expect("sent");
        stream.flush().expect("sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(Answer::read(&mut stream).json()["new"], 3);
    let check = served.post(CHECK, "text/plain", b"one\ntwo\nthree\nth\n");
    assert_eq!(check.json()["results"], json!([true, true, true, false]));
}

#[test]
fn a_body_that_breaks_off_gives_no_answer_and_keeps_what_came() {
    let served = Served::start();
    served.create("f");
    let mut stream = served.connect();
    let head = format!(
        "POST {SET} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: 100\r\n\r\nwhole\nhal"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    let mut rest = Vec::new();
    drop(std::io::Read::read_to_end(&mut stream, &mut rest));
    assert!(
        !rest.starts_with(b"HTTP/1.1 200"),
        "{}",
        rest.escape_ascii()
    );
    let check = served.post(CHECK, "text/plain", b"whole\nhal\n");
    assert_eq!(check.json()["results"], json!([true, false]));
}

#[test]
fn millions_of_keys_pass_through_and_results_are_bounded() {
    let served = Served::start();
    let wish = b"{\"capacity\": 2000000, \"error\": 0.01}";
    assert_eq!(
        served.request("PUT /api/v1/filters/f", "", wish).status,
        201
    );
    let body: String = (0..1_500_000).map(|number| format!("{number}\n")).collect();
    let counts = served.post(
        &format!("{SET}?results=none"),
        "text/plain",
        body.as_bytes(),
    );
    let counts = counts.json();
    assert_eq!(counts["keys"], 1_500_000);
    let seen = counts["seen"].as_u64().expect("a number");
    assert!(seen < 15_000, "{seen} false positives");
    let refused = served.post(CHECK, "text/plain", body.as_bytes());
    assert_eq!(refused.refusal(), (413, "too_many_keys".to_owned()));
    assert!(refused.text().contains("1048576"));
    let most: usize = body
        .match_indices('\n')
        .nth((1 << 20) - 1)
        .expect("so many")
        .0
        + 1;
    let all = served
        .post(CHECK, "text/plain", &body.as_bytes()[..most])
        .json();
    let results = all["results"].as_array().expect("results");
    assert_eq!(results.len(), 1 << 20);
    assert!(results.iter().all(|result| result == true));
}

#[test]
fn a_full_filter_says_which_keys_are_not_in() {
    let served = Served::start();
    let wish = b"{\"capacity\": 2, \"fixed\": true}";
    assert_eq!(
        served.request("PUT /api/v1/filters/f", "", wish).status,
        201
    );
    let full = served
        .post(
            SET,
            "text/plain",
            b"a
b
c
a
",
        )
        .json();
    assert_eq!(full["results"], json!([true, true, null, false]));
    assert_eq!(full["full"], 1);
    let kept = served.post(CHECK, "text/plain", b"a\nb\nc\n").json();
    assert_eq!(kept["results"], json!([true, true, false]));
}
