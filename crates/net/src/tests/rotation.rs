//! Replacing the secret while traffic flows.

use super::*;

async fn exchange(a: &mut Node, b: &mut Node, number: usize) {
    let text = format!("frame {number}");
    a.send(&b.key(), text.clone()).unwrap();
    let (peer, bytes) = b
        .until(|event| match event {
            Event::Frame { peer, bytes, .. } => Some((peer, bytes)),
            Event::Closed { reason, .. } => panic!("cut off: {reason}"),
            _ => None,
        })
        .await;
    assert_eq!((peer, &*bytes), (a.key(), text.as_bytes()));
}

async fn give(nodes: [&Node; 2], change: impl Fn(&Keyring) -> Keyring, rings: &mut [Keyring; 2]) {
    for (node, ring) in nodes.into_iter().zip(rings) {
        *ring = change(ring);
        node.handle.set_keyring(ring.clone()).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_is_replaced_without_cutting_anybody_off() {
    let settings = settings(ring(1), Carriers::BOTH);
    let (mut a, mut b) = pair(settings.clone(), settings).await;
    a.handle.set_seeds([b.address()].into()).await.unwrap();
    let mut rings = [ring(1), ring(1)];
    exchange(&mut a, &mut b, 0).await;
    give([&a, &b], |ring| ring.add(key(2)).unwrap(), &mut rings).await;
    exchange(&mut a, &mut b, 1).await;
    give([&a, &b], |ring| ring.using("key-2").unwrap(), &mut rings).await;
    exchange(&mut b, &mut a, 2).await;
    // Who comes now is let in by the new one.
    let mut c = node(3, rings[0].clone()).await;
    c.dial(&a).await;
    assert_eq!(c.admitted().await.key_id, "key-2");
    assert_eq!(a.admitted().await.key_id, "key-2");
    // Those who came by the old one are told, and come back by the new one.
    give([&a, &b], |ring| ring.without("key-1").unwrap(), &mut rings).await;
    let (_, reason) = a.closed().await;
    let told = match reason {
        CloseReason::Local(goodbye) | CloseReason::Remote(goodbye) => goodbye.reason,
        other => panic!("{other}"),
    };
    assert_eq!(told, Reason::SecretRemoved);
    assert_eq!(a.admitted().await.key_id, "key-2");
    b.closed().await;
    assert_eq!(b.admitted().await.key_id, "key-2");
    exchange(&mut a, &mut b, 3).await;
    // The one who came by the new one never noticed.
    exchange(&mut a, &mut c, 4).await;
    let mut late = node(4, ring(1)).await;
    late.dial(&a).await;
    let reason = late.dial_failed().await;
    assert!(matches!(reason, DialFailure::NotAdmitted), "{reason}");
}

#[tokio::test]
async fn nodes_in_any_step_of_a_rotation_meet() {
    let old = ring(1);
    let added = old.add(key(2)).unwrap();
    let used = added.using("key-2").unwrap();
    let removed = used.without("key-1").unwrap();
    let mut number = 10;
    for (ours, theirs, expected) in [
        (&old, &added, "key-1"),
        (&used, &old, "key-1"),
        (&added, &used, "key-2"),
        (&used, &added, "key-1"),
        (&removed, &added, "key-2"),
    ] {
        let mut a = node(number, ours.clone()).await;
        let mut b = node(number + 1, theirs.clone()).await;
        number += 2;
        a.dial(&b).await;
        assert_eq!(a.admitted().await.key_id, expected);
        assert_eq!(b.admitted().await.key_id, expected);
    }
}
