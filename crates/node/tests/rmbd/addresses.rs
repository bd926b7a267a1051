//! Gateways and nodes that listen on several addresses, and from which of them they answer.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use grapevine_core::wire::rmbd::{HasReply, encode_add, encode_has};

use crate::gateway::{Client, Served};
use crate::harness::{DEADLINE, Node};

/// A client that has connected its socket: the system drops what comes from elsewhere.
fn connected(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).expect("a port");
    socket.connect(server).expect("connected");
    socket
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout can be set");
    socket
}

/// Adds a key and is told that it is there.
fn adds(server: SocketAddr, key: &[u8]) {
    let client = connected(server);
    client.send(&encode_add(key)).expect("it is sent");
    assert!(has(server, key), "{server}");
}

fn has(server: SocketAddr, key: &[u8]) -> bool {
    let client = connected(server);
    client.send(&encode_has(key)).expect("it is sent");
    let mut reply = [0; 512];
    let length = client.recv(&mut reply).expect("an answer from there");
    let reply = HasReply::parse(&reply[..length]).expect("a reply");
    reply.answer(key).expect("a reply about this key")
}

fn ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let served = Served::at("0.0.0.0:0", &[]);
    let port = served.address.port();
    for host in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 7, 7, 7]] {
        adds(SocketAddr::from((host, port)), &host);
    }
    // So do acknowledgements, of which a peer takes only those of the address that it sends to.
    let row = grapevine_core::wire::rmbd::encode_sync(0, &[false; 400]);
    let peer = connected(SocketAddr::from(([127, 0, 0, 2], port)));
    peer.send(&row).expect("it is sent");
    assert_eq!(peer.recv(&mut [0; 8]).expect("an acknowledgement"), 1);
    served.stop();
}

#[test]
fn a_gateway_of_several_addresses_is_one_filter_and_one_peer() {
    let any = if ipv6() { "[::1]:0" } else { "127.0.0.3:0" };
    let served = Served::on(&["127.0.0.1:0", any, "127.0.0.2:0"], &[]);
    let other = Served::start();
    for (index, address) in served.addresses.iter().enumerate() {
        adds(*address, &[b'k', index as u8]);
        Client::of(*address).peer(other.address);
    }
    for address in &served.addresses {
        for index in 0..served.addresses.len() {
            assert!(has(*address, &[b'k', index as u8]), "{address}");
        }
        // It is told of each of its addresses, and of the peer again.
        Client::of(served.address).peer(*address);
    }
    Client::of(other.address).wait_for_key(&[b'k', 0]);
    assert_eq!(served.metrics.peers.get(), 1);
    served.stop();
    other.stop();
}

#[test]
fn a_node_on_every_address_serves_both_families() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["rmbd.udp=[::]:0", "rmbd.open=true"]);
    let port = node.address("rmbd.udp").port();
    adds(SocketAddr::from(([127, 0, 0, 1], port)), b"over IPv4");
    adds(SocketAddr::from(([127, 0, 0, 2], port)), b"elsewhere");
    if ipv6() {
        adds(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), b"over IPv6");
        assert!(has(
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            b"elsewhere"
        ));
    }
    assert!(node.stop().success());
}

#[test]
fn on_localhost_it_is_on_both_loopback_addresses_at_one_port() {
    let directory = tempfile::tempdir().expect("a directory");
    // It is refused off loopback without a word, so localhost is loopback.
    let node = Node::start(directory.path(), &["rmbd.udp=localhost:0"]);
    let port = node.address("rmbd.udp").port();
    adds(SocketAddr::from(([127, 0, 0, 1], port)), b"over IPv4");
    if ipv6() {
        assert!(has(
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            b"over IPv4"
        ));
    }
    assert!(node.stop().success());
}
