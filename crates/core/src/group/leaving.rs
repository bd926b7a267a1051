//! Leaving the group, and declaring that a dead member has left.

use std::collections::BTreeSet;

use super::{CommandError, Context, Event, Left, Output, Protocol, Rejected, Ticket};
use crate::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use crate::wire::group::Reason;

/// How long a node that leaves waits for another to know it, in milliseconds.
const LEAVE_MS: u64 = 5000;

/// This node is leaving.
#[derive(Debug)]
pub(super) struct Leaving {
    ticket: Ticket,
    deadline: u64,
    /// Number of the operation that says so.
    operation: u64,
    /// The group of one that it forms then.
    next: GroupIdentity,
}

impl Protocol {
    pub(super) fn leave(&mut self, ticket: Ticket, next: GroupIdentity, context: &mut Context<'_>) {
        if self.outside || self.leaving.is_some() {
            return context
                .out
                .push(Output::Left(ticket, Err(CommandError::Outside)));
        }
        match self.enter_self(MemberState::Left, context) {
            Err(rejected) => {
                let error = CommandError::Rejected(rejected);
                context.out.push(Output::Left(ticket, Err(error)));
            }
            Ok(operation) => {
                self.leaving = Some(Leaving {
                    ticket,
                    deadline: context.now + LEAVE_MS,
                    // Its row said so already, and whoever has it knows.
                    operation: operation.unwrap_or(0),
                    next,
                });
            }
        }
    }

    /// Ends a leave once another member knows it, or it has taken too long.
    pub(super) fn drive_leaving(&mut self, context: &mut Context<'_>) {
        if self.leaving.is_none() {
            return;
        }
        let known = context.store.delivered();
        let alone = self.connected.is_empty();
        let now = context.now;
        let over =
            |leaving: &mut Leaving| alone || known >= leaving.operation || now >= leaving.deadline;
        let Some(leaving) = self.leaving.take_if(over) else {
            return;
        };
        let left = Left {
            peer: self.settings.node,
            name: self.settings.node_name.clone(),
            known: !alone && known >= leaving.operation,
        };
        let outcome = self.go_outside(leaving.next, context);
        let outcome = outcome.map(|()| left).map_err(CommandError::Rejected);
        context.out.push(Output::Left(leaving.ticket, outcome));
    }

    /// Ends all sessions, and belongs to a group of its own, with all its data. Nothing is said of
    /// others: they stay members of the group that it leaves.
    fn go_outside(
        &mut self,
        next: GroupIdentity,
        context: &mut Context<'_>,
    ) -> Result<(), Rejected> {
        self.outside = true;
        self.seeds = BTreeSet::new();
        context.out.push(Output::Depart);
        for peer in self.peers() {
            self.end(&peer, Reason::Left.into(), context);
        }
        if !self.take_group(next, context) {
            return Err(Rejected(
                "the node takes no writes: it comes back at its next start".to_owned(),
            ));
        }
        context.tell(Event::Outside);
        self.follow_members(context);
        Ok(())
    }

    /// Enters that another member has left, because an operator says so.
    pub(super) fn remove(&mut self, ticket: Ticket, member: NodeId, context: &mut Context<'_>) {
        let outcome = self.enter_removal(member, context);
        if outcome.is_ok() {
            self.follow_members(context);
        }
        context.out.push(Output::Left(ticket, outcome));
    }

    fn enter_removal(
        &mut self,
        node: NodeId,
        context: &mut Context<'_>,
    ) -> Result<Left, CommandError> {
        if self.outside || self.leaving.is_some() {
            return Err(CommandError::Outside);
        }
        let members = context.store.members();
        let found = members.joined().find(|(known, _)| *known == node);
        let (_, member) = found
            .filter(|(known, _)| *known != self.settings.node)
            .ok_or(CommandError::NoMember(node))?;
        if self.is_established(&node) {
            return Err(CommandError::Connected(member.name));
        }
        let name = member.name.clone();
        let left = Member {
            state: MemberState::Left,
            ..member
        };
        let version = members.version(node).saturating_add(1);
        context.store.enter(MemberRow::new(node, version, &left))?;
        Ok(Left {
            peer: node,
            name,
            known: !self.connected.is_empty(),
        })
    }
}
