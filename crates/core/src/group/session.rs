//! Sessions: two nodes that proved they know a secret find out whether they belong together.
//!
//! Each tells the other its [`Standing`] after the greeting, and again when it changes. Who finds
//! that both belong to one group promises to stay in it; when both have promised, operations
//! flow. So no node takes another group between being seen in this one and being part of it. A
//! promise is void as soon as the other stands elsewhere: it had taken another group before.

use core::net::SocketAddr;

use super::{Admitted, Context, End, Event, Output, Party, Protocol};
use crate::membership::{
    GroupIdentity, Introduction, Meeting, MemberError, Mismatch, NodeId, meet,
};
use crate::origin::Origin;
use crate::wire::group::{Goodbye, Group, Reason, Standing};

/// How long two may take to find out whether they belong together, in milliseconds.
const MEETING_MS: u64 = 5000;
/// How long of this two that are new may wait for others on the local network.
const WAITING_MS: u64 = 4000;

/// A session with a peer that was admitted.
#[derive(Debug)]
pub struct Session {
    /// Tells it from others with the same peer.
    pub id: u64,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// Whether this node called.
    pub dialed: bool,
    /// The name that the peer gives.
    pub name: String,
    /// Whether both belong to one group, and operations flow.
    pub established: bool,
    pub(super) addresses: Vec<String>,
    introduction: Introduction,
    /// The origin of what this run of it puts into filters that are kept in memory.
    life: Origin,
    /// What it was told last.
    sent: Option<Standing>,
    /// The group in which it has promised to stay.
    promised: Option<[u8; 16]>,
    since: u64,
}

impl Session {
    /// Whether this node has promised to stay in the group that the other is in.
    pub(super) fn has_promised(&self) -> bool {
        let theirs = self.introduction.identity.id;
        self.sent
            .is_some_and(|sent| sent.same && sent.group.id == theirs)
    }

    pub(super) fn party(&self, peer: NodeId) -> Party {
        Party {
            peer,
            name: self.name.clone(),
            remote: self.remote,
        }
    }
}

/// What a node whose own history is not the group's says.
pub(super) fn apart() -> Goodbye {
    Goodbye::new(
        Reason::NotMember,
        "its data directory was set back, or a copy of it runs; `grapevine restore --in-place` \
         mends it",
    )
}

impl Protocol {
    pub(super) fn admitted(&mut self, admitted: Admitted, context: &mut Context<'_>) {
        let (peer, greeting) = (admitted.peer, admitted.greeting);
        let session = Session {
            id: admitted.session,
            remote: admitted.remote,
            dialed: admitted.dialed,
            introduction: Introduction {
                name: greeting.group_name,
                identity: greeting.group.into(),
                origin: Origin::new(greeting.origin),
            },
            life: Origin::new(greeting.life),
            name: greeting.node,
            addresses: greeting.addresses,
            sent: None,
            promised: None,
            established: false,
            since: context.now,
        };
        self.sessions.insert(peer, session);
        if self.outside {
            let text = "`grapevine group join` brings it into one";
            self.end(&peer, Goodbye::new(Reason::Left, text), context);
        } else if self.apart {
            let Goodbye { reason, text } = apart();
            self.refuse(&peer, reason, &text, context);
        } else {
            self.judge(&peer, context);
        }
    }

    /// Looks at how this node and a peer stand to each other.
    fn judge(&mut self, peer: &NodeId, context: &mut Context<'_>) {
        let session = self.sessions.get(peer);
        let Some(session) = session.filter(|session| !session.established) else {
            return;
        };
        let theirs = session.introduction.clone();
        let ours = Introduction {
            name: self.settings.group_name.clone(),
            identity: self.group(context.store),
            origin: self.settings.origin,
        };
        match meet(&ours, &theirs) {
            Meeting::Refused(mismatch) => {
                self.refuse(peer, Reason::OtherGroup, &mismatch.to_string(), context);
            }
            Meeting::Give => self.say(peer, false, context),
            Meeting::Same => self.stay(peer, theirs.origin, context),
            Meeting::Take(group) => {
                let group = GroupIdentity {
                    met: false,
                    ..group
                };
                if self.take_group(group, context) {
                    self.stay(peer, theirs.origin, context);
                    self.judge_all(context);
                }
            }
        }
    }

