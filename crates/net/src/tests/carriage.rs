//! Frames, their order, and their bounds.

use super::*;
use crate::limits::{FRAME_OVERHEAD_BYTES, INBOX_BYTES_MAX, OUTBOX_BYTES_MAX, WINDOW_BYTES};

/// The largest frame.
const LARGEST: usize = grapevine_core::wire::group::DATA_BYTES_MAX;

fn content(length: usize, number: usize) -> Bytes {
    (0..length).map(|i| (i * 7 + number) as u8).collect()
}

#[tokio::test]
async fn frames_go_both_ways_by_every_carrier() {
    for carriers in [Carriers::QUIC, Carriers::TCP, Carriers::BOTH] {
        let settings = settings(ring(1), carriers);
        let (mut a, mut b) = pair(settings.clone(), settings).await;
        let sizes = [0, 1, 1000, 64 << 10, LARGEST, 3, 300_000, LARGEST, 0];
        for (number, size) in sizes.into_iter().enumerate() {
            a.send(&b.key(), content(size, number)).unwrap();
            b.send(&a.key(), content(size, number + 100)).unwrap();
        }
        for (number, size) in sizes.into_iter().enumerate() {
            assert_eq!(b.frame().await, (a.key(), content(size, number)));
            assert_eq!(a.frame().await, (b.key(), content(size, number + 100)));
        }
        let over = a.send(&b.key(), content(LARGEST + 1, 0));
        assert_eq!(over, Err(SendError::TooLarge(LARGEST + 1)));
    }
}

#[tokio::test]
async fn three_nodes_all_reach_each_other() {
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(node(number, ring(1)).await);
    }
    nodes[0].dial(&nodes[1]).await;
    nodes[1].dial(&nodes[2]).await;
    nodes[2].dial(&nodes[0]).await;
    let keys: Vec<PeerKey> = nodes.iter().map(Node::key).collect();
    for node in &mut nodes {
        node.admitted().await;
        node.admitted().await;
        for other in keys.iter().filter(|key| **key != node.key()) {
            node.send(other, "hello").unwrap();
        }
    }
    for node in &mut nodes {
        let mut from = vec![node.frame().await.0, node.frame().await.0, node.key()];
        from.sort();
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!(from, expected);
    }
}

#[tokio::test]
async fn both_carriers_listen_at_one_port() {
    let node = node(1, ring(1)).await;
    assert_eq!(node.handle.addresses().len(), 1);
    let address = node.handle.addresses()[0];
    assert_ne!(address.port(), 0);
    assert!(std::net::UdpSocket::bind(address).is_err());
    assert!(std::net::TcpListener::bind(address).is_err());
    // Somebody else who wants it gets an error, not half of its connections.
    let mut taken = settings(ring(1), Carriers::TCP);
    taken.listen = vec![address];
    let refused = start(taken, &NodeKey::from_bytes([2; 32])).await;
    assert!(matches!(refused, Err(StartError::Listen { .. })));
}

#[tokio::test]
async fn a_slow_owner_slows_its_peer_and_nothing_grows() {
    for carriers in [Carriers::QUIC, Carriers::TCP] {
        let settings = settings(ring(1), carriers);
        let (mut a, mut b) = pair(settings.clone(), settings).await;
        let (size, mut sent) = (64 << 10, 0);
        // The owner of b takes nothing until the queue is full and stays so.
        let full = async {
            let mut quiet = tokio::time::Instant::now();
            while quiet.elapsed() < Duration::from_millis(700) {
                match a.send(&b.key(), content(size, sent)) {
                    Ok(()) => (sent, quiet) = (sent + 1, tokio::time::Instant::now()),
                    Err(error) => assert_eq!(error, SendError::Full),
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, full).await.unwrap();
        // The kernel's buffers for TCP are the only part that is not ours.
        let kernel = 8 << 20;
        let window = usize::try_from(WINDOW_BYTES).unwrap();
        let most = OUTBOX_BYTES_MAX + INBOX_BYTES_MAX + 2 * window + kernel;
        let bytes = sent * (size + FRAME_OVERHEAD_BYTES);
        assert!(bytes <= most, "{bytes} bytes were taken, {most} expected");
        assert!(a.handle.peers()[0].waiting <= OUTBOX_BYTES_MAX);
        for number in 0..sent {
            assert_eq!(b.frame().await.1, content(size, number));
        }
        a.until(|event| matches!(event, Event::Writable { .. }).then_some(()))
            .await;
        a.send(&b.key(), "again").unwrap();
        assert_eq!(&*b.frame().await.1, b"again");
    }
}

#[tokio::test]
async fn one_slow_peer_does_not_slow_another() {
    let mut hub = node(1, ring(1)).await;
    let (mut fast, slow) = (node(2, ring(1)).await, node(3, ring(1)).await);
    hub.dial(&fast).await;
    hub.dial(&slow).await;
    hub.admitted().await;
    hub.admitted().await;
    let filled = async {
        while hub.send(&slow.key(), content(LARGEST, 0)).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, filled).await.unwrap();
    for number in 0..100 {
        hub.send(&fast.key(), content(1000, number)).unwrap();
        assert_eq!(fast.frame().await.1, content(1000, number));
    }
}

#[tokio::test]
async fn a_goodbye_comes_after_everything_else() {
    let settings = settings(ring(1), Carriers::BOTH);
    let (mut a, mut b) = pair(settings.clone(), settings).await;
    for number in 0..20 {
        a.send(&b.key(), content(10_000, number)).unwrap();
    }
    a.handle.stop().await;
    for number in 0..20 {
        assert_eq!(b.frame().await.1, content(10_000, number));
    }
    let reason = b.closed().await.1;
    assert!(
        matches!(&reason, CloseReason::Remote(goodbye) if goodbye.reason == Reason::Stopping),
        "{reason}"
    );
    let reason = a.closed().await.1;
    assert!(matches!(reason, CloseReason::Local(_)), "{reason}");
    assert!(matches!(
        a.handle.dial(b.address()).await,
        Err(HandleError::Stopped)
    ));
}
