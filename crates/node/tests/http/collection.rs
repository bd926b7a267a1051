//! Filters as resources.

use serde_json::json;

use super::server::Served;

#[test]
fn a_filter_is_made_described_and_dropped() {
    let served = Served::start();
    let path = "/api/v1/filters/pages";
    let wish = br#"{"capacity": 500, "error": 0.01, "fixed": true}"#;
    let made = served.request(&format!("PUT {path}"), "", wish);
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["outcome"], "created");
    let again = served.request(&format!("PUT {path}"), "", b"");
    assert_eq!(again.status, 200);
    assert_eq!(again.json()["outcome"], "exists");
    assert_eq!(again.json()["filter"]["parameters"]["capacity"], 500);

    let counts = served.set("pages", &["a", "b", "a"]);
    assert_eq!(counts["results"], json!([true, true, false]));
    let info = served.get(path).json();
    assert_eq!(info["name"], "pages");
    assert_eq!(info["storage"], "durable");
    assert_eq!(info["loaded"], true);
    assert_eq!(info["inserted"], 2);
    assert_eq!(info["capacity"], 500);
    assert_eq!(info["layers"], 1);
    assert_eq!(info["damaged"], json!(null));
    assert_eq!(
        info["parameters"],
        json!({"capacity": 500, "error": 0.01, "growth": null})
    );
    assert_eq!(info["usage"]["set_hits"], 2);
    assert_eq!(info["usage"]["set_misses"], 1);
    let layer = &info["layer_list"][0];
    assert_eq!(layer["inserted"], 2);
    assert_eq!(layer["bytes"], info["bytes"]);
    assert_eq!(layer["creator"].as_str().map(str::len), Some(32));
    let measured = &info["measured"];
    assert!(measured["fill"].as_f64().is_some_and(|fill| fill > 0.0));
    let keys = measured["cardinality"].as_f64().expect("a number");
    assert!((1.5..2.5).contains(&keys), "{keys}");

    let gone = served.request(&format!("DELETE {path}"), "", b"");
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    for line in [
        "GET /api/v1/filters/pages",
        "DELETE /api/v1/filters/pages",
        "POST /api/v1/filters/pages/flush",
        "POST /api/v1/filters/pages/close",
        "POST /api/v1/filters/pages/clear",
        "POST /api/v1/filters/pages/hide",
        "GET /api/v1/filters/pages/export",
        "POST /api/v1/filters/pages/merge",
    ] {
        let refusal = served.request(line, "", b"").refusal();
        assert_eq!(refusal, (404, "not_found".to_owned()), "{line}");
    }
}

#[test]
fn names_are_any_bytes_and_never_paths() {
    let served = Served::start();
    let names = [
        "a%2Fb",
        "..",
        "%2e%2e%2f%2e%2e%2fetc",
        "100%25",
        "%C3%A9t%C3%A9",
        "%FF%00%01",
        "set",
        "%3F%23%26",
    ];
    for name in names {
        served.create(name);
        served.set(name, &[name]);
    }
    for name in names {
        let info = served.get(&format!("/api/v1/filters/{name}")).json();
        assert_eq!(info["inserted"], 1, "{name}");
        let canonical = info["encoded"].as_str().expect("text").to_owned();
        let found = served.get(&format!("/api/v1/filters/{canonical}"));
        assert_eq!(found.json()["id"], info["id"], "{name}");
    }
    let list = served.get("/api/v1/filters").json();
    assert_eq!(list["filters"].as_array().map(Vec::len), Some(names.len()));
    let under = served.get("/api/v1/filters?prefix=%FF").json();
    assert_eq!(under["filters"][0]["encoded"], "%FF%00%01");
    assert_eq!(under["filters"][0]["name"], "\u{fffd}\0\u{1}");
    let outside = served.directory().parent().expect("a parent");
    assert!(!outside.join("etc").exists());
}

