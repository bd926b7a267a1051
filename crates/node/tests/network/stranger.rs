//! Strangers on the link: with another secret, with none, and with rubbish.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use super::lab::new_secret;
use super::ledger::End;
use super::*;

/// Between two requests of a writer.
const PACE: Duration = Duration::from_millis(10);
/// What a node may take while strangers do their worst.
const MEMORY_BYTES_MAX: u64 = 400 << 20;

/// A group of a and b with a filter.
fn pair(lab: &Lab<3>) {
    let [a, b, _] = &lab.machines;
    a.start(&a.over_v4(), &[], &[]);
    b.start(&b.over_v4(), &[&a.over_v4()], &[]);
    wait_for_group(&[a, b]);
    assert_eq!(a.ask("create secrets"), "Done");
    wait_for_filter(b, "secrets");
}

/// The stranger knows of no filter and no member, and the group not of the stranger.
fn assert_apart(lab: &Lab<3>) {
    let [a, b, stranger] = &lab.machines;
    let filters = stranger.json("/api/v1/filters");
    assert_eq!(
        filters["filters"].as_array().map(Vec::len),
        Some(0),
        "{filters}"
    );
    let group = stranger.json("/api/v1/group");
    assert_eq!(
        group["members"].as_array().map(Vec::len),
        Some(1),
        "{group}"
    );
    assert_eq!(group["met"], false);
    for member in [a, b] {
        assert_eq!(member.metric("grapevine_group_members"), 2);
    }
    wait_for_group(&[a, b]);
}

#[test]
fn a_node_without_the_secret_learns_nothing_and_both_sides_say_so() {
    let lab = Lab::new(["a", "b", "x"]);
    let [a, b, x] = &lab.machines;
    pair(&lab);
    let other = lab.dir.path().join("other");
    new_secret(&other);
    let other = format!("group.secret_file={}", other.display());
    let seeds = [a.over_v4(), b.over_v4()];
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    x.start(&x.over_v4(), &seeds, &[&other]);
    for member in [a, b] {
        within(DEADLINE, "the refusal", || {
            member.metric("grapevine_group_admissions_refused_total") > 0
                && member
                    .log()
                    .contains("refused a connection from 10.86.76.3")
        });
    }
    within(DEADLINE, "the stranger's log", || {
        x.log().contains("secret")
    });
    assert_apart(&lab);
    x.stop();

    // Without any secret it neither listens here nor calls anybody there.
    let without = "group.secret_file=off";
    let said = x.fails_to_start(&x.over_v4(), &[without]);
    assert!(said.contains("set group.secret_file"), "{said}");
    x.start("127.0.0.1:8676", &seeds, &[without]);
    within(DEADLINE, "the stranger's log", || {
        x.log().contains("loopback")
    });
    assert_apart(&lab);
    x.stop();
    x.start(&x.over_v4(), &seeds, &[]);
    wait_for_group(&[a, b, x]);
    wait_for_filter(x, "secrets");
}

/// Bytes that no member would send.
fn rubbish() -> Vec<Vec<u8>> {
    let negotiation = b"\x13/multistream/1.0.0\n";
    let mut noise = negotiation.to_vec();
    noise.extend_from_slice(b"\x07/noise\n");
    noise.extend_from_slice(&[255; 70_000]);
    let mut endless = negotiation.to_vec();
    endless.extend_from_slice(&[255; 64]);
    // A QUIC packet that begins a connection, with impossible lengths.
    let mut initial = vec![0xc3, 0, 0, 0, 1];
    initial.resize(1200, 255);
    vec![
        vec![0; 1 << 20],
        vec![255; 1 << 20],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        noise,
        endless,
        negotiation.to_vec(),
        initial,
        b"\x00\x01\x00\x00".to_vec(),
    ]
}

/// Connections that a stranger holds open.
const HELD_MAX: usize = 600;

/// Throws rubbish at an address by TCP and UDP, and holds connections open, until told to stop.
/// Gives how many it made.
fn bother(address: &str, stop: &AtomicBool) -> usize {
    let datagrams = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    let mut made = 0;
    while !stop.load(Ordering::Relaxed) {
        for bytes in rubbish() {
            // Refused, reset, or taken: the node may do as it likes.
            drop(datagrams.send_to(&bytes[..bytes.len().min(1200)], address));
            let Ok(mut stream) = TcpStream::connect(address) else {
                continue;
            };
            made += 1;
            let limit = Some(Duration::from_millis(200));
            stream.set_write_timeout(limit).expect("a timeout");
            stream.set_read_timeout(limit).expect("a timeout");
            drop(stream.write_all(&bytes));
            if made % 2 == 0 {
                drop(stream.shutdown(Shutdown::Write));
                drop(stream.read(&mut [0; 4096]));
            } else {
                held.push_back(stream);
                if held.len() > HELD_MAX {
                    held.pop_front();
                }
            }
        }
    }
    made
}

#[test]
fn rubbish_at_the_port_does_not_disturb_the_group() {
    let lab = Lab::new(["a", "b", "x"]);
    let [a, b, x] = &lab.machines;
    pair(&lab);
    let ledger = Ledger::new("secrets");
    let stop = AtomicBool::new(false);
    let target = a.over_v4();
    let made = std::thread::scope(|scope| {
        let end = End(&stop);
        let stranger = scope.spawn(|| x.namespace.run(|| bother(&target, &stop)));
        ledger.while_written(&[a, b], PACE, || {
            go_on_for(Duration::from_secs(8));
            // The right secret still opens the door.
            x.start(&x.over_v4(), &[&a.over_v4()], &[]);
            within(DEADLINE, "x to be let in", || x.connected() == 2);
        });
        drop(end);
        stranger.join().expect("it ends")
    });
    wait_for_group(&[a, b, x]);
    wait_for_keys(&ledger, &[a, b, x]);
    let memory = a.metric("process_resident_memory_bytes");
    println!(
        "{made} bad connections; {} keys; a has {} MiB",
        ledger.len(),
        memory >> 20
    );
    assert!(made > 30, "the stranger hardly came through");
    assert!(memory < MEMORY_BYTES_MAX, "a takes {memory} bytes");
    for (member, other) in [(a, "b"), (b, "a")] {
        let log = member.log();
        assert!(
            !log.contains(&format!("disconnected from {other} ")),
            "{log}"
        );
    }
}
