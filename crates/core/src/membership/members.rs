//! Who belongs to the group, or did.

use std::collections::BTreeMap;

use super::{GONE_MAX, MEMBERS_MAX, Member, MemberError, MemberRow, MemberState, NodeId};

/// All nodes that belong to the group, or did, or belong to one that this node was in before.
///
/// There are at most [`MEMBERS_MAX`] rows. Where one more is to be entered, that of a member that
/// left makes room: of it is kept that it left and its version, as a row without a body. That is
/// enough for everything that can still come: what is older loses to the version, and of two rows
/// of one version the one that says "joined" wins, so a row that left may be shortened on one copy
/// and not on another, and any order of rows gives the same members. Which of those that left is
/// shortened does not matter for the same reason; it is the first by key. Only where nobody has
/// left is a further row not entered: those that are members stay, and each refuses the newcomer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The group.
    group: [u8; 16],
    rows: BTreeMap<NodeId, MemberRow>,
    /// Members that left and were shortened, with the version of their row.
    gone: BTreeMap<NodeId, u64>,
}

/// What decides between two rows of a node, beside their bytes.
fn rank(version: u64, state: MemberState) -> (u64, bool) {
    (version, state == MemberState::Joined)
}

impl Members {
    /// Those of a group, none of whom is known yet.
    pub fn new(group: [u8; 16]) -> Self {
        Members {
            group,
            ..Members::default()
        }
    }

    /// Goes by what rows say of another group from now on.
    pub fn set_group(&mut self, group: [u8; 16]) {
        self.group = group;
    }

    /// Whether a row says that its node belongs to the group.
    fn belongs(&self, member: &Member) -> bool {
        member.state == MemberState::Joined && member.group == self.group
    }

    /// Takes a row in; true if it won. A row that does not decode is refused, and one for which
    /// there is no room.
    pub fn merge(&mut self, row: MemberRow) -> Result<bool, MemberError> {
        if row.body.is_empty() {
            return Ok(self.merge_gone(row.node, row.version));
        }
        let state = row.member()?.state;
        let ranked = rank(row.version, state);
        if let Some(version) = self.gone.get(&row.node)
            && rank(*version, MemberState::Left) >= ranked
        {
            return Ok(false);
        }
        if let Some(known) = self.rows.get(&row.node) {
            let ours = self.known_rank(known);
            if ours > ranked || (ours == ranked && known.body >= row.body) {
                return Ok(false);
            }
        } else if self.rows.len() >= MEMBERS_MAX && !self.shorten_one() {
            return match state {
                MemberState::Joined => Err(MemberError::TooMany),
                MemberState::Left => Ok(self.merge_gone(row.node, row.version)),
            };
        }
        self.gone.remove(&row.node);
        self.rows.insert(row.node, row);
        Ok(true)
    }

    fn known_rank(&self, known: &MemberRow) -> (u64, bool) {
        let state = known
            .member()
            .map_or(MemberState::Left, |known| known.state);
        rank(known.version, state)
    }

    /// Notes that a member left, of which nothing else is to be known; true if that was news.
    fn merge_gone(&mut self, node: NodeId, version: u64) -> bool {
        let left = rank(version, MemberState::Left);
        // A row of that version may be longer, and says the same.
        let known = self.rows.get(&node).map(|known| self.known_rank(known));
        if known.is_some_and(|known| known >= left)
            || self.gone.get(&node).is_some_and(|known| *known >= version)
        {
            return false;
        }
        self.rows.remove(&node);
        self.gone.insert(node, version);
        if self.gone.len() > GONE_MAX {
            // The one that least can come back as a member.
            let first = self
                .gone
                .iter()
                .min_by_key(|(node, version)| (**version, **node));
            let first = first.map(|(node, _)| *node);
            first.map(|node| self.gone.remove(&node));
        }
        true
    }

    /// Makes room for a row; false if nobody has left.
    fn shorten_one(&mut self) -> bool {
        let left = |row: &&MemberRow| !row.member().is_ok_and(|member| self.belongs(&member));
        let Some((node, version)) = self.rows().find(left).map(|row| (row.node, row.version))
        else {
            return false;
        };
        self.rows.remove(&node);
        self.merge_gone(node, version)
    }

    /// Whether the row of a node is there, or could be entered.
    pub fn has_room_for(&self, node: NodeId) -> bool {
        self.rows.len() < MEMBERS_MAX
            || self.rows.contains_key(&node)
            || self.joined().count() < MEMBERS_MAX
    }

