//! Sockets of a listener: one for each of its addresses, all at one port.
//!
//! IPv4 and IPv6 have a socket each, `[::]` too: what arrives over IPv4 then has an IPv4 address
//! everywhere, and a machine without IPv6 still serves the rest.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Receive buffer asked for datagrams, in bytes; the system may grant less.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;
/// Free ports that are tried until one is free at every address.
const PORT_TRIES: usize = 32;

/// An address at which the system lets nobody listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct Refused {
    /// The address.
    pub address: SocketAddr,
    /// The system's answer.
    pub source: io::Error,
}

impl Refused {
    /// Whether somebody else listens there.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// Whether this machine has no such address, or no address of that family.
    fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrNotAvailable
            || self.source.raw_os_error() == Some(libc::EAFNOSUPPORT)
    }
}

/// What was bound.
#[derive(Debug)]
pub struct Bound<T> {
    /// What listens, and where.
    pub sockets: Vec<(T, SocketAddr)>,
    /// Addresses that this machine does not have.
    pub missing: Vec<Refused>,
}

/// Binds at every address with `bind`, which gives what it bound and where. Where an address has
/// port 0, all get the same free port. Addresses that this machine does not have are left out as
/// long as it has one of them.
///
/// # Errors
/// The first address that is taken or not allowed; nothing is bound then.
pub fn bind_all<T>(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> Result<Bound<T>, Refused> {
    let mut tries = 1;
    loop {
        match bind_at_one_port(addresses, &bind) {
            // The free port of one address may be taken at the next one.
            Err(refused)
                if refused.is_taken()
                    && tries < PORT_TRIES
                    && addresses.iter().all(|address| address.port() == 0) =>
            {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn bind_at_one_port<T>(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> Result<Bound<T>, Refused> {
    let mut bound = Bound {
        sockets: Vec::new(),
        missing: Vec::new(),
    };
    for address in addresses {
        let mut address = *address;
        if let (0, Some((_, first))) = (address.port(), bound.sockets.first()) {
            address.set_port(first.port());
        }
        let refused = match bind(address) {
            Ok(socket) => {
                bound.sockets.push(socket);
                continue;
            }
            Err(source) => Refused { address, source },
        };
        if !refused.is_missing() {
            return Err(refused);
        }
        bound.missing.push(refused);
    }
    match bound.missing.pop() {
        Some(refused) if bound.sockets.is_empty() => Err(refused),
        missing => {
            bound.missing.extend(missing);
            Ok(bound)
        }
    }
}

/// Listens for connections; gives the socket with its address.
pub fn tcp(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
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
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Binds a socket for datagrams; gives it with its address.
pub fn udp(address: SocketAddr) -> io::Result<(std::net::UdpSocket, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(DATAGRAM_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    let socket = std::net::UdpSocket::from(socket);
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// As [`tcp`], within the current tokio runtime.
pub fn listen_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let (listener, address) = tcp(address)?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// As [`udp`], within the current tokio runtime.
pub fn listen_udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let (socket, address) = udp(address)?;
    Ok((UdpSocket::from_std(socket)?, address))
}

/// Listeners that are one: a connection to any of them is accepted.
#[derive(Debug)]
pub struct TcpListeners {
    listeners: Vec<TcpListener>,
    /// Who is looked at first.
    next: usize,
}

impl TcpListeners {
    /// The addresses they listen on.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.listeners.iter();
        let addresses = addresses.filter_map(|listener| listener.local_addr().ok());
        addresses.map(|address| address.ip()).collect()
    }

    /// The next connection, of each listener in turn. May be dropped while it waits.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            let count = self.listeners.len();
            for index in (self.next..count).chain(0..self.next) {
                if let Poll::Ready(accepted) = self.listeners[index].poll_accept(context) {
                    self.next = (index + 1) % count;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl From<Vec<TcpListener>> for TcpListeners {
    fn from(listeners: Vec<TcpListener>) -> Self {
        TcpListeners { listeners, next: 0 }
    }
}

impl From<TcpListener> for TcpListeners {
    fn from(listener: TcpListener) -> Self {
        vec![listener].into()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const FIRST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
    const SECOND: SocketAddr = SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 0);

    /// A system that gives the ports 1, 2, … and has some taken at the second address.
    fn bind(taken: &[u16]) -> impl Fn(SocketAddr) -> io::Result<((), SocketAddr)> {
        let next = RefCell::new(0);
        move |mut address| {
            if address.port() == 0 {
                *next.borrow_mut() += 1;
                address.set_port(*next.borrow());
            } else if address.is_ipv6() && taken.contains(&address.port()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok(((), address))
        }
    }

    fn ports<T>(bound: &Bound<T>) -> Vec<u16> {
        let addresses = bound.sockets.iter();
        addresses.map(|(_, address)| address.port()).collect()
    }

    #[test]
    fn a_free_port_is_free_at_every_address() {
        let bound = bind_all(&[FIRST, SECOND], bind(&[1, 2])).expect("a port");
        assert_eq!(ports(&bound), [3, 3]);
        let all: Vec<u16> = (0..100).collect();
        let refused = bind_all(&[FIRST, SECOND], bind(&all)).expect_err("none is free");
        assert!(refused.is_taken() && refused.address.is_ipv6());
        assert_eq!(usize::from(refused.address.port()), PORT_TRIES);
    }

    #[test]
    fn a_port_that_was_asked_for_is_tried_once() {
        let asked = |port| {
            let with = |mut address: SocketAddr| {
                address.set_port(port);
                address
            };
            bind_all(&[with(FIRST), with(SECOND)], bind(&[7]))
        };
        assert!(asked(7).expect_err("it is taken").is_taken());
        assert_eq!(ports(&asked(8).expect("both")), [8, 8]);
    }

    #[test]
    fn addresses_that_the_machine_lacks_are_left_out_if_it_has_another() {
        let without_ipv6 = |address: SocketAddr| match address {
            SocketAddr::V4(_) => Ok(((), address)),
            SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        let bound = bind_all(&[SECOND, FIRST], without_ipv6).expect("the other one");
        assert_eq!(bound.sockets, [((), FIRST)]);
        assert_eq!(bound.missing.len(), 1);
        assert_eq!(bound.missing[0].address, SECOND);
        assert!(bind_all(&[SECOND], without_ipv6).is_err());
        assert!(bind_all(&[], without_ipv6).is_ok());
    }

    #[tokio::test]
    async fn every_listener_is_accepted_from() {
        let addresses = [FIRST, SocketAddr::from(([127, 0, 0, 2], 0))];
        let bound = bind_all(&addresses, listen_tcp).expect("a port");
        let (listeners, addresses): (Vec<_>, Vec<_>) = bound.sockets.into_iter().unzip();
        let mut listeners = TcpListeners::from(listeners);
        assert_eq!(listeners.addresses().len(), 2);
        for address in addresses {
            let client = TcpStream::connect(address).await.expect("a connection");
            let (_, from) = listeners.accept().await.expect("it is accepted");
            assert_eq!(client.local_addr().ok(), Some(from));
        }
    }
}
