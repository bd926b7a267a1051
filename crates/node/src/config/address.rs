//! Addresses to listen on: `host:port`, `[v6]:port`, or off.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::origin::Origin;

/// The longest host name, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A host and a port. A host name stays a name until something binds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Why an address could not be turned into socket addresses.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The name was not found.
    #[error("cannot resolve {address}")]
    Unresolved {
        /// The address as configured.
        address: Address,
        /// What the resolver said.
        source: io::Error,
    },
    /// A name of the local machine that resolves to an address of a network: the refusals for
    /// listeners off loopback were skipped for it, so it may not be used.
    #[error(
        "{address} names the local machine but resolves to {found}; write that IP address instead"
    )]
    NotLoopback {
        /// The address as configured.
        address: Address,
        /// The first address that is no loopback address.
        found: SocketAddr,
    },
}

impl Address {
    /// Reads `host:port` or `[v6]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        if let Some(inside) = host.strip_prefix('[') {
            let ip: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Self {
                host: Host::Ip(IpAddr::V6(ip)),
                port,
            });
        }
        if let Ok(ip @ IpAddr::V4(_)) = host.parse::<IpAddr>() {
            return Some(Self {
                host: Host::Ip(ip),
                port,
            });
        }
        is_host_name(host).then(|| Self {
            host: Host::Name(host.to_owned()),
            port,
        })
    }

    /// The port; 0 asks for a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach the address. Of names, `localhost` alone counts:
    /// what others resolve to is not known until they are bound.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }

    /// The socket addresses to bind, resolving a host name. Blocks while it resolves.
    ///
    /// # Errors
    /// When the name is not found, or is `localhost` and resolves to another machine's address.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, AddressError> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name,
        };
        let found: Vec<SocketAddr> = (name.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|source| AddressError::Unresolved {
                address: self.clone(),
                source,
            })?
            .collect();
        match found
            .iter()
            .find(|address| !address.ip().to_canonical().is_loopback())
        {
            Some(other) if self.is_loopback() => Err(AddressError::NotLoopback {
                address: self.clone(),
                found: *other,
            }),
            _ => Ok(found),
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    // A name of digits and dots only would be a mistyped IPv4 address.
    (1..=HOST_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && !text.starts_with(['-', '.'])
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A place to listen, and who asked for it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The key that sets it (`bloomd.tcp`), also its name in `listeners.json`.
    pub key: &'static str,
    /// Where to listen, or nothing when it is turned off.
    pub address: Option<Address>,
    /// Where the address came from.
    pub origin: Origin,
}

impl Listener {
    /// Whether somebody asked for this address. When it is taken, that is an error; a taken
    /// default is reported and skipped.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.origin.is_configured()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in [
            "127.0.0.1:8673",
            "[::1]:0",
            "node-1.example.org:65535",
            "[2001:db8::7]:80",
        ] {
            let address = Address::parse(text).unwrap_or_else(|| panic!("{text} is refused"));
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            ":80",
            "host",
            "host:",
            "host:65536",
            "host:+1",
            "::1:80",
            "[::1]",
            "[::1:80",
            "[127.0.0.1]:80",
            "1.2.3:80",
            "256.0.0.1:80",
            "a b:1",
            "a/b:1",
            "-a:1",
            "host:80x",
        ] {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn loopback_is_known_by_its_address_or_as_localhost() {
        let loopback = |text| Address::parse(text).map(|address| address.is_loopback());
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "LocalHost:1",
        ] {
            assert_eq!(loopback(text), Some(true), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "localhost.example.org:1",
            "box:1",
        ] {
            assert_eq!(loopback(text), Some(false), "{text}");
        }
    }

    #[test]
    fn an_ip_address_resolves_to_itself() {
        let found = Address::parse("[::1]:7").map(|address| address.resolve().ok());
        assert_eq!(
            found,
            Some(Some(vec![SocketAddr::from((Ipv6Addr::LOCALHOST, 7))]))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            if let Some(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
            }
        }

        #[test]
        fn addresses_read_back_as_written(ip in any::<IpAddr>(), port in any::<u16>()) {
            let address = Address { host: Host::Ip(ip), port };
            prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
        }
    }
}
