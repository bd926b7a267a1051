//! Sessions: two nodes that proved they know a secret find out whether they belong together.
//!
//! Each tells the other its [`Standing`] after the greeting, and again when it changes. Who finds
//! that both belong to one group promises to stay in it; when both have promised, operations
//! flow. So no node takes another group between being seen in this one and being part of it. A
//! promise is void as soon as the other stands elsewhere: it had taken another group before.

use std::net::SocketAddr;

use bytes::Bytes;
use grapevine_core::membership::{GroupIdentity, Introduction, Meeting, MemberError, NodeId, meet};
use grapevine_core::origin::Origin;
use grapevine_core::sync::Input as SyncInput;
use grapevine_core::wire::group::{Greeting, Standing};

use super::courier::Errand;
use super::frame::{self, Frame};
use super::identity;
use super::owner::Owner;
use super::status::Counts;
use grapevine_net::{Admitted, CloseReason, Goodbye, PeerKey, Reason, Refusal, SessionId};

/// How long two may take to find out whether they belong together, in milliseconds.
const MEETING_MS: u64 = 5000;
/// How long of this two that are new may wait for others on the local network.
const WAITING_MS: u64 = 4000;

/// A session with a peer that was admitted.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) remote: SocketAddr,
    pub(super) dialed: bool,
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) introduction: Introduction,
    /// The origin of what this run of it puts into filters that are kept in memory.
    pub(super) life: Origin,
    /// What it was told last.
    said: Option<Standing>,
    /// It has promised to stay in this group.
    promised: Option<[u8; 16]>,
    /// It was noted that it sends what only a newer version knows.
    newer: bool,
    pub(super) established: bool,
    since: u64,
}

impl Session {
    /// Whether this node has promised to stay in the group that the other is in.
    pub(super) fn has_promised(&self) -> bool {
        let theirs = self.introduction.identity.id;
        self.said
            .is_some_and(|said| said.same && said.group.id == theirs)
    }
}

impl Owner {
    pub(super) fn is_established(&self, peer: &PeerKey) -> bool {
        self.sessions
            .get(peer)
            .is_some_and(|session| session.established)
    }

    /// What is said to whoever comes from now on.
    pub(super) fn greet(&self) {
        let greeting = Greeting {
            group_name: self.facts.group_name.clone(),
            group: identity::said(self.collections.group()),
            origin: self.origin.bytes(),
            life: self.memory.life().bytes(),
            node: self.facts.name.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: self.facts.addresses.clone(),
        };
        if let Err(error) = self.handle.set_greeting(greeting.encode().into()) {
            tracing::error!("the greeting: {error}");
        }
    }

    pub(super) fn admitted(&mut self, admitted: Admitted) {
        let now = self.now();
        let (peer, id) = (admitted.peer, admitted.session);
        let greeting = match Greeting::decode(&admitted.greeting) {
            Ok(greeting) => greeting,
            Err(error) => {
                let goodbye = Goodbye::new(Reason::Malformed, &error.to_string());
                self.errands.run(Errand::Disconnect(peer, id, goodbye));
                let line = format!("{peer} at {}: {error}", admitted.remote);
                return self.complaints.warn(now, &line);
            }
        };
        let session = Session {
            id,
            remote: admitted.remote,
            dialed: admitted.dialed,
            introduction: identity::introduction(&greeting),
            life: Origin::new(greeting.life),
            name: greeting.node,
            addresses: greeting.addresses,
            said: None,
            promised: None,
            newer: false,
            established: false,
            since: now,
        };
        self.sessions.insert(peer, session);
        if self.outside {
            let text = "`grapevine group join` brings it into one";
            return self.end(&peer, Goodbye::new(Reason::Left, text));
        }
        if self.apart {
            let text = "its data directory was set back, or a copy of it runs; `grapevine restore \
                        --in-place` mends it";
            return self.refuse(&peer, Reason::NotMember, text);
        }
        self.judge(&peer);
    }

