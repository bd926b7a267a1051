//! Whole transports on loopback, with real encryption and real strangers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;

mod admission;
mod carriage;
mod families;
mod reunion;
mod rotation;
mod stranger;
mod strangers;

/// Longer than anything takes unless it never happens.
const DEADLINE: Duration = Duration::from_secs(30);

/// A transport and what it reports.
struct Node {
    handle: Handle,
    events: Events,
}

fn ring(byte: u8) -> Keyring {
    Keyring::new(key(byte))
}

fn key(byte: u8) -> Key {
    Key::new(&format!("key-{byte}"), [byte; KEY_BYTES]).unwrap()
}

fn settings(keyring: Keyring, carriers: Carriers) -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        discover: false,
        keyring,
        greeting: Bytes::from_static(b"group lab, node secret-name"),
        carriers,
    }
}

async fn node(number: u8, keyring: Keyring) -> Node {
    node_with(number, settings(keyring, Carriers::BOTH)).await
}

async fn node_with(number: u8, settings: Settings) -> Node {
    let key = NodeKey::from_bytes([number; 32]);
    let (handle, events) = start(settings, &key).await.unwrap();
    Node { handle, events }
}

impl Node {
    fn key(&self) -> PeerKey {
        self.handle.local()
    }

    fn address(&self) -> Address {
        self.handle.addresses()[0].into()
    }

    async fn dial(&self, other: &Node) {
        self.handle.dial(other.address()).await.unwrap();
    }

    async fn next(&mut self) -> Event {
        let event = timeout(DEADLINE, self.events.next()).await;
        event
            .expect("an event in time")
            .expect("a running transport")
    }

    /// Passes over events until one is meant.
    async fn until<T>(&mut self, mut meant: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = meant(self.next().await) {
                return found;
            }
        }
    }

    async fn admitted(&mut self) -> Admitted {
        self.until(|event| match event {
            Event::Admitted(admitted) => Some(admitted),
            _ => None,
        })
        .await
    }

    async fn closed(&mut self) -> (SessionId, CloseReason) {
        self.until(|event| match event {
            Event::Closed {
                session, reason, ..
            } => Some((session, reason)),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self) -> (PeerKey, Bytes) {
        self.until(|event| match event {
            Event::Frame { peer, bytes, .. } => Some((peer, bytes)),
            _ => None,
        })
        .await
    }

    async fn refused(&mut self) -> Refusal {
        self.until(|event| match event {
            Event::Refused { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> DialFailure {
        self.until(|event| match event {
            Event::DialFailed { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    fn session_with(&self, peer: &PeerKey) -> Option<SessionId> {
        let peers = self.handle.peers();
        let found = peers.into_iter().find(|known| known.key == *peer);
        found.map(|found| found.session)
    }

    fn send(&self, peer: &PeerKey, bytes: impl Into<Bytes>) -> Result<(), SendError> {
        let session = self.session_with(peer).ok_or(SendError::Gone)?;
        self.handle.send(peer, session, bytes.into())
    }
}

/// Two nodes with a session, the first has called.
async fn pair(a: Settings, b: Settings) -> (Node, Node) {
    let (mut a, mut b) = (node_with(1, a).await, node_with(2, b).await);
    a.dial(&b).await;
    assert_eq!(a.admitted().await.peer, b.key());
    assert_eq!(b.admitted().await.peer, a.key());
    (a, b)
}
