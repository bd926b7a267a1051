//! Keys that take a list: a TOML array of strings, or text with commas between the elements.

use toml::Value;

use super::kind::{Kind, Refusal, Shape};
use super::origin::{Given, Raw};
use super::surroundings::Surroundings;

/// The most elements of any list; the file's reader keeps one more, so that the excess is seen.
pub(crate) const LIST_ELEMENTS_MAX: usize = 256;

/// A list of what `K` reads, of at most [`LIST_ELEMENTS_MAX`] elements; it may be empty.
#[derive(Debug)]
pub(crate) struct List<K>(pub(crate) K);

impl<K: Shape> Shape for List<K> {
    fn word(&self) -> &'static str {
        "list"
    }
    fn allowed(&self) -> String {
        let element = self.0.allowed();
        format!("a list of at most {LIST_ELEMENTS_MAX} elements, each {element}")
    }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;
    fn read(
        &self,
        key: &'static str,
        given: &Given,
        surroundings: &Surroundings,
    ) -> Result<Self::Value, Refusal> {
        let elements = elements(&given.raw)?;
        if elements.len() > LIST_ELEMENTS_MAX {
            return Err(Refusal::TooManyElements);
        }
        let read = |(ordinal, raw): (u16, Raw)| {
            let value = raw.to_string().into();
            let given = Given {
                raw,
                origin: given.origin.clone(),
            };
            let refused = |_| Refusal::Element { ordinal, value };
            self.0.read(key, &given, surroundings).map_err(refused)
        };
        (1..).zip(elements).map(read).collect()
    }
    fn show(&self, value: &Self::Value) -> Value {
        Value::Array(value.iter().map(|element| self.0.show(element)).collect())
    }
}

fn elements(raw: &Raw) -> Result<Vec<Raw>, Refusal> {
    match raw {
        Raw::List(elements) => Ok(elements.clone()),
        Raw::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
        Raw::Text(text) => Ok(text
            .split(',')
            .take(LIST_ELEMENTS_MAX + 1)
            .map(|element| Raw::Text(element.trim().to_owned()))
            .collect()),
        _ => Err(Refusal::NotAllowed),
    }
}