    /// Looks at how this node and a peer stand to each other.
    fn judge(&mut self, peer: &PeerKey) {
        let session = self.sessions.get(peer);
        let Some(session) = session.filter(|session| !session.established) else {
            return;
        };
        let theirs = session.introduction.clone();
        let ours = Introduction {
            name: self.facts.group_name.clone(),
            identity: self.group(),
            origin: self.origin,
        };
        match meet(&ours, &theirs) {
            Meeting::Refused(mismatch) => {
                self.refuse(peer, Reason::OtherGroup, &mismatch.to_string());
            }
            Meeting::Give => self.say(peer, false),
            Meeting::Same => self.stay(peer, theirs.origin),
            Meeting::Take(group) => {
                if self.take_group(GroupIdentity {
                    met: false,
                    ..group
                }) {
                    self.stay(peer, theirs.origin);
                    self.judge_all();
                }
            }
        }
    }

    /// The same for everybody who is still being met, after this node's own standing changed.
    pub(super) fn judge_all(&mut self) {
        let meeting = self.sessions.iter().filter(|(_, one)| !one.established);
        for peer in meeting.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.judge(&peer);
        }
    }

    /// Both belong to one group: promises to stay in it, and begins once both have.
    fn stay(&mut self, peer: &PeerKey, origin: Origin) {
        if self.keys.get(&origin).is_some_and(|key| key != peer) {
            let text = "another member has the same origin: one data directory is a copy";
            return self.refuse(peer, Reason::NotMember, text);
        }
        if !self.collections.has_room_for(NodeId::new(*peer.bytes())) {
            return self.refuse(peer, Reason::NotMember, &MemberError::TooMany.to_string());
        }
        if self.waits_for_others(peer) {
            return self.say(peer, false);
        }
        self.say(peer, true);
        let group = self.collections.group();
        let session = self.sessions.get(peer);
        let promised = session.is_some_and(|s| !s.established && s.promised == Some(group.id));
        if promised && (group.met || self.take_group(GroupIdentity { met: true, ..group })) {
            self.establish(peer, origin);
        }
    }

    /// Whether it is too early to promise anything to a peer: both are new, and so may be others
    /// that are just being found. Were each pair of them to promise at once, there would be several
    /// groups for ever. Meanwhile all see who has the smallest id.
    fn waits_for_others(&self, peer: &PeerKey) -> bool {
        let now = self.now();
        let waits = |session: &Session| {
            !session.has_promised()
                && !session.introduction.identity.met
                && now < session.since + WAITING_MS
        };
        !self.group().met
            && self.neighbours.are_settling(now)
            && self.sessions.get(peer).is_some_and(waits)
    }

    /// Tells a peer how this node stands, unless it was told so.
    fn say(&mut self, peer: &PeerKey, same: bool) {
        let group = identity::said(self.collections.group());
        let standing = Standing { group, same };
        if let Some(session) = self.sessions.get_mut(peer)
            && session.said != Some(standing)
        {
            session.said = Some(standing);
            self.send(peer, frame::of_standing(standing));
        }
    }

    /// Belongs to this group from now on; false when that cannot be written.
    pub(super) fn take_group(&mut self, group: GroupIdentity) -> bool {
        let before = self.collections.group();
        if let Err(error) = self.collections.join(group) {
            let now = self.now();
            self.complaints
                .warn(now, &format!("joining the group: {error}"));
            return false;
        }
        if before.id != group.id {
            tracing::info!("becoming part of the group {}", Origin::new(group.id));
        }
        self.greet();
        true
    }

    fn establish(&mut self, peer: &PeerKey, origin: Origin) {
        let number = random();
        let Some(session) = self.sessions.get_mut(peer) else {
            return;
        };
        session.established = true;
        self.not_taken_in = None;
        let life = session.life;
        tracing::info!("connected to {} at {}", session.name, session.remote);
        self.keys.insert(origin, *peer);
        if std::mem::take(&mut self.outside) {
            tracing::info!("back in a group");
        }
        let now = self.now();
        self.follow_members(now);
        self.drive(SyncInput::Connected(origin, number));
        self.meet_life(life, *peer);
        self.detector.announce(now, *peer);
        self.joined(peer);
        self.show(now);
        self.judge_all();
    }

    pub(super) fn frame(&mut self, peer: PeerKey, id: SessionId, bytes: &Bytes) {
        let Some(session) = self.sessions.get_mut(&peer).filter(|known| known.id == id) else {
            return;
        };
        let (established, life) = (session.established, session.life);
        let origin = session.introduction.origin;
        match Frame::decode(bytes) {
            Ok(Frame::Standing(standing)) => {
                session.introduction.identity = identity::known(standing.group);
                session.promised = standing.same.then_some(standing.group.id);
                if !established {
                    self.judge_all();
                }
            }
            Ok(Frame::Sync(message)) if established => {
                self.drive(SyncInput::Received(origin, message));
            }
            Ok(Frame::Memory(message)) if established => {
                self.drive_memory(SyncInput::Received(life, message));
            }
            Ok(Frame::Liveness(packet)) if established => {
                let now = self.now();
                self.detector.receive(now, &packet);
            }
            Ok(Frame::Newer(what)) => {
                Counts::add(&self.board.counts.passed_over);
                if !std::mem::replace(&mut session.newer, true) {
                    let name = &session.name;
                    tracing::info!("{name} runs a newer version: {what} of it are passed over");
                }
            }
            // From before this session was established: it is repaired.
            Ok(_) => {}
            Err(error) => self.refuse(&peer, Reason::Malformed, &error.to_string()),
        }
    }

    /// Ends a session and says why, here and there.
    fn refuse(&mut self, peer: &PeerKey, reason: Reason, text: &str) {
        if let Some(session) = self.sessions.get(peer) {
            let line = format!("{} ({peer}) at {}: {text}", session.name, session.remote);
            let remote = session.remote;
            let now = self.now();
            Counts::add(&self.board.counts.refused);
            self.complaints
                .warn(now, &format!("not taken into the group: {line}"));
            self.joins_refused(remote, text);
        }
        self.end(peer, Goodbye::new(reason, text));
    }

    /// Ends a session.
    pub(super) fn end(&mut self, peer: &PeerKey, goodbye: Goodbye) {
        if let Some(session) = self.sessions.get(peer) {
            self.errands
                .run(Errand::Disconnect(*peer, session.id, goodbye));
            self.forget(peer);
        }
    }

    pub(super) fn closed(&mut self, peer: PeerKey, id: SessionId, reason: &CloseReason) {
        let known = self.sessions.get(&peer);
        let Some(session) = known.filter(|session| session.id == id) else {
            return;
        };
        let line = format!("{} ({peer}) at {}: {reason}", session.name, session.remote);
        let remote = session.remote;
        match reason {
            CloseReason::Remote(goodbye) if goodbye.reason == Reason::Left => {
                tracing::info!("disconnected from {line}");
                self.joins_refused(remote, &goodbye.to_string());
            }
            CloseReason::Remote(goodbye) if goodbye.reason.lasts() => {
                let now = self.now();
                self.complaints
                    .warn(now, &format!("not taken into the group: {line}"));
                self.joins_refused(remote, &goodbye.to_string());
                self.not_taken_in = Some(line);
            }
            CloseReason::Malformed(_) => {
                let now = self.now();
                self.complaints.warn(now, &line);
            }
            _ => tracing::info!("disconnected from {line}"),
        }
        self.forget(&peer);
    }

    fn forget(&mut self, peer: &PeerKey) {
        let Some(session) = self.sessions.remove(peer) else {
            return;
        };
        let origin = session.introduction.origin;
        if session.established && self.keys.get(&origin) == Some(peer) {
            self.keys.remove(&origin);
            self.drive(SyncInput::Disconnected(origin));
            self.forget_life(session.life, peer);
        }
        let now = self.now();
        self.show(now);
        self.judge_all();
    }

    /// Ends sessions that do not come to a conclusion; they come back with new greetings.
    pub(super) fn end_idle_meetings(&mut self, now: u64) {
        let late = self.sessions.iter().filter(|(_, session)| {
            !session.established && now.saturating_sub(session.since) > MEETING_MS
        });
        for peer in late.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.end(&peer, Goodbye::new(Reason::Stopping, "meeting again"));
        }
    }

    pub(super) fn turned_away(&mut self, remote: Option<SocketAddr>, reason: &Refusal, more: u64) {
        let now = self.now();
        let from = remote.map_or_else(|| "somewhere".to_owned(), |remote| remote.ip().to_string());
        let advice = match reason {
            Refusal::Myself => {
                ": if it is another node, its data directory is a copy; make copies with \
                 `grapevine backup` and `grapevine restore`"
            }
            _ => "",
        };
        if more > 0 {
            tracing::debug!("{more} more connections were refused");
        }
        let line = format!("refused a connection from {from}: {reason}{advice}");
        self.complaints.warn(now, &line);
    }
}

/// A random number that is not 0.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // The system gave random numbers when the node started.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes).max(1)
}
