//! Gathers what every layer gives, and reads it key by key.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::SECTIONS;
use super::document;
use super::error::{ConfigError, ConfigErrors};
use super::key::{self, Default, Section};
use super::kind::Kind;
use super::options::GlobalOptions;
use super::origin::{Given, Origin, Raw};
use super::rules;
use super::settings::Config;
use super::show::Entry;
use super::suggestion::{nearest_key, nearest_section, nearest_variable};
use super::surroundings::{OTHER_VARIABLES, PREFIX, Surroundings, is_of_service, without_prefix};

/// The file that is read from the data directory when none is named.
const FILE_NAME: &str = "grapevine.toml";

/// The most mistakes that are collected; one more says that there are others.
const ERRORS_MAX: usize = 100;

/// What the layers gave: the strongest value of each key, and the mistakes.
#[derive(Debug, std::default::Default)]
pub(crate) struct Layers {
    given: BTreeMap<&'static str, Given>,
    errors: Vec<ConfigError>,
    /// The data directory in which the configuration file was found by itself.
    found_in: Option<PathBuf>,
}

/// Gathers every layer.
pub(crate) fn gather(options: &GlobalOptions, surroundings: &Surroundings) -> Layers {
    let over = gather_over_file(options, surroundings);
    let mut layers = Layers::default();
    match &options.config {
        Some(file) => layers.add_file(file, true),
        None => {
            if let Some(directory) = over.data_dir(surroundings) {
                layers.add_file(&directory.join(FILE_NAME), false);
                layers.found_in = Some(directory);
            }
        }
    }
    layers.under(over)
}

/// Gathers what was given to this process, without the file that a node finds by itself: for
/// commands that talk to a node.
pub(crate) fn gather_given(options: &GlobalOptions, surroundings: &Surroundings) -> Layers {
    let mut layers = Layers::default();
    if let Some(file) = &options.config {
        layers.add_file(file, true);
    }
    layers.under(gather_over_file(options, surroundings))
}

/// The environment and the command line, which go over a file.
fn gather_over_file(options: &GlobalOptions, surroundings: &Surroundings) -> Layers {
    let mut over = Layers::default();
    over.add_environment(surroundings);
    for assignment in &options.set {
        over.add_assignment(assignment);
    }
    for flag in options.named_flags() {
        let origin = Origin::Flag(flag.flag);
        match (flag.value.into_string(), key::find(flag.key)) {
            (Ok(text), Some(key)) => over.put(key.section, key.name, Raw::Text(text), origin),
            _ => over.refuse(ConfigError::NotUnicode { origin }),
        }
    }
    over
}

/// Gathers one file alone.
pub(crate) fn gather_file(file: &Path) -> Layers {
    let mut layers = Layers::default();
    layers.add_file(file, true);
    layers
}

impl Layers {
    /// These with stronger ones over them.
    fn under(mut self, mut over: Layers) -> Self {
        self.given.append(&mut over.given);
        for error in over.errors {
            self.refuse(error);
        }
        self
    }

    /// Collects a mistake; past the bound only the fact that there are more.
    pub(crate) fn refuse(&mut self, error: ConfigError) {
        push_bounded(&mut self.errors, error);
    }

