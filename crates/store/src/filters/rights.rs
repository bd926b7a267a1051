//! The right to insert, shared out among the members of a group.
//!
//! Whoever opens a layer keeps half of its rights and hands the other half to the other members
//! at once. A node that runs low asks the others for more, in the background; who is asked gives
//! at most half of what it holds. A node that has none left opens a layer of its own, at once:
//! an insert never waits for another node.

use grapevine_core::catalogue::{FilterId, LayerRow, Scope};
use grapevine_core::filter::{Filter, Layer};
use grapevine_core::operation::{Grant, Stream, encode_grant};
use grapevine_core::origin::Origin;
use std::sync::atomic::Ordering::Relaxed;

use super::Filters;
use super::error::FilterError;
use super::handle::{Handle, lock};

/// A node asks for rights when it holds less than this part of its share.
const LOW_PART: u64 = 4;
/// Rights below which a node asks whatever its share is.
const LOW_MIN: u64 = 8;

impl Filters {
    /// Hands half of the rights of a layer that this node has just opened to the other members.
    pub(super) fn share_out(&self, id: FilterId, layer: &Layer) -> Result<(), FilterError> {
        let others: Vec<Origin> = {
            let members = lock(&self.members);
            let others = members
                .iter()
                .filter(|origin| **origin != self.identity.origin);
            others.copied().collect()
        };
        let share = layer.shape().capacity / 2 / (others.len() as u64).max(1);
        if others.is_empty() || share == 0 {
            return Ok(());
        }
        let wishes: Vec<_> = others.into_iter().map(|other| (other, share)).collect();
        self.give(id, layer, &wishes)
    }

    fn give(
        &self,
        filter: FilterId,
        layer: &Layer,
        wishes: &[(Origin, u64)],
    ) -> Result<(), FilterError> {
        let shares = layer.grant(wishes);
        if shares.is_empty() {
            return Ok(());
        }
        let grant = Grant {
            filter,
            layer: layer.id(),
            opened: layer.opened(),
            shares,
        };
        let mut encoded = Vec::new();
        encode_grant(&mut encoded, &grant);
        self.journal
            .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
        Ok(())
    }

    /// Hands up to `wanted` rights of a filter to another member, at most half of what is held
    /// here. What it can spare becomes an operation; otherwise nothing happens.
    pub(crate) fn grant(
        &self,
        filter: FilterId,
        to: Origin,
        wanted: u64,
    ) -> Result<(), FilterError> {
        let Some(handle) = self.by_id(filter).filter(|handle| shares_rights(handle)) else {
            return Ok(());
        };
        let bits = self.replica(&handle)?;
        let Some(held) = bits.held() else {
            return Ok(());
        };
        let mut left = wanted;
        for layer in held.filter.layers().filter(|layer| is_entered(layer)) {
            let spare = (layer.held() / 2).min(left);
            if spare > 0 {
                self.give(filter, layer, &[(to, spare)])?;
                left -= spare;
            }
        }
        Ok(())
    }

    /// Filters for whose new keys this node will soon lack rights that others still hold, with
    /// how many it should ask for.
    pub(crate) fn shortages(&self) -> Vec<(FilterId, u64)> {
        let members = u64::from(self.member_count());
        if members < 2 {
            return Vec::new();
        }
        let all = self.all();
        let shared = all.iter().filter(|handle| shares_rights(handle));
        shared
            .filter_map(|handle| {
                let wanted = self.shortage(handle, members)?;
                Some((handle.id, wanted))
            })
            .collect()
    }

    fn shortage(&self, handle: &Handle, members: u64) -> Option<u64> {
        let filter = handle.in_memory()?;
        let (mut here, mut spent, mut unspent, mut largest) = (0, 0, 0, 0);
        for layer in filter.layers().filter(|layer| is_entered(layer)) {
            let capacity = layer.shape().capacity;
            here += layer.held();
            spent += layer.inserted_here();
            unspent += capacity.saturating_sub(layer.inserted());
            largest = capacity.max(largest);
        }
        let share = largest / members;
        let was_spent = handle.rights_spent.swap(spent, Relaxed);
        let low = here < LOW_MIN.max(share / LOW_PART);
        let needed = here == 0 || spent > was_spent;
        let elsewhere = unspent.saturating_sub(here);
        (low && needed && elsewhere > 0).then(|| (share / 2).max(1))
    }
}

fn shares_rights(handle: &Handle) -> bool {
    handle.scope == Scope::Group
}

/// Whether anybody can spend rights in the layer: those that came in with a file have none.
pub(super) fn is_entered(layer: &Layer) -> bool {
    let opened = layer.opened();
    opened.sequence > 0 && opened.origin == layer.id().creator
}

/// The layers of a filter that a row opened, to be shared out.
pub(super) fn opened_by<'a>(
    filter: &'a Filter,
    rows: &'a [LayerRow],
    me: Origin,
) -> impl Iterator<Item = &'a Layer> {
    rows.iter()
        .filter(move |row| row.opened.origin == me && row.shape.id.creator == me)
        .filter_map(|row| filter.layer(row.shape.id).map(AsRef::as_ref))
}
