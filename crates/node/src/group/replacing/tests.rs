use grapevine_core::membership::NodeId;
use grapevine_core::origin::Origin;

use super::*;
use crate::group::{Clock, Link, MemberStatus};

const ME: u8 = 1;
const LOST: u8 = 2;
const OTHER: u8 = 3;

fn key(byte: u8) -> PeerKey {
    PeerKey::from_bytes([byte; 32])
}

fn lost(byte: u8) -> LostMember {
    LostMember {
        node: NodeId::new([byte; 32]),
        name: "lost".to_owned(),
    }
}

fn member(byte: u8, state: MemberState, liveness: Liveness, link: Option<Link>) -> MemberStatus {
    MemberStatus {
        key: key(byte),
        name: byte.to_string(),
        origin: Origin::new([byte; 16]),
        addresses: Vec::new(),
        software: String::new(),
        state,
        liveness,
        since_ms: None,
        link,
    }
}

fn link(to_receive: u64) -> Option<Link> {
    Some(Link {
        remote: String::new(),
        dialed: true,
        known: true,
        to_send: 0,
        to_receive,
        in_flight: 0,
        waiting: 0,
        forks: 0,
        clock: None,
        snapshot_lines: None,
    })
}

fn status(others: Vec<MemberStatus>) -> Status {
    let me = member(ME, MemberState::Joined, Liveness::Alive, None);
    Status {
        id: String::new(),
        name: String::new(),
        met: true,
        left: false,
        refused: None,
        me: key(ME),
        members: std::iter::once(me).chain(others).collect(),
        divergences: Vec::new(),
        clock: Clock::default(),
    }
}

fn judged(others: Vec<MemberStatus>, silent: Option<Duration>, alone: bool) -> Step {
    judge(&status(others), &[lost(LOST)], key(LOST), silent, alone)
}

fn other(to_receive: u64) -> MemberStatus {
    member(
        OTHER,
        MemberState::Joined,
        Liveness::Alive,
        link(to_receive),
    )
}

fn silent_member(state: MemberState) -> MemberStatus {
    member(LOST, state, Liveness::Unknown, None)
}

#[test]
fn a_member_is_entered_once_the_group_has_not_heard_it_for_a_while() {
    let group = || vec![silent_member(MemberState::Joined), other(0)];
    let looking = Step::Wait(Obstacle::Looking);
    assert_eq!(judged(group(), None, false), looking);
    let early = SILENT_FOR - Duration::from_millis(1);
    assert_eq!(judged(group(), Some(early), false), looking);
    assert_eq!(judged(group(), Some(SILENT_FOR), false), Step::Enter);
}

#[test]
fn a_member_that_answers_anybody_is_not_replaced() {
    let alive = Step::Wait(Obstacle::Alive);
    for (liveness, link) in [
        (Liveness::Alive, None),
        (Liveness::Suspect, None),
        (Liveness::Unknown, link(0)),
        (Liveness::Down, link(0)),
    ] {
        let members = vec![member(LOST, MemberState::Joined, liveness, link), other(0)];
        assert_eq!(judged(members, Some(SILENT_FOR), false), alive);
    }
}

#[test]
fn nothing_is_entered_before_the_group_is_known() {
    let outside = Step::Wait(Obstacle::Outside);
    let gone = || silent_member(MemberState::Joined);
    let not_connected = member(OTHER, MemberState::Joined, Liveness::Unknown, None);
    for members in [
        vec![gone()],
        vec![gone(), not_connected],
        // Its table of members may lack the row that says otherwise.
        vec![gone(), other(7)],
        vec![],
    ] {
        assert_eq!(judged(members, Some(SILENT_FOR), false), outside);
    }
    let mut early = status(vec![]);
    early.members.clear();
    for alone in [false, true] {
        let step = judge(&early, &[lost(LOST)], key(LOST), None, alone);
        assert_eq!(step, outside, "the group's thread has not looked yet");
    }
    let mut left = status(vec![gone(), other(0)]);
    left.left = true;
    let step = judge(&left, &[lost(LOST)], key(LOST), Some(SILENT_FOR), false);
    assert_eq!(step, outside);
}

#[test]
fn a_node_without_others_and_without_anybody_to_join_is_the_group() {
    let gone = || vec![silent_member(MemberState::Joined)];
    assert_eq!(judged(gone(), Some(SILENT_FOR), true), Step::Enter);
    let two = [lost(LOST), lost(OTHER)];
    let mut members = gone();
    members.push(member(OTHER, MemberState::Joined, Liveness::Unknown, None));
    let step = judge(&status(members), &two, key(LOST), Some(SILENT_FOR), true);
    assert_eq!(step, Step::Enter, "another lost one is nobody");
}

#[test]
fn a_member_that_left_or_is_none_is_done() {
    let left = vec![silent_member(MemberState::Left), other(0)];
    assert_eq!(judged(left, None, false), Step::Done);
    assert_eq!(judged(vec![other(0)], None, false), Step::Done);
}
