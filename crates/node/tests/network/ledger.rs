//! Load, and the ledger of what was acknowledged under it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::machine::{Client, Machine};
use super::wait_until;

/// Keys of one request.
const KEYS_PER_LINE: usize = 20;
/// Keys of one question.
const KEYS_PER_QUESTION: usize = 500;
/// From a connection that failed to the next.
const RETRY: Duration = Duration::from_millis(20);

/// The keys of one filter that some node has acknowledged.
pub(crate) struct Ledger {
    filter: &'static str,
    keys: Mutex<Vec<String>>,
    count: AtomicUsize,
    stop: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(filter: &'static str) -> Self {
        Ledger {
            filter,
            keys: Mutex::default(),
            count: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Does something while keys are set on machines, a request each `every` on each.
    pub(crate) fn while_written<T>(
        &self,
        machines: &[&Machine],
        every: Duration,
        job: impl FnOnce() -> T,
    ) -> T {
        std::thread::scope(|scope| {
            let _end = End(&self.stop);
            for machine in machines {
                scope.spawn(|| self.write(machine, every));
            }
            job()
        })
    }

    /// Sets keys of its own on a machine until it is told to stop. While the node is gone it waits
    /// for it.
    fn write(&self, machine: &Machine, every: Duration) {
        let mut connection = None;
        let mut next = 0;
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            wait_until(due);
            due = Instant::now() + every;
            let keys: Vec<String> = (next..next + KEYS_PER_LINE)
                .map(|number| format!("{}-{number}", machine.name))
                .collect();
            next += KEYS_PER_LINE;
            let answer = ask(machine, &mut connection, &self.request("b", &keys));
            match answer {
                Some(answer) if answer.starts_with("Yes") || answer.starts_with("No") => {
                    assert_eq!(answer.split(' ').count(), keys.len(), "{answer}");
                    self.enter(keys);
                }
                // A node that has just come back may not have heard of it.
                Some(answer) if answer == "Filter does not exist" => {}
                Some(answer) => panic!("{}: {answer}", machine.name),
                None => due += RETRY,
            }
        }
    }

    fn request(&self, command: &str, keys: &[String]) -> String {
        format!("{command} {} {}", self.filter, keys.join(" "))
    }

    pub(crate) fn enter(&self, keys: Vec<String>) {
        self.count.fetch_add(keys.len(), Ordering::Relaxed);
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(keys);
    }

    /// How many of the keys a node does not have.
    pub(crate) fn lacking(&self, machine: &Machine) -> usize {
        let keys = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut connection = None;
        keys.chunks(KEYS_PER_QUESTION)
            .map(|keys| {
                let answer = ask(machine, &mut connection, &self.request("m", keys));
                let answer = answer.unwrap_or_default();
                let there = answer.split(' ').filter(|word| *word == "Yes").count();
                keys.len() - there
            })
            .sum()
    }
}

/// Tells others to stop when it goes, also by a panic.
pub(crate) struct End<'a>(pub(crate) &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks over a connection, made anew if there is none.
fn ask(machine: &Machine, connection: &mut Option<Client>, line: &str) -> Option<String> {
    if connection.is_none() {
        *connection = machine.bloomd().ok();
    }
    let answer = connection.as_mut()?.ask(line).ok();
    if answer.is_none() {
        *connection = None;
    }
    answer
}
