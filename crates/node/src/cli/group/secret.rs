//! `group secret`: the keyring file. Secrets come and go through files and pipes, never through
//! arguments, which everybody on the machine can see.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Context, Failure, Outcome};
use grapevine_net::{
    KEY_BYTES, Key, Keyring, KeyringError, KeyringFileError, read_keyring, write_keyring,
};

/// Longest line with a key, in bytes.
const LINE_BYTES_MAX: u64 = 1024;

/// Arguments of `grapevine group secret`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// The file with the secrets [default: group.secret_file]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a secret, and the file if there is none
    New {
        /// What to call it [default: a random word]
        id: Option<String>,
    },
    /// Accept a secret of another node: its line of that node's file
    Add {
        /// A file with the line; `-` is standard input
        from: PathBuf,
    },
    /// Prefer a secret that is accepted already
    Use {
        /// What it is called
        id: String,
    },
    /// List the secrets: name, fingerprint, `in use` or `accepted`, separated by tabs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// No longer accept a secret
    Remove {
        /// What it is called
        id: String,
    },
}

/// Why the secrets stay as they were.
#[derive(Debug, thiserror::Error)]
enum SecretFailure {
    #[error("no file of secrets is named: set group.secret_file or pass --file")]
    NoFile,
    #[error(transparent)]
    File(#[from] KeyringFileError),
    #[error(transparent)]
    Ring(#[from] KeyringError),
    #[error("{0:?} is the only secret: without one only this machine is let in")]
    Last(String),
    #[error("{path}: {source}")]
    From { path: String, source: io::Error },
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let file = match &args.file {
        Some(file) => Some(file.clone()),
        None => context.config()?.group.secret_file,
    };
    let changed = file.ok_or(SecretFailure::NoFile);
    let changed = changed.and_then(|file| match &args.verb {
        Verb::List { json } => list(&file, *json, context),
        verb => change(verb, &file, context),
    });
    match changed {
        Ok(()) => Ok(Outcome::Done),
        Err(SecretFailure::Output(error)) => Err(Failure::Output(error)),
        Err(error @ (SecretFailure::NoFile | SecretFailure::Ring(KeyringError::Id { .. }))) => {
            Err(Failure::from_argument(error))
        }
        Err(error) => Err(Failure::from_error(error)),
    }
}

/// Says which secrets there are, and never what they are.
fn list(file: &Path, json: bool, context: &Context) -> Result<(), SecretFailure> {
    let ring = read_keyring(file)?;
    let mut output = context.output();
    let mut listed = Vec::new();
    for (place, key) in ring.keys().iter().enumerate() {
        let (id, fingerprint, used) = (key.id(), key.fingerprint(), place == 0);
        if json {
            listed.push(json!({"id": id, "fingerprint": fingerprint, "in_use": used}));
            continue;
        }
        let state = if used { "in use" } else { "accepted" };
        writeln!(output, "{id}\t{fingerprint}\t{state}")?;
    }
    if json {
        writeln!(output, "{:#}", Value::from(listed))?;
    }
    Ok(output.flush()?)
}

fn change(verb: &Verb, file: &Path, context: &Context) -> Result<(), SecretFailure> {
    let ring = match verb {
        Verb::New { .. } | Verb::Add { .. } if !file.exists() => Keyring::default(),
        _ => read_keyring(file)?,
    };
    let first = ring.is_empty();
    let (ring, did, id) = match verb {
        Verb::New { id } => {
            let key = fresh(id.as_deref())?;
            let id = key.id().to_owned();
            (ring.add(key)?, "new", id)
        }
        Verb::Add { from } => {
            let key = Key::from_line(&line(from)?, 1)?;
            let id = key.id().to_owned();
            (ring.add(key)?, "added", id)
        }
        Verb::Use { id } => (ring.using(id)?, "in use", id.clone()),
        Verb::Remove { id } => {
            let ring = ring.without(id)?;
            if ring.is_empty() {
                return Err(SecretFailure::Last(id.clone()));
            }
            (ring, "removed", id.clone())
        }
        Verb::List { .. } => return Ok(()),
    };
    write_keyring(file, &ring)?;
    let mut output = context.output();
    writeln!(output, "{did}\t{id}")?;
    output.flush()?;
    // Advice for people; the change is made.
    drop(writeln!(
        io::stderr(),
        "grapevine: {}",
        next(verb, first, file, &id)
    ));
    Ok(())
}

/// What to do next.
fn next(verb: &Verb, first: bool, file: &Path, id: &str) -> String {
    let file = file.display();
    let reload = "send the running node a SIGHUP";
    match verb {
        Verb::New { .. } if first => format!(
            "{file} holds the group's secret: set group.secret_file to it, and copy it to the \
             other machines in a safe way"
        ),
        Verb::New { .. } | Verb::Add { .. } => format!(
            "{reload}; once its line of {file} was added on every node, `grapevine group secret \
             use {id}` there, and remove the old one at last"
        ),
        Verb::Use { .. } => format!(
            "{reload}; once every node uses it, `grapevine group secret remove` the old one \
             everywhere"
        ),
        Verb::Remove { .. } => {
            format!("{reload}: sessions that were let in by {id} end and come back by another")
        }
        Verb::List { .. } => String::new(),
    }
}

fn fresh(id: Option<&str>) -> Result<Key, SecretFailure> {
    let (mut secret, mut word) = ([0; KEY_BYTES], [0; 4]);
    getrandom::fill(&mut secret).map_err(SecretFailure::Random)?;
    getrandom::fill(&mut word).map_err(SecretFailure::Random)?;
    let word = format!("key-{:08x}", u32::from_le_bytes(word));
    Ok(Key::new(id.unwrap_or(&word), secret)?)
}

fn line(from: &Path) -> Result<String, SecretFailure> {
    let mut text = String::new();
    let read = if from == Path::new("-") {
        io::stdin().take(LINE_BYTES_MAX).read_to_string(&mut text)
    } else {
        let file = File::open(from);
        file.and_then(|file| file.take(LINE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|source| SecretFailure::From {
        path: from.display().to_string(),
        source,
    })?;
    Ok(text.trim().to_owned())
}
