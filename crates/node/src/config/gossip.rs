//! Keys about tables that are exchanged over links.

use std::time::Duration;

use toml::Value;

use super::kind::{Kind, Label, Refusal, Shape, quoted};
use super::origin::{Given, Raw};
use super::surroundings::Surroundings;
use grapevine_core::quantity::{parse_size, parse_time, show_size, show_time};

/// Longest name of a table on a link, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of the packed rows of a packet, least and most: a packet has 1232 with everything.
const SIZE_BYTES: std::ops::RangeInclusive<u64> = 64..=1224;
/// Least and longest time between two packets.
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 86_400);

/// The name of a table that is exchanged over links, where it is part of a path.
#[derive(Debug)]
pub(crate) struct LinkTable;

const NAME: Label = Label {
    bytes_max: NAME_BYTES_MAX,
};

impl Shape for LinkTable {
    fn word(&self) -> &'static str {
        "name of a table"
    }
    fn allowed(&self) -> String {
        format!("{}, without `..`", NAME.allowed())
    }
}

impl Kind for LinkTable {
    type Value = String;
    fn read(
        &self,
        key: &'static str,
        given: &Given,
        surroundings: &Surroundings,
    ) -> Result<String, Refusal> {
        let name = NAME.read(key, given, surroundings)?;
        if name.contains("..") {
            return Err(Refusal::NotAllowed);
        }
        Ok(name)
    }
    fn show(&self, value: &String) -> Value {
        quoted(value)
    }
}

/// A table of which some rows are told to links again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipRound {
    /// Its name.
    pub table: String,
    /// The time from one packet to the next.
    pub every: Duration,
    /// Bytes that the packed rows of a packet may have.
    pub size: u16,
}

/// A [`GossipRound`]: a TOML table of `table`, `every` and `size`, or the three values in this
/// order with blanks between them.
#[derive(Debug)]
pub(crate) struct Gossip;

impl Shape for Gossip {
    fn word(&self) -> &'static str {
        "gossip"
    }
    fn allowed(&self) -> String {
        format!(
            "{{ table = \"NAME\", every = \"1m\", size = 500 }} or \"NAME 1m 500\": the name of a \
             table, a time from {} to {}, and {} to {} bytes",
            show_time(*EVERY.start()),
            show_time(*EVERY.end()),
            SIZE_BYTES.start(),
            SIZE_BYTES.end(),
        )
    }
}

impl Kind for Gossip {
    type Value = GossipRound;
    fn read(
        &self,
        key: &'static str,
        given: &Given,
        surroundings: &Surroundings,
    ) -> Result<GossipRound, Refusal> {
        let [table, every, size] = fields(&given.raw).ok_or(Refusal::NotAllowed)?;
        let name = Given {
            raw: Raw::Text(table),
            origin: given.origin.clone(),
        };
        let every = parse_time(&every).filter(|every| EVERY.contains(every));
        let size = parse_size(&size).filter(|size| SIZE_BYTES.contains(size));
        let size = size.and_then(|size| u16::try_from(size).ok());
        Ok(GossipRound {
            table: LinkTable.read(key, &name, surroundings)?,
            every: every.ok_or(Refusal::NotAllowed)?,
            size: size.ok_or(Refusal::NotAllowed)?,
        })
    }
    fn show(&self, value: &GossipRound) -> Value {
        let size = show_size(u64::from(value.size));
        let table = [
            ("table", quoted(&value.table)),
            ("every", quoted(show_time(value.every))),
            ("size", quoted(size)),
        ];
        Value::Table(
            table
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
        )
    }
}

/// Table, time and size, as they were written.
fn fields(raw: &Raw) -> Option<[String; 3]> {
    match raw {
        Raw::Text(text) => {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.try_into().ok()
        }
        Raw::Fields(fields) => {
            let known = |name: &str| {
                let (_, value) = fields.iter().find(|(known, _)| known == name)?;
                match value {
                    Raw::Text(text) | Raw::Number(text) => Some(text.clone()),
                    _ => None,
                }
            };
            let found = [known("table")?, known("every")?, known("size")?];
            (fields.len() == found.len()).then_some(found)
        }
        _ => None,
    }
}