    /// Whether further mistakes would not be reported.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() > ERRORS_MAX
    }

    /// The section of that name; an unknown one is a mistake.
    pub(crate) fn section(&mut self, section: &str, origin: &Origin) -> Option<&'static Section> {
        let known = SECTIONS.iter().find(|known| known.name == section);
        if known.is_none() {
            self.refuse(ConfigError::UnknownSection {
                section: section.to_owned(),
                nearest: nearest_section(section),
                origin: origin.clone(),
            });
        }
        known
    }

    /// Takes a value for a key, over what weaker layers gave.
    pub(crate) fn put(&mut self, section: &str, name: &str, raw: Raw, origin: Origin) {
        let Some(known) = self.section(section, &origin) else {
            return;
        };
        match known.keys.iter().find(|key| key.name == name) {
            Some(key) => {
                self.given.insert(key.full_name, Given { raw, origin });
            }
            None => self.refuse(ConfigError::UnknownKey {
                section: section.to_owned(),
                key: name.to_owned(),
                nearest: nearest_key(Some(section), name),
                origin,
            }),
        }
    }

    fn add_file(&mut self, file: &Path, needed: bool) {
        match document::read(file, needed) {
            Ok(Some(text)) => document::gather(file, &text, self),
            Ok(None) => {}
            Err(error) => self.refuse(error),
        }
    }

    /// Takes `GRAPEVINE_SECTION__KEY` variables. Others that begin with `GRAPEVINE_` are mistakes,
    /// but for `GRAPEVINE_NODE` and `GRAPEVINE_TOKEN_FILE`, and what an orchestrator sets.
    fn add_environment(&mut self, surroundings: &Surroundings) {
        for (variable, value) in &surroundings.variables {
            let Some(variable) = variable.to_str() else {
                continue;
            };
            let Some(rest) = without_prefix(variable) else {
                continue;
            };
            if OTHER_VARIABLES.contains(&variable) || is_of_service(rest, &value.to_string_lossy())
            {
                continue;
            }
            let origin = Origin::Environment(variable.to_owned());
            let divided = rest
                .split_once("__")
                .filter(|_| variable.starts_with(PREFIX));
            let Some((section, name)) = divided else {
                let nearest = nearest_variable(rest);
                self.refuse(ConfigError::UnknownVariable { origin, nearest });
                continue;
            };
            let Some(value) = value.to_str() else {
                self.refuse(ConfigError::NotUnicode { origin });
                continue;
            };
            // Only the exact upper-case spelling counts; others keep theirs for the message.
            let (section, name) = match key::find(&format!("{section}.{name}").to_lowercase()) {
                Some(key) if key.variable() == variable => (key.section, key.name),
                _ => match SECTIONS
                    .iter()
                    .find(|known| known.name.to_uppercase() == section)
                {
                    Some(known) => (known.name, name),
                    None => (section, name),
                },
            };
            self.put(section, name, Raw::Text(value.to_owned()), origin);
        }
    }

    fn add_assignment(&mut self, assignment: &OsStr) {
        let Some(text) = assignment.to_str() else {
            return self.refuse(ConfigError::NotUnicode {
                origin: Origin::Set,
            });
        };
        let split = text.split_once('=').and_then(|(key, value)| {
            let (section, name) = key.split_once('.')?;
            Some((section.trim(), name.trim(), value))
        });
        match split {
            Some((section, name, value)) => {
                self.put(section, name, Raw::Text(value.to_owned()), Origin::Set);
            }
            None => self.refuse(ConfigError::BadAssignment {
                text: text.to_owned(),
            }),
        }
    }

    /// The data directory as far as it is known without a file.
    fn data_dir(&self, surroundings: &Surroundings) -> Option<PathBuf> {
        match self.given.get("node.data_dir") {
            Some(Given {
                raw: Raw::Text(text),
                ..
            }) if !text.is_empty() => Some(text.into()),
            Some(_) => None,
            None => surroundings.default_data_dir(),
        }
    }

    /// Reads every key that was given, for its mistakes alone. What depends on the machine, or on
    /// several keys, is no matter for a process that is no node.
    pub(crate) fn check(self, surroundings: &Surroundings) -> Result<(), ConfigErrors> {
        let mut reader = Reader {
            given: &self.given,
            surroundings,
            errors: self.errors,
            entries: Vec::new(),
        };
        drop(Config::read(&mut reader));
        let mut errors = reader.errors;
        errors.retain(|error| {
            let by_default = |origin: &Origin| !origin.is_configured();
            !matches!(error, ConfigError::NoDefault { .. })
                && !matches!(error, ConfigError::BadValue { origin, .. } if by_default(origin))
        });
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Reads every key and checks the rules between keys.
    pub(crate) fn into_config(self, surroundings: &Surroundings) -> Result<Config, ConfigErrors> {
        let Self {
            given,
            errors,
            found_in,
        } = self;
        let mut reader = Reader {
            given: &given,
            surroundings,
            errors,
            entries: Vec::new(),
        };
        let config = Config::read(&mut reader);
        let mut errors = reader.errors;
        if let Some(config) = config {
            if let Some(found_in) = found_in {
                errors.extend(rules::data_dir_stays(&config, &found_in));
            }
            errors.extend(rules::off_loopback(&config));
            if errors.is_empty() {
                return Ok(config);
            }
        }
        Err(ConfigErrors(errors))
    }
}

fn push_bounded(errors: &mut Vec<ConfigError>, error: ConfigError) {
    if errors.len() < ERRORS_MAX {
        errors.push(error);
    } else if errors.len() == ERRORS_MAX {
        errors.push(ConfigError::TooMany { limit: ERRORS_MAX });
    }
}

/// Reads the gathered values one key at a time, collecting mistakes.
pub(crate) struct Reader<'a> {
    given: &'a BTreeMap<&'static str, Given>,
    surroundings: &'a Surroundings,
    errors: Vec<ConfigError>,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    /// The value of `key`, or nothing after a mistake.
    pub(crate) fn read<K: Kind>(
        &mut self,
        key: &'static str,
        kind: &K,
        default: Default,
    ) -> Option<K::Value> {
        let given = match (self.given.get(key), default) {
            (Some(given), _) => given.clone(),
            (None, Default::Text(text)) => by_default(text.to_owned()),
            (None, Default::Found(find, wanted)) => match find(self.surroundings) {
                Some(text) => by_default(text),
                None => {
                    push_bounded(&mut self.errors, ConfigError::NoDefault { key, wanted });
                    return None;
                }
            },
        };
        match kind.read(key, &given, self.surroundings) {
            Ok(value) => {
                let shown = kind.show(&value);
                self.entries.push(Entry {
                    key,
                    value: shown,
                    origin: given.origin,
                });
                Some(value)
            }
            Err(refusal) => {
                let error = ConfigError::BadValue {
                    key,
                    value: given.raw.to_string(),
                    origin: given.origin,
                    refusal,
                    allowed: kind.allowed(),
                };
                push_bounded(&mut self.errors, error);
                None
            }
        }
    }

    /// Every value read so far, for `config show`.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }
}

fn by_default(text: String) -> Given {
    Given {
        raw: Raw::Text(text),
        origin: Origin::Default,
    }
}
