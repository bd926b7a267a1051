//! Taking up a configuration that was read again: the log level and the secrets. Other keys are
//! those of the next start, and the log names the ones that differ.

use super::Reload;
use crate::config::Config;
use crate::group::Group;
use crate::http::TokenSource;
use crate::logging::LogControl;

/// Reads the configuration again and takes up what can change while the node runs. `config` is what
/// it was started with.
pub(super) async fn apply(
    config: &Config,
    log: &LogControl,
    token: &TokenSource,
    group: Option<&Group>,
    reload: &Reload,
) {
    let read = match reload() {
        Ok(read) => read,
        Err(error) => return tracing::error!("reloading: {error}"),
    };
    if let Err(error) = log.reload(&read.node) {
        return tracing::error!("reloading the log level: {error}");
    }
    if let Err(error) = token.reload() {
        return tracing::error!("reloading http.token_file: {error}");
    }
    if let Some(group) = group
        && let Err(error) = group.reload().await
    {
        return tracing::error!("reloading the group's secrets: {error}");
    }
    tracing::info!("reloaded log level and secrets");
    for change in config.changes_for_a_start(&read) {
        tracing::warn!("{change}; the change takes effect when the node is started again");
    }
}
