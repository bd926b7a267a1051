//! One line of the log for each act that makes, removes or replaces more than keys and rows: what it was,
//! the way it came, and from where.

use std::net::SocketAddr;

/// Logs that the node goes by other secrets from now on, which a signal had it read. `which` names
/// them and shows nothing of them.
pub(crate) fn note_secrets(which: &str) {
    tracing::info!("changed {which} (SIGHUP)");
}

/// Logs such an act once it was done. `name` is shown as it is.
pub(crate) fn note(act: &str, name: &str, way: &str, from: Option<SocketAddr>) {
    let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
    let space = if name.is_empty() { "" } else { " " };
    tracing::info!("{act}{space}{name} ({way}, from {from})");
}
