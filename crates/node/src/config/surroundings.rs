//! What a process finds around it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::memory;

/// What the names of Grapevine's variables begin with.
pub(crate) const PREFIX: &str = "GRAPEVINE_";
/// The variable that names the node to talk to.
pub(crate) const NODE_VARIABLE: &str = "GRAPEVINE_NODE";
/// The variable that names the file with the token for it.
pub(crate) const TOKEN_FILE_VARIABLE: &str = "GRAPEVINE_TOKEN_FILE";
/// Variables with that prefix that stand for no key.
pub(crate) const OTHER_VARIABLES: [&str; 2] = [NODE_VARIABLE, TOKEN_FILE_VARIABLE];

/// The facts about the process and its machine that configuration depends on. A value, so that
/// tests state their own.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment variables that matter: `GRAPEVINE_…`, `HOME`, `XDG_DATA_HOME`,
    /// `HBBP_KEYDIR`.
    pub variables: BTreeMap<OsString, OsString>,
    /// The machine's host name.
    pub host_name: Option<String>,
    /// The memory this process may use, in bytes.
    pub memory: Option<u64>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        // The rest of the environment may hold other programs' secrets.
        let matters = |name: &OsString| {
            let name = name.to_string_lossy();
            without_prefix(&name).is_some()
                || ["HOME", "XDG_DATA_HOME", "HBBP_KEYDIR"].contains(&&*name)
        };
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host_name = host_name.map(|name| name.trim().to_owned());
        Self {
            variables: env::vars_os().filter(|(name, _)| matters(name)).collect(),
            host_name: host_name.filter(|name| !name.is_empty()),
            memory: memory::of_machine(),
        }
    }

    /// `$XDG_DATA_HOME/grapevine`, else `~/.local/share/grapevine`. Relative paths in the two
    /// variables do not count, as the XDG base directory specification wants.
    #[must_use]
    pub fn default_data_dir(&self) -> Option<PathBuf> {
        let absolute = |name: &str| {
            let path = self
                .variables
                .get(&OsString::from(name))
                .map(PathBuf::from)?;
            path.is_absolute().then_some(path)
        };
        let data = absolute("XDG_DATA_HOME");
        let data = data.or_else(|| Some(absolute("HOME")?.join(".local/share")));
        data.map(|data| data.join("grapevine"))
    }
}

/// What follows the prefix in the name of a variable that is Grapevine's, in whatever case.
pub(crate) fn without_prefix(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// Whether an orchestrator makes such a variable for a service whose name begins with
/// `grapevine`: `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT_8675_TCP_ADDR`, and
/// `…_PORT=tcp://…` (Kubernetes, "Discovering services"; the links of Docker).
pub(crate) fn is_of_service(rest: &str, value: &str) -> bool {
    let ports = |rest: &str| rest == "PORT" || rest.ends_with("_PORT");
    let url = ["tcp://", "udp://", "sctp://"];
    let numbered = |(_, behind): (&str, &str)| {
        let number = behind.split('_').next().unwrap_or_default();
        let protocol = behind.split('_').nth(1).unwrap_or_default();
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    rest.ends_with("SERVICE_HOST")
        || rest.ends_with("SERVICE_PORT")
        || rest.contains("SERVICE_PORT_")
        || ports(rest) && url.iter().any(|url| value.starts_with(url))
        || rest.split_once("PORT_").is_some_and(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_an_orchestrator_are_known() {
        for (rest, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "8675"),
            ("HTTP_SERVICE_PORT_HTTP", "8675"),
            ("PORT", "tcp://10.0.0.1:8675"),
            ("HTTP_PORT", "tcp://10.0.0.1:8675"),
            ("PORT_8675_TCP", "tcp://10.0.0.1:8675"),
            ("HTTP_PORT_8675_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_of_service(rest, value), "{rest}");
        }
        for (rest, value) in [
            ("HBBP_PORT", "4950"),
            ("PORT", "8675"),
            ("PORT_HTTP", "8675"),
            ("BLOOMD_TCP", "tcp://10.0.0.1:8673"),
        ] {
            assert!(!is_of_service(rest, value), "{rest}");
        }
    }
}
