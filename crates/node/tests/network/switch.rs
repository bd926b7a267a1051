//! A switch in user space: it holds the far ends of all machines' TAP devices and forwards the
//! frames between them, as badly as it is told to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use super::frame::{Kind, kind, receiver};

/// The longest frame: a large packet and its header.
const FRAME_BYTES_MAX: usize = 16 << 10;
/// Frames on their way to one machine; a full queue drops, as a real one does.
const QUEUE_FRAMES_MAX: usize = 2000;
/// Frames taken from one machine before the others have their turn.
const TURN_FRAMES: usize = 32;
/// Longest time between two looks at whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What passes from one machine to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    Everything,
    Nothing,
    /// No UDP: only TCP is left.
    NoDatagrams,
    /// Neither UDP nor the first packet of a TCP connection: what a firewall leaves of a machine
    /// that may only call others.
    Answers,
}

/// One direction between two machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) passing: Passing,
    /// Share of frames that get lost.
    pub(crate) loss: f64,
    /// Share of frames that come twice.
    pub(crate) doubled: f64,
    pub(crate) delay: Duration,
    /// Added to the delay, from none to all of it: so frames overtake each other.
    pub(crate) jitter: Duration,
}

impl Line {
    /// A cable.
    pub(crate) const GOOD: Line = Line {
        passing: Passing::Everything,
        loss: 0.0,
        doubled: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
    };
}

/// What the switch has done, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) carried: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) stopped: u64,
    pub(crate) overfull: u64,
}

#[derive(Default)]
struct Rules {
    /// By sender, then receiver.
    lines: Vec<Vec<Line>>,
    counts: Counts,
}

/// A running switch.
pub(crate) struct Switch {
    rules: Arc<Mutex<Rules>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts to forward between devices, over good lines.
    pub(crate) fn start(devices: Vec<SyncDevice>) -> Self {
        let rules = Arc::new(Mutex::new(Rules {
            lines: vec![vec![Line::GOOD; devices.len()]; devices.len()],
            counts: Counts::default(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let forwarding = Forwarding {
            waiting: vec![0; devices.len()],
            devices,
            rules: Arc::clone(&rules),
            random: SmallRng::seed_from_u64(8676),
            queue: BinaryHeap::new(),
            number: 0,
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || forwarding.run(&stopped));
        Switch {
            rules,
            stop,
            thread: Some(thread),
        }
    }

    /// Changes the line from one machine to another.
    pub(crate) fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Line)) {
        change(&mut lock(&self.rules).lines[from][to]);
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.rules).counts
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame on its way: when it is due, its number among all, to whom.
type Due = Reverse<(Instant, u64, usize, Arc<[u8]>)>;

struct Forwarding {
    devices: Vec<SyncDevice>,
    rules: Arc<Mutex<Rules>>,
    random: SmallRng,
    queue: BinaryHeap<Due>,
    /// Frames in the queue, by receiver.
    waiting: Vec<usize>,
    number: u64,
}

impl Forwarding {
    fn run(mut self, stop: &AtomicBool) {
        for device in &self.devices {
            rustix::io::ioctl_fionbio(device, true).expect("a device can be made not to block");
        }
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        while !stop.load(Ordering::Relaxed) {
            for from in self.ready() {
                for _ in 0..TURN_FRAMES {
                    match self.devices[from].recv(&mut buffer) {
                        Ok(length) => self.forward(from, &buffer[..length]),
                        Err(_) => break,
                    }
                }
            }
            self.deliver(Instant::now());
        }
    }

    /// Waits until a frame comes or is due; the machines that have some.
    fn ready(&self) -> Vec<usize> {
        let due = self.queue.peek().map(|Reverse((at, ..))| *at);
        let wait = due.map_or(LOOK_EVERY, |at| {
            at.saturating_duration_since(Instant::now())
        });
        let wait = Timespec::try_from(wait.min(LOOK_EVERY)).expect("a short time");
        let mut fds: Vec<PollFd<'_>> = self
            .devices
            .iter()
            .map(|device| PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN))
            .collect();
        // An interrupted wait finds nothing, and the next one what there is.
        let _ = poll(&mut fds, Some(&wait));
        let ready = fds.iter().enumerate();
        ready
            .filter(|(_, fd)| fd.revents().contains(PollFlags::IN))
            .map(|(number, _)| number)
            .collect()
    }

    fn forward(&mut self, from: usize, bytes: &[u8]) {
        let rules = Arc::clone(&self.rules);
        let mut rules = lock(&rules);
        let (what, only) = (kind(bytes), receiver(bytes, self.devices.len()));
        let frame: Arc<[u8]> = bytes.into();
        for to in 0..self.devices.len() {
            if to == from || only.is_some_and(|only| only != to) {
                continue;
            }
            let line = rules.lines[from][to];
            let passes = match line.passing {
                Passing::Everything => true,
                Passing::Nothing => false,
                Passing::NoDatagrams => what != Kind::Datagram,
                Passing::Answers => what == Kind::Other,
            };
            if !passes {
                rules.counts.stopped += 1;
                continue;
            }
            if self.random.random_bool(line.loss) {
                rules.counts.lost += 1;
                continue;
            }
            let twice = self.random.random_bool(line.doubled);
            rules.counts.doubled += u64::from(twice);
            for _ in 0..=usize::from(twice) {
                if self.waiting[to] >= QUEUE_FRAMES_MAX {
                    rules.counts.overfull += 1;
                    continue;
                }
                let jitter = line.jitter.mul_f64(self.random.random());
                let at = Instant::now() + line.delay + jitter;
                self.number += 1;
                self.waiting[to] += 1;
                rules.counts.carried += 1;
                let frame = Arc::clone(&frame);
                self.queue.push(Reverse((at, self.number, to, frame)));
            }
        }
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(Reverse((at, ..))) = self.queue.peek() {
            if *at > now {
                return;
            }
            if let Some(Reverse((_, _, to, frame))) = self.queue.pop() {
                self.waiting[to] -= 1;
                // An interface that is down takes nothing.
                drop(self.devices[to].send(&frame));
            }
        }
    }
}
