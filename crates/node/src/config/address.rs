//! Addresses to listen on: `host:port`, `[v6]:port`, or off.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::origin::Origin;

/// The longest host name, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Addresses that one listener may have.
const PLACES_MAX: usize = 16;

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
    /// The name has too many addresses to listen on.
    #[error(
        "{address} has {found} addresses, a listener at most {PLACES_MAX}; write one IP address, \
         or [::] for all of this machine"
    )]
    TooMany {
        /// The address as configured.
        address: Address,
        /// How many it has.
        found: usize,
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
            Host::Name(name) => is_localhost(name),
        }
    }

    /// What the host stands for: itself, the addresses of a name in the resolver's order, or, for
    /// `localhost`, both loopback addresses, whatever a resolver says. Blocks while it resolves.
    ///
    /// # Errors
    /// When the name is not found.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, AddressError> {
        let found = match &self.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) if is_localhost(name) => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Name(name) => {
                let found = (name.as_str(), self.port).to_socket_addrs();
                let found = found.map_err(|source| AddressError::Unresolved {
                    address: self.clone(),
                    source,
                })?;
                return Ok(found.collect());
            }
        };
        let found = found.into_iter();
        Ok(found.map(|ip| SocketAddr::new(ip, self.port)).collect())
    }

    /// The socket addresses to listen on, each once: those of [`resolve`](Self::resolve), where
    /// `[::]` is every address of IPv6 and of IPv4. Blocks while it resolves.
    ///
    /// # Errors
    /// When the name is not found, or has more than 16 addresses.
    pub fn places(&self) -> Result<Vec<SocketAddr>, AddressError> {
        let mut places: Vec<SocketAddr> = Vec::new();
        for mut place in self.resolve()? {
            if let IpAddr::V4(ip) = place.ip().to_canonical() {
                place = SocketAddr::new(ip.into(), place.port());
            }
            let every = place.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let ipv4 = every.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, place.port())));
            for place in [Some(place), ipv4].into_iter().flatten() {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        if places.len() > PLACES_MAX {
            return Err(AddressError::TooMany {
                address: self.clone(),
                found: places.len(),
            });
        }
        Ok(places)
    }
}

fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
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

    #[test]
    fn a_listener_has_every_address_that_its_host_stands_for() {
        let places = |text| {
            let address = Address::parse(text).expect("an address");
            let places = address.places().expect("it resolves");
            let places = places.iter().map(ToString::to_string);
            places.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(places("[::]:7"), "[::]:7 0.0.0.0:7");
        assert_eq!(places("0.0.0.0:7"), "0.0.0.0:7");
        for localhost in ["localhost:7", "LocalHost.:7"] {
            assert_eq!(places(localhost), "127.0.0.1:7 [::1]:7");
        }
        assert_eq!(places("[::ffff:127.0.0.1]:7"), "127.0.0.1:7");
        assert_eq!(places("10.0.0.1:7"), "10.0.0.1:7");
        let wrong = Address::parse("no-such-host.invalid:7").map(|address| address.places());
        assert!(matches!(wrong, Some(Err(AddressError::Unresolved { .. }))));
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
