//! The group as it is said to another node, and as the node knows it.

use grapevine_core::hash::Seed;
use grapevine_core::membership::{GroupIdentity, Introduction};
use grapevine_core::origin::Origin;
use grapevine_core::wire::group::{Greeting, Group};

/// As it is said.
pub(super) fn said(identity: GroupIdentity) -> Group {
    Group {
        id: identity.id,
        seed: identity.seed.bytes(),
        met: identity.met,
    }
}

/// As it is known.
pub(super) fn known(group: Group) -> GroupIdentity {
    GroupIdentity {
        id: group.id,
        seed: Seed::new(group.seed),
        met: group.met,
    }
}

/// What a greeting says that decides whether two nodes belong together.
pub(super) fn introduction(greeting: &Greeting) -> Introduction {
    Introduction {
        name: greeting.group_name.clone(),
        identity: known(greeting.group),
        origin: Origin::new(greeting.origin),
    }
}
