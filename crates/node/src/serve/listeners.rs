//! Binding what the configuration names, and telling where that was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use grapevine_store::disk::is_full;
use tokio::net::{TcpListener, UdpSocket};

use crate::config::{Address, AddressError, Config, Hbbp, Listener};
use crate::gateway::hbbp::{self, Change, Ear, Place};
use crate::http::About;
use grapevine_net::sockets::{Refused, bind_all, listen_tcp, listen_udp};

/// Name of the file in the data directory.
pub(crate) const LISTENERS_FILE: &str = "listeners.json";

/// Why a listener is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its address does not resolve.
    #[error("{key}: {source}")]
    Address {
        /// The configuration key.
        key: &'static str,
        /// Why not.
        source: AddressError,
    },
    /// The system refused.
    #[error("{key}: cannot listen on {address}: {source}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The address, of several perhaps.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// An interface cannot be listened on.
    #[error("hbbp.interfaces: cannot listen on {interface}, port {port}: {source}")]
    Interface {
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
        /// The system's answer.
        source: io::Error,
    },
    /// Where the listeners are cannot be told.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// All listeners of a node.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) bloomd_tcp: Vec<TcpListener>,
    pub(super) bloomd_udp: Vec<UdpSocket>,
    pub(super) rmbd_udp: Vec<UdpSocket>,
    /// One for each interface, bound when the interface is there.
    pub(super) hbbp: Vec<(Ear, Option<std::net::UdpSocket>)>,
    pub(super) http: Vec<TcpListener>,
    /// Defaults that are taken, with the reason.
    pub(super) skipped: Vec<String>,
    /// By key, the first of each is the one in `listeners.json`.
    addresses: BTreeMap<String, Vec<SocketAddr>>,
}

impl Bound {
    /// Binds every listener. A default that is taken is skipped, a configured one is an error.
    pub(super) fn bind(config: &Config) -> Result<Self, BindError> {
        let mut bound = Bound::default();
        let bloomd = &config.bloomd;
        bound.bloomd_tcp = bound.all_of(&bloomd.tcp, listen_tcp)?;
        bound.bloomd_udp = bound.all_of(&bloomd.udp, listen_udp)?;
        bound.rmbd_udp = bound.all_of(&config.rmbd.udp, listen_udp)?;
        bound.listen_on_links(&config.hbbp)?;
        bound.http = bound.all_of(&config.http.listen, listen_tcp)?;
        Ok(bound)
    }

