//! What a command says of a thing that does not exist: its name, and the nearest that does.
//!
//! The node is asked for its lists by the command, not by itself when it refuses: a program that
//! looks for what is absent costs it nothing.

use std::io::{self, Write};

use serde_json::Value;
use ureq::http::Method;

use super::Context;
use crate::client::{Client, ClientError, RequestBody};
use crate::http::name;

/// Pages of a list that are looked through, of a thousand names each: those whose beginning is the
/// same go first.
const PAGES_MAX: usize = 4;
/// How much of a name is compared, in characters; the distance costs their product.
const COMPARED_CHARACTERS_MAX: usize = 64;

/// A kind of thing that has a name.
struct Kind {
    /// In words.
    word: &'static str,
    /// The path of its list, and the field of the answer that holds it.
    list: &'static str,
    field: &'static str,
    /// What shows or makes such things.
    shows: &'static str,
    makes: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        word: "filter",
        list: "/api/v1/filters",
        field: "filters",
        shows: "grapevine filter list",
        makes: "grapevine filter create NAME",
    },
    Kind {
        word: "table",
        list: "/api/v1/tables",
        field: "tables",
        shows: "grapevine table list",
        makes: "grapevine table create NAME",
    },
];

/// Writes to standard error that something is absent. The exit code tells, too.
pub(super) fn say_absent(context: &Context, error: &ClientError) {
    let said = describe(context, error).unwrap_or_else(|| error.to_string());
    drop(writeln!(io::stderr(), "grapevine: {said}"));
}

/// The same of a member of the group.
pub(super) fn say_absent_member(client: &Client, wanted: &str, error: &ClientError) {
    let answer: Result<Value, _> =
        client.ask(Method::GET, "/api/v1/group/members", RequestBody::Nothing);
    let members = answer.map(|answer| answer["members"].clone());
    let members = members.ok().and_then(|members| members.as_array().cloned());
    let names: Vec<String> = members
        .unwrap_or_default()
        .iter()
        .filter(|member| member["me"] != true)
        .filter_map(|member| Some(member["name"].as_str()?.to_owned()))
        .collect();
    let advice = match nearest(wanted, &names) {
        Some(name) => format!("the nearest is {}", visible(name)),
        None => "`grapevine group members` lists those that exist".to_owned(),
    };
    drop(writeln!(io::stderr(), "grapevine: {error}; {advice}"));
}

/// In words; nothing when it is not known what was asked for.
fn describe(context: &Context, error: &ClientError) -> Option<String> {
    let ClientError::Refused { path, .. } = error else {
        return None;
    };
    let (kind, wanted) = KINDS.iter().find_map(|kind| {
        let rest = path.strip_prefix(kind.list)?.strip_prefix('/')?;
        let wanted = rest.split(['/', '?']).next()?;
        Some((kind, name::decode(wanted)?))
    })?;
    let wanted = name::display(&wanted).into_owned();
    let names = context
        .client()
        .ok()
        .and_then(|client| names(&client, kind, &wanted).ok());
    let Kind {
        word, shows, makes, ..
    } = kind;
    let absent = format!("{word} {} does not exist", visible(&wanted));
    Some(
        match names
            .as_deref()
            .map(|names| (names, nearest(&wanted, names)))
        {
            Some((_, Some(name))) => format!("{absent}; the nearest is {}", visible(name)),
            Some(([], None)) => format!("{absent}, nor does any other; `{makes}` makes one"),
            Some((_, None)) => format!("{absent}; `{shows}` lists those that do"),
            None => absent,
        },
    )
}

fn visible(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

/// Names of a kind that exist: those that begin as `wanted` does, then any.
fn names(client: &Client, kind: &Kind, wanted: &str) -> Result<Vec<String>, ClientError> {
    let half = wanted.chars().count().div_ceil(2);
    let beginning: String = wanted.chars().take(half).collect();
    let mut names = Vec::new();
    for (prefix, pages) in [(beginning.as_str(), 1), ("", PAGES_MAX)] {
        let mut after = String::new();
        for _ in 0..pages {
            let prefix = name::encode(prefix.as_bytes());
            let path = format!("{}?prefix={prefix}{after}", kind.list);
            let page: Value = client.ask(Method::GET, &path, RequestBody::Nothing)?;
            let found = page[kind.field].as_array().into_iter().flatten();
            names.extend(found.filter_map(|item| Some(item["name"].as_str()?.to_owned())));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
    }
    Ok(names)
}

/// The nearest name, if it is near enough to be what was meant.
fn nearest<'n>(wanted: &str, names: &'n [String]) -> Option<&'n str> {
    let cut = |name: &str| -> String {
        let name = name.chars().take(COMPARED_CHARACTERS_MAX);
        name.flat_map(char::to_lowercase).collect()
    };
    let wanted = cut(wanted);
    let far = names.iter().map(|name| {
        let distance = strsim::damerau_levenshtein(&wanted, &cut(name));
        (distance, name)
    });
    let (distance, name) = far.min()?;
    let near = distance <= (wanted.chars().count() / 2).max(1);
    let begins = wanted.chars().count() >= 3 && cut(name).starts_with(&wanted);
    (near || begins).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_may_be_meant_is_named() {
        let names = ["visitors", "Sessions", "b"].map(str::to_owned);
        assert_eq!(nearest("vistors", &names), Some("visitors"));
        assert_eq!(nearest("sessions", &names), Some("Sessions"));
        assert_eq!(nearest("a", &names), Some("b"));
        assert_eq!(nearest("unlike-any-of-them", &names), None);
        assert_eq!(nearest("x", &[]), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &names), None);
    }
}
