//! Looking names up without holding anything up: on the blocking pool, a few at a time, and for
//! strangers only so many a second.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::config::Address;

/// Names of strangers that are looked up at a time.
const LOOKUPS_MAX: usize = 4;
/// Names of strangers that are looked up in a second, on average.
const LOOKUPS_PER_SECOND: u32 = 10;
/// Configured names that are looked up at a time, apart from the others.
const CONFIGURED_LOOKUPS_MAX: usize = 2;
/// Results that may wait to be taken.
const FOUND_MAX: usize = LOOKUPS_MAX + CONFIGURED_LOOKUPS_MAX;
/// How long a configured name's address is used before it is looked up again.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon a configured name that was not found is looked up again.
const RETRY: Duration = Duration::from_secs(5);
/// How soon a lookup is tried again that had to wait for others.
const WAIT: Duration = Duration::from_millis(50);

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A request to peer, from this address.
    Stranger(SocketAddr),
    /// The configuration's peer of that number.
    Configured(usize),
}

/// The families of addresses that the gateway's sockets send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

impl Families {
    /// Those of the addresses that sockets are bound to.
    pub(super) fn of(bound: &[SocketAddr]) -> Self {
        Families {
            ipv4: bound.iter().any(SocketAddr::is_ipv4),
            ipv6: bound.iter().any(SocketAddr::is_ipv6),
        }
    }

    /// Whether something can be sent to `address`.
    pub(super) fn have(self, address: &SocketAddr) -> bool {
        if address.is_ipv4() {
            self.ipv4
        } else {
            self.ipv6
        }
    }
}

/// What a lookup came to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) asker: Asker,
    pub(super) address: Option<SocketAddr>,
}

/// Looks names up and gives what was found in the order of being found.
pub(super) struct Resolver {
    families: Families,
    strangers: Arc<Semaphore>,
    configured: Arc<Semaphore>,
    allowance: Allowance,
    results: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
}

impl Resolver {
    pub(super) fn new(families: Families, now: Instant) -> Self {
        let (results, found) = mpsc::channel(FOUND_MAX);
        Resolver {
            families,
            strangers: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            configured: Arc::new(Semaphore::new(CONFIGURED_LOOKUPS_MAX)),
            allowance: Allowance::new(LOOKUPS_PER_SECOND, now),
            results,
            found,
        }
    }

    /// Begins to look a stranger's name up; `false` when too many are being looked up.
    pub(super) fn look_up(
        &mut self,
        from: SocketAddr,
        name: String,
        port: u16,
        now: Instant,
    ) -> bool {
        let addresses = move || (name, port).to_socket_addrs().map(Iterator::collect).ok();
        let strangers = Arc::clone(&self.strangers);
        strangers.available_permits() > 0
            && self.allowance.take(now)
            && self.spawn(&strangers, Asker::Stranger(from), addresses)
    }

    /// Begins to look up the configuration's peer `index`; `false` when others come first.
    fn look_up_configured(&self, index: usize, address: Address) -> bool {
        let addresses = move || address.resolve().ok();
        self.spawn(&self.configured, Asker::Configured(index), addresses)
    }

    fn spawn(
        &self,
        permits: &Arc<Semaphore>,
        asker: Asker,
        addresses: impl FnOnce() -> Option<Vec<SocketAddr>> + Send + 'static,
    ) -> bool {
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return false;
        };
        let (results, families) = (self.results.clone(), self.families);
        tokio::task::spawn_blocking(move || {
            let found = addresses().into_iter().flatten();
            let mut found =
                found.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
            let address = found.find(|address| families.have(address));
            // Nobody takes it when the gateway has stopped.
            drop(results.blocking_send(Found { asker, address }));
            drop(permit);
        });
        true
    }

    /// The next result. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Found {
        match self.found.recv().await {
            Some(found) => found,
            // Not while this holds a sender.
            None => std::future::pending().await,
        }
    }
}

/// The peers of the configuration and where they were found.
pub(super) struct Configured(Vec<Entry>);

struct Entry {
    name: Address,
    address: Option<SocketAddr>,
    /// When it is to be looked up next; nothing while it is being looked up.
    due: Option<Instant>,
}

impl Configured {
    pub(super) fn new(names: &[Address], now: Instant) -> Self {
        let entries = names.iter().map(|name| Entry {
            name: name.clone(),
            address: None,
            due: Some(now),
        });
        Configured(entries.collect())
    }

    /// When the next lookup is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|entry| entry.due).min()
    }

    /// Begins the lookups that are due.
    pub(super) fn look_up(&mut self, resolver: &Resolver, now: Instant) {
        for (index, entry) in self.0.iter_mut().enumerate() {
            if entry.due.is_some_and(|due| due <= now) {
                let begun = resolver.look_up_configured(index, entry.name.clone());
                entry.due = (!begun).then(|| now + WAIT);
            }
        }
    }

    /// Takes what was found; the last address stays when nothing was.
    pub(super) fn take(&mut self, index: usize, address: Option<SocketAddr>, now: Instant) {
        if let Some(entry) = self.0.get_mut(index) {
            if address.is_none() {
                tracing::warn!("rmbd.peers: {} is not found", entry.name);
            }
            entry.address = address.or(entry.address);
            entry.due = Some(now + if address.is_some() { REFRESH } else { RETRY });
        }
    }

    /// The addresses known.
    pub(super) fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.0.iter().filter_map(|entry| entry.address).collect()
    }
}

/// A token bucket of one second's worth.
struct Allowance {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: u32, now: Instant) -> Self {
        Allowance {
            per_second,
            left: f64::from(per_second),
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let most = f64::from(self.per_second);
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * most).min(most);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_have_a_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(10, start);
        let mut taken = |now| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(start), 10);
        assert_eq!(taken(start + Duration::from_millis(250)), 2);
        assert_eq!(taken(start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn configured_peers_are_looked_up_again_and_keep_their_last_address() {
        let start = Instant::now();
        let name = Address::parse("peer.example:8000").expect("an address");
        let mut configured = Configured::new(&[name], start);
        assert_eq!(configured.deadline(), Some(start));
        let address = SocketAddr::from(([10, 0, 0, 1], 8000));
        configured.take(0, Some(address), start);
        assert_eq!(configured.deadline(), Some(start + REFRESH));
        configured.take(0, None, start);
        assert_eq!(configured.deadline(), Some(start + RETRY));
        assert_eq!(configured.addresses(), BTreeSet::from([address]));
    }

    #[tokio::test]
    async fn names_are_looked_up_a_few_at_a_time() {
        let now = Instant::now();
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut resolver = Resolver::new(Families::of(&[from]), now);
        let begun = (0..20)
            .filter(|_| resolver.look_up(from, "localhost".to_owned(), 7, now))
            .count();
        assert!((1..=10).contains(&begun), "{begun}");
        for _ in 0..begun {
            let found = resolver.next().await;
            assert_eq!(found.asker, Asker::Stranger(from));
            assert_eq!(found.address, Some(SocketAddr::from(([127, 0, 0, 1], 7))));
        }
    }
}
