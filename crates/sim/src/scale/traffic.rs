//! Messages and their bytes, by what they are.

use std::collections::BTreeMap;

use grapevine_core::sync::{Content, Message};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Operations.
    Operations,
    /// A report: a hash of what the sender has.
    Summary,
    /// A report of some origins: an acknowledgement.
    Moved,
    /// A report of what changed since the last one.
    News,
    /// A report of all origins.
    Range,
    /// Operations are asked for.
    Want,
    /// A question for the time, or the answer.
    Time,
    /// Anything else: snapshots, rights.
    Other,
}

impl Kind {
    fn of(message: &Message) -> Self {
        match message {
            Message::Operations { .. } => Kind::Operations,
            Message::Report(report) => match report.content {
                Content::Summary(_) => Kind::Summary,
                Content::Moved(_) => Kind::Moved,
                Content::News(..) => Kind::News,
                Content::Range { .. } => Kind::Range,
            },
            Message::Want(_) => Kind::Want,
            Message::TimeQuestion { .. } | Message::Time { .. } => Kind::Time,
            _ => Kind::Other,
        }
    }
}

/// Counts of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Per kind the messages sent and their bytes, without the transport's frame around each.
    pub kinds: BTreeMap<Kind, (u64, u64)>,
    buffer: Vec<u8>,
}

impl Traffic {
    pub(super) fn count(&mut self, message: &Message) {
        self.buffer.clear();
        message.encode(&mut self.buffer);
        let (messages, bytes) = self.kinds.entry(Kind::of(message)).or_default();
        *messages += 1;
        *bytes += self.buffer.len() as u64;
    }

    /// Messages of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> (u64, u64) {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// Messages and bytes of all kinds.
    #[must_use]
    pub fn all(&self) -> (u64, u64) {
        let kinds = self.kinds.values();
        kinds.fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1))
    }
}
