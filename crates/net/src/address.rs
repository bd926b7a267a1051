//! Addresses: what people write, and what libp2p wants.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::limits::ADDRESSES_PER_NAME_MAX;

/// The longest host name, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// `host:port`; a host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no colon with a port after it.
    #[error("{0:?} is not host:port")]
    NoPort(String),
    /// What stands after the last colon is no port that can be dialled.
    #[error("{0:?} has a port that is not a number from 1 to 65535")]
    Port(String),
    /// The host is empty, too long, or has characters that no name has.
    #[error("{0:?} has a host that is no name and no address (IPv6 goes in brackets)")]
    Host(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // What is refused is named in full unless that is long.
        let end = text.floor_char_boundary(HOST_BYTES_MAX);
        let named = || text[..end].to_owned();
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| AddressError::NoPort(named()))?;
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(AddressError::Port(named())),
            Ok(port) => port,
        };
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let good = match inner {
            Some(six) => six.parse::<Ipv6Addr>().is_ok(),
            None => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(allowed)
            }
        };
        if !good {
            return Err(AddressError::Host(named()));
        }
        Ok(Address {
            host: inner.unwrap_or(host).to_owned(),
            port,
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// What the name stands for now, asked anew each time: at most
    /// [`ADDRESSES_PER_NAME_MAX`] addresses.
    pub(super) async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.take(ADDRESSES_PER_NAME_MAX).collect())
    }
}

/// How bytes travel between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Quic,
    Tcp,
}

pub(super) fn multiaddr(address: SocketAddr, carrier: Carrier) -> Multiaddr {
    let host = Multiaddr::from(address.ip());
    match carrier {
        Carrier::Quic => host
            .with(Protocol::Udp(address.port()))
            .with(Protocol::QuicV1),
        Carrier::Tcp => host.with(Protocol::Tcp(address.port())),
    }
}

/// The address and port at the front; none for what this program does not speak.
pub(super) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Whether the other end is on this machine.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["a:1", "node-1.lab:8676", "127.0.0.1:65535", "[::1]:8676"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let socket: SocketAddr = "[fd00::2]:9".parse().unwrap();
        assert_eq!(Address::from(socket).to_string(), "[fd00::2]:9");
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        for (text, expected) in [
            ("", "is not host:port"),
            ("host", "is not host:port"),
            ("host:", "a port"),
            ("host:0", "a port"),
            ("host:65536", "a port"),
            (":1", "a host"),
            ("::1:8676", "a host"),
            ("[::1:8676", "a host"),
            ("[x]:1", "a host"),
            ("a/b:1", "a host"),
            ("a b:1", "a host"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(format!("{}:1", "a".repeat(254)).parse::<Address>().is_err());
    }

    #[test]
    fn multiaddresses_carry_the_port() {
        let socket: SocketAddr = "127.0.0.1:8676".parse().unwrap();
        let quic = multiaddr(socket, Carrier::Quic);
        let tcp = multiaddr(socket, Carrier::Tcp);
        assert_eq!(quic.to_string(), "/ip4/127.0.0.1/udp/8676/quic-v1");
        assert_eq!(tcp.to_string(), "/ip4/127.0.0.1/tcp/8676");
        assert_eq!(socket_address(&quic), Some(socket));
        assert_eq!(socket_address(&tcp), Some(socket));
        assert_eq!(socket_address(&"/dns/x/tcp/1".parse().unwrap()), None);
        assert!(is_loopback(&"[::ffff:127.0.0.1]:1".parse().unwrap()));
        assert!(!is_loopback(&"192.0.2.1:1".parse().unwrap()));
    }
}
