//! `grapevine import bloomd DIR|FILE.conf`.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use grapevine_core::catalogue::FilterId;
use grapevine_core::hash::Seed;
use grapevine_store::filters::{Creation, Entropy, FilterError, Filters};
use grapevine_store::import::bloomd::{BloomdDirectory, ImportError, ImportedFilter};
use grapevine_store::import::bloomd_config::BloomdConfig;
use serde_json::{Value, json};
use ureq::http::Method;

use super::{Context, Failure, NodeAddress, NodeAddressError, Outcome};
use crate::client::{Client, ClientError, RequestBody};
use crate::config::{Config, NODE_VARIABLE};
use crate::data_directory::{self, DataDirectoryError, Opened};
use crate::http::name;

/// Arguments of `grapevine import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// The filters of a C bloomd that is stopped, or has flushed and is idle
    ///
    /// They go to the node that --node names (else GRAPEVINE_NODE, without --data-dir), which gives
    /// them to its group; else into the data directory, through its node where one is running.
    Bloomd {
        /// Its data directory, or its configuration file, whose `data_dir` is taken from the
        /// working directory when it is relative
        path: PathBuf,
    },
}

/// Why one filter was not taken over.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Read(#[from] ImportError),
    #[error("{}: there is a filter of that name already", .0.escape_ascii())]
    Exists(Vec<u8>),
    #[error("{}: {source}", name.escape_ascii())]
    Enter { name: Vec<u8>, source: FilterError },
    #[error("{}: {}", name.escape_ascii(), with_cause(.source))]
    Send {
        name: Vec<u8>,
        source: Box<ClientError>,
    },
}

fn with_cause(error: &ClientError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Why the node that uses the data directory cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("{in_use}, or let it serve HTTP, and the filters go through it")]
struct NotThroughNode {
    in_use: DataDirectoryError,
    source: NodeAddressError,
}

/// Where the filters go.
enum Target {
    /// Into a data directory that no node uses.
    Directory(Box<Opened>),
    /// To a node, which keeps them and gives them to its group.
    Node(Box<Client>, Entropy),
}

/// Runs `grapevine import`: fails when a filter was not taken over, going on with the others.
///
/// # Errors
/// When nothing can be taken over: the source cannot be listed, or its target not be reached.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let From::Bloomd { path } = &args.from;
    let config = context.config()?;
    let mut output = context.output();
    let source = data_dir(path, &mut output)?;
    let directory = BloomdDirectory::open(&source).map_err(Failure::from_error)?;
    let target = target(&config, context)?;
    let (mut taken, mut refused) = (0u64, 0u64);
    for imported in directory.into_filters() {
        let entered = imported
            .map_err(Refused::from)
            .and_then(|imported| match &target {
                Target::Directory(node) => enter(node.collections.filters(), imported),
                Target::Node(client, entropy) => send(client, entropy, &imported),
            });
        match entered {
            Ok(line) => {
                taken += 1;
                writeln!(output, "{line}")?;
            }
            Err(error) => {
                refused += 1;
                // Standard error may be closed; the exit code still tells.
                let _ = writeln!(io::stderr().lock(), "grapevine: {error}");
            }
        }
    }
    let place = match &target {
        Target::Directory(node) => {
            let journal = node.collections.journal();
            let last = journal.sync().and_then(|_| journal.mark_synced());
            last.map_err(Failure::from_error)?;
            config.node.data_dir.display().to_string()
        }
        Target::Node(client, _) => client.node().to_string(),
    };
    writeln!(
        output,
        "{taken} filters imported, {refused} refused, into {place}"
    )?;
    output.flush()?;
    Ok(match (taken, refused) {
        (0, 0) => Outcome::Absent,
        (_, 0) => Outcome::Done,
        _ => Outcome::Failed,
    })
}