    /// Where each listener is, by its key: all addresses of one that has several.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let addresses = self.addresses.iter();
        addresses.flat_map(|(key, all)| all.iter().map(|address| (key.as_str(), *address)))
    }

    /// What HTTP tells about the node.
    pub(super) fn about(&self, config: &Config) -> About {
        let listeners = self.addresses();
        About {
            name: config.node.name.clone(),
            data_dir: config.node.data_dir.clone(),
            listeners: listeners
                .map(|(key, address)| (key.to_owned(), address.to_string()))
                .collect(),
            skipped: self.skipped.clone(),
            memory_limit: config.limits.memory.bytes,
        }
    }

    /// Where HTTP is served.
    pub(super) fn http_address(&self) -> Option<SocketAddr> {
        self.addresses.get("http.listen")?.first().copied()
    }

    /// Whether there is no listener, because each was to have its default address.
    pub(super) fn serves_nobody(&self) -> bool {
        self.addresses.is_empty() && self.hbbp.is_empty() && !self.skipped.is_empty()
    }

    /// The addresses to bind a listener to; none when it is turned off.
    pub(super) fn places(&self, listener: &Listener) -> Result<Vec<SocketAddr>, BindError> {
        let key = listener.key;
        let places = listener.address.as_ref().map(Address::places);
        let places = places.transpose();
        let places = places.map_err(|source| BindError::Address { key, source })?;
        Ok(places.unwrap_or_default())
    }

    /// Something has bound a listener, perhaps one of several.
    pub(super) fn serves(&mut self, key: &str, address: SocketAddr) {
        let addresses = self.addresses.entry(key.to_owned()).or_default();
        addresses.push(address);
    }

    /// A default address is taken: goes on without that listener.
    pub(super) fn skip(&mut self, key: &'static str, address: SocketAddr) {
        let reason = format!("{key}: {address} is taken (set {key} to another address)");
        tracing::warn!("{reason}");
        self.skipped.push(reason);
    }

    /// Binds a socket on each interface that is there. One that is not will be waited for.
    fn listen_on_links(&mut self, config: &Hbbp) -> Result<(), BindError> {
        let interfaces: BTreeSet<&String> = config.interfaces.iter().collect();
        for interface in interfaces {
            let place = Place::Interface(interface.clone());
            let mut ear = Ear::new(place, config.port);
            let socket = match ear.look() {
                Ok(Change::Bound(socket)) => Some(socket),
                Ok(Change::None | Change::Gone) => {
                    tracing::warn!("hbbp.interfaces: there is no {interface} yet");
                    None
                }
                Err(source) if will_not_pass(&source) => {
                    return Err(BindError::Interface {
                        interface: interface.clone(),
                        port: config.port,
                        source,
                    });
                }
                Err(error) => {
                    tracing::warn!("hbbp.interfaces: not listening on {interface} yet: {error}");
                    None
                }
            };
            if let Some(number) = ear.bound().and_then(NonZeroU32::new) {
                let address = hbbp::everybody(number, config.port);
                self.serves(&format!("hbbp.{interface}"), address.into());
            }
            self.hbbp.push((ear, socket));
        }
        Ok(())
    }

    /// Binds a listener at all of its addresses.
    fn all_of<T>(
        &mut self,
        listener: &Listener,
        bind: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
    ) -> Result<Vec<T>, BindError> {
        let key = listener.key;
        let bound = match bind_all(&self.places(listener)?, bind) {
            Ok(bound) => bound,
            Err(refused) if refused.is_taken() && !listener.is_configured() => {
                self.skip(key, refused.address);
                return Ok(Vec::new());
            }
            Err(Refused { address, source }) => {
                return Err(BindError::Bind {
                    key,
                    address,
                    source,
                });
            }
        };
        for missing in bound.missing {
            tracing::warn!("{key}: {missing}; the listener's other addresses are served");
        }
        let mut sockets = Vec::new();
        for (socket, address) in bound.sockets {
            self.serves(key, address);
            sockets.push(socket);
        }
        Ok(sockets)
    }
}

/// Whether an error of binding is about the port. Others say that an interface is not ready.
fn will_not_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// `listeners.json`, there while the node serves.
#[derive(Debug)]
pub(super) struct ListenersFile {
    path: PathBuf,
}

impl ListenersFile {
    /// Writes the addresses, atomically: whoever waits for the file finds it whole.
    pub(super) fn write(data_dir: &Path, bound: &Bound) -> Result<Self, BindError> {
        let path = data_dir.join(LISTENERS_FILE);
        // One address for each key: programs take it as it is.
        let addresses: BTreeMap<_, _> = bound
            .addresses
            .iter()
            .filter_map(|(key, all)| Some((key, all.first()?.to_string())))
            .collect();
        let temporary = data_dir.join(format!("{LISTENERS_FILE}.new"));
        let mut text = serde_json::to_vec_pretty(&addresses).expect("addresses are plain text");
        text.push(b'\n');
        let write = || -> io::Result<()> {
            std::fs::write(&temporary, &text)?;
            std::fs::rename(&temporary, &path)
        };
        match write() {
            Err(full) if is_full(&full) => {
                // What the last life of the node left has its room.
                drop(std::fs::remove_file(&temporary));
                if let Err(error) = write_over(&path, &text) {
                    tracing::warn!(
                        "{}: {error}; commands find the node by its address, with --node",
                        path.display()
                    );
                }
            }
            Err(source) => return Err(BindError::File { path, source }),
            Ok(()) => {}
        }
        Ok(ListenersFile { path })
    }
}

/// Writes over a file that is there: it may need no more room than it has.
fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)
}

impl Drop for ListenersFile {
    fn drop(&mut self) {
        // A file that stays names listeners that do not answer: an error, but a harmless one.
        drop(std::fs::remove_file(&self.path));
    }
}
