//! What the node does where another has other operations under the numbers of one origin.

use grapevine_core::group::Input;
use grapevine_core::origin::Origin;

use super::owner::Owner;

/// What an operator is to do with a directory whose operations are not the group's.
pub(crate) const REMEDY: &str = "stop the node and run `grapevine restore --in-place`: it goes on under a new \
                      origin and gives the group what only it has";

impl Owner {
    /// A peer has the first `common` operations of an origin as they are here, and others after
    /// them. Nothing of that origin passes between the two. Of the own origin no more is made.
    pub(super) fn histories_part(&mut self, peer: Origin, origin: Origin, common: u64) {
        let elsewhere = self.machine.held_by_most();
        let noted = self.collections.note_fork(origin, common, &elsewhere);
        let new = match noted {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("where histories part cannot be kept in mind: {error}");
                true
            }
        };
        let peer = self.name_of(peer);
        if origin != self.origin {
            if new {
                tracing::error!(
                    "{peer} has other operations of {} than this node after the first {common}: \
                     the directory of that node was set back or copied. The two keep apart what \
                     they have of it, and nothing is removed. If this node has what the group has \
                     not, {REMEDY}",
                    self.name_of(origin)
                );
            }
            return;
        }
        self.collections.journal().fail(|| {
            format!(
                "{peer} has other operations of this node than it has itself after the first \
                 {common}: its data directory was set back to an earlier state, or a copy of it \
                 runs. To mend it, {REMEDY}"
            )
        });
        // Whoever has nothing of this origin yet would take this history for the group's.
        self.drive_group(Input::StayApart);
    }
}
