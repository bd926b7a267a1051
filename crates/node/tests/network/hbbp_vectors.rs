//! Every datagram of the vectors sent to an hbbpd: what its handlers are given, and what it says.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddrV6, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use grapevine::gateway::hbbp::{KeyDirectory, everybody, number, seal};
use grapevine_core::wire::hbbp::PORT;
use serde_json::Value;

use super::hbbp::{LINK, Programs, program};
use super::reader::{bytes, vectors};
use super::*;

const VECTORS: &str = include_str!("../../../core/tests/vectors/hbbp.json");
/// Writes its name and its input as hexadecimal digits, as a line.
const HANDLER: &str = "#!/bin/sh
hex() { od -An -v -tx1 | tr -d ' \\n'; }
name=$(printf %s \"$0\" | hex)
input=$(hex)
echo \"$name $input\" >> \"$OUT/out\"
";
/// What the original does not say.
const OWN_WORDS: &str = "payload cut to 1232 bytes";

/// An hbbpd, what it was expected to do so far, and somebody who sends to it.
struct Stage<'m> {
    listener: Programs<'m>,
    log: PathBuf,
    sender: (UdpSocket, SocketAddrV6),
    run: Vec<String>,
    said: Vec<String>,
}

impl Stage<'_> {
    fn handler(&self, key: &[u8]) {
        program(
            &self.listener.directory.join(OsStr::from_bytes(key)),
            HANDLER,
        );
    }

    /// The key files from now on.
    fn keys(&self, directories: &[(&str, &str, Vec<u8>)]) {
        drop(fs::remove_dir_all(&self.listener.keys));
        for (task, file, key) in directories {
            let path = self.listener.keys.join(task).join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(&path, key).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        }
    }

    /// Sends a datagram and waits until its effect is there, and no other.
    fn send(&self, name: &Value, datagram: &[u8]) {
        let (socket, everybody) = &self.sender;
        within(DEADLINE, "an address to send from", || {
            socket.send_to(datagram, everybody).is_ok()
        });
        within(DEADLINE, &format!("the effect of {name}"), || {
            let run = lines(&self.listener.directory.join("out"));
            let mut said = lines(&self.log);
            said.retain(|line| line != OWN_WORDS && line != "listening");
            run == self.run && said == self.said
        });
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a vector's listener.
fn files(vector: &Value) -> Vec<(&str, &str, Vec<u8>)> {
    let Some(directories) = vector["keydir"].as_object() else {
        let (private, public) = (&vector["recv_priv"], &vector["send_pub"]);
        return vec![
            ("default", "recv.priv", bytes(private)),
            ("default", "send.pub", bytes(public)),
        ];
    };
    let mut found = Vec::new();
    for (task, files) in directories {
        for (file, key) in files.as_object().expect("files") {
            found.push((task.as_str(), file.as_str(), bytes(key)));
        }
    }
    found
}

#[test]
fn each_datagram_has_the_effect_it_has_on_the_original() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    let mut listener = Programs::new(b, lab.dir.path());
    // The vectors name key files by this path.
    listener.keys = listener.directory.join("kd");
    let log = lab.dir.path().join("hbbpd.log");
    let _daemon = listener.daemon_with_keys(&log, "kd");
    let sender = a.namespace.run(|| {
        let socket = UdpSocket::bind("[::]:0").expect("a socket");
        let link = number(LINK).expect("an answer").expect("the interface");
        (socket, everybody(link, PORT))
    });
    let mut stage = Stage {
        listener,
        log,
        sender,
        run: Vec::new(),
        said: Vec::new(),
    };
    plain_datagrams(&mut stage);
    sealed_datagrams(&mut stage);
    datagrams_of_ours(&mut stage);
}

fn plain_datagrams(stage: &mut Stage<'_>) {
    let plain = vectors(VECTORS, "plain");
    for vector in &plain {
        if vector["outcome"] == "run" {
            stage.handler(&bytes(&vector["key"]));
        }
    }
    for vector in &plain {
        match vector["stderr"].as_str() {
            Some(line) => stage.said.push(line.to_owned()),
            None => stage.run.push(format!(
                "{} {}",
                hex(&bytes(&vector["argv0"])),
                hex(&bytes(&vector["stdin"]))
            )),
        }
        stage.send(&vector["name"], &bytes(&vector["datagram"]));
    }
}

fn sealed_datagrams(stage: &mut Stage<'_>) {
    for list in ["encrypted", "encrypted_rejected"] {
        for vector in vectors(VECTORS, list) {
            let key = vector["key"].as_str().expect("text");
            stage.handler(key.as_bytes());
            stage.keys(&files(&vector));
            if vector["outcome"] == "run" {
                let input = hex(&bytes(&vector["stdin"]));
                stage.run.push(format!("{} {input}", hex(key.as_bytes())));
            } else {
                let said = vector["stderr"].as_str().expect("text");
                stage.said.extend(said.lines().map(str::to_owned));
            }
            let name = [&vector["name"], &vector["source"]];
            let name = name.into_iter().find(|name| !name.is_null());
            stage.send(name.unwrap_or(&Value::Null), &bytes(&vector["datagram"]));
        }
    }
}

/// What one of ours has sealed runs its handler once, however often it comes.
fn datagrams_of_ours(stage: &mut Stage<'_>) {
    stage.keys(&[]);
    let keys = stage.listener.keys.join("default");
    fs::create_dir_all(&keys).expect("made");
    assert!(
        stage
            .listener
            .run("hbbp_keygen", &[], &keys)
            .status
            .success()
    );
    let directory = KeyDirectory::new(stage.listener.keys.clone());
    let sealed = seal(&directory, b"4m_yx/wyre", b"once").expect("sealed");
    let name = hex(b"4m_yx/wyre");
    stage.run.push(format!("{name} {}", hex(b"once")));
    stage.send(&Value::Null, &sealed);
    stage
        .said
        .push("a packet that was opened before".to_owned());
    stage.send(&Value::Null, &sealed);
}
