//! Rules that involve more than one key.

use std::path::Path;

use super::address::Listener;
use super::error::ConfigError;
use super::origin::Origin;
use super::settings::Config;

/// Refuses listeners that other machines can reach and that nothing protects.
pub(crate) fn off_loopback(config: &Config) -> Vec<ConfigError> {
    let mut unprotected = Vec::new();
    if config.group.secret_file.is_none() {
        unprotected.push((&config.group.listen, "group.secret_file"));
    }
    if !config.bloomd.open {
        let set = "bloomd.open = true (its protocol knows no authentication)";
        unprotected.extend([(&config.bloomd.tcp, set), (&config.bloomd.udp, set)]);
    }
    if !config.rmbd.open {
        let set = "rmbd.open = true (its protocol knows no authentication)";
        unprotected.push((&config.rmbd.udp, set));
    }
    if config.http.token_file.is_none() {
        unprotected.push((&config.http.listen, "http.token_file"));
    }
    unprotected
        .into_iter()
        .filter_map(|(listener, set)| refuse_reachable(listener, set))
        .collect()
}

fn refuse_reachable(listener: &Listener, set: &'static str) -> Option<ConfigError> {
    let address = listener
        .address
        .as_ref()
        .filter(|address| !address.is_loopback())?;
    Some(ConfigError::OffLoopback {
        key: listener.key,
        address: address.to_string(),
        origin: listener.origin.clone(),
        set,
    })
}

/// Refuses a file that was found through the data directory and then names another one: two
/// directories would each be the node's for a part of the start.
pub(crate) fn data_dir_stays(config: &Config, found_in: &Path) -> Option<ConfigError> {
    let origin = config.origin("node.data_dir")?;
    let moved_to = config.node.data_dir.as_path();
    if !matches!(origin, Origin::File { .. }) || same_place(moved_to, found_in) {
        return None;
    }
    Some(ConfigError::DataDirMoved {
        origin: origin.clone(),
        found_in: found_in.to_owned(),
        moved_to: moved_to.to_owned(),
    })
}

fn same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
