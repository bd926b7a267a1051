//! What a group costs by its size: messages, bytes, time and memory of the sync machine, with as
//! many machines as are asked for, connected all to all, in simulated time.
//!
//! The machines are the real ones. Their data is either a whole store on a simulated disk, or a
//! light one that has version vectors only and makes up the operations' bytes; both must come to
//! the same counts, which `tests/scale.rs` holds.

mod arrivals;
mod light;
mod traffic;
mod whole;
mod world;

use std::time::Duration;

use grapevine_core::sync::Replica;

pub use arrivals::Convergence;
pub use light::Light;
pub use traffic::{Kind, Traffic};
pub use whole::Whole;

/// The data of one node.
pub trait Data: Sized {
    /// As its machine sees it.
    type Replica: Replica;

    /// That of node `number` of `nodes`, which all know each other.
    fn new(number: usize, nodes: usize) -> Result<Self, String>;

    /// As its machine sees it.
    fn replica(&mut self) -> &mut Self::Replica;

    /// Makes what the keys go into. Called on one node, when all know each other.
    fn prepare(&mut self) -> Result<(), String>;

    /// Puts a key in that no node has; whether that made an operation.
    fn set(&mut self, key: u64) -> Result<bool, String>;

    /// Whether something is in that would not survive a power cut.
    fn needs_sync(&self) -> bool;

    /// Makes everything that is in durable.
    fn sync(&mut self) -> Result<(), String>;
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes, all connected to each other.
    pub nodes: usize,
    /// Messages lost, in percent.
    pub loss: u64,
    /// Length of each part of the run, in simulated seconds.
    pub seconds: u64,
    /// Keys that the group takes each second while it has steady work, one by one on nodes drawn
    /// at random.
    pub rate: u64,
    /// Keys of one burst, set one by one at once on one node; there is one burst each second.
    pub burst: u64,
}

/// How the run measures the world around it.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// Processor time that this thread has used.
    pub processor: fn() -> Duration,
    /// Bytes that are allocated.
    pub allocated: fn() -> usize,
}

/// What one part of the run came to.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its length, until everything had arrived everywhere, in simulated seconds.
    pub seconds: f64,
    /// Operations made in it.
    pub operations: u64,
    /// Messages sent by all nodes together.
    pub traffic: Traffic,
    /// Processor time of all machines together: what they were given to handle.
    pub machines: Duration,
    /// Processor time of what nodes ask their machines twice a second: what all members have, and
    /// how things stand with each peer.
    pub looks: Duration,
    /// When operations had arrived on all nodes.
    pub convergence: Convergence,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// From the first connection until everybody knew what everybody has.
    pub meeting: Part,
    /// Nothing happens.
    pub idle: Part,
    /// A steady rate of keys.
    pub steady: Part,
    /// Bursts of keys.
    pub bursts: Part,
    /// Bytes of one machine's state at the end, on the average.
    pub machine_bytes: f64,
}

/// Runs it.
pub fn run<D: Data>(plan: &Plan, gauges: Gauges) -> Result<Report, String> {
    let mut world = world::World::<D>::new(*plan, gauges)?;
    let meeting = world.part(|world| world.meet())?;
    let idle = world.part(|world| world.rest())?;
    let steady = world.part(|world| world.work_steadily())?;
    let bursts = world.part(|world| world.work_in_bursts())?;
    Ok(Report {
        meeting,
        idle,
        steady,
        bursts,
        machine_bytes: world.machine_bytes(),
    })
}