    /// The same for everybody who is still being met, after this node's own standing changed.
    pub(super) fn judge_all(&mut self, context: &mut Context<'_>) {
        let meeting = self.sessions.iter().filter(|(_, one)| !one.established);
        for peer in meeting.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.judge(&peer, context);
        }
    }

    /// Both belong to one group: promises to stay in it, and begins once both have.
    fn stay(&mut self, peer: &NodeId, origin: Origin, context: &mut Context<'_>) {
        if self.connected.get(&origin).is_some_and(|key| key != peer) {
            let text = Mismatch::Origin(origin).to_string();
            return self.refuse(peer, Reason::NotMember, &text, context);
        }
        if !context.store.has_room_for(*peer) {
            let text = MemberError::TooMany.to_string();
            return self.refuse(peer, Reason::NotMember, &text, context);
        }
        if self.waits_for_others(peer, context) {
            return self.say(peer, false, context);
        }
        self.say(peer, true, context);
        let group = context.store.group();
        let session = self.sessions.get(peer);
        let promised = session.is_some_and(|s| !s.established && s.promised == Some(group.id));
        let met = GroupIdentity { met: true, ..group };
        if promised && (group.met || self.take_group(met, context)) {
            self.establish(peer, origin, context);
        }
    }

    /// Whether it is too early to promise anything to a peer: both are new, and so may be others
    /// that are just being found. Were each pair of them to promise at once, there would be several
    /// groups for ever. Meanwhile all see who has the smallest id.
    fn waits_for_others(&self, peer: &NodeId, context: &Context<'_>) -> bool {
        let waits = |session: &Session| {
            !session.has_promised()
                && !session.introduction.identity.met
                && context.now < session.since + WAITING_MS
        };
        !self.group(context.store).met
            && self.neighbours.are_settling(context.now)
            && self.sessions.get(peer).is_some_and(waits)
    }

    /// Tells a peer how this node stands, unless it was told so.
    fn say(&mut self, peer: &NodeId, same: bool, context: &mut Context<'_>) {
        let group = Group::from(context.store.group());
        let standing = Standing { group, same };
        if let Some(session) = self.sessions.get_mut(peer)
            && session.sent != Some(standing)
        {
            session.sent = Some(standing);
            context.out.push(Output::Send {
                peer: *peer,
                session: session.id,
                standing,
            });
        }
    }

    /// Belongs to this group from now on; false when that cannot be written.
    pub(super) fn take_group(&mut self, group: GroupIdentity, context: &mut Context<'_>) -> bool {
        let before = context.store.group();
        if let Err(rejected) = context.store.join(group) {
            context.tell(Event::Rejected("joining the group", rejected));
            return false;
        }
        if before.id != group.id {
            context.tell(Event::Joining(group.id));
        }
        let greeting = self.settings.greeting(context.store.group());
        context.out.push(Output::Greet(greeting));
        true
    }

    fn establish(&mut self, peer: &NodeId, origin: Origin, context: &mut Context<'_>) {
        let Some(session) = self.sessions.get_mut(peer) else {
            return;
        };
        session.established = true;
        let (session, life, party) = (session.id, session.life, session.party(*peer));
        self.refused = None;
        self.connected.insert(origin, *peer);
        context.tell(Event::Connected(party));
        if std::mem::take(&mut self.outside) {
            context.tell(Event::Inside);
        }
        self.follow_members(context);
        context.out.push(Output::Established {
            peer: *peer,
            session,
            origin,
            life,
        });
        context.out.push(Output::Announce(*peer));
        self.joined(peer, context);
        self.judge_all(context);
    }

    pub(super) fn standing(
        &mut self,
        peer: NodeId,
        id: u64,
        standing: Standing,
        context: &mut Context<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&peer).filter(|known| known.id == id) else {
            return;
        };
        session.introduction.identity = standing.group.into();
        session.promised = standing.same.then_some(standing.group.id);
        if !session.established {
            self.judge_all(context);
        }
    }

    /// Ends a session and says why, here and there.
    pub(super) fn refuse(
        &mut self,
        peer: &NodeId,
        reason: Reason,
        text: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(session) = self.sessions.get(peer) {
            let remote = session.remote;
            context.tell(Event::Refused(session.party(*peer), text.to_owned()));
            self.joins_refused(remote, text, context);
        }
        self.end(peer, Goodbye::new(reason, text), context);
    }

    /// Ends a session.
    pub(super) fn end(&mut self, peer: &NodeId, goodbye: Goodbye, context: &mut Context<'_>) {
        if let Some(session) = self.sessions.get(peer) {
            context.out.push(Output::Disconnect {
                peer: *peer,
                session: session.id,
                goodbye,
            });
            self.forget(peer, context);
        }
    }

    pub(super) fn closed(&mut self, peer: NodeId, id: u64, end: End, context: &mut Context<'_>) {
        let known = self.sessions.get(&peer);
        let Some(session) = known.filter(|session| session.id == id) else {
            return;
        };
        let (party, remote) = (session.party(peer), session.remote);
        match end {
            End::Goodbye(goodbye) if goodbye.reason == Reason::Left => {
                let reason = goodbye.to_string();
                self.joins_refused(remote, &reason, context);
                context.tell(Event::Disconnected(party, reason));
            }
            End::Goodbye(goodbye) if goodbye.reason.lasts() => {
                let reason = goodbye.to_string();
                self.joins_refused(remote, &reason, context);
                self.refused = Some((party.clone(), reason.clone()));
                context.tell(Event::RefusedBy(party, reason));
            }
            End::Goodbye(goodbye) => {
                context.tell(Event::Disconnected(party, goodbye.to_string()));
            }
            End::Malformed(error) => context.tell(Event::Malformed(party, error)),
            End::Lost(reason) => context.tell(Event::Disconnected(party, reason)),
        }
        self.forget(&peer, context);
    }

    fn forget(&mut self, peer: &NodeId, context: &mut Context<'_>) {
        let Some(session) = self.sessions.remove(peer) else {
            return;
        };
        let origin = session.introduction.origin;
        if session.established && self.connected.get(&origin) == Some(peer) {
            self.connected.remove(&origin);
            context.out.push(Output::Ended {
                peer: *peer,
                origin,
                life: session.life,
            });
        }
        self.judge_all(context);
    }

    /// Whether a session with a peer is established.
    pub(super) fn is_established(&self, peer: &NodeId) -> bool {
        let session = self.sessions.get(peer);
        session.is_some_and(|session| session.established)
    }

    /// Ends sessions that do not come to a conclusion; they come back with new greetings.
    pub(super) fn end_idle_meetings(&mut self, context: &mut Context<'_>) {
        let late = self.sessions.iter().filter(|(_, session)| {
            !session.established && context.now.saturating_sub(session.since) > MEETING_MS
        });
        for peer in late.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            let goodbye = Goodbye::new(Reason::Stopping, "meeting again");
            self.end(&peer, goodbye, context);
        }
    }
}
