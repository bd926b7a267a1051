//! What nodes say of themselves in the table of members: it changes while everything fails, and
//! in the end each node's row says on all of them what its owner last wanted it to.

use grapevine_core::membership::{Member, MemberRow, MemberState, NodeId};

use super::node::Node;
use super::{Checked, World};
use crate::branch::Branch;
use crate::random::Random;

/// Most addresses in a row.
const ADDRESSES_MAX: u64 = 4;

/// What a node wants its row to say.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    name: String,
    addresses: Vec<String>,
    weight: u32,
    pub(super) state: MemberState,
}

impl Wish {
    pub(super) fn new(seed: u64) -> Self {
        Wish {
            name: format!("n{seed:04x}"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Joined,
        }
    }

    fn change(&mut self, random: &mut Random) {
        match random.below(4) {
            0 => {
                self.name = format!(
                    "n{:0width$x}",
                    random.below(16),
                    width = 1 + random.below(60) as usize
                )
            }
            1 => {
                let count = random.below(ADDRESSES_MAX + 1);
                let address = |_| format!("10.0.0.{}:{}", random.below(256), random.below(65_536));
                self.addresses = (0..count).map(address).collect();
            }
            2 => self.weight = random.below(100) as u32,
            // It goes on: the others no longer keep a log for it.
            _ if self.state == MemberState::Joined => self.state = MemberState::Left,
            _ => self.state = MemberState::Joined,
        }
    }
}

impl Node {
    fn id_and_wish(&self) -> Option<(NodeId, Member)> {
        let running = self.running.as_ref()?;
        let identity = *running.collections.filters().identity();
        let member = Member {
            name: self.wish.name.clone(),
            origin: identity.origin,
            addresses: self.wish.addresses.clone(),
            software: String::new(),
            weight: self.wish.weight,
            state: self.wish.state,
            group: running.collections.group().id,
        };
        Some((NodeId::new(identity.key.bytes()), member))
    }

    /// Enters what it wants its row to say, if the row says something else: it changed, or an
    /// older one of its own came back from the others.
    pub(super) fn enter(&self) -> Checked {
        let (Some(running), Some((id, member))) = (&self.running, self.id_and_wish()) else {
            return Ok(());
        };
        if running.collections.journal().read_only().is_some() {
            return Ok(());
        }
        let version = match running.collections.members().get(id) {
            Some(row) if row.member().is_ok_and(|known| known == member) => return Ok(()),
            Some(row) => row.version + 1,
            None => 1,
        };
        let entered = running
            .collections
            .enter_member(MemberRow::new(id, version, &member));
        match entered.map_err(|error| format!("its row: {error}"))? {
            Some(_) => Ok(()),
            None => Err(format!("its row at version {version} was passed over")),
        }
    }
}

impl World {
    /// A node wants to be known as something else.
    pub(super) fn change_member(&mut self, node: usize) -> Checked {
        let before = self.nodes[node].wish.state;
        self.nodes[node].wish.change(&mut self.random);
        let wish = self.nodes[node].wish.clone();
        self.hit(Branch::MemberChanged);
        if (before, wish.state) == (MemberState::Left, MemberState::Joined) {
            self.hit(Branch::MemberBack);
        }
        self.note(|| format!("{node} is {wish:?}"));
        self.nodes[node]
            .enter()
            .map_err(|error| format!("node {node}: {error}"))
    }

    /// On `at` the row of every node that stays says what its owner wants.
    pub(super) fn member_that_differs(&self, at: usize) -> Option<String> {
        let members = self.collections(at).members();
        let staying = self.nodes.iter().enumerate().filter(|(_, node)| !node.left);
        let mut rows = staying.filter_map(|(index, node)| Some((index, node.id_and_wish()?)));
        rows.find_map(|(index, (id, wish))| {
            let row = members.get(id).map(MemberRow::member);
            match row {
                Some(Ok(row)) if row == wish => None,
                row => Some(format!(
                    "{at} has {row:?} for {index}, which says of itself {wish:?}"
                )),
            }
        })
    }
}
