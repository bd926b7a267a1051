//! Trouble that clients and strangers can cause at will, logged a few times in a while.
//!
//! Each kind of it has a limit of its own, so that a flood of one kind does not hide another.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a kind's lines count.
const EVERY: Duration = Duration::from_secs(10);
/// Lines of one kind in that time, each another text.
const LINES_MAX: usize = 3;

/// What was said of late, by kind.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<&'static str, Said>>);

#[derive(Debug)]
struct Said {
    since: Instant,
    texts: Vec<String>,
    /// What was not said since then.
    passed_over: u64,
}

impl Complaints {
    /// Logs trouble of this kind, unless enough was said of it.
    pub(crate) fn say(&self, kind: &'static str, what: &dyn Display) {
        if let Some(line) = self.line(Instant::now(), kind, what) {
            tracing::warn!("{line}");
        }
    }

    fn line(&self, now: Instant, kind: &'static str, what: &dyn Display) -> Option<Line> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = kinds.entry(kind).or_insert_with(|| Said {
            since: now,
            texts: Vec::new(),
            passed_over: 0,
        });
        let mut more = 0;
        if now.saturating_duration_since(said.since) >= EVERY {
            more = std::mem::take(&mut said.passed_over);
            (said.since, said.texts) = (now, Vec::new());
        }
        // In a flood it is not even written out.
        let text = (said.texts.len() < LINES_MAX).then(|| what.to_string());
        let Some(text) = text.filter(|text| !said.texts.contains(text)) else {
            said.passed_over += 1;
            return None;
        };
        said.texts.push(text.clone());
        Some(Line { kind, text, more })
    }
}

struct Line {
    kind: &'static str,
    text: String,
    more: u64,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { kind, text, more } = self;
        write!(f, "{kind}: {text}")?;
        match more {
            0 => Ok(()),
            more => write!(f, " ({more} more of this kind were not logged before)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let line = |at: u64, kind, what: &str| {
            let line = complaints.line(start + Duration::from_secs(at), kind, &what);
            line.map(|line| line.to_string())
        };
        let mut said = Vec::new();
        for number in 0..1000 {
            said.extend(line(number / 200, "flood", &format!("from {}", number / 2)));
        }
        assert_eq!(said, ["flood: from 0", "flood: from 1", "flood: from 2"]);
        assert_eq!(line(6, "other", "x").as_deref(), Some("other: x"));
        assert_eq!(line(7, "other", "x"), None);
        assert_eq!(line(7, "other", "y").as_deref(), Some("other: y"));
        let next = line(10, "flood", "from 7");
        let more = "flood: from 7 (997 more of this kind were not logged before)";
        assert_eq!(next.as_deref(), Some(more));
    }
}
