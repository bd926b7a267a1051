//! Those who want in and must not: refused with a reason, bounded, and nobody else notices.

use std::pin::Pin;
use std::task::{Context, Poll};

use grapevine_core::wire::group::{
    Decoded, Kind, NONCE_BYTES, OPENING_BYTES_MAX, Opening, PROOFS_BYTES, decode, push_frame,
};
use libp2p::futures::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stranger::{Stranger, opening};
use super::*;
use crate::admission::{Ends, as_dialer};

/// A pair of members that talk, to see that nothing disturbs them.
async fn witnesses() -> (Node, Node) {
    let settings = settings(ring(1), Carriers::BOTH);
    pair(settings.clone(), settings).await
}

async fn undisturbed(a: &mut Node, b: &mut Node) {
    a.send(&b.key(), "still here").unwrap();
    let (peer, bytes) = b.frame().await;
    assert_eq!((peer, &*bytes), (a.key(), b"still here".as_slice()));
    assert_eq!(a.handle.peers().len(), 1);
}

fn goodbye_in(heard: &[u8]) -> Option<Goodbye> {
    let mut rest = heard;
    while let Ok(Decoded::Whole(frame, end)) = decode(rest) {
        if frame.kind == Kind::Goodbye {
            return Goodbye::decode(frame.content);
        }
        rest = &rest[end..];
    }
    None
}

#[tokio::test]
async fn garbage_on_the_port_is_refused() {
    let (mut a, mut b) = witnesses().await;
    let mut raw = TcpStream::connect(a.handle.addresses()[0]).await.unwrap();
    raw.write_all(&[0xff; 5000]).await.unwrap();
    let mut heard = Vec::new();
    let end = timeout(DEADLINE, raw.read_to_end(&mut heard)).await;
    assert!(end.is_ok(), "it is hung up on");
    assert!(!heard.windows(4).any(|part| part == b"name"));
    let reason = a.refused().await;
    assert!(matches!(reason, Refusal::NotEncrypted), "{reason}");
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_stranger_hears_random_bytes_and_nothing_else() {
    for carriers in [Carriers::QUIC, Carriers::TCP] {
        let (mut a, mut b) = witnesses().await;
        let mut stranger = Stranger::meet(50, &a, carriers).await;
        stranger.say(&[1; NONCE_BYTES + PROOFS_BYTES]).await;
        let first = stranger.hear().await;
        assert_eq!(first.len(), NONCE_BYTES, "one nonce, and not a byte more");
        let reason = a.refused().await;
        assert!(matches!(reason, Refusal::NoProof), "{reason}");
        let mut stranger = Stranger::meet(50, &a, carriers).await;
        stranger.say(&[1; NONCE_BYTES + PROOFS_BYTES]).await;
        assert_ne!(stranger.hear().await, first, "a nonce is used once");
        undisturbed(&mut a, &mut b).await;
    }
}

#[tokio::test]
async fn a_stranger_that_hangs_up_or_waits_is_refused() {
    let (mut a, mut b) = witnesses().await;
    let mut short = Stranger::meet(50, &a, Carriers::TCP).await;
    short.say(&[1; NONCE_BYTES + 7]).await;
    drop(short);
    let reason = a.refused().await;
    assert!(matches!(reason, Refusal::HungUp), "{reason}");
    let begun = tokio::time::Instant::now();
    let mut mute = Stranger::meet(51, &a, Carriers::QUIC).await;
    assert!(mute.hear().await.is_empty());
    let waited = begun.elapsed();
    assert!(waited < 2 * limits::ADMISSION_TIME, "{waited:?}");
    let reason = a.refused().await;
    assert!(matches!(reason, Refusal::Late), "{reason}");
    undisturbed(&mut a, &mut b).await;
}

/// Notes what is sent.
struct Noted<'a> {
    stream: &'a mut libp2p::Stream,
    sent: Vec<u8>,
}

impl AsyncRead for Noted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Noted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.sent.extend_from_slice(&bytes[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_close(cx)
    }
}

