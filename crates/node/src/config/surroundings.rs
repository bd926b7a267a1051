//! What a process finds around it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::memory;

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
            name.starts_with("GRAPEVINE_")
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
