//! Listening on all addresses of both families, and of one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::*;

const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn has_ipv6() -> bool {
    UdpSocket::bind((SIX, 0)).is_ok()
}

async fn everywhere(listen: &[IpAddr]) -> Node {
    let listen = listen.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
    let settings = Settings {
        listen,
        ..settings(ring(1), Carriers::BOTH)
    };
    node_with(1, settings).await
}

#[tokio::test]
async fn both_families_are_served_by_both_carriers_at_one_port() {
    if !has_ipv6() {
        return;
    }
    let all = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let mut node = everywhere(&all).await;
    let addresses = node.handle.addresses();
    let port = addresses[0].port();
    for ip in [FOUR, SIX] {
        assert!(addresses.contains(&(ip, port).into()), "{addresses:?}");
    }
    let mut number = 2;
    for carriers in [Carriers::TCP, Carriers::QUIC] {
        for ip in [FOUR, SIX] {
            let mut client = node_with(number, settings(ring(1), carriers)).await;
            number += 1;
            let to = SocketAddr::from((ip, port));
            client.handle.dial(to.into()).await.unwrap();
            assert_eq!(client.admitted().await.remote, to);
            let admitted = node.admitted().await;
            assert_eq!(admitted.peer, client.key(), "{carriers:?} to {to}");
            assert_eq!(
                admitted.remote.ip(),
                ip,
                "an IPv4 address is one everywhere"
            );
        }
    }
}

#[tokio::test]
async fn on_all_addresses_of_ipv4_nothing_of_ipv6_is_taken() {
    if !has_ipv6() {
        return;
    }
    let node = everywhere(&[Ipv4Addr::UNSPECIFIED.into()]).await;
    let addresses = node.handle.addresses();
    assert!(addresses.iter().all(SocketAddr::is_ipv4), "{addresses:?}");
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addresses[0].port()));
    sockets::tcp(six).unwrap();
    sockets::udp(six).unwrap();
}
