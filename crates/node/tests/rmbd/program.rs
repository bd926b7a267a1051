//! The program called as `rmbd`.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use grapevine_core::wire::rmbd::{ACK, HasReply, encode_has};
use rustix::process::{Pid, Signal, kill_process};

use crate::gateway::Client;
use crate::harness::wait_for;

pub(crate) fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

fn rmbd(directory: &Path, arguments: &[&str]) -> Command {
    let link = directory.join("rmbd");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_grapevine"), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", directory)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts it and waits until it answers at `server`.
pub(crate) fn start(directory: &Path, argument: &str, server: SocketAddr) -> (Child, Client) {
    let child = rmbd(directory, &[argument]).spawn().expect("it starts");
    let client = Client::of(server);
    let pause = std::time::Duration::from_millis(50);
    client
        .socket
        .set_read_timeout(Some(pause))
        .expect("a timeout");
    wait_for("it to answer", || {
        client.send(&encode_has(b"are you there?"));
        client.socket.recv(&mut [0; 512]).ok()
    });
    // Answers to questions that were asked again may still come.
    let client = Client::of(server);
    (child, client)
}

pub(crate) fn stop(child: Child, signal: Signal) -> Output {
    kill_process(Pid::from_child(&child), signal).expect("it takes signals");
    let mut child = Some(child);
    wait_for("it to end", || {
        let mut ended = child.take()?;
        match ended.try_wait().expect("it can be waited for") {
            Some(_) => Some(ended.wait_with_output().expect("its output")),
            None => {
                child = Some(ended);
                None
            }
        }
    })
}

#[test]
fn called_as_rmbd_it_is_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for signal in [Signal::INT, Signal::TERM] {
        let (child, client) = start(directory.path(), &address.to_string(), address);
        assert!(!client.has(b"key"), "it starts empty");
        client.add(b"key");
        assert!(client.has(b"key"));
        let peer = Client::of(address);
        client.peer(peer.address());
        for _ in 0..10 {
            assert_eq!(peer.receive().len(), 403);
            peer.send(&ACK);
        }
        let output = stop(child, signal);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("the directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["rmbd"], "it keeps nothing");
}

#[test]
fn addresses_the_original_ends_at_work() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    for argument in [
        port.to_string(),
        format!(":{port}"),
        format!("localhost:{port}"),
    ] {
        let (child, client) = start(directory.path(), &argument, local);
        assert!(!client.has(b"key"), "{argument}");
        assert_eq!(stop(child, Signal::INT).status.code(), Some(0));
    }
    let argument = format!("[::1]:{port}");
    let server = argument.parse().expect("an address");
    let (child, client) = start(directory.path(), &argument, server);
    client.send(&encode_has(b"key"));
    let reply = client.receive();
    let answer = HasReply::parse(&reply).and_then(|reply| reply.answer(b"key"));
    assert_eq!(answer, Some(false));
    assert_eq!(stop(child, Signal::INT).status.code(), Some(0));
}

#[test]
fn a_wrong_or_taken_address_is_exit_1() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address))
        .expect("an address");
    let address = taken.1.to_string();
    for (arguments, said) in [
        (&[][..], "usage: rmbd HOST:PORT"),
        (&["nonsense"], "\"nonsense\" is no address"),
        (&["127.0.0.1:99999"], "is no address"),
        (&[address.as_str()], "cannot listen on 127.0.0.1:"),
    ] {
        let output = rmbd(directory.path(), arguments).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(output.stdout.is_empty());
        assert!(error.contains(said), "{error}");
    }
}
