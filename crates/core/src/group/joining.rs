//! Joining at an address while the node runs.

use core::net::SocketAddr;

use super::{CommandError, Context, Joined, Output, Protocol, SEEDS_MAX, Ticket};
use crate::membership::NodeId;

/// How long a join waits for an answer, in milliseconds.
const JOIN_MS: u64 = 10_000;
/// Joins that wait at a time.
const JOINS_MAX: usize = 16;

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    address: String,
    resolved: Vec<SocketAddr>,
    deadline: u64,
    /// The address was a seed before, and is one afterwards whatever comes of this.
    known: bool,
    /// This node was outside of any group.
    outside: bool,
}

/// The joins that wait.
#[derive(Debug, Default)]
pub(super) struct Joining(Vec<Pending>);

impl Protocol {
    pub(super) fn join(
        &mut self,
        ticket: Ticket,
        address: String,
        resolved: Vec<SocketAddr>,
        context: &mut Context<'_>,
    ) {
        let known = self.seeds.contains(&address);
        let full = self.joining.0.len() >= JOINS_MAX;
        let error = if self.leaving.is_some() {
            Some(CommandError::Outside)
        } else if full {
            Some(CommandError::TooMany { limit: JOINS_MAX })
        } else if !known && self.seeds.len() >= SEEDS_MAX {
            Some(CommandError::TooMany { limit: SEEDS_MAX })
        } else {
            None
        };
        if let Some(error) = error {
            return context.out.push(Output::Joined(ticket, Err(error)));
        }
        let outside = std::mem::take(&mut self.outside);
        self.seeds.insert(address.clone());
        let called = address.clone();
        self.joining.0.push(Pending {
            ticket,
            address,
            resolved,
            deadline: context.now + JOIN_MS,
            known,
            outside,
        });
        self.follow_members(context);
        context.out.push(Output::CallSeed(called));
        // It may be a member that is connected already.
        for peer in self.connected.values().copied().collect::<Vec<_>>() {
            self.joined(&peer, context);
        }
    }

    /// Answers those who waited for this peer.
    pub(super) fn joined(&mut self, peer: &NodeId, context: &mut Context<'_>) {
        let Some(session) = self.sessions.get(peer) else {
            return;
        };
        let meant = |pending: &mut Pending| {
            pending.resolved.contains(&session.remote)
                || session.addresses.contains(&pending.address)
        };
        for pending in self.joining.0.extract_if(.., meant) {
            let joined = Joined {
                peer: *peer,
                name: session.name.clone(),
            };
            context.out.push(Output::Joined(pending.ticket, Ok(joined)));
        }
    }

    /// Answers those who waited for a peer that is not one.
    pub(super) fn joins_refused(
        &mut self,
        remote: SocketAddr,
        reason: &str,
        context: &mut Context<'_>,
    ) {
        self.fail_joins(
            context,
            |pending| pending.resolved.contains(&remote),
            |pending| CommandError::NotJoined {
                address: pending.address.clone(),
                reason: reason.to_owned(),
            },
        );
    }

    pub(super) fn call_failed(&mut self, address: &str, reason: &str, context: &mut Context<'_>) {
        self.fail_joins(
            context,
            |pending| pending.address == address,
            |pending| CommandError::NotJoined {
                address: pending.address.clone(),
                reason: reason.to_owned(),
            },
        );
    }

    pub(super) fn end_joins(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.fail_joins(
            context,
            |pending| now >= pending.deadline,
            |pending| CommandError::NoAnswer {
                address: pending.address.clone(),
                seconds: JOIN_MS / 1000,
            },
        );
    }

    fn fail_joins(
        &mut self,
        context: &mut Context<'_>,
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
            self.outside |= pending.outside && self.connected.is_empty();
            let error = error(&pending);
            context.out.push(Output::Joined(pending.ticket, Err(error)));
        }
        self.follow_members(context);
    }
}