    /// All rows, ascending by node.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &MemberRow> {
        self.rows.values()
    }

    /// Everything there is to be kept and handed on, ascending by node: the rows, and one without
    /// a body for each member that was shortened.
    pub fn records(&self) -> Vec<MemberRow> {
        let gone = self.gone.iter().map(|(node, version)| MemberRow {
            node: *node,
            version: *version,
            body: Vec::new(),
        });
        let mut records: Vec<MemberRow> = self.rows.values().cloned().chain(gone).collect();
        records.sort_unstable_by_key(|row| row.node);
        records
    }

    /// The row of a node.
    pub fn get(&self, node: NodeId) -> Option<&MemberRow> {
        self.rows.get(&node)
    }

    /// The version of what is known of a node, 0 if nothing is.
    pub fn version(&self, node: NodeId) -> u64 {
        let row = self.rows.get(&node).map(|row| row.version);
        row.or_else(|| self.gone.get(&node).copied()).unwrap_or(0)
    }

    /// Those that belong to the group now.
    pub fn joined(&self) -> impl Iterator<Item = (NodeId, Member)> + '_ {
        self.rows().filter_map(|row| {
            let member = row.member().ok()?;
            self.belongs(&member).then_some((row.node, member))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    fn node(number: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        NodeId::new(bytes)
    }

    fn row(number: usize, version: u64, state: MemberState) -> MemberRow {
        let member = Member {
            name: format!("n{number}"),
            origin: Origin::new([1; 16]),
            addresses: vec![],
            software: "0.1.0".to_owned(),
            weight: 1,
            state,
            group: [0; 16],
        };
        MemberRow::new(node(number), version, &member)
    }

    #[test]
    fn a_row_of_another_group_makes_nobody_a_member() {
        let (ours, theirs) = ([1; 16], [2; 16]);
        let of = |number, group| {
            let member = row(number, 1, MemberState::Joined).member().expect("one");
            MemberRow::new(node(number), 1, &Member { group, ..member })
        };
        let mut members = Members::new(ours);
        for (number, group) in [(1, ours), (2, theirs)] {
            members.merge(of(number, group)).expect("there is room");
        }
        let joined = |members: &Members| members.joined().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(joined(&members), [node(1)]);
        // To leave one group and come back says nothing of those who stayed.
        members.set_group(theirs);
        assert_eq!(joined(&members), [node(2)]);
        members.set_group(ours);
        assert_eq!(joined(&members), [node(1)]);
    }

    #[test]
    fn members_that_left_make_room_and_do_not_come_back() {
        let mut members = Members::default();
        for number in 0..3 * MEMBERS_MAX {
            let joined = members.merge(row(number, 1, MemberState::Joined));
            assert!(joined.expect("there is room"), "{number}");
            if number % 4 != 0 {
                let left = members.merge(row(number, 2, MemberState::Left));
                assert!(left.expect("it is there"), "{number}");
            }
        }
        assert_eq!(members.rows().len(), MEMBERS_MAX);
        assert_eq!(members.joined().count(), 3 * MEMBERS_MAX / 4);
        // One that left long ago: its old row loses, a new one of its own wins.
        assert_eq!(members.get(node(1)), None);
        assert_eq!(members.version(node(1)), 2);
        for state in [MemberState::Joined, MemberState::Left] {
            assert!(!members.merge(row(1, 1, state)).expect("it decodes"));
        }
        assert!(!members.merge(row(1, 2, MemberState::Left)).expect("known"));
        assert!(members.merge(row(1, 3, MemberState::Joined)).expect("room"));
        // What is handed on makes the same members elsewhere.
        let mut copy = Members::default();
        for record in members.records().into_iter().rev() {
            copy.merge(record).expect("there is room");
        }
        assert_eq!(copy, members);
    }

    #[test]
    fn a_group_that_is_full_keeps_its_members_and_says_so() {
        let mut members = Members::default();
        for number in 0..MEMBERS_MAX {
            let entered = members.merge(row(number, 1, MemberState::Joined));
            assert!(entered.expect("there is room"));
        }
        let late = MEMBERS_MAX;
        assert!(!members.has_room_for(node(late)));
        let refused = members.merge(row(late, 1, MemberState::Joined));
        let refused = refused.expect_err("it is full").to_string();
        assert!(refused.contains("at most 4096 members"), "{refused}");
        // A member changes, one that never came in leaves, one that is in does.
        assert!(
            members
                .merge(row(7, 2, MemberState::Joined))
                .expect("it is in")
        );
        assert!(
            members
                .merge(row(late, 2, MemberState::Left))
                .expect("noted")
        );
        assert!(
            members
                .merge(row(9, 2, MemberState::Left))
                .expect("it is in")
        );
        assert!(members.has_room_for(node(late)));
        assert!(
            members
                .merge(row(late, 3, MemberState::Joined))
                .expect("room")
        );
        assert_eq!(members.joined().count(), MEMBERS_MAX);
    }

    #[test]
    fn shortened_or_not_the_same_rows_win_in_any_order() {
        // Of one version, also where the row that says so was shortened meanwhile.
        let rows = [
            row(1, 5, MemberState::Left),
            row(1, 5, MemberState::Joined),
            MemberRow {
                body: Vec::new(),
                ..row(1, 5, MemberState::Left)
            },
            row(1, 4, MemberState::Joined),
        ];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let mut members = Members::default();
            for at in order {
                members.merge(rows[at].clone()).expect("there is room");
            }
            assert_eq!(members.get(node(1)), Some(&rows[1]), "{order:?}");
        }
    }

    #[test]
    fn what_is_kept_of_members_that_are_gone_is_bounded() {
        let mut members = Members::default();
        for number in 0..GONE_MAX + 10 {
            let gone = MemberRow {
                node: node(number),
                version: 1 + number as u64,
                body: Vec::new(),
            };
            assert!(members.merge(gone).expect("it is noted"));
        }
        assert_eq!(members.records().len(), GONE_MAX);
        assert_eq!(members.version(node(9)), 0, "the oldest");
        assert_eq!(members.version(node(10)), 11);
    }
}
