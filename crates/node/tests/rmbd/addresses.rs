//! Gateways and nodes that listen on several addresses, and from which of them they answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use grapevine_core::wire::rmbd::{ACK, HasReply, encode_add, encode_has, encode_peer, encode_sync};

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
    let row = encode_sync(0, &[false; 400]);
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

/// The addresses by which this machine would send to others, if it has a network.
fn own_addresses() -> Vec<IpAddr> {
    let documentation = [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), "203.0.113.1:9"),
        (Ipv6Addr::UNSPECIFIED.into(), "[2001:db8::1]:9"),
        (Ipv6Addr::UNSPECIFIED.into(), "[fd00::1]:9"),
    ];
    let source = |(any, to): (IpAddr, &str)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Nothing is sent by that.
        socket.connect(to).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback()).then_some(ip)
    };
    documentation.into_iter().filter_map(source).collect()
}

#[test]
fn a_neighbour_that_proves_nothing_is_sent_three_times_what_it_sent_at_most() {
    for own in own_addresses() {
        let (any, loopback): (_, IpAddr) = if own.is_ipv4() {
            ("0.0.0.0:0", Ipv4Addr::LOCALHOST.into())
        } else {
            ("[::]:0", Ipv6Addr::LOCALHOST.into())
        };
        let served = Served::at(any, &[]);
        let port = served.address.port();
        let silent = UdpSocket::bind((own, 0)).expect("a port");
        silent.connect((own, port)).expect("connected");
        let named = silent.local_addr().expect("an address");
        let request = encode_peer(named.ip().to_string().as_bytes(), named.port().into());
        silent.send(&request).expect("it is sent");
        // Another peer is sent ten rounds meanwhile.
        let peer = Client::of(SocketAddr::from((loopback, port)));
        peer.peer(peer.address());
        for _ in 0..10 {
            (0..5).for_each(|_| assert_eq!(peer.receive().len(), 403));
            peer.send(&ACK);
        }
        silent.set_nonblocking(true).expect("it does not wait");
        let received = std::iter::from_fn(|| silent.recv(&mut [0; 512]).ok());
        let received: usize = received.sum();
        assert!(received > 0, "{own} is asked");
        assert!(received <= 3 * request.len(), "{own}: {received} bytes");
        served.stop();
    }
}
