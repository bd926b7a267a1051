//! The commands of the protocols, as far as their time is measured: the label `command`.

/// bloomd's commands, by their long names. Lines of a short one count among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the command of that name")]
pub enum BloomdCommand {
    Check,
    Multi,
    Set,
    Bulk,
    Create,
    List,
    Drop,
    Close,
    Clear,
    Flush,
    Info,
    Conf,
    /// What is no command.
    Unknown,
}

impl BloomdCommand {
    /// The labels, in the order of the kinds.
    pub const LABELS: [&'static str; 13] = [
        "check", "multi", "set", "bulk", "create", "list", "drop", "close", "clear", "flush",
        "info", "conf", "unknown",
    ];
}

/// rmbd's messages that ask for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmbdCommand {
    /// A key to add.
    Add,
    /// A question for a key.
    Has,
    /// A row to merge.
    Sync,
}

impl RmbdCommand {
    /// The labels, in the order of the kinds.
    pub const LABELS: [&'static str; 3] = ["add", "has", "sync"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_stand_where_their_kinds_do() {
        let last = BloomdCommand::Unknown as usize;
        assert_eq!(BloomdCommand::LABELS[last], "unknown");
        assert_eq!(BloomdCommand::LABELS.len(), last + 1);
        assert_eq!(BloomdCommand::LABELS[BloomdCommand::Bulk as usize], "bulk");
        assert_eq!(
            BloomdCommand::LABELS[BloomdCommand::Flush as usize],
            "flush"
        );
        assert_eq!(RmbdCommand::LABELS[RmbdCommand::Sync as usize], "sync");
    }
}
