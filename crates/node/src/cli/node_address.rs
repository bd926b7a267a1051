//! Which node a command talks to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use grapevine_store::disk::RealDisk;
use grapevine_store::identity::{Identity, IdentityError};

use crate::config::{Address, GlobalOptions, NODE_VARIABLE, Surroundings};

/// The environment variable that names the node.
const VARIABLE: &str = NODE_VARIABLE;
/// The option that names it.
const OPTION: &str = "--node";

/// The file in which a running node writes its addresses.
const LISTENERS_FILE: &str = "listeners.json";

/// The largest such file that is read, in bytes.
const LISTENERS_BYTES_MAX: u64 = 64 << 10;

/// The base URL of a node's HTTP interface, `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    address: Address,
    owner: Option<Owner>,
}

/// The data directory whose file says that its node has an address. A node that was killed leaves
/// the file behind, and the port to whoever comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The directory.
    pub directory: PathBuf,
    /// Its origin, in hexadecimal digits.
    pub origin: String,
}

/// Why it is not known which node to talk to.
#[derive(Debug, thiserror::Error)]
pub enum NodeAddressError {
    /// The address is no URL of a node.
    #[error("{origin}: {text:?} is no node; write it as http://host:port")]
    Invalid {
        /// `--node` or `GRAPEVINE_NODE`.
        origin: &'static str,
        /// The address as given.
        text: String,
    },
    /// The data directory does not say where a node listens.
    #[error("{}: cannot be read: {source}; is a node running on this data directory?", path.display())]
    Unreadable {
        /// The file with the addresses.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file with the addresses is not what a node writes.
    #[error("{}: not a list of listeners as a node writes it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is not known which data directory it is.
    #[error("{}: {source}", directory.display())]
    Unnamed {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The node of this data directory serves no HTTP.
    #[error("{}: the node serves no HTTP (http.listen is off)", path.display())]
    NotServed {
        /// The file.
        path: PathBuf,
    },
}

impl NodeAddressError {
    /// Whether the mistake was made on the command line.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self, Self::Invalid { origin: OPTION, .. })
    }
}

impl NodeAddress {
    /// Where a node serves HTTP when nobody says otherwise.
    pub(crate) const DEFAULT: &str = "http://127.0.0.1:8675";

