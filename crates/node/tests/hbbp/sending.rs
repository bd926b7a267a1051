//! What `hbbpc` and `hbbpp` send, as the originals did. The link is in `tests/network/`.

use std::process::{Command, Output, Stdio};

use grapevine::gateway::hbbp::{SendError, seal};
use grapevine_core::wire::hbbp::DATAGRAM_BYTES_MAX;
use serde_json::Value;

use crate::VECTORS;
use crate::directory::Keys;
use crate::reader::{bytes, list, vectors};

/// The one message more that fits.
const FITS_NOW: &str = "1232 refused";

fn hbbpc(arguments: &[&str], input: &[u8]) -> Output {
    run("hbbpc", &Keys::empty(), arguments, input)
}

fn run(program: &str, keys: &Keys, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["applet", program])
        .args(arguments)
        .env("HBBP_KEYDIR", keys.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    // It may end without reading.
    let _ = std::io::Write::write_all(&mut pipe, input);
    drop(pipe);
    child.wait_with_output().expect("it ends")
}

fn arguments(vector: &Value) -> Vec<&str> {
    let texts = list(&vector["args"]).iter();
    texts.map(|text| text.as_str().expect("text")).collect()
}

fn input(vector: &Value) -> Vec<u8> {
    let hex = &vector["stdin"];
    if hex.is_string() {
        bytes(hex)
    } else {
        Vec::new()
    }
}

#[test]
fn the_datagrams_are_those_of_the_original() {
    let keys = Keys::empty();
    for vector in vectors(VECTORS, "send") {
        let arguments = arguments(&vector);
        let message = match arguments[..] {
            [_, _] => Vec::new(),
            [_, _, "-"] => input(&vector),
            [_, _, message] => message.as_bytes().to_vec(),
            _ => continue,
        };
        let sealed = seal(&keys.directory(), arguments[1].as_bytes(), &message);
        let name = vector["name"].as_str().expect("a name");
        if vector["datagram"].is_string() {
            assert_eq!(sealed.expect("sent"), bytes(&vector["datagram"]), "{name}");
        } else if name == FITS_NOW {
            assert_eq!(sealed.expect("sent").len(), DATAGRAM_BYTES_MAX);
        } else if name != "bad interface" {
            assert!(matches!(sealed, Err(SendError::Message(_))), "{name}");
        }
    }
}

#[test]
fn the_refusals_are_those_of_the_original() {
    for vector in vectors(VECTORS, "send") {
        let name = vector["name"].as_str().expect("a name");
        if vector["rc"] != 1 || name == FITS_NOW {
            continue;
        }
        let program = vector["prog"].as_str().unwrap_or("hbbpc");
        let output = run(
            program,
            &Keys::empty(),
            &arguments(&vector),
            &input(&vector),
        );
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, vector["stderr"].as_str().expect("text"), "{name}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_length_is_looked_at_before_the_interface() {
    let long = "m".repeat(DATAGRAM_BYTES_MAX);
    let said = hbbpc(&["nonexistent", "task", &long], b"").stderr;
    let said = String::from_utf8_lossy(&said);
    assert_eq!(said, "payload to long: max 1232 bytes, was 1237\n");
}

#[test]
fn the_older_sender_takes_the_same_arguments_and_knows_no_keys() {
    let half = Keys::empty();
    half.put("default", "recv.pub", &[7; 32]);
    let said = |program: &str, arguments: &[&str], input: &[u8]| {
        let output = run(program, &half, arguments, input);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // There is nowhere to send to: what is refused before that is about the keys.
    let fits = "m".repeat(DATAGRAM_BYTES_MAX - "task\0".len());
    for (message, input) in [("text", ""), ("-", &fits)] {
        let arguments = ["nonexistent", "task", message];
        assert!(said("hbbpc", &arguments, input.as_bytes()).contains("missing key"));
        let plain = said("hbbpp", &arguments, input.as_bytes());
        assert_eq!(plain, "interface not found\n");
    }
    let usage = "usage: hbbpp interface task [message|-]\n";
    assert_eq!(said("hbbpp", &["lo"], b""), usage);
    assert_eq!(said("hbbpp", &["lo", "a", "b", "c"], b""), usage);
    let too_long = format!("{fits}m");
    let refused = said("hbbpp", &["nonexistent", "task", "-"], too_long.as_bytes());
    assert_eq!(refused, "payload to long: max 1232 bytes\n");
    let refused = said("hbbpp", &["nonexistent", "task", &too_long], b"");
    assert_eq!(refused, "payload to long: max 1232 bytes, was 1233\n");
}
