//! The group: the machines that share this node's state.
//!
//! One thread owns everything (`owner`): the group's protocol, which decides who belongs together
//! and lives in `grapevine_core::group`, the sync machine with its view of the collections, the
//! failure detector. Two small tasks stand between it and the transport (`courier`). Reading
//! order: `owner`, `protocol`, `roster`.

mod clocks;
mod command;
mod complaints;
mod courier;
mod divergences;
mod frame;
mod histories;
mod memory_filters;
mod owner;
mod protocol;
mod reach;
mod replacing;
mod roster;
mod seeds;
mod status;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grapevine_core::membership::GroupIdentity;
use grapevine_store::collections::Collections;
use tokio::sync::oneshot;

use crate::audit;
use crate::config::{Address as ConfiguredAddress, Group as GroupSettings};
use command::Command;
pub use command::{CommandError, Joined, Left};
use courier::{Inbox, Input};
pub use grapevine_core::group::Liveness;
use grapevine_net::{
    Address, Carriers, Handle, HandleError, Key, Keyring, KeyringFileError, NodeKey, Seed,
    Settings, StartError, read_keyring,
};
pub(crate) use histories::REMEDY as FORK_REMEDY;
use owner::{Limits, Owner};
use replacing::Replacing;
use status::Board;
pub use status::{Clock, Counts, Divergence, Link, MemberStatus, Status};

/// Why the group does not start, or takes no other secrets.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Its secrets cannot be read.
    #[error("group.secret_file: {0}")]
    Keyring(#[from] KeyringFileError),
    /// The transport does not start.
    #[error(transparent)]
    Transport(#[from] StartError),
    /// The transport does not take what it is given.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// An address of the configuration cannot be called.
    #[error("{key}: {reason}")]
    Address {
        /// The key.
        key: &'static str,
        /// Why not.
        reason: String,
    },
    /// The system refused a thread.
    #[error("starting the group's thread: {0}")]
    Thread(io::Error),
}

impl GroupError {
    /// The address where somebody else listens and the group should.
    #[must_use]
    pub fn taken_address(&self) -> Option<SocketAddr> {
        match self {
            GroupError::Transport(StartError::Listen { listen, source })
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                Some(*listen)
            }
            _ => None,
        }
    }
}

