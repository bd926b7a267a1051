//! The tasks between the group's thread and the transport: what comes in is handed to the thread,
//! what the thread wants of the transport is done where waiting is allowed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::Thread;

use grapevine_core::group;
use grapevine_core::membership::NodeId;
use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use grapevine_net::{Address, Event, Events, Goodbye, Handle, PeerKey, SessionId};

/// Inputs that wait for the thread.
const INPUTS_MAX: usize = 1024;
/// Errands that wait to be done: one for each session at most, and a few calls.
const ERRANDS_MAX: usize = 4096;

/// Something for the thread.
pub(super) enum Input {
    /// From the transport.
    Event(Event),
    /// From a user.
    Command(Command),
    /// Where others reach this node from now on.
    Addresses(Vec<String>),
    /// Everything durable is to leave, then the thread ends.
    Stop(oneshot::Sender<()>),
}

/// Where inputs go in.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Input>,
    thread: Thread,
}

impl Inbox {
    /// Waits for room. False when the thread has ended.
    pub(super) async fn put(&self, input: Input) -> bool {
        let sent = self.sender.send(input).await.is_ok();
        self.thread.unpark();
        sent
    }

    pub(super) fn new(sender: mpsc::Sender<Input>, thread: Thread) -> Self {
        Inbox { sender, thread }
    }
}

/// The queue of inputs.
pub(super) fn inputs() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(INPUTS_MAX)
}

/// Whom to call, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    seeds: BTreeSet<Address>,
    wanted: BTreeMap<PeerKey, Vec<Address>>,
    /// Seeds that somebody waits for, with a number that grows each time one is asked for.
    asked: BTreeMap<Address, u64>,
}

impl From<group::Targets> for Targets {
    fn from(targets: group::Targets) -> Self {
        let called = |(node, addresses): (NodeId, Vec<String>)| {
            let addresses = parsed(&addresses);
            (!addresses.is_empty()).then(|| (PeerKey::from(node), addresses))
        };
        let seeds = targets.seeds.iter().filter_map(|text| text.parse().ok());
        Targets {
            seeds: seeds.collect(),
            wanted: targets.wanted.into_iter().filter_map(called).collect(),
            asked: BTreeMap::new(),
        }
    }
}

/// Those of a member's addresses that can be called.
pub(super) fn parsed(addresses: &[String]) -> Vec<Address> {
    let parsed = addresses.iter().filter_map(|text| text.parse().ok());
    parsed.collect()
}

/// Something to do once.
#[derive(Debug)]
pub(super) enum Errand {
    Disconnect(PeerKey, SessionId, Goodbye),
    Call(PeerKey, Vec<Address>),
}

/// The thread's end.
pub(super) struct Errands {
    targets: watch::Sender<Targets>,
    /// How often a seed was asked for.
    asked: Cell<u64>,
    once: mpsc::Sender<Errand>,
}

impl Errands {
    /// Whom to call from now on.
    pub(super) fn aim(&self, targets: Targets) {
        self.targets.send_modify(|known| {
            known.asked.retain(|seed, _| targets.seeds.contains(seed));
            (known.seeds, known.wanted) = (targets.seeds, targets.wanted);
        });
    }

    /// Calls a seed at once.
    pub(super) fn ask(&self, seed: Address) {
        self.targets.send_modify(|known| {
            self.asked.set(self.asked.get() + 1);
            known.asked.insert(seed, self.asked.get());
        });
    }

    /// Asks for something. Never waits: a thread that waited for the transport while the
    /// transport waits for it would wait for ever.
    pub(super) fn run(&self, errand: Errand) {
        if let Err(error) = self.once.try_send(errand) {
            tracing::warn!("the group's transport is behind: {error}");
        }
    }
}

/// Hands events to the thread until either ends.
pub(super) async fn deliver(mut events: Events, inbox: Inbox) {
    while let Some(event) = events.next().await {
        if !inbox.put(Input::Event(event)).await {
            break;
        }
    }
}

/// Starts the task that does errands.
pub(super) fn errands(handle: Handle) -> Errands {
    let (targets, aimed) = watch::channel(Targets::default());
    let (once, queue) = mpsc::channel(ERRANDS_MAX);
    tokio::spawn(run(handle, aimed, queue));
    Errands {
        targets,
        asked: Cell::new(0),
        once,
    }
}

async fn run(
    handle: Handle,
    mut aimed: watch::Receiver<Targets>,
    mut once: mpsc::Receiver<Errand>,
) {
    let mut done = Targets::default();
    loop {
        let outcome = tokio::select! {
            changed = aimed.changed() => {
                if changed.is_err() {
                    return;
                }
                let targets = aimed.borrow_and_update().clone();
                aim(&handle, &done, &targets).await;
                done = targets;
                continue;
            }
            errand = once.recv() => match errand {
                None => return,
                Some(Errand::Disconnect(peer, session, goodbye)) => {
                    handle.disconnect(peer, session, goodbye).await
                }
                Some(Errand::Call(peer, addresses)) => handle.dial_known(peer, addresses).await,
            },
        };
        if let Err(error) = outcome {
            tracing::debug!("the group's transport: {error}");
        }
    }
}

async fn aim(handle: &Handle, before: &Targets, now: &Targets) {
    let mut outcomes = Vec::new();
    if before.seeds != now.seeds {
        outcomes.push(handle.set_seeds(now.seeds.clone()).await);
    }
    for (seed, number) in &now.asked {
        if before.asked.get(seed) != Some(number) {
            outcomes.push(handle.call_seed(seed.clone()).await);
        }
    }
    for peer in before.wanted.keys() {
        if !now.wanted.contains_key(peer) {
            outcomes.push(handle.unwant(*peer).await);
        }
    }
    for (peer, addresses) in &now.wanted {
        if before.wanted.get(peer) != Some(addresses) {
            outcomes.push(handle.want(*peer, addresses.clone()).await);
        }
    }
    for error in outcomes.into_iter().filter_map(Result::err) {
        tracing::warn!("calling members of the group: {error}");
    }
}
