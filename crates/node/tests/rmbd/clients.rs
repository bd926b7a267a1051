//! What clients, and those that are none, meet.

use grapevine_core::bitmap::ROW_BITS;
use grapevine_core::wire::rmbd::{ACK, encode_has, encode_sync};

use crate::gateway::{Client, Served};

#[test]
fn a_key_is_there_for_everyone_once_it_was_added() {
    let served = Served::start();
    let (one, other) = (Client::of(served.address), Client::of(served.address));
    assert!(!one.has(b"sensor/20"));
    one.add(b"sensor/20");
    assert!(one.has(b"sensor/20"));
    assert!(other.has(b"sensor/20"));
    assert!(!other.has(b"sensor/21"));
    served.stop();
}

#[test]
fn a_long_key_is_cut_and_echoed_cut() {
    let served = Served::start();
    let client = Client::of(served.address);
    let key = [b'k'; 300];
    client.add(&key);
    assert!(client.has(&key[..139]));
    client.send(&encode_has(&key));
    assert_eq!(client.receive()[..140], encode_has(&key[..139])[1..]);
    served.stop();
}

#[test]
fn rows_are_acknowledged_each_time_and_from_anyone() {
    let served = Served::start();
    let client = Client::of(served.address);
    let row = encode_sync(4, &[true; ROW_BITS]);
    for _ in 0..3 {
        client.send(&row);
        assert_eq!(client.receive(), ACK);
    }
    client.send(&encode_sync(5, &[true; ROW_BITS]));
    assert!(
        !client.has(b"x"),
        "a row that does not exist is not answered"
    );
    assert_eq!(served.bits(), (1600..2000).collect::<Vec<_>>());
    assert_eq!(served.metrics.peers.get(), 0, "who sends rows is no peer");
    served.stop();
}

#[test]
fn garbage_of_every_size_changes_nothing() {
    let served = Served::start();
    let client = Client::of(served.address);
    let mut random = 7_u32;
    for size in (0..600).chain([1400, 4096, 9000, 65_507]) {
        let garbage: Vec<u8> = (0..size)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        for kind in [0, 1, 2, 3, 5, 255] {
            let mut datagram = garbage.clone();
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            let whole = matches!((kind, size), (0 | 1, 141) | (2, 403) | (3, 145));
            if !whole {
                client.send(&datagram);
            }
        }
        assert!(
            !client.has(b"x"),
            "served on after {size} bytes, without a word"
        );
    }
    assert!(served.bits().is_empty());
    assert_eq!(served.metrics.peers.get(), 0);
    served.stop();
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let served = Served::start();
    let clients: Vec<Client> = (0..50).map(|_| Client::of(served.address)).collect();
    for round in 0..20 {
        for (index, client) in clients.iter().enumerate() {
            client.send(&encode_has(format!("{round}/{index}").as_bytes()));
        }
        for (index, client) in clients.iter().enumerate() {
            let key = format!("{round}/{index}");
            assert_eq!(client.receive()[..140], encode_has(key.as_bytes())[1..]);
        }
    }
    served.stop();
}

#[test]
fn ipv6_works() {
    let served = Served::at("[::1]:0", &[]);
    let client = Client::of(served.address);
    client.add(b"six");
    assert!(client.has(b"six"));
    let peer = Client::of(served.address);
    client.peer(peer.address());
    assert_eq!(peer.receive().len(), 403);
    served.stop();
}

#[test]
fn a_gateway_of_both_families_serves_peers_of_both() {
    let served = Served::on(&["[::1]:0", "127.0.0.1:0"], &[]);
    let clients: Vec<Client> = served.addresses.iter().copied().map(Client::of).collect();
    clients[0].add(b"six");
    clients[1].wait_for_key(b"six");
    let peers: Vec<Client> = served.addresses.iter().copied().map(Client::of).collect();
    // Each is named over the other family, and its rows leave from its own.
    clients[1].peer(peers[0].address());
    clients[0].peer(peers[1].address());
    for _ in 0..20 {
        for peer in &peers {
            assert_eq!(peer.receive().len(), 403);
            peer.send(&ACK);
        }
    }
    served.stop();
}
