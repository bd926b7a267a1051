//! `grapevine hbbp`: send and listen without a node, make keys.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, KeyRefusal, check_key};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{Context, Failure, Outcome};
use crate::gateway::hbbp::{
    Change, Consumer, Ear, Gateway, KeyDirectory, Opened, Place, SendError, Sender, Settings,
    generate, number,
};
use crate::metrics::HbbpMetrics;

/// Packets that wait to be printed; while so many do, no more are taken from the link.
const WAITING_MAX: usize = 256;

/// Arguments of `grapevine hbbp`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a message to everybody on the link of an interface, sealed when there are keys for it
    Send {
        /// The interface
        #[arg(value_name = "IFACE")]
        interface: String,
        /// What the message is for
        key: String,
        /// The message; `-` reads it from standard input, without it nothing is said
        payload: Option<String>,
    },
    /// Print the packets that come, opened, a line each: interface, key and payload by tabs,
    /// with unprintable bytes escaped
    Listen {
        /// The interface; without it all of them
        #[arg(value_name = "IFACE")]
        interface: Option<String>,
        /// Print JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// Make a pair of keys for each side
    Keygen {
        /// The directory for the four files
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
    },
}

/// Why a command of HBBP failed.
#[derive(Debug, thiserror::Error)]
enum HbbpError {
    #[error("{0:?}: no listener would take it: {1}")]
    Key(String, KeyRefusal),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("standard input: {0}")]
    Input(io::Error),
    #[error("interface {0} does not exist; `ip link` lists those that do")]
    Interface(String),
    #[error("port {port}: {source}{}", hint(.source))]
    Listen { port: u16, source: io::Error },
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

/// What to do about an error of binding.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (a node or an hbbpd listens there)",
        _ => "",
    }
}

/// Runs `grapevine hbbp`.
///
/// # Errors
/// When nothing was sent, nothing can be heard, or a key file is there already.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    match &args.command {
        Command::Send {
            interface,
            key,
            payload,
        } => send(interface, key, payload.as_deref(), context),
        Command::Listen { interface, json } => listen(interface.as_deref(), *json, context),
        Command::Keygen { directory } => keygen(directory),
    }
}

fn keygen(directory: &Path) -> Result<Outcome, Failure> {
    generate(directory).map_err(Failure::from_error)?;
    Ok(Outcome::Done)
}

fn send(
    interface: &str,
    key: &str,
    payload: Option<&str>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let config = context.config()?.hbbp;
    check_key(key.as_bytes())
        .map_err(|refusal| Failure::from_argument(HbbpError::Key(key.to_owned(), refusal)))?;
    let payload = match payload {
        Some("-") => {
            // One byte more than can go, so that too much is seen.
            let mut input = Vec::new();
            let most = DATAGRAM_BYTES_MAX as u64 + 1;
            let read = io::stdin().lock().take(most).read_to_end(&mut input);
            read.map_err(|error| Failure::from_error(HbbpError::Input(error)))?;
            input
        }
        payload => payload.unwrap_or_default().as_bytes().to_vec(),
    };
    let sent = Sender::new(KeyDirectory::new(config.key_dir), config.port)
        .map_err(SendError::from)
        .and_then(|sender| sender.send(interface, key.as_bytes(), &payload));
    match sent {
        Ok(()) => Ok(Outcome::Done),
        Err(SendError::NoInterface) => Err(Failure::from_error(HbbpError::Interface(
            interface.to_owned(),
        ))),
        Err(error) => Err(Failure::from_error(HbbpError::Send(error))),
    }
}

/// Hands packets to whoever prints them.
struct Printer(mpsc::Sender<Opened>);

impl Consumer for Printer {
    fn wants(&self, _interface: &str, _key: &[u8]) -> bool {
        true
    }

    fn take(&self, packet: Opened) {
        // Fails when nobody prints any more, and then the program ends.
        let _ = self.0.blocking_send(packet);
    }
}

fn listen(interface: Option<&str>, json: bool, context: &Context) -> Result<Outcome, Failure> {
    let config = context.config()?;
    let _log = crate::logging::start(&config.node).map_err(Failure::from_error)?;
    let port = config.hbbp.port;
    let place = match interface {
        Some(name) => {
            let found = number(name).map_err(|source| HbbpError::Listen { port, source });
            if found.map_err(Failure::from_error)?.is_none() {
                return Err(Failure::from_error(HbbpError::Interface(name.to_owned())));
            }
            Place::Interface(name.to_owned())
        }
        None => Place::Everywhere,
    };
    let mut ear = Ear::new(place, port);
    let bound = match ear.look() {
        Ok(Change::Bound(socket)) => Some(socket),
        Ok(Change::None | Change::Gone) => None,
        Err(source) => return Err(Failure::from_error(HbbpError::Listen { port, source })),
    };
    let (printer, mut packets) = mpsc::channel(WAITING_MAX);
    let settings = Settings {
        handlers: None,
        ..Settings::from(&config.hbbp)
    };
    let consumers: Vec<Arc<dyn Consumer>> = vec![Arc::new(Printer(printer))];
    let gateway = Gateway::new(&settings, consumers, HbbpMetrics::default());
    let gateway = gateway.map_err(Failure::from_error)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| {
            let what = "starting threads";
            Failure::from_error(HbbpError::System { what, source })
        })?;
    let (_stop, stopping) = watch::channel(false);
    runtime.spawn(gateway.serve(ear, bound, stopping));
    let mut output = context.output();
    while let Some(packet) = packets.blocking_recv() {
        print(&mut output, &packet, json)?;
    }
    Ok(Outcome::Done)
}

fn print(output: &mut impl Write, packet: &Opened, json: bool) -> io::Result<()> {
    let (key, payload) = (packet.key.escape_ascii(), packet.payload.escape_ascii());
    if json {
        let line = json!({
            "interface": packet.interface,
            "from": packet.from.ip().to_string(),
            "key": key.to_string(),
            "payload": payload.to_string(),
            "sealed": packet.sealed,
        });
        writeln!(output, "{line}")?;
    } else {
        writeln!(output, "{}\t{key}\t{payload}", packet.interface)?;
    }
    output.flush()
}
