//! What a seed came to.

use std::collections::BTreeMap;

use crate::branch::Branch;

/// A promise was broken: the seed ends with this.
pub(crate) type Checked = Result<(), String>;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub violation: Option<String>,
    /// What was met, how often.
    pub branches: BTreeMap<Branch, u64>,
    /// Events of a group's seed carried out.
    pub events: u64,
    /// One line per step, if asked for.
    pub trace: Vec<String>,
    /// FNV-1a of all lines of the trace.
    pub trace_hash: u64,
}

impl Default for Outcome {
    fn default() -> Self {
        Self::new()
    }
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self {
            violation: None,
            branches: BTreeMap::new(),
            events: 0,
            trace: Vec::new(),
            trace_hash: 0xCBF2_9CE4_8422_2325,
        }
    }

    pub(crate) fn hit(&mut self, branch: Branch) {
        *self.branches.entry(branch).or_default() += 1;
    }

    pub(crate) fn note(&mut self, keep: bool, line: impl FnOnce() -> String) {
        let line = line();
        for byte in line.bytes().chain([b'\n']) {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if keep {
            self.trace.push(line);
        }
    }
}
