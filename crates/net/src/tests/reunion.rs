//! Losing each other and finding each other again.

use std::sync::atomic::Ordering;

use super::*;

/// Frames to and fro on the sessions that both sides now have; false when one is over meanwhile.
async fn talk(a: &mut Node, b: &mut Node) -> bool {
    for number in 0..50 {
        let text = format!("talk {number}");
        if a.send(&b.key(), text.clone()).is_err() {
            return false;
        }
        let heard = timeout(Duration::from_secs(2), b.frame()).await;
        if heard.map(|(_, bytes)| bytes) != Ok(text.into()) {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn two_that_call_each_other_at_once_keep_one_connection() {
    for round in 0..12 {
        let carriers = [Carriers::BOTH, Carriers::TCP, Carriers::QUIC][round % 3];
        let settings = settings(ring(1), carriers);
        let mut a = node_with(1, settings.clone()).await;
        let mut b = node_with(2, settings).await;
        tokio::join!(a.dial(&b), b.dial(&a));
        a.admitted().await;
        b.admitted().await;
        let settled =
            async { while !(talk(&mut a, &mut b).await && talk(&mut b, &mut a).await) {} };
        timeout(DEADLINE, settled).await.unwrap();
        let (of_a, of_b) = (a.handle.peers(), b.handle.peers());
        assert_eq!((of_a.len(), of_b.len()), (1, 1));
        assert_ne!(
            of_a[0].dialed, of_b[0].dialed,
            "both speak of one connection"
        );
        for node in [&a, &b] {
            let refused = node.handle.counters().refused.load(Ordering::Relaxed);
            assert_eq!(refused, 0, "a connection that gives way is not refused");
        }
    }
}

#[tokio::test]
async fn calling_a_peer_that_is_there_changes_nothing() {
    let settings = settings(ring(1), Carriers::BOTH);
    let (mut a, mut b) = pair(settings.clone(), settings).await;
    let before = (a.handle.peers()[0].session, b.handle.peers()[0].session);
    for _ in 0..3 {
        a.dial(&b).await;
        b.dial(&a).await;
        assert!(talk(&mut a, &mut b).await);
    }
    let after = (a.handle.peers()[0].session, b.handle.peers()[0].session);
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_restarted_peer_is_closed_and_admitted_anew() {
    for carriers in [Carriers::QUIC, Carriers::TCP] {
        let settings = settings(ring(1), carriers);
        let mut a = node_with(1, settings.clone()).await;
        let b = node_with(2, settings.clone()).await;
        let address = b.handle.addresses()[0];
        a.handle.set_seeds([address.into()].into()).await.unwrap();
        let first = a.admitted().await;
        // As after a crash: no goodbye.
        drop(b);
        let again = Settings {
            listen: vec![address],
            ..settings
        };
        let mut b = restarted(again).await;
        assert_eq!(a.closed().await.0, first.session);
        let second = a.admitted().await;
        assert_eq!(second.peer, first.peer);
        assert!(second.session > first.session);
        b.admitted().await;
        assert!(talk(&mut a, &mut b).await);
    }
}

/// The port is free a moment after the old transport was dropped.
async fn restarted(settings: Settings) -> Node {
    let key = NodeKey::from_bytes([2; 32]);
    let started = async {
        loop {
            match start(settings.clone(), &key).await {
                Ok((handle, events)) => return Node { handle, events },
                Err(StartError::Listen { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(DEADLINE, started).await.unwrap()
}

#[tokio::test]
async fn a_restarted_peer_that_calls_first_replaces_its_old_session() {
    let settings = settings(ring(1), Carriers::TCP);
    let (mut a, b) = pair(settings.clone(), settings.clone()).await;
    let old = a.handle.peers()[0].session;
    // The old run still answers, so the session is not lost by itself.
    let mut again = node_with(2, settings).await;
    again.dial(&a).await;
    let (closed, reason) = a.closed().await;
    assert_eq!(closed, old);
    assert!(
        matches!(&reason, CloseReason::Local(goodbye) if goodbye.reason == Reason::Duplicate),
        "{reason}"
    );
    assert!(a.admitted().await.session > old);
    again.admitted().await;
    assert!(talk(&mut a, &mut again).await);
    drop(b);
}

#[tokio::test]
async fn one_side_that_can_call_is_enough() {
    let mut silent = settings(ring(1), Carriers::BOTH);
    silent.listen = Vec::new();
    let (mut a, mut b) = pair(silent, settings(ring(1), Carriers::BOTH)).await;
    assert!(a.handle.addresses().is_empty());
    assert!(talk(&mut a, &mut b).await && talk(&mut b, &mut a).await);
}

#[tokio::test]
async fn a_node_that_comes_late_is_found() {
    let settings = settings(ring(1), Carriers::BOTH);
    let mut a = node_with(1, settings.clone()).await;
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    drop(held);
    let peer = NodeKey::from_bytes([2; 32]).public();
    a.handle.want(peer, vec![address.into()]).await.unwrap();
    a.dial_failed().await;
    let late = Settings {
        listen: vec![address],
        ..settings
    };
    let mut b = restarted(late).await;
    assert_eq!(a.admitted().await.peer, peer);
    b.admitted().await;
}

#[tokio::test]
async fn when_one_carrier_is_blocked_the_other_is_taken() {
    let both = settings(ring(1), Carriers::BOTH);
    for other in [Carriers::TCP, Carriers::QUIC] {
        let mut a = node_with(1, both.clone()).await;
        let mut b = node_with(2, settings(ring(1), other)).await;
        a.dial(&b).await;
        a.admitted().await;
        b.admitted().await;
        assert!(talk(&mut a, &mut b).await);
    }
}
