//! A whole store on a simulated disk, with one filter that the group shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use grapevine_store::collections::{Collections, Exchange};
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::filters::{Creation, NewFilter, Options, Recreation, Scratch};
use grapevine_store::log::LogConfig;

use super::Data;
use crate::node::{self, Mutation};

const NAME: &[u8] = b"seen";
/// So many that no node runs out of rights.
const CAPACITY: u64 = 200_000;

/// See the module.
pub struct Whole {
    collections: Arc<Collections>,
    exchange: Exchange,
    scratch: Scratch,
}

impl Data for Whole {
    type Replica = Exchange;

    fn new(number: usize, _: usize) -> Result<Self, String> {
        let options = Options {
            log: LogConfig::default(),
            memory: 1 << 30,
            checkpoint_log: 1 << 30,
            idle_unload: None,
        };
        let entropy = node::entropy(number as u64 + 1, &Arc::new(AtomicU64::new(0)));
        let opened = node::open(&SimulatedDisk::new(), Mutation::None, options, entropy);
        let collections = Arc::new(opened.map_err(|error| error.to_string())?.0);
        let identity = *collections.filters().identity();
        let group = GroupIdentity {
            id: [0x11; 16],
            met: true,
            ..collections.group()
        };
        let joined = collections.join(group);
        joined.map_err(|error| error.to_string())?;
        let member = Member {
            name: format!("n{number}"),
            origin: identity.origin,
            addresses: vec!["198.51.100.1:8676".to_owned()],
            software: String::new(),
            weight: 1,
            state: MemberState::Joined,
            group: group.id,
        };
        let row = MemberRow::new(NodeId::new(identity.key.bytes()), 1, &member);
        let entered = collections.enter_member(row);
        entered.map_err(|error| error.to_string())?;
        let exchange = Exchange::new(Arc::clone(&collections));
        let mut whole = Whole {
            collections,
            exchange,
            scratch: Scratch::default(),
        };
        whole.sync()?;
        Ok(whole)
    }

    fn prepare(&mut self) -> Result<(), String> {
        let new = NewFilter {
            parameters: Parameters {
                capacity: CAPACITY,
                error: 0.1,
                growth: Growth::By(2),
            },
            storage: Storage::Durable,
            seed: None,
            scope: Scope::Group,
        };
        let filters = self.collections.filters();
        match filters.create(NAME, new, Recreation::AtOnce) {
            Ok(Creation::Created(_)) => Ok(()),
            Ok(_) => Err("the filter was not created".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn replica(&mut self) -> &mut Exchange {
        self.exchange.refresh();
        &mut self.exchange
    }

    fn set(&mut self, key: u64) -> Result<bool, String> {
        let filters = self.collections.filters();
        let handle = filters.get(NAME).ok_or("no filter")?;
        let before = self.collections.journal().appended();
        let keys = [&key.to_le_bytes()[..]];
        let position = filters
            .set(&handle, &keys, &mut self.scratch)
            .map_err(|error| error.to_string())?;
        let committed = self.collections.journal().commit(position);
        committed.map_err(|error| error.to_string())?;
        Ok(self.collections.journal().appended() > before)
    }

    fn needs_sync(&self) -> bool {
        let journal = self.collections.journal();
        journal.synced() < journal.appended()
    }

    fn sync(&mut self) -> Result<(), String> {
        let synced = self.collections.journal().sync();
        synced.map(drop).map_err(|error| error.to_string())
    }
}
