//! Binding what the configuration names, and telling where that was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use grapevine_store::disk::is_full;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::config::{Address, AddressError, Config, Hbbp, Listener};
use crate::gateway::hbbp::{self, Change, Ear, Place};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Receive buffer asked for datagrams, in bytes; the system may grant less.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;
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
        /// The address.
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
    pub(super) bloomd_tcp: Option<TcpListener>,
    pub(super) bloomd_udp: Option<UdpSocket>,
    pub(super) rmbd_udp: Option<UdpSocket>,
    /// One for each interface, bound when the interface is there.
    pub(super) hbbp: Vec<(Ear, Option<std::net::UdpSocket>)>,
    pub(super) http: Option<TcpListener>,
    /// Defaults that are taken, with the reason.
    pub(super) skipped: Vec<String>,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Bound {
    /// Binds every listener. A default that is taken is skipped, a configured one is an error.
    pub(super) fn bind(config: &Config) -> Result<Self, BindError> {
        let mut bound = Bound::default();
        let bloomd = &config.bloomd;
        bound.bloomd_tcp = bound.one(&bloomd.tcp, tcp)?;
        bound.bloomd_udp = bound.one(&bloomd.udp, udp)?;
        bound.rmbd_udp = bound.one(&config.rmbd.udp, udp)?;
        bound.listen_on_links(&config.hbbp)?;
        bound.http = bound.one(&config.http.listen, tcp)?;
        Ok(bound)
    }

    /// Where each listener is, by its key.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let addresses = self.addresses.iter();
        addresses.map(|(key, address)| (key.as_str(), *address))
    }

    /// Where HTTP is served.
    pub(super) fn http_address(&self) -> Option<SocketAddr> {
        self.addresses.get("http.listen").copied()
    }

    /// Whether there is no listener, because each was to have its default address.
    pub(super) fn serves_nobody(&self) -> bool {
        self.addresses.is_empty() && self.hbbp.is_empty() && !self.skipped.is_empty()
    }

    /// The addresses that a listener may be bound to; none when it is turned off.
    pub(super) fn candidates(&self, listener: &Listener) -> Result<Vec<SocketAddr>, BindError> {
        let key = listener.key;
        let resolved = listener.address.as_ref().map(Address::resolve);
        let resolved = resolved.transpose();
        let resolved = resolved.map_err(|source| BindError::Address { key, source })?;
        Ok(resolved.unwrap_or_default())
    }

    /// Something else has bound a listener.
    pub(super) fn serves(&mut self, key: &'static str, address: SocketAddr) {
        self.addresses.insert(key.to_owned(), address);
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
                self.addresses
                    .insert(format!("hbbp.{interface}"), address.into());
            }
            self.hbbp.push((ear, socket));
        }
        Ok(())
    }

    fn one<T>(
        &mut self,
        listener: &Listener,
        bind: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
    ) -> Result<Option<T>, BindError> {
        let key = listener.key;
        let mut refused = None;
        for address in self.candidates(listener)? {
            match bind(address) {
                Ok((socket, address)) => {
                    self.addresses.insert(key.to_owned(), address);
                    return Ok(Some(socket));
                }
                Err(source) => {
                    refused = Some(BindError::Bind {
                        key,
                        address,
                        source,
                    })
                }
            }
        }
        match refused {
            Some(BindError::Bind {
                source, address, ..
            }) if source.kind() == io::ErrorKind::AddrInUse && !listener.is_configured() => {
                self.skip(key, address);
                Ok(None)
            }
            Some(error) => Err(error),
            None => Ok(None),
        }
    }
}

/// Whether an error of binding is about the port. Others say that an interface is not ready.
fn will_not_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

fn tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for connections of the last process to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Binds a socket for datagrams; gives it with its address.
pub(crate) fn udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(DATAGRAM_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
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
        let addresses: BTreeMap<_, _> = bound
            .addresses()
            .map(|(key, address)| (key, address.to_string()))
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
