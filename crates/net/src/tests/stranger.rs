//! Somebody who can encrypt a connection and then sends what it likes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use grapevine_core::wire::group::{Opening, PROTOCOL_NEWEST, PROTOCOL_OLDEST};
use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Stream, Swarm};

use super::*;
use crate::address::multiaddr;
use crate::admission::{Ends, as_dialer};
use crate::network::{self, Behaviour, BehaviourEvent};

pub(super) struct Stranger {
    pub(super) stream: Stream,
    ends: Ends,
    swarm: tokio::task::JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Stranger {
    /// Encrypts a connection to a node and opens the stream.
    pub(super) async fn meet(number: u8, node: &Node, carriers: Carriers) -> Stranger {
        let met = Self::try_meet(number, node, carriers).await;
        met.expect("the connection is encrypted and has its stream")
    }

    /// None when the node ends the connection first.
    pub(super) async fn try_meet(number: u8, node: &Node, carriers: Carriers) -> Option<Stranger> {
        let key = NodeKey::from_bytes([number; 32]);
        let mut settings = settings(Keyring::default(), carriers);
        settings.listen = Vec::new();
        let free = Arc::new(AtomicBool::new(false));
        let mut swarm = network::build(&settings, &key, free).unwrap();
        let way = multiaddr(node.handle.addresses()[0], carriers.each()[0]);
        let options = DialOpts::unknown_peer_id().address(way).build();
        swarm.dial(options).unwrap();
        let stream = timeout(DEADLINE, stream_of(&mut swarm)).await.ok()??;
        let swarm = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let ends = Ends {
            local: key.public(),
            remote: node.key(),
        };
        Some(Stranger {
            stream,
            ends,
            swarm,
        })
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        // The other side may have hung up, which the test then sees in what it hears.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Everything until the other hangs up.
    pub(super) async fn hear(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let reading = async {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = self.stream.read(&mut some).await {
                heard.extend_from_slice(&some[..count]);
            }
        };
        timeout(DEADLINE, reading)
            .await
            .expect("the other hangs up");
        heard
    }

    /// Proves membership as a member would.
    pub(super) async fn prove(&mut self, ring: &Keyring) {
        let ends = self.ends;
        let proved = as_dialer(&mut self.stream, ends, ring).await;
        proved.expect("the secret is the right one");
    }
}

async fn stream_of(swarm: &mut Swarm<Behaviour>) -> Option<Stream> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Door(opened)) => return Some(opened.stream),
            SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => {
                return None;
            }
            _ => {}
        }
    }
}

/// What a member says first.
pub(super) fn opening() -> Opening {
    Opening {
        newest: PROTOCOL_NEWEST,
        oldest: PROTOCOL_OLDEST,
        incarnation: 77,
        greeting: b"stranger".to_vec(),
    }
}
