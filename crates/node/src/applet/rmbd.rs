//! `rmbd HOST:PORT`: an rmbd and nothing else. As the original it says nothing, keeps nothing,
//! and starts empty; a data directory would bring back what a restart was to clear.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::wire::rmbd::ROWS_ORIGINAL;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Address, AddressError};
use crate::gateway::rmbd::{Gateway, MemoryBitmap, Settings};
use crate::metrics::RmbdMetrics;
use grapevine_net::sockets::{bind_all, listen_udp};

const USAGE: &str = "usage: rmbd HOST:PORT";

/// Why there is no rmbd.
#[derive(Debug, thiserror::Error)]
enum RmbdError {
    #[error("{USAGE}")]
    Usage,
    #[error("{address:?} is no address of the form HOST:PORT, [V6]:PORT, :PORT or PORT")]
    Address { address: OsString },
    #[error("cannot listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            drop(writeln!(io::stderr(), "rmbd: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &[OsString]) -> Result<(), RmbdError> {
    // Like the original, which reads one argument and leaves the others alone.
    let argument = arguments.first().ok_or(RmbdError::Usage)?;
    let place = argument.to_str().and_then(Place::parse);
    let place = place.ok_or_else(|| RmbdError::Address {
        address: argument.clone(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RmbdError::System {
            what: "starting threads",
            source,
        })?;
    let served = runtime.block_on(serve_at(&place));
    // A name may still be being looked up.
    runtime.shutdown_background();
    served
}

async fn serve_at(place: &Place) -> Result<(), RmbdError> {
    let failed = |source| RmbdError::System {
        what: "catching signals",
        source,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let sockets = place.bind().map_err(|source| RmbdError::Bind {
        address: place.to_string(),
        source,
    })?;
    let collection =
        MemoryBitmap::new(ROWS_ORIGINAL).expect("a bitmap can have the original's rows");
    let settings = Settings {
        sync_delay: Duration::from_millis(500),
        peers: Vec::new(),
        announce: false,
    };
    let gateway = Gateway::new(Arc::new(collection), settings, RmbdMetrics::default());
    let (stop, stopping) = watch::channel(false);
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    };
    tokio::join!(gateway.serve(sockets, stopping), stopped);
    Ok(())
}

/// Where to listen.
#[derive(Debug, PartialEq)]
struct Place {
    /// Empty for every IPv4 address of the machine.
    host: String,
    port: u16,
}

impl Place {
    /// Reads `HOST:PORT`, `[V6]:PORT`, `:PORT`, or `PORT` alone, which means the same as the one
    /// before. The original ends with an error for an IPv6 address and for a port alone.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(inside) => {
                let inside = inside.strip_suffix(']')?;
                inside.parse::<Ipv6Addr>().ok()?;
                inside
            }
            // Without brackets nobody can tell where an IPv6 address ends.
            None if host.contains(':') => return None,
            None => host,
        };
        Some(Place {
            host: host.to_owned(),
            port,
        })
    }

    /// Binds every address that the host stands for.
    fn bind(&self) -> io::Result<Vec<UdpSocket>> {
        let places = if self.host.is_empty() {
            vec![(Ipv4Addr::UNSPECIFIED, self.port).into()]
        } else {
            match Address::parse(&self.to_string()).map(|address| address.places()) {
                Some(Ok(places)) => places,
                Some(Err(AddressError::Unresolved { source, .. })) => return Err(source),
                Some(Err(error)) => return Err(io::Error::other(error)),
                // The system's resolver also takes forms such as `127.1`.
                None => (self.host.as_str(), self.port).to_socket_addrs()?.collect(),
            }
        };
        let bound = bind_all(&places, listen_udp).map_err(|refused| refused.source)?;
        let sockets = bound.sockets.into_iter();
        Ok(sockets.map(|(socket, _)| socket).collect())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_every_form() {
        for (text, host, port) in [
            ("127.0.0.1:8000", "127.0.0.1", 8000),
            ("localhost:1", "localhost", 1),
            (":8000", "", 8000),
            ("8301", "", 8301),
            ("[::1]:8300", "::1", 8300),
            ("host:0", "host", 0),
        ] {
            let host = host.to_owned();
            assert_eq!(Place::parse(text), Some(Place { host, port }), "{text}");
        }
        for wrong in [
            "", "host", "host:", ":", "a:65536", "a:+1", "::1:80", "[::1]", "[a]:1",
        ] {
            assert_eq!(Place::parse(wrong), None, "{wrong:?}");
        }
    }
}
