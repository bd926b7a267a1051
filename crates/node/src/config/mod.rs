//! Configuration: one declared table of keys ([`SECTIONS`]), from which come the parser, the
//! typed [`Config`], `config show`, the reference page and the suggestions for misspelt names.
//!
//! Layers, weakest first: built-in default, TOML file, `GRAPEVINE_SECTION__KEY` in the
//! environment, `--set section.key=value`, named flags. The layers are gathered as text with
//! their [`Origin`] and read once, so a value knows where it came from and every mistake is
//! reported in one go.

mod address;
mod division;
mod document;
mod error;
mod gossip;
mod key;
mod kind;
mod layers;
mod list;
mod memory;
mod options;
mod origin;
mod place;
mod reference;
mod rules;
mod settings;
mod show;
mod suggestion;
mod surroundings;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, Listener};
pub(crate) use division::MemoryDivision;
pub use error::{ConfigError, ConfigErrors};
pub use gossip::GossipRound;
pub use grapevine_net::secret::{Secret, SecretError, read_secret};
pub use key::{Key, Section};
pub(crate) use kind::ErrorRate;
pub use kind::{LogFormat, MemoryLimit, Refusal, SyncMode};
pub(crate) use options::GLOBAL_OPTIONS;
pub use options::GlobalOptions;
pub use origin::Origin;
pub use reference::reference_page;
pub use settings::{
    Bloomd, Config, Durability, Filters, Group, Hbbp, Http, Limits, Node, Rmbd, SECTIONS,
};
pub use surroundings::Surroundings;
pub(crate) use surroundings::{NODE_VARIABLE, TOKEN_FILE_VARIABLE};

use std::path::Path;

impl Config {
    /// Reads the configuration of this process: defaults, file, environment, `--set`, flags.
    ///
    /// # Errors
    /// Every mistake found in any layer, not only the first.
    pub fn load(options: &GlobalOptions) -> Result<Self, ConfigErrors> {
        Self::load_in(options, &Surroundings::of_process())
    }

    /// Like [`Config::load`], with the environment, host name and memory given by the caller.
    ///
    /// # Errors
    /// Every mistake found in any layer, not only the first.
    pub fn load_in(
        options: &GlobalOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, ConfigErrors> {
        layers::gather(options, surroundings).into_config(surroundings)
    }

    /// Checks what was given to this process (environment, `--config`, `--set`, flags) without
    /// reading the file that a node finds in its data directory: for a command that talks to a
    /// node, whose own configuration that file is.
    ///
    /// # Errors
    /// Every mistake found in any of these layers.
    pub fn check_given(
        options: &GlobalOptions,
        surroundings: &Surroundings,
    ) -> Result<(), ConfigErrors> {
        layers::gather_given(options, surroundings).check(surroundings)
    }

    /// Reads one file over the defaults alone, as `config check` does: the environment and the
    /// command line of whoever checks the file have no say. `-` is standard input.
    ///
    /// # Errors
    /// Every mistake found in the file.
    pub fn check_file(file: &Path, surroundings: &Surroundings) -> Result<Self, ConfigErrors> {
        layers::gather_file(file).into_config(surroundings)
    }
}
