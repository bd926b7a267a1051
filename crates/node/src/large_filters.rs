//! What the node does for filters that do not fit its memory bound: says so, and makes room without
//! keeping its runtime's threads waiting.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use grapevine_store::filters::Filters;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Most filters named in one answer.
const NAMED_MAX: usize = 100;

/// Runs work that waits for files: on a thread of the runtime, its other tasks go on elsewhere
/// meanwhile.
pub(crate) fn aside(work: &mut dyn FnMut()) {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// A line for each filter that does not fit, up to a bound.
pub(crate) fn notes(filters: &Filters) -> Vec<String> {
    let large = filters.too_large();
    let limit = filters.memory().limit();
    let line = |(name, bytes): &(Vec<u8>, u64)| {
        let name = name.escape_ascii();
        format!(
            "filter {name} takes {bytes} bytes of memory and does not fit limits.memory ({limit}): \
             its keys are refused here, what other nodes put in is kept in its files"
        )
    };
    let mut notes: Vec<String> = large.iter().take(NAMED_MAX).map(line).collect();
    if large.len() > NAMED_MAX {
        notes.push(format!("and {} more", large.len() - NAMED_MAX));
    }
    notes
}

/// Those that the log has told of.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeSet<Vec<u8>>>);

impl Told {
    /// Logs each filter that does not fit once, and once more when it does.
    pub(crate) fn tell(&self, filters: &Filters) {
        let large = filters.too_large();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = filters.memory().limit();
        for (name, bytes) in &large {
            if told.insert(name.clone()) {
                tracing::warn!(
                    "filter {} takes {bytes} bytes of memory and does not fit limits.memory \
                     ({limit}): its keys are refused here until that is raised",
                    name.escape_ascii()
                );
            }
        }
        let fits = |name: &Vec<u8>| !large.iter().any(|(other, _)| other == name);
        let gone: Vec<Vec<u8>> = told.iter().filter(|name| fits(name)).cloned().collect();
        for name in gone {
            told.remove(&name);
            tracing::info!("filter {} fits limits.memory now", name.escape_ascii());
        }
    }
}
