//! The configuration file: TOML with one level of sections.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::SECTIONS;
use super::error::ConfigError;
use super::layers::Layers;
use super::list::LIST_ELEMENTS_MAX;
use super::origin::{Origin, Raw};
use super::suggestion::nearest_key;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Reads the text of a file; `-` is standard input. A file that is not `needed` may be absent.
pub(crate) fn read(file: &Path, needed: bool) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: file.to_owned(),
        source,
    };
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        match File::open(file) {
            Ok(open) => Box::new(open),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
    };
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX;
    source
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(ConfigError::FileTooLarge {
            path: file.to_owned(),
            limit,
        });
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = Lines::of(error.as_bytes()).line(good);
        ConfigError::FileNotText {
            path: file.to_owned(),
            line,
        }
    })
}

/// Where the lines of a text end. Found once, because a file may hold a hundred thousand keys.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &[u8]) -> Self {
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// The line, from 1, of the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

/// Puts every value of the file into `layers`. After a mistake in the TOML itself nothing of
/// the file counts, so that what a repair of the text would change is not reported as well.
pub(crate) fn gather(file: &Path, text: &str, layers: &mut Layers) {
    let lines = Lines::of(text.as_bytes());
    let (table, mut mistakes) = DeTable::parse_recoverable(text);
    let offset = |mistake: &toml::de::Error| mistake.span().map_or(0, |span| span.start);
    mistakes.sort_by_key(offset);
    for mistake in &mistakes {
        layers.refuse(ConfigError::Syntax {
            path: file.to_owned(),
            line: lines.line(offset(mistake)),
            problem: mistake.message().to_owned(),
        });
    }
    if !mistakes.is_empty() {
        return;
    }
    let origin = |name: &Spanned<_>| Origin::File {
        path: file.to_owned(),
        line: lines.line(name.span().start),
    };
    for (section, value) in in_file_order(table.get_ref()) {
        let name = section.get_ref().as_ref();
        let DeValue::Table(keys) = value.get_ref() else {
            layers.refuse(not_a_section(name, origin(section)));
            continue;
        };
        // Once per section, and also when it is empty.
        if layers.section(name, &origin(section)).is_none() {
            continue;
        }
        for (key, value) in in_file_order(keys) {
            if layers.is_full() {
                return;
            }
            layers.put(name, key.get_ref(), raw(value.get_ref()), origin(key));
        }
    }
}

fn not_a_section(name: &str, origin: Origin) -> ConfigError {
    match SECTIONS.iter().find(|known| known.name == name) {
        Some(known) => ConfigError::SectionNotTable {
            section: known.name,
            origin,
        },
        None => ConfigError::OutsideSection {
            key: name.to_owned(),
            nearest: nearest_key(None, name),
            origin,
        },
    }
}

type Line<'t, 'i> = (
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
);

/// The pairs of a table in the order of the file, so that mistakes are reported in it too.
fn in_file_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Line<'t, 'i>> {
    let mut lines: Vec<_> = table.iter().collect();
    lines.sort_by_key(|(name, _)| name.span().start);
    lines
}

/// Most fields of an element that are looked at; none has as many.
const FIELDS_MAX: usize = 16;

fn fields(table: &DeTable<'_>) -> Raw {
    let field = |(name, value): Line<'_, '_>| {
        let value = match value.get_ref() {
            DeValue::Array(_) => Raw::Other("a list"),
            value => raw(value),
        };
        (name.get_ref().to_string(), value)
    };
    let fields = in_file_order(table).into_iter().take(FIELDS_MAX);
    Raw::Fields(fields.map(field).collect())
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(decimal) => Raw::Number(decimal.to_string()),
            Err(_) => Raw::Number(number.to_string()),
        },
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Raw::Bool(*truth),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(elements) => Raw::List(
            elements
                .iter()
                .take(LIST_ELEMENTS_MAX + 1)
                .map(|element| match element.get_ref() {
                    DeValue::Array(_) => Raw::Other("a list"),
                    DeValue::Table(table) => fields(table),
                    element => raw(element),
                })
                .collect(),
        ),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}
