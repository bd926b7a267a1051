//! Which peers a stranger may name. A `peer` message makes a node send a stream of rows to the
//! address in it, and nothing in the protocol says who sent the message. Without a rule a node
//! that others can reach sends hundreds of times what it is sent, to whomever an attacker names,
//! and reaches services that the attacker cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What becomes of a request to peer with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is sent rows from the next round on, as the original does.
    Direct,
    /// It is first asked a question that only an rmbd at that address can answer.
    Proof,
    /// It is not sent anything.
    Refused(Refusal),
}

/// Why an address is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Port 0, or one above 65535: an original that sends there never sends again.
    #[error("no such port")]
    Port,
    /// The host is neither an address nor a name, or its name was not found.
    #[error("no such host")]
    Host,
    /// This node listens on no address of that family.
    #[error("this node listens on no address of that family")]
    Family,
    /// Many or nobody would receive: broadcast, multicast, reserved addresses.
    #[error("not the address of one node")]
    NotOne,
    /// The address is nearer to this node than whoever named it.
    #[error("a stranger may not name an address of this machine or its private network")]
    Nearer,
    /// As many peers as there may be.
    #[error("too many peers")]
    Full,
    /// Too many names are being looked up.
    #[error("too many names to look up")]
    Lookups,
}

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// This machine.
    Machine,
    /// A private network.
    Private,
    /// Anywhere.
    Public,
}

/// Judges a request that came from `from`. Both addresses are canonical: no IPv4 inside IPv6.
pub(super) fn judge(from: IpAddr, target: SocketAddr) -> Admission {
    if target.port() == 0 {
        return Admission::Refused(Refusal::Port);
    }
    let Some(near) = scope(target.ip()) else {
        return Admission::Refused(Refusal::NotOne);
    };
    // No datagram comes from an address without scope; if one did, it is a stranger's.
    match scope(from).unwrap_or(Scope::Public) {
        Scope::Machine => Admission::Direct,
        // A neighbour may name neighbours, but not what serves this machine alone.
        asker if near < asker => Admission::Refused(Refusal::Nearer),
        // Whoever sent it may have written another's address into it.
        _ => Admission::Proof,
    }
}

/// Whether `peer` may be told to send to `own`, an address of this node from which it got rows
/// that it has acknowledged. An original that is told of an address to which it has no route
/// never sends again, to anyone: where a private address reached a public one, something between
/// them has replaced it, and the peer knows this node by another.
pub(super) fn may_introduce(own: SocketAddr, peer: IpAddr) -> bool {
    let names_interface = matches!(own.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    let near_enough = match (scope(own.ip()), scope(peer)) {
        (Some(own), Some(peer)) => own >= peer,
        _ => false,
    };
    own.port() != 0 && !own.ip().is_unspecified() && !names_interface && near_enough
}

fn scope(ip: IpAddr) -> Option<Scope> {
    match ip {
        IpAddr::V4(ip) => scope_of_v4(ip),
        IpAddr::V6(ip) => scope_of_v6(ip),
    }
}

fn scope_of_v4(ip: Ipv4Addr) -> Option<Scope> {
    let [first, second, ..] = ip.octets();
    // Carriers' networks (RFC 6598) are private to them.
    let shared = first == 100 && second & 0xc0 == 64;
    match first {
        // What is sent to the unspecified address stays on this machine.
        0 => ip.is_unspecified().then_some(Scope::Machine),
        127 => Some(Scope::Machine),
        // Multicast, reserved, broadcast.
        224..=255 => None,
        _ if ip.is_private() || ip.is_link_local() || shared => Some(Scope::Private),
        _ => Some(Scope::Public),
    }
}

fn scope_of_v6(ip: Ipv6Addr) -> Option<Scope> {
    if ip.is_multicast() {
        None
    } else if ip.is_loopback() || ip.is_unspecified() {
        Some(Scope::Machine)
    } else if ip.is_unique_local() || ip.is_unicast_link_local() {
        Some(Scope::Private)
    } else {
        Some(Scope::Public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(from: &str, target: &str) -> Admission {
        judge(
            from.parse().expect("an address"),
            target.parse().expect("an address and a port"),
        )
    }

    #[test]
    fn this_machine_may_name_anyone() {
        for target in [
            "127.0.0.1:1",
            "0.0.0.0:1",
            "10.0.0.1:1",
            "8.8.8.8:1",
            "[2001:db8::1]:1",
        ] {
            assert_eq!(judged("127.0.0.1", target), Admission::Direct, "{target}");
            assert_eq!(judged("::1", target), Admission::Direct, "{target}");
        }
    }

    #[test]
    fn neighbours_may_name_neighbours_that_answer() {
        for target in [
            "192.168.1.1:8000",
            "10.0.0.1:1",
            "169.254.1.1:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
        ] {
            assert_eq!(judged("10.0.0.2", target), Admission::Proof, "{target}");
        }
        for target in ["127.0.0.1:1", "0.0.0.0:1", "[::1]:1"] {
            let refused = Admission::Refused(Refusal::Nearer);
            assert_eq!(judged("10.0.0.2", target), refused, "{target}");
        }
        assert_eq!(judged("100.64.0.1", "100.127.0.1:1"), Admission::Proof);
    }

    #[test]
    fn the_public_has_to_answer_first() {
        for from in ["8.8.8.8", "10.0.0.1", "2001:db8::1"] {
            assert_eq!(judged(from, "8.8.8.8:8000"), Admission::Proof, "{from}");
            assert_eq!(
                judged(from, "[2001:db8::2]:8000"),
                Admission::Proof,
                "{from}"
            );
        }
        for target in ["10.0.0.1:1", "127.0.0.1:1", "192.168.0.1:1", "[fd00::1]:1"] {
            let refused = Admission::Refused(Refusal::Nearer);
            assert_eq!(judged("8.8.8.8", target), refused, "{target}");
        }
    }

    #[test]
    fn what_is_fatal_to_an_original_is_no_peer() {
        for target in [
            "255.255.255.255:1",
            "224.0.0.1:1",
            "240.0.0.1:1",
            "0.1.2.3:1",
            "[ff02::1]:1",
        ] {
            let refused = Admission::Refused(Refusal::NotOne);
            assert_eq!(judged("127.0.0.1", target), refused, "{target}");
        }
        let refused = Admission::Refused(Refusal::Port);
        assert_eq!(judged("127.0.0.1", "127.0.0.1:0"), refused);
    }

    #[test]
    fn peers_are_told_of_addresses_that_they_can_reach() {
        let may = |own: &str, peer: &str| {
            may_introduce(
                own.parse().expect("an address and a port"),
                peer.parse().expect("an address"),
            )
        };
        for (own, peer) in [
            ("127.0.0.1:8000", "127.0.0.2"),
            ("10.0.0.1:8000", "10.0.0.2"),
            ("203.0.113.1:8000", "203.0.113.2"),
            ("203.0.113.1:8000", "10.0.0.2"),
            ("[fd00::1]:8000", "fd00::2"),
        ] {
            assert!(may(own, peer), "{own} to {peer}");
        }
        for (own, peer) in [
            ("127.0.0.1:8000", "10.0.0.2"),
            ("10.0.0.1:8000", "203.0.113.2"),
            ("0.0.0.0:8000", "127.0.0.1"),
            ("10.0.0.1:0", "10.0.0.2"),
            ("255.255.255.255:8000", "10.0.0.2"),
            ("[fe80::1]:8000", "fe80::2"),
        ] {
            assert!(!may(own, peer), "{own} to {peer}");
        }
    }
}
