//! Which of two connections between the same two peers is kept.
//!
//! The side that called claims a peer before it says who it is, and claims none that it has. So
//! an opening that arrives means: when it was sent, the other side had no session with this one.

use super::PeerKey;

/// A session that is there when another connection is to become one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// This side called.
    pub(super) dialed: bool,
    /// Of the peer.
    pub(super) incarnation: u64,
}

/// Whether a connection that the peer called replaces what is there: `held`, or a claim on a
/// connection that this side called (`None`).
pub(super) fn newcomer_wins(
    local: &PeerKey,
    peer: &PeerKey,
    held: Option<Held>,
    incarnation: u64,
) -> bool {
    match held {
        // The peer was restarted: the session is with nobody.
        Some(held) if held.incarnation != incarnation => true,
        // It has lost the connection that it called before.
        Some(held) if !held.dialed => true,
        // Both called at one time. Both sides keep the connection of the smaller key.
        _ => peer < local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_connection() {
        let (a, b) = (PeerKey::from_bytes([1; 32]), PeerKey::from_bytes([2; 32]));
        let held = Held {
            dialed: true,
            incarnation: 7,
        };
        // a meets b's call while it has its own, and the other way round.
        for held in [None, Some(held)] {
            let a_takes_call_of_b = newcomer_wins(&a, &b, held, 7);
            let b_takes_call_of_a = newcomer_wins(&b, &a, held, 7);
            assert!(!a_takes_call_of_b);
            assert!(b_takes_call_of_a);
        }
    }

    #[test]
    fn a_peer_that_lost_its_connection_is_taken_again() {
        let (a, b) = (PeerKey::from_bytes([1; 32]), PeerKey::from_bytes([2; 32]));
        for dialed in [true, false] {
            let incarnation = 7;
            let held = Some(Held {
                dialed,
                incarnation,
            });
            assert!(newcomer_wins(&a, &b, held, 8), "restarted");
            assert!(newcomer_wins(&a, &b, held, 7) != dialed);
        }
    }
}