#[test]
fn names_that_cannot_be_are_refused() {
    let served = Served::start();
    let long = "x".repeat(201);
    for name in ["%20", "a%0Ab", "a%", "a%zz", "%4", &long] {
        let refusal = served.request(&format!("PUT /api/v1/filters/{name}"), "", b"");
        assert_eq!(refusal.refusal(), (400, "name".to_owned()), "{name}");
    }
    for (path, refusal) in [
        ("/api/v1/filters/", (400, "name")),
        ("/api/v1/filters/a/b/c", (404, "no_path")),
        ("/api/v1/filters//set", (400, "name")),
    ] {
        let refused = served.request(&format!("POST {path}"), "", b"").refusal();
        assert_eq!((refused.0, &*refused.1), refusal, "{path}");
    }
}

#[test]
fn a_list_is_given_in_pages() {
    let served = Served::start();
    for name in ["a1", "a2", "a3", "b1"] {
        served.create(name);
    }
    let first = served.get("/api/v1/filters?prefix=a&limit=2").json();
    assert_eq!(first["filters"][1]["name"], "a2");
    assert_eq!(first["next"], "a2");
    let second = served
        .get("/api/v1/filters?prefix=a&limit=2&after=a2")
        .json();
    assert_eq!(second["filters"].as_array().map(Vec::len), Some(1));
    assert_eq!(second["filters"][0]["name"], "a3");
    assert_eq!(second["next"], json!(null));
    for query in ["limit=0", "limit=1001", "limit=x", "prefx=a"] {
        let refusal = served.get(&format!("/api/v1/filters?{query}")).refusal();
        assert_eq!(refusal, (400, "parameter".to_owned()), "{query}");
    }
}

#[test]
fn wishes_that_make_no_filter_are_refused() {
    let served = Served::start();
    for (wish, status, code) in [
        ("{\"capacity\": 0}", 400, "parameters"),
        ("{\"error\": 1.5}", 400, "parameters"),
        ("{\"capacity\": -1}", 400, "body"),
        ("{\"size\": 1}", 400, "body"),
        ("nonsense", 400, "body"),
        ("{\"capacity\": 1000000000}", 507, "memory"),
    ] {
        let refused = served.request("PUT /api/v1/filters/x", "", wish.as_bytes());
        assert_eq!(refused.refusal(), (status, code.to_owned()), "{wish}");
    }
    let long = vec![b' '; 5000];
    let refused = served.request("PUT /api/v1/filters/x", "", &long);
    assert_eq!(refused.refusal(), (413, "body_too_long".to_owned()));
    assert_eq!(served.get("/api/v1/filters/x").status, 404);
}

#[test]
fn close_hide_and_flush_keep_the_keys_and_clear_does_not() {
    let served = Served::start();
    served.create("f");
    served.set("f", &["a"]);
    let post = |verb: &str| served.post(&format!("/api/v1/filters/f/{verb}"), "text/plain", b"a");
    assert_eq!(post("hide").refusal(), (409, "loaded".to_owned()));
    assert_eq!(post("flush").status, 204);
    assert_eq!(post("close").status, 204);
    let closed = served.get("/api/v1/filters/f").json();
    assert_eq!(closed["loaded"], false);
    assert_eq!(closed["layer_list"], json!(null));
    assert_eq!(closed["inserted"], 1);
    assert_eq!(post("hide").status, 204);
    assert_eq!(served.get("/api/v1/filters/f").status, 404);
    let shown = served.request("PUT /api/v1/filters/f", "", b"");
    assert_eq!(
        (shown.status, shown.json()["outcome"].clone()),
        (200, json!("shown"))
    );
    assert_eq!(post("check").json()["yes"], 1);
    assert_eq!(
        served.get("/api/v1/filters/f").json()["usage"]["page_ins"],
        1
    );
    assert_eq!(post("clear").status, 204);
    assert_eq!(post("check").json()["yes"], 0);
    assert_eq!(served.post("/api/v1/flush", "text/plain", b"").status, 204);
    assert_eq!(served.engine.collections().log_tail(), 0);

    let memory = served.request("PUT /api/v1/filters/m", "", b"{\"in_memory\": true}");
    assert_eq!(memory.json()["filter"]["storage"], "memory");
    for verb in ["close", "hide"] {
        let refused = served.post(&format!("/api/v1/filters/m/{verb}"), "text/plain", b"");
        assert_eq!(refused.refusal(), (409, "in_memory".to_owned()));
    }
}