/// The running group. It ends with [`Group::stop`].
pub struct Group {
    inbox: Inbox,
    board: Arc<Board>,
    handle: Handle,
    secret_file: Option<PathBuf>,
    /// Members that this node is to replace and has not yet.
    replacing: replacing::Notes,
    /// The secrets as they were read last.
    secrets: Mutex<Keyring>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Group {
    /// Starts the group within the current tokio runtime; it listens at every address of `listen`
    /// that this machine has when this returns. Clocks that differ by more than `clock_drift` are reported.
    /// In `data_dir` may be whom this node is to replace.
    ///
    /// # Errors
    /// It cannot listen, or must not; a secret cannot be read.
    pub async fn start(
        settings: &GroupSettings,
        node_name: &str,
        listen: Vec<SocketAddr>,
        collections: Arc<Collections>,
        clock_drift: Duration,
        data_dir: &Path,
    ) -> Result<Arc<Self>, GroupError> {
        let identity = *collections.filters().identity();
        let key = NodeKey::from_bytes(identity.key.bytes());
        let group = collections.group();
        let mut protocol = grapevine_core::group::Settings {
            group_name: settings.name.clone(),
            node: key.public().into(),
            node_name: node_name.to_owned(),
            origin: identity.origin,
            life: collections.filters().memory_stream().life(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: Vec::new(),
            seeds: parse("group.join", &settings.join)?,
        };
        let secrets = keyring(settings.secret_file.as_deref())?;
        let transport = Settings {
            listen,
            discover: settings.discover,
            keyring: secrets.clone(),
            greeting: protocol.greeting(group).encode().into(),
            carriers: Carriers::BOTH,
        };
        let (handle, events) = grapevine_net::start(transport, &key).await?;
        protocol.addresses = reach::said(&settings.advertise, &handle.addresses());
        handle.set_greeting(protocol.greeting(group).encode().into())?;
        let limits = Limits {
            log_keep: settings.log_keep,
            clock_drift: u64::try_from(clock_drift.as_millis()).unwrap_or(u64::MAX),
        };
        let board = Arc::new(Board::new(nobody(&settings.name, group, &handle)));
        let errands = courier::errands(handle.clone());
        let (sender, inputs) = courier::inputs();
        let (shown, from) = (Arc::clone(&board), handle.clone());
        let known = Arc::clone(&collections);
        let owner = move || {
            Owner::new(protocol, limits, collections, from, errands, shown).run(inputs);
        };
        let thread = std::thread::Builder::new()
            .name("group".to_owned())
            .spawn(owner)
            .map_err(GroupError::Thread)?;
        let inbox = Inbox::new(sender, thread.thread().clone());
        tokio::spawn(courier::deliver(events, inbox.clone()));
        follow(settings, &handle, &inbox);
        let alone = settings.join.is_empty() && !settings.discover;
        let shown = Arc::clone(&board);
        let replacing = Replacing::read(data_dir, known, shown, inbox.clone(), alone);
        let notes = replacing.notes();
        tokio::spawn(replacing.run());
        Ok(Arc::new(Group {
            inbox,
            board,
            handle,
            secret_file: settings.secret_file.clone(),
            replacing: notes,
            secrets: Mutex::new(secrets),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Where it listens now.
    #[must_use]
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        self.handle.addresses()
    }

    /// How the group is, as of half a second ago at most.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.board.read()
    }

    /// The addresses that are called whoever answers, and nobody who answered is connected.
    #[must_use]
    pub fn joining(&self) -> Vec<Seed> {
        let mut seeds = self.handle.seeds().now();
        seeds.retain(|seed| !seed.connected);
        seeds
    }

    /// What is to be done about members that this node replaces, and what is in the way.
    #[must_use]
    pub fn replacing(&self) -> Vec<String> {
        let notes = self.replacing.lock();
        notes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.board.counts
    }

    /// What the transport has counted.
    #[must_use]
    pub fn transport_counts(&self) -> &grapevine_net::Counters {
        self.handle.counters()
    }

    /// Calls `address` from now on, and waits for what comes of it, at most ten seconds. It is
    /// not called again after the next start, or when nothing came of it.
    ///
    /// # Errors
    /// Why nobody there took this node into the group.
    pub async fn join(&self, address: &str) -> Result<Joined, CommandError> {
        let parsed: Address = address
            .parse()
            .map_err(|error: grapevine_net::AddressError| {
                CommandError::Address(error.to_string())
            })?;
        let found = tokio::net::lookup_host(address).await;
        let resolved = found.map_err(|error| grapevine_core::group::CommandError::NotJoined {
            address: address.to_owned(),
            reason: error.to_string(),
        })?;
        let resolved = resolved.collect();
        self.ask(|answer| Command::Join {
            address: parsed,
            resolved,
            answer,
        })
        .await
    }

    /// Leaves the group, or marks a member that is dead as left.
    ///
    /// # Errors
    /// Why not.
    pub async fn leave(&self, member: Option<String>) -> Result<Left, CommandError> {
        self.ask(|answer| Command::Leave { member, answer }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
    ) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.inbox.put(Input::Command(command(answer))).await;
        answered.await.unwrap_or(Err(CommandError::Stopping))
    }

    /// Reads the secrets again.
    ///
    /// # Errors
    /// They cannot be read, or must not be used; the ones before are.
    pub async fn reload(&self) -> Result<(), GroupError> {
        let ring = keyring(self.secret_file.as_deref())?;
        self.handle.set_keyring(ring.clone()).await?;
        let ids: Vec<&str> = ring.keys().iter().map(Key::id).collect();
        let which = format!("the secrets of the group, now {}", ids.join(", "));
        let mut before = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if *before != ring {
            audit::note_secrets(&which);
            *before = ring;
        }
        Ok(())
    }

    /// Makes everything durable, lets the members have it (two seconds at most) and says goodbye.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inbox.put(Input::Stop(done)).await {
            // It answers or is gone: stopped either way.
            drop(stopped.await);
        }
        self.handle.stop().await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It has said that it ends; a panic in it has aborted the process.
            drop(thread.join());
        }
    }
}

/// Starts what watches the transport beside the thread.
fn follow(settings: &GroupSettings, handle: &Handle, inbox: &Inbox) {
    tokio::spawn(seeds::follow(handle.seeds().clone()));
    if settings.advertise.is_empty() {
        tokio::spawn(reach::follow(handle.watch_addresses(), inbox.clone()));
    }
}

fn keyring(file: Option<&Path>) -> Result<Keyring, KeyringFileError> {
    file.map_or_else(|| Ok(Keyring::default()), read_keyring)
}

/// Addresses of the configuration as text, once it is clear that each can be called.
fn parse(
    key: &'static str,
    addresses: &[ConfiguredAddress],
) -> Result<BTreeSet<String>, GroupError> {
    let parsed = addresses.iter().map(|address| {
        let parsed: Result<Address, _> = address.to_string().parse();
        let parsed = parsed.map(|address| address.to_string());
        parsed.map_err(|error: grapevine_net::AddressError| {
            let reason = error.to_string();
            GroupError::Address { key, reason }
        })
    });
    parsed.collect()
}

/// A random number that is not 0.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // The system gave random numbers when the node started.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes).max(1)
}

/// The status before the thread has looked.
fn nobody(name: &str, group: GroupIdentity, handle: &Handle) -> Status {
    Status {
        id: grapevine_core::origin::Origin::new(group.id).to_string(),
        name: name.to_owned(),
        met: group.met,
        left: false,
        refused: None,
        me: handle.local(),
        members: Vec::new(),
        divergences: Vec::new(),
        clock: Clock::default(),
    }
}

/// The time, in milliseconds since 1970. It grows from one start to the next unless the clock was
/// set back.
fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0))
}
