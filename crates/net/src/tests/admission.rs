//! Who is let in, and what both sides are told.

use super::*;

#[tokio::test]
async fn members_learn_who_the_other_is() {
    let mut first = settings(ring(1), Carriers::BOTH);
    first.greeting = Bytes::from_static(b"first");
    let second = settings(ring(1), Carriers::BOTH);
    let (mut a, mut b) = (node_with(1, first).await, node_with(2, second).await);
    a.dial(&b).await;
    let (seen_by_a, seen_by_b) = (a.admitted().await, b.admitted().await);
    assert_eq!(&*seen_by_b.greeting, b"first");
    assert_eq!(
        seen_by_a.greeting,
        settings(ring(1), Carriers::BOTH).greeting
    );
    assert_eq!((seen_by_a.peer, seen_by_b.peer), (b.key(), a.key()));
    assert!(seen_by_a.dialed && !seen_by_b.dialed);
    assert_eq!(seen_by_a.key_id, "key-1");
    assert_eq!(seen_by_a.remote, b.handle.addresses()[0]);
}

#[tokio::test]
async fn another_secret_or_none_is_not_let_in() {
    let (with, other, none) = (ring(1), ring(2), Keyring::default());
    let pairs = [(&with, &other), (&with, &none), (&none, &with)];
    for (number, (ours, theirs)) in pairs.into_iter().enumerate() {
        let number = u8::try_from(number).unwrap() * 2;
        let mut a = node(10 + number, ours.clone()).await;
        let mut b = node(11 + number, theirs.clone()).await;
        a.dial(&b).await;
        let reason = a.dial_failed().await;
        assert!(matches!(reason, DialFailure::NotAdmitted), "{reason}");
        let reason = b.refused().await;
        assert!(matches!(reason, Refusal::NoProof), "{reason}");
        assert!(a.handle.peers().is_empty() && b.handle.peers().is_empty());
    }
}

#[tokio::test]
async fn without_a_secret_nodes_of_one_machine_meet() {
    let open = settings(Keyring::default(), Carriers::BOTH);
    let (mut a, mut b) = pair(open.clone(), open).await;
    a.send(&b.key(), "x").unwrap();
    b.frame().await;
    // An address of a network for documentation; nothing is sent there.
    a.handle
        .dial("192.0.2.1:8676".parse().unwrap())
        .await
        .unwrap();
    let reason = a.dial_failed().await;
    assert!(matches!(reason, DialFailure::NotLoopback), "{reason}");
}

#[tokio::test]
async fn without_a_secret_it_does_not_listen_to_others() {
    for listen in ["0.0.0.0:0", "192.0.2.1:8676", "[::]:0"] {
        let mut open = settings(Keyring::default(), Carriers::BOTH);
        open.listen = vec!["127.0.0.1:0".parse().unwrap(), listen.parse().unwrap()];
        let refused = start(open, &NodeKey::from_bytes([1; 32])).await;
        let text = refused.err().expect("a refusal").to_string();
        assert!(text.contains("group.secret_file"), "{text}");
    }
    let mut guarded = settings(ring(1), Carriers::BOTH);
    guarded.listen = vec!["0.0.0.0:0".parse().unwrap()];
    let node = node_with(1, guarded).await;
    let refused = node.handle.set_keyring(Keyring::default()).await;
    assert!(matches!(
        refused,
        Err(HandleError::Setting(StartError::NoSecret { .. }))
    ));
}

/// A name that cannot be one: no name server is asked.
#[tokio::test]
async fn why_a_name_is_not_found_is_said_in_words() {
    let mut node = node(1, ring(1)).await;
    let address = "a..b:8676".parse().unwrap();
    node.handle.dial(address).await.unwrap();
    let reason = node.dial_failed().await;
    assert!(matches!(reason, DialFailure::Name(_)), "{reason}");
    let said = reason.to_string();
    let why = said.strip_prefix("the name cannot be resolved: ");
    // The words are the system's.
    assert!(
        why.is_some_and(|why| why.contains(' ') && !why.contains("uncategorized")),
        "{said}"
    );
}

#[tokio::test]
async fn a_node_that_calls_itself_is_told() {
    let mut node = node(1, ring(1)).await;
    node.dial(&node).await;
    let reason = node.dial_failed().await;
    assert!(matches!(reason, DialFailure::Myself), "{reason}");
}

#[tokio::test]
async fn a_call_that_reaches_nobody_or_somebody_else_says_so() {
    let (mut a, b) = (node(1, ring(1)).await, node(2, ring(1)).await);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    a.handle.dial(nobody.into()).await.unwrap();
    let reason = a.dial_failed().await;
    assert!(matches!(reason, DialFailure::NoAnswer), "{reason}");
    let somebody = NodeKey::from_bytes([9; 32]).public();
    let addresses = vec![b.address()];
    a.handle.dial_known(somebody, addresses).await.unwrap();
    let reason = a.dial_failed().await;
    assert!(matches!(reason, DialFailure::WrongPeer), "{reason}");
    let nowhere = "no-such-host.invalid:1".parse().unwrap();
    a.handle.dial(nowhere).await.unwrap();
    let reason = a.dial_failed().await;
    assert!(matches!(reason, DialFailure::Name(_)), "{reason}");
}

#[tokio::test]
async fn the_owner_can_turn_away_a_member_with_a_reason() {
    let settings = settings(ring(1), Carriers::BOTH);
    let (mut a, mut b) = (
        node_with(1, settings.clone()).await,
        node_with(2, settings).await,
    );
    a.handle.set_seeds([b.address()].into()).await.unwrap();
    a.admitted().await;
    let session = b.admitted().await.session;
    let goodbye = Goodbye::new(Reason::OtherGroup, "lab, not office");
    let peer = a.key();
    b.handle
        .disconnect(peer, session, goodbye.clone())
        .await
        .unwrap();
    let (_, reason) = a.closed().await;
    assert!(
        matches!(&reason, CloseReason::Remote(said) if *said == goodbye),
        "{reason}"
    );
    let (closed, reason) = b.closed().await;
    assert_eq!(closed, session);
    assert!(matches!(reason, CloseReason::Local(said) if said == goodbye));
    // It comes back late: nothing for longer than after an ordinary loss.
    let back = timeout(Duration::from_secs(2), b.admitted()).await;
    assert!(back.is_err());
}