    /// The node to talk to: `--node`, else what `--data-dir` says, else `GRAPEVINE_NODE`, else
    /// the default port on this machine. What was typed goes before what is in the environment.
    ///
    /// # Errors
    /// When the address is not valid, or the data directory names no running node.
    pub fn resolve(
        options: &GlobalOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, NodeAddressError> {
        if let Some(text) = &options.node {
            return Self::parse(OPTION, text);
        }
        if let Some(directory) = &options.data_dir {
            return Self::of_data_dir(directory);
        }
        let variable = surroundings.variables.get(std::ffi::OsStr::new(VARIABLE));
        let variable = variable
            .map(|text| text.to_string_lossy())
            .filter(|text| !text.is_empty());
        Self::parse(VARIABLE, variable.as_deref().unwrap_or(Self::DEFAULT))
    }

    fn parse(origin: &'static str, text: &str) -> Result<Self, NodeAddressError> {
        let address = text.strip_prefix("http://").unwrap_or(text);
        let address = Address::parse(address.strip_suffix('/').unwrap_or(address));
        let address = address.filter(|address| address.port() != 0);
        let owner = None;
        let node = address.map(|address| Self { address, owner });
        node.ok_or_else(|| NodeAddressError::Invalid {
            origin,
            text: text.to_owned(),
        })
    }

    /// The node at an address.
    #[cfg(test)]
    pub(crate) fn at(address: SocketAddr) -> Option<Self> {
        let address = Address::parse(&address.to_string())?;
        Some(Self {
            address,
            owner: None,
        })
    }

    /// The data directory that names it, if one does.
    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// The address that the node of a data directory wrote when it was ready.
    pub(super) fn of_data_dir(directory: &Path) -> Result<Self, NodeAddressError> {
        let path = directory.join(LISTENERS_FILE);
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(source) => return Err(NodeAddressError::Unreadable { path, source }),
        };
        let Ok(listeners) = serde_json::from_slice::<BTreeMap<String, String>>(&text) else {
            return Err(NodeAddressError::Damaged { path });
        };
        let Some(listener) = listeners.get("http.listen") else {
            return Err(NodeAddressError::NotServed { path });
        };
        let address = listener.parse().map(reachable).ok();
        let address = address.and_then(|at| Address::parse(&at.to_string()));
        let Some(address) = address else {
            return Err(NodeAddressError::Damaged { path });
        };
        let owner = Some(Owner::of(directory)?);
        Ok(Self { address, owner })
    }
}

impl Owner {
    fn of(directory: &Path) -> Result<Self, NodeAddressError> {
        let identity = Identity::read(&RealDisk::new(directory.to_owned()));
        let absent = || IdentityError::Io(io::ErrorKind::NotFound.into());
        let identity = identity.and_then(|identity| identity.ok_or_else(absent));
        let identity = identity.map_err(|source| NodeAddressError::Unnamed {
            directory: directory.to_owned(),
            source,
        })?;
        Ok(Owner {
            directory: directory.to_owned(),
            origin: identity.origin.to_string(),
        })
    }
}

/// A node that listens on every address is reached through loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LISTENERS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LISTENERS_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A data directory, with nothing but its identity.
    fn directory() -> io::Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let identity = Identity::random(&|| [7; 16]);
        let written = identity.write(&RealDisk::new(dir.path().to_owned()));
        written.map_err(io::Error::other)?;
        Ok(dir)
    }

    fn resolve(
        node: Option<&str>,
        data_dir: Option<&Path>,
        variable: Option<&str>,
    ) -> Result<String, NodeAddressError> {
        let mut surroundings = Surroundings::default();
        if let Some(text) = variable {
            surroundings.variables.insert(VARIABLE.into(), text.into());
        }
        let options = GlobalOptions {
            node: node.map(str::to_owned),
            data_dir: data_dir.map(Path::to_owned),
            ..GlobalOptions::default()
        };
        NodeAddress::resolve(&options, &surroundings).map(|node| node.to_string())
    }

    #[test]
    fn what_was_typed_goes_before_the_environment() -> Result<(), Box<dyn std::error::Error>> {
        let dir = directory()?;
        fs::write(
            dir.path().join(LISTENERS_FILE),
            r#"{"http.listen":"127.0.0.1:4001"}"#,
        )?;
        let dir = Some(dir.path());
        assert_eq!(resolve(None, None, None)?, NodeAddress::DEFAULT);
        assert_eq!(resolve(None, None, Some(""))?, NodeAddress::DEFAULT);
        assert_eq!(resolve(None, None, Some("http://b:2"))?, "http://b:2");
        assert_eq!(
            resolve(None, dir, Some("http://b:2"))?,
            "http://127.0.0.1:4001"
        );
        assert_eq!(
            resolve(Some("http://a:1/"), dir, Some("http://b:2"))?,
            "http://a:1"
        );
        assert_eq!(resolve(Some("[::1]:9"), None, None)?, "http://[::1]:9");
        Ok(())
    }

    #[test]
    fn addresses_that_are_no_node_are_refused() {
        for text in [
            "",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://a:1/api",
            "http://u@a:1",
        ] {
            let refused = resolve(Some(text), None, None);
            assert!(
                matches!(
                    refused,
                    Err(NodeAddressError::Invalid {
                        origin: "--node",
                        ..
                    })
                ),
                "{text:?}: {refused:?}"
            );
        }
        let refused = resolve(None, None, Some("ftp://x"));
        assert!(matches!(
            refused,
            Err(NodeAddressError::Invalid {
                origin: VARIABLE,
                ..
            })
        ));
    }

    #[test]
    fn the_data_directory_says_where_its_node_listens() -> Result<(), Box<dyn std::error::Error>> {
        let dir = directory()?;
        let of = |listeners: &str| {
            fs::write(dir.path().join(LISTENERS_FILE), listeners)?;
            Ok::<_, io::Error>(NodeAddress::of_data_dir(dir.path()))
        };
        assert!(matches!(
            NodeAddress::of_data_dir(dir.path()),
            Err(NodeAddressError::Unreadable { .. })
        ));
        assert_eq!(
            of(r#"{"http.listen":"0.0.0.0:81"}"#)??.to_string(),
            "http://127.0.0.1:81"
        );
        assert_eq!(
            of(r#"{"http.listen":"[::]:81"}"#)??.to_string(),
            "http://[::1]:81"
        );
        let without = of(r#"{"bloomd.tcp":"127.0.0.1:81"}"#)?;
        assert!(
            matches!(without, Err(NodeAddressError::NotServed { .. })),
            "{without:?}"
        );
        for damaged in [
            "",
            "[]",
            r#"{"http.listen":7}"#,
            r#"{"http.listen":"here"}"#,
        ] {
            let refused = of(damaged)?;
            assert!(
                matches!(refused, Err(NodeAddressError::Damaged { .. })),
                "{damaged}"
            );
        }
        fs::remove_file(dir.path().join("identity"))?;
        let unnamed = of(r#"{"http.listen":"127.0.0.1:81"}"#)?;
        assert!(
            matches!(unnamed, Err(NodeAddressError::Unnamed { .. })),
            "{unnamed:?}"
        );
        let large = of(&" ".repeat(LISTENERS_BYTES_MAX as usize + 1))?;
        assert!(
            matches!(large, Err(NodeAddressError::Unreadable { .. })),
            "{large:?}"
        );
        Ok(())
    }
}
