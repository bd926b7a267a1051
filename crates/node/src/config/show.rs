//! The values of a configuration, as `config show` prints them.

use std::fmt;

use serde_json::{Map, Value as Json};
use toml::Value;

use super::origin::Origin;
use super::settings::Config;

/// One value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `section.key`.
    pub(crate) key: &'static str,
    /// The value, in the form that reads back the same.
    pub(crate) value: Value,
    /// Where it came from.
    pub(crate) origin: Origin,
}

impl Entry {
    fn names(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or((self.key, ""))
    }
}

/// Keys that a running node takes up when it reads its configuration again. (Of secrets it reads
/// the files again; their paths are taken up by a start.)
const TAKEN_UP: [&str; 1] = ["node.log"];
/// How much of a value a message repeats, in characters.
const SHOWN_CHARACTERS_MAX: usize = 120;

/// A key whose value is another than before.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    key: &'static str,
    before: String,
    now: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, now } = self;
        write!(f, "{key} was {before} and is {now} now")
    }
}

impl Config {
    /// What differs in `other` of the keys that a node takes up when it starts. No secret is among
    /// the values: of those only the paths are.
    pub(crate) fn changes_for_a_start(&self, other: &Self) -> Vec<Change> {
        let shown = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
                Some((end, _)) => format!("{} …", &text[..end]),
                None => text,
            }
        };
        let pairs = self.entries.iter().zip(&other.entries);
        let differ = pairs
            .filter(|(before, now)| before.value != now.value && !TAKEN_UP.contains(&before.key));
        let change = |(before, now): (&Entry, &Entry)| Change {
            key: before.key,
            before: shown(&before.value),
            now: shown(&now.value),
        };
        differ.map(change).collect()
    }

    /// Every value as TOML that reads back as this configuration, with the origin of each in a
    /// comment if wanted. Of a secret only the path of its file is there.
    #[must_use]
    pub fn to_toml(&self, origins: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for entry in &self.entries {
            let (in_section, key) = entry.names();
            if in_section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{in_section}]\n"));
                section = in_section;
            }
            text.push_str(&format!("{key} = {}", entry.value));
            if origins {
                // A path may hold anything; a line end would end the comment.
                let origin = entry.origin.to_string().replace(char::is_control, "?");
                text.push_str(&format!("  # {origin}"));
            }
            text.push('\n');
        }
        text
    }

    /// Every value as `{section: {key: value}}`, or with origins as
    /// `{section: {key: {"value": …, "origin": …}}}`.
    #[must_use]
    pub fn to_json(&self, origins: bool) -> Json {
        let mut sections = Map::new();
        for entry in &self.entries {
            let (section, key) = entry.names();
            let value = json(&entry.value);
            let value = if origins {
                serde_json::json!({ "value": value, "origin": entry.origin.to_string() })
            } else {
                value
            };
            let section = sections
                .entry(section)
                .or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(keys) = section {
                keys.insert(key.to_owned(), value);
            }
        }
        Json::Object(sections)
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(elements) => elements.iter().map(json).collect(),
        other => other.to_string().into(),
    }
}