/// The node that was named on the command line, or by the environment where the command line names
/// no data directory. Else the data directory, or the node that uses it.
fn target(config: &Config, context: &Context) -> Result<Target, Failure> {
    let variable = context
        .surroundings
        .variables
        .get(std::ffi::OsStr::new(NODE_VARIABLE));
    let named = context.options.node.is_some()
        || context.options.data_dir.is_none() && variable.is_some_and(|node| !node.is_empty());
    if named {
        let entropy = data_directory::entropy().map_err(Failure::from_error)?;
        return Ok(Target::Node(Box::new(context.client()?), entropy));
    }
    let in_use = match data_directory::open(config) {
        Ok(opened) => return Ok(Target::Directory(Box::new(opened))),
        Err(in_use @ DataDirectoryError::InUse(_)) => in_use,
        Err(error) => return Err(Failure::from_error(error)),
    };
    let node = NodeAddress::of_data_dir(&config.node.data_dir)
        .map_err(|source| Failure::from_error(NotThroughNode { in_use, source }))?;
    let client = Client::new(node, &context.options, &context.surroundings);
    let entropy = data_directory::entropy().map_err(Failure::from_error)?;
    let client = client.map_err(Failure::from_error)?;
    Ok(Target::Node(Box::new(client), entropy))
}

/// Sends one filter to a node and gives the line that reports it.
fn send(client: &Client, entropy: &Entropy, imported: &ImportedFilter) -> Result<String, Refused> {
    let name = || imported.name.clone();
    let path = format!("/api/v1/filters/{}", name::encode(&imported.name));
    let sent = |answered: Result<Value, ClientError>| match answered {
        Ok(said) if said["outcome"] == "exists" => Err(Refused::Exists(name())),
        Ok(_) => Ok(report(imported)),
        Err(ClientError::Refused { code, .. }) if code == "exists" => Err(Refused::Exists(name())),
        Err(source) => Err(Refused::Send {
            name: name(),
            source: Box::new(source),
        }),
    };
    if imported.layers.is_empty() {
        let wish = json!({
            "capacity": imported.capacity,
            "error": imported.error,
            "growth": imported.scale.max(1),
            "in_memory": imported.in_memory,
        })
        .to_string();
        let body = RequestBody::Bytes {
            media_type: "application/json",
            bytes: wish.as_bytes(),
        };
        return sent(client.ask(Method::PUT, &path, body));
    }
    let refused = |source| Refused::Enter {
        name: name(),
        source,
    };
    let (id, seed) = (FilterId::new(entropy()), Seed::new(entropy()));
    let mut file = Filters::export_bloomd(imported, id, seed).map_err(refused)?;
    let body = RequestBody::File(&mut file);
    sent(client.ask(Method::PUT, &format!("{path}/import"), body))
}

/// The line that reports a filter that was taken over.
fn report(imported: &ImportedFilter) -> String {
    let name = imported.name.escape_ascii();
    if imported.in_memory {
        return format!("{name}: kept in memory only, so it is empty");
    }
    let layers = &imported.layers;
    let keys: u64 = layers.iter().map(|layer| layer.count()).sum();
    let bytes: u64 = layers.iter().map(|layer| layer.bytes()).sum();
    format!(
        "{name}: {} layers, {keys} keys, {bytes} bytes",
        layers.len()
    )
}

/// The data directory that `path` is or names.
fn data_dir(path: &Path, output: &mut dyn Write) -> Result<PathBuf, Failure> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let config = BloomdConfig::read(path).map_err(Failure::from_error)?;
    for ignored in &config.ignored {
        let (line, text) = (ignored.line, &ignored.text);
        writeln!(output, "{}:{line}: passed over: {text}", path.display())?;
    }
    writeln!(output, "data_dir {}", config.data_dir.display())?;
    Ok(config.data_dir)
}

/// Enters one filter and gives the line that reports it. It is made durable before the next one is
/// read and leaves memory, so that all of them together need not fit.
fn enter(filters: &Filters, imported: ImportedFilter) -> Result<String, Refused> {
    let (name, line) = (imported.name.clone(), report(&imported));
    let enter = || -> Result<bool, FilterError> {
        let created = filters.import_bloomd(imported)?;
        if matches!(created, Creation::Exists(_) | Creation::Reclaiming) {
            return Ok(false);
        }
        filters.journal().sync()?;
        if let Some(handle) = filters.get(&name) {
            filters.unload(&handle)?;
        }
        Ok(true)
    };
    match enter() {
        Ok(true) => Ok(line),
        Ok(false) => Err(Refused::Exists(name)),
        Err(source) => Err(Refused::Enter { name, source }),
    }
}