#[tokio::test]
async fn a_recorded_admission_is_worth_nothing() {
    let (mut a, mut b) = witnesses().await;
    let mut member = Stranger::meet(50, &a, Carriers::TCP).await;
    let ends = Ends {
        local: NodeKey::from_bytes([50; 32]).public(),
        remote: a.key(),
    };
    let mut noted = Noted {
        stream: &mut member.stream,
        sent: Vec::new(),
    };
    as_dialer(&mut noted, ends, &ring(1)).await.unwrap();
    let recorded = noted.sent;
    assert_eq!(recorded.len(), NONCE_BYTES + PROOFS_BYTES);
    drop(member);
    a.refused().await;
    // From the same key and from another one.
    for number in [50, 51] {
        let mut replayer = Stranger::meet(number, &a, Carriers::TCP).await;
        replayer.say(&recorded).await;
        assert_eq!(replayer.hear().await.len(), NONCE_BYTES);
        let reason = a.refused().await;
        assert!(matches!(reason, Refusal::NoProof), "{reason}");
    }
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_member_of_another_version_is_told() {
    let (mut a, mut b) = witnesses().await;
    let mut future = Stranger::meet(50, &a, Carriers::QUIC).await;
    future.prove(&ring(1)).await;
    let opening = Opening {
        newest: 9,
        oldest: 8,
        ..opening()
    };
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Opening, &opening.encode()).unwrap();
    future.say(&frame).await;
    let goodbye = goodbye_in(&future.hear().await).expect("a goodbye");
    assert_eq!(goodbye.reason, Reason::Version);
    assert!(goodbye.text.contains("8 to 9"), "{goodbye}");
    let reason = a.refused().await;
    assert!(
        matches!(&reason, Refusal::Told(said) if *said == goodbye),
        "{reason}"
    );
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_at_its_opening_is_refused() {
    let (mut a, mut b) = witnesses().await;
    let mut early = Vec::new();
    push_frame(&mut early, Kind::Data, b"x").unwrap();
    let mut oversize = u32::try_from(OPENING_BYTES_MAX + 1)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    oversize.push(2);
    let mut empty = Vec::new();
    push_frame(&mut empty, Kind::Opening, b"").unwrap();
    for (number, bytes) in (50..).zip([early, oversize, empty]) {
        let mut member = Stranger::meet(number, &a, Carriers::TCP).await;
        member.prove(&ring(1)).await;
        member.say(&bytes).await;
        assert!(member.hear().await.is_empty());
        let reason = a.refused().await;
        assert!(matches!(reason, Refusal::Malformed(_)), "{reason}");
    }
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_member_that_sends_no_frame_is_told_and_cut_off() {
    let (mut a, mut b) = witnesses().await;
    let oversize = b"\x01\x00\x08\x00\x00and more".as_slice();
    for (number, bytes) in (50..).zip([oversize, b"\0\0\0\0\x02", b"\0\0\0\0\x03"]) {
        let carriers = [Carriers::QUIC, Carriers::TCP][usize::from(number % 2)];
        let mut member = Stranger::meet(number, &a, carriers).await;
        member.prove(&ring(1)).await;
        let mut frames = Vec::new();
        push_frame(&mut frames, Kind::Opening, &opening().encode()).unwrap();
        // What only a newer version knows is passed over.
        push_frame(&mut frames, Kind::Newer(0x77), b"news").unwrap();
        push_frame(&mut frames, Kind::Data, b"good").unwrap();
        member.say(&frames).await;
        assert_eq!(&*a.frame().await.1, b"good");
        member.say(bytes).await;
        let (_, reason) = a.closed().await;
        assert!(matches!(reason, CloseReason::Malformed(_)), "{reason}");
        let goodbye = goodbye_in(&member.hear().await).expect("a goodbye");
        assert_eq!(goodbye.reason, Reason::Malformed);
    }
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_member_that_hangs_up_within_a_frame_is_gone_and_its_piece_with_it() {
    let (mut a, mut b) = witnesses().await;
    for (number, carriers) in (50..).zip([Carriers::QUIC, Carriers::TCP]) {
        let mut member = Stranger::meet(number, &a, carriers).await;
        member.prove(&ring(1)).await;
        let (mut frames, mut cut) = (Vec::new(), Vec::new());
        push_frame(&mut frames, Kind::Opening, &opening().encode()).unwrap();
        push_frame(&mut frames, Kind::Data, b"good").unwrap();
        push_frame(&mut cut, Kind::Data, &[7; 1000]).unwrap();
        frames.extend_from_slice(&cut[..500]);
        member.say(&frames).await;
        assert_eq!(&*a.frame().await.1, b"good");
        drop(member);
        // Nothing of the piece comes before the end.
        let event = a.next().await;
        assert!(
            matches!(
                &event,
                Event::Closed {
                    reason: CloseReason::Lost(_),
                    ..
                }
            ),
            "{event:?}"
        );
    }
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test]
async fn two_hundred_strangers_do_not_keep_a_member_out() {
    let mut a = node(1, ring(1)).await;
    let mut raw = Vec::new();
    for _ in 0..200 {
        raw.push(TcpStream::connect(a.handle.addresses()[0]).await.unwrap());
    }
    let mut encrypted = Vec::new();
    for number in 0..100 {
        encrypted.push(Stranger::try_meet(100 + number, &a, Carriers::TCP).await);
    }
    let mut member = node(2, ring(1)).await;
    let begun = tokio::time::Instant::now();
    member.handle.set_seeds([a.address()].into()).await.unwrap();
    assert_eq!(member.admitted().await.peer, a.key());
    let waited = begun.elapsed();
    assert!(waited < limits::ADMISSION_TIME, "{waited:?}");
    a.admitted().await;
    undisturbed(&mut member, &mut a).await;
    let crowded = a
        .handle
        .counters()
        .refused
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(crowded >= 100 - limits::STRANGERS_MAX as u64, "{crowded}");
}
