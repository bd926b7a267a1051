//! The kinds of value that name a place: addresses and paths.

use std::path::{self, Path, PathBuf};

use toml::Value;

use super::address::{Address, Listener};
use super::kind::{Kind, OFF, Refusal, Shape, quoted, text};
use super::origin::{Given, Origin};
use super::surroundings::Surroundings;

/// An address to listen on, or off.
#[derive(Debug)]
pub(crate) struct Listen;

impl Shape for Listen {
    fn word(&self) -> &'static str {
        "address or off"
    }
    fn allowed(&self) -> String {
        "an address \"host:port\" or \"[v6]:port\" (port 0 picks a free one), or \"off\"".to_owned()
    }
}

impl Kind for Listen {
    type Value = Listener;
    fn read(
        &self,
        key: &'static str,
        given: &Given,
        _: &Surroundings,
    ) -> Result<Listener, Refusal> {
        let text = text(given)?.trim();
        let address = if OFF.contains(&text) {
            None
        } else {
            Some(Address::parse(text).ok_or(Refusal::NotAllowed)?)
        };
        Ok(Listener {
            key,
            address,
            origin: given.origin.clone(),
        })
    }
    fn show(&self, value: &Listener) -> Value {
        quoted(
            value
                .address
                .as_ref()
                .map_or_else(|| "off".to_owned(), ToString::to_string),
        )
    }
}

/// An address that others can be reached at.
#[derive(Debug)]
pub(crate) struct Remote;

impl Shape for Remote {
    fn word(&self) -> &'static str {
        "address"
    }
    fn allowed(&self) -> String {
        "an address \"host:port\" or \"[v6]:port\" with a port above 0".to_owned()
    }
}

impl Kind for Remote {
    type Value = Address;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<Address, Refusal> {
        Address::parse(text(given)?)
            .filter(|address| address.port() != 0)
            .ok_or(Refusal::NotAllowed)
    }
    fn show(&self, value: &Address) -> Value {
        quoted(value.to_string())
    }
}

/// A path taken from the place of the file that names it, or from the working directory. Made
/// absolute, so that what is shown means the same wherever it is read.
fn located(text: &str, origin: &Origin) -> PathBuf {
    let path = match origin {
        Origin::File { path, .. } => path.parent().unwrap_or(Path::new("")).join(text),
        _ => PathBuf::from(text),
    };
    // Fails when the working directory is gone; the path then stays as it is.
    path::absolute(&path).unwrap_or(path)
}

fn path_of(given: &Given) -> Result<PathBuf, Refusal> {
    let text = text(given)?;
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::NotAllowed);
    }
    Ok(located(text, &given.origin))
}

/// The path of a directory.
#[derive(Debug)]
pub(crate) struct Directory;

impl Shape for Directory {
    fn word(&self) -> &'static str {
        "path"
    }
    fn allowed(&self) -> String {
        "the path of a directory".to_owned()
    }
}

impl Kind for Directory {
    type Value = PathBuf;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<PathBuf, Refusal> {
        path_of(given)
    }
    fn show(&self, value: &PathBuf) -> Value {
        quoted(value.display().to_string())
    }
}

/// A path, or off.
#[derive(Debug)]
pub(crate) struct PathOrOff {
    word: &'static str,
    allowed: &'static str,
}

/// The path of a directory, or off.
pub(crate) const DIRECTORY_OR_OFF: PathOrOff = PathOrOff {
    word: "path, or off",
    allowed: "the path of a directory, or \"off\"",
};

/// The path of a file with a secret in it, or off. Only the path is ever shown.
pub(crate) const SECRET_FILE: PathOrOff = PathOrOff {
    word: "path of a secret, or off",
    allowed: "the path of a file that only its owner can read, or \"off\"",
};

impl Shape for PathOrOff {
    fn word(&self) -> &'static str {
        self.word
    }
    fn allowed(&self) -> String {
        self.allowed.to_owned()
    }
}

impl Kind for PathOrOff {
    type Value = Option<PathBuf>;
    fn read(
        &self,
        _: &'static str,
        given: &Given,
        _: &Surroundings,
    ) -> Result<Option<PathBuf>, Refusal> {
        if OFF.contains(&text(given)?) {
            Ok(None)
        } else {
            path_of(given).map(Some)
        }
    }
    fn show(&self, value: &Option<PathBuf>) -> Value {
        let shown = value.as_ref().map(|path| path.display().to_string());
        quoted(shown.unwrap_or_else(|| "off".to_owned()))
    }
}
