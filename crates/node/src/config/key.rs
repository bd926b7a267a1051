//! The entries of the declared table: sections and keys.

use super::kind::Shape;
use super::surroundings::Surroundings;

/// A section of the configuration, `[name]` in the file.
#[derive(Debug)]
pub struct Section {
    /// The section's name.
    pub name: &'static str,
    /// What the section is about, one or two sentences.
    pub about: &'static str,
    /// The keys of the section, in the order they are shown.
    pub keys: &'static [Key],
}

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The section the key is in.
    pub section: &'static str,
    /// The key's name inside its section.
    pub name: &'static str,
    /// `section.name`, as `--set` and messages say it.
    pub full_name: &'static str,
    /// What values the key takes.
    pub shape: &'static dyn Shape,
    /// What the key is when nobody sets it.
    pub default: Default,
    /// What the key does, in one or two sentences.
    pub help: &'static str,
}

impl Key {
    /// The environment variable that sets this key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "GRAPEVINE_{}__{}",
            self.section.to_uppercase(),
            self.name.to_uppercase()
        )
    }
}

/// What a key is when no layer sets it.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// Always this text.
    Text(&'static str),
    /// Depends on the machine: how it is found, and the words for it in the reference.
    Found(fn(&Surroundings) -> Option<String>, &'static str),
}

/// The key called `full_name` (`section.key`).
#[must_use]
pub(crate) fn find(full_name: &str) -> Option<&'static Key> {
    let (section, name) = full_name.split_once('.')?;
    let section = super::SECTIONS.iter().find(|known| known.name == section)?;
    section.keys.iter().find(|key| key.name == name)
}
