//! Which commands are under way, for the time that they take.

use std::time::Instant;

use grapevine_core::wire::bloomd::{ClientError, Command};

use crate::metrics::{BloomdCommand, Latencies, Tally};

/// Lines that were executed and are not answered yet, by kind.
#[derive(Default)]
pub(super) struct Kinds(Tally<{ BloomdCommand::LABELS.len() }>);

impl Kinds {
    /// One more line.
    pub(super) fn line(&mut self, parsed: &Result<Command<'_>, ClientError>) {
        self.0.add(kind(parsed) as usize, 1);
    }

    /// Lines that add or check keys, `many` of them more than one.
    pub(super) fn batch(&mut self, adds: bool, lines: usize, many: usize) {
        let (one_key, many_keys) = if adds {
            (BloomdCommand::Set, BloomdCommand::Bulk)
        } else {
            (BloomdCommand::Check, BloomdCommand::Multi)
        };
        self.0.add(one_key as usize, (lines - many) as u64);
        self.0.add(many_keys as usize, many as u64);
    }

    /// They are answered: read at `began`.
    pub(super) fn done(&mut self, began: Instant, latencies: &Latencies) {
        self.0.done(began, latencies);
    }
}

fn kind(parsed: &Result<Command<'_>, ClientError>) -> BloomdCommand {
    match parsed {
        Err(_) => BloomdCommand::Unknown,
        Ok(Command::Check { .. }) => BloomdCommand::Check,
        Ok(Command::CheckMany { .. }) => BloomdCommand::Multi,
        Ok(Command::Set { .. }) => BloomdCommand::Set,
        Ok(Command::SetMany { .. }) => BloomdCommand::Bulk,
        Ok(Command::Create { .. }) => BloomdCommand::Create,
        Ok(Command::List { .. }) => BloomdCommand::List,
        Ok(Command::Drop { .. }) => BloomdCommand::Drop,
        Ok(Command::Close { .. }) => BloomdCommand::Close,
        Ok(Command::Clear { .. }) => BloomdCommand::Clear,
        Ok(Command::Flush { .. }) => BloomdCommand::Flush,
        Ok(Command::Info { .. }) => BloomdCommand::Info,
        Ok(Command::Conf { .. }) => BloomdCommand::Conf,
    }
}
