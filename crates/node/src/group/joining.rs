//! Joining at an address while the node runs.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::command::{CommandError, Joined};
use super::owner::Owner;
use grapevine_net::{Address, DialFailure, PeerKey, SEEDS_MAX};

/// How long a join waits for an answer, in milliseconds.
const JOIN_MS: u64 = 10_000;
/// Joins that wait at a time.
const JOINS_MAX: usize = 16;

type Answer = oneshot::Sender<Result<Joined, CommandError>>;

struct Pending {
    address: Address,
    resolved: Vec<SocketAddr>,
    deadline: u64,
    answer: Answer,
    /// The address was called before, and is so afterwards whatever comes of this.
    known: bool,
    /// This node was outside of any group.
    outside: bool,
}

/// The joins that wait.
#[derive(Default)]
pub(super) struct Joining(Vec<Pending>);

impl Owner {
    pub(super) fn join(&mut self, address: Address, resolved: Vec<SocketAddr>, answer: Answer) {
        let known = self.seeds.contains(&address);
        if self.leaving.is_some() {
            return drop(answer.send(Err(CommandError::Outside)));
        }
        if self.joining.0.len() >= JOINS_MAX || (!known && self.seeds.len() >= SEEDS_MAX) {
            let limit = if known { JOINS_MAX } else { SEEDS_MAX };
            return drop(answer.send(Err(CommandError::TooMany { limit })));
        }
        let now = self.now();
        let outside = std::mem::take(&mut self.outside);
        self.seeds.insert(address.clone());
        self.joining.0.push(Pending {
            address,
            resolved,
            deadline: now + JOIN_MS,
            answer,
            known,
            outside,
        });
        self.follow_members(now);
        // It may be a member that is connected already.
        let established = self
            .sessions
            .iter()
            .filter(|(_, session)| session.established);
        for peer in established.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.joined(&peer);
        }
    }

    /// Answers those who waited for this peer.
    pub(super) fn joined(&mut self, peer: &PeerKey) {
        let Some(session) = self.sessions.get(peer) else {
            return;
        };
        let (remote, addresses) = (session.remote, session.addresses.clone());
        let name = session.name.clone();
        let meant = |pending: &Pending| {
            pending.resolved.contains(&remote) || addresses.contains(&pending.address.to_string())
        };
        for pending in self.joining.0.extract_if(.., |pending| meant(pending)) {
            let joined = Joined {
                peer: *peer,
                name: name.clone(),
            };
            drop(pending.answer.send(Ok(joined)));
        }
    }

    /// Answers those who waited for a peer that is not one.
    pub(super) fn joins_refused(&mut self, remote: SocketAddr, reason: &str) {
        self.fail_joins(
            |pending| pending.resolved.contains(&remote),
            |pending| CommandError::NotJoined {
                address: pending.address.to_string(),
                reason: reason.to_owned(),
            },
        );
    }

    pub(super) fn dial_failed(&mut self, address: &Address, failure: &DialFailure) {
        let line = format!("calling {address}: {failure}");
        let now = self.now();
        match failure {
            DialFailure::NoAnswer | DialFailure::WrongPeer | DialFailure::TooMany => {
                tracing::debug!("{line}");
            }
            DialFailure::Myself => tracing::info!("{line}"),
            _ => self.complaints.warn(now, &line),
        }
        self.fail_joins(
            |pending| pending.address == *address,
            |pending| CommandError::NotJoined {
                address: pending.address.to_string(),
                reason: failure.to_string(),
            },
        );
    }

    pub(super) fn end_joins(&mut self, now: u64) {
        self.fail_joins(
            |pending| now >= pending.deadline,
            |pending| CommandError::NoAnswer {
                address: pending.address.to_string(),
                seconds: JOIN_MS / 1000,
            },
        );
    }

    fn fail_joins(
        &mut self,
        which: impl Fn(&Pending) -> bool,
        error: impl Fn(&Pending) -> CommandError,
    ) {
        let failed: Vec<Pending> = self.joining.0.extract_if(.., |p| which(p)).collect();
        if failed.is_empty() {
            return;
        }
        for pending in failed {
            if !pending.known {
                self.seeds.remove(&pending.address);
            }
            self.outside |= pending.outside && self.keys.is_empty();
            let error = error(&pending);
            drop(pending.answer.send(Err(error)));
        }
        let now = self.now();
        self.follow_members(now);
    }
}
