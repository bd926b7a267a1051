//! Where a transport listens now: interfaces come and go while it runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use libp2p::Multiaddr;
use tokio::sync::watch;

use super::address::socket_address;

/// Socket addresses, each once and in order.
pub(super) type Addresses = Arc<[SocketAddr]>;

/// The addresses of all listeners, for whoever watches them. The system bounds their number.
#[derive(Debug)]
pub(super) struct Listening {
    /// One for each carrier of an address.
    all: BTreeSet<Multiaddr>,
    current: watch::Sender<Addresses>,
}

impl Listening {
    pub(super) fn new(all: BTreeSet<Multiaddr>) -> (Self, watch::Receiver<Addresses>) {
        let (current, watched) = watch::channel(plain(&all));
        (Listening { all, current }, watched)
    }

    /// A listener is reached at one more address.
    pub(super) fn add(&mut self, address: Multiaddr) {
        self.all.insert(address);
        self.publish();
    }

    /// A listener is no longer reached at these addresses.
    pub(super) fn remove<'a>(&mut self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        for address in addresses {
            self.all.remove(address);
        }
        self.publish();
    }

    fn publish(&self) {
        let now = plain(&self.all);
        self.current.send_if_modified(|known| {
            let differs = *known != now;
            if differs {
                *known = now;
            }
            differs
        });
    }
}

fn plain(all: &BTreeSet<Multiaddr>) -> Addresses {
    let plain: BTreeSet<SocketAddr> = all.iter().filter_map(socket_address).collect();
    plain.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ip: &str) -> Multiaddr {
        format!("/{ip}/tcp/1").parse().unwrap()
    }

    fn quic(ip: &str) -> Multiaddr {
        format!("/{ip}/udp/1/quic-v1").parse().unwrap()
    }

    #[test]
    fn an_address_counts_while_one_carrier_has_it() {
        let (a, b) = ("ip4/10.0.0.1", "ip6/fd00::1");
        let (mut listening, mut watched) = Listening::new([tcp(a), quic(a)].into());
        let mut news = || {
            let changed = watched.has_changed().unwrap();
            let now = watched.borrow_and_update();
            changed.then(|| now.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        listening.add(tcp(b));
        assert_eq!(news().unwrap(), ["10.0.0.1:1", "[fd00::1]:1"]);
        listening.add(quic(b));
        listening.remove([&tcp(a)]);
        assert_eq!(news(), None);
        listening.remove([&quic(a), &quic(b)]);
        assert_eq!(news().unwrap(), ["[fd00::1]:1"]);
    }
}
