//! Peers: real ones, silent ones, and those that end an original.

use std::net::{Ipv4Addr, SocketAddr};

use grapevine_core::wire::rmbd::{ACK, Message, encode_peer, parse};

use crate::gateway::{Client, Served};
use crate::harness::wait_for;

fn row_of(datagram: &[u8]) -> u16 {
    match parse(datagram) {
        Some(Message::Sync { row, .. }) => row,
        other => panic!("a row was expected, not {other:?}"),
    }
}

#[test]
fn a_peer_that_never_acknowledges_gets_five_rows_and_is_gone() {
    let served = Served::start();
    let (client, peer) = (Client::of(served.address), Client::of(served.address));
    for time in 1..=2 {
        client.peer(peer.address());
        let rows: Vec<u16> = (0..5).map(|_| row_of(&peer.receive())).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
        let dropped = || (served.metrics.peers_dropped.get() == time).then_some(());
        wait_for("the peer to be dropped", dropped);
        peer.send(&ACK);
        assert!(!peer.has(b"x"), "no row came before this answer");
        assert_eq!(served.metrics.acks_ignored.get(), time, "too late");
    }
    assert_eq!(served.metrics.rows_sent.get(), 10);
    served.stop();
}

#[test]
fn one_acknowledgement_a_round_is_enough() {
    let served = Served::start();
    let (client, peer) = (Client::of(served.address), Client::of(served.address));
    client.peer(peer.address());
    for _ in 0..10 {
        for row in 0..5 {
            assert_eq!(row_of(&peer.receive()), row);
        }
        peer.send(b"\x04 and more");
    }
    assert_eq!(served.metrics.peers.get(), 1);
    let stranger = Client::of(served.address);
    stranger.send(&ACK);
    let dropped = || (served.metrics.peers_dropped.get() == 1).then_some(());
    wait_for("the peer to be dropped", dropped);
    served.stop();
}

#[test]
fn peers_both_ways_have_what_either_has() {
    let (a, b) = (Served::start(), Served::start());
    let (to_a, to_b) = (Client::of(a.address), Client::of(b.address));
    to_a.add(b"from a");
    to_b.add(b"from b");
    to_a.peer(b.address);
    to_b.peer_by(b"localhost", a.address.port().into());
    to_a.wait_for_key(b"from b");
    to_b.wait_for_key(b"from a");
    to_b.add(b"later");
    to_a.wait_for_key(b"later");
    assert_eq!(a.bits(), b.bits());
    a.stop();
    b.stop();
}

#[test]
fn peers_that_end_an_original_end_nothing() {
    let (a, b) = (Served::start(), Served::start());
    let to_a = Client::of(a.address);
    let broadcast = b"255.255.255.255";
    let fatal: [(&[u8], u32); 10] = [
        (b"127.0.0.1", 0),
        (b"127.0.0.1", 65_536),
        (b"127.0.0.1", u32::MAX),
        (broadcast, 8000),
        (b"4294967295", 8000),
        (b"224.0.0.1", 8000),
        // A socket on loopback has no route to it.
        (b"203.0.113.1", 8000),
        (b"", 1),
        (b"::1", 8000),
        (b"no such host\0", 8000),
    ];
    for (host, port) in fatal {
        to_a.peer_by(host, port);
    }
    to_a.peer(b.address);
    for (host, port) in fatal {
        to_a.peer_by(host, port);
    }
    let failed = || (a.metrics.send_failures.get() > 0).then_some(());
    wait_for("sending to fail", failed);
    to_a.add(b"after that");
    Client::of(b.address).wait_for_key(b"after that");
    // Only those that were sent to and those refused: the one that lives stays.
    wait_for("one peer to be left", || {
        (a.metrics.peers.get() == 1).then_some(())
    });
    assert!(
        a.metrics.peers_refused.get() >= 16,
        "{}",
        a.metrics.peers_refused.get()
    );
    a.stop();
    b.stop();
}

#[test]
fn names_that_do_not_resolve_hold_nobody_up() {
    let served = Served::start();
    let client = Client::of(served.address);
    for index in 0..100 {
        client.peer_by(format!("no-such-host-{index}.invalid").as_bytes(), 8000);
    }
    client.add(b"meanwhile");
    assert!(client.has(b"meanwhile"));
    assert!(
        served.metrics.peers_refused.get() > 50,
        "lookups are bounded"
    );
    served.stop();
}

#[test]
fn invented_peers_are_bounded() {
    let served = Served::start();
    let (client, peer) = (Client::of(served.address), Client::of(served.address));
    client.peer(peer.address());
    assert_eq!(row_of(&peer.receive()), 0);
    peer.send(&ACK);
    for index in 0..2000_u16 {
        let [_, _, high, low] = (u32::from(index) + 256).to_be_bytes();
        let invented = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 9));
        client.send(&encode_peer(invented.ip().to_string().as_bytes(), 9));
        if index % 100 == 0 {
            assert!(!client.has(b"x"));
            assert!(served.metrics.peers.get() <= 256);
        }
    }
    assert!(served.metrics.peers_refused.get() > 0);
    served.stop();
}

#[test]
fn a_configured_peer_that_was_restarted_is_filled_again() {
    let b = Served::start();
    let address = b.address;
    let a = Served::at("127.0.0.1:0", &[address]);
    Client::of(a.address).add(b"kept");
    Client::of(address).wait_for_key(b"kept");
    b.stop();
    let sent = a.metrics.rows_sent.get();
    // Rounds pass that nobody acknowledges.
    let rounds = || (a.metrics.rows_sent.get() > sent + 20).then_some(());
    wait_for("some rounds", rounds);
    let b = Served::at(&address.to_string(), &[]);
    assert!(b.bits().is_empty() || b.bits() == a.bits());
    Client::of(address).wait_for_key(b"kept");
    a.stop();
    b.stop();
}

/// One side names the other in its configuration; the other names nobody.
#[test]
fn a_peer_that_one_side_names_fills_it_again_after_a_restart_of_either() {
    let b = Served::start();
    let address = b.address;
    let a = Served::at("127.0.0.1:0", &[address]);
    let own = a.address;
    Client::of(address).add(b"of b");
    Client::of(own).wait_for_key(b"of b");
    // The one that was named restarts, as an original empty and without peers, so soon that no
    // round is missed, and takes rows as before.
    b.stop();
    let b = Served::at(&address.to_string(), &[]);
    Client::of(address).add(b"of b, restarted");
    Client::of(own).wait_for_key(b"of b, restarted");
    // The other one restarts, after it has been dropped.
    a.stop();
    let dropped = || (b.metrics.peers.get() == 0).then_some(());
    wait_for("the peer to be dropped", dropped);
    Client::of(address).add(b"of b, meanwhile");
    let a = Served::at(&own.to_string(), &[address]);
    Client::of(own).wait_for_key(b"of b, meanwhile");
    assert_eq!(a.bits(), b.bits());
    a.stop();
    b.stop();
}

#[test]
fn a_node_is_not_its_own_peer() {
    let served = Served::at("0.0.0.0:0", &[]);
    let local = SocketAddr::from(([127, 0, 0, 1], served.address.port()));
    let client = Client::of(local);
    client.peer(local);
    client.peer_by(b"", local.port().into());
    assert!(!client.has(b"x"));
    assert_eq!(served.metrics.peers.get(), 0);
    served.stop();
}
