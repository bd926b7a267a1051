//! The first messages on a connection. All have a fixed size, and none says anything of its
//! sender but that it can compute a proof.

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// Bytes of one proof: an HMAC-SHA-256.
pub const PROOF_BYTES: usize = 32;

/// Proofs in the dialler's message, one for each key it has; the rest is random, so that the
/// number of keys stays unknown.
pub const PROOFS_MAX: usize = 8;

/// Bytes of the dialler's proofs.
pub const PROOFS_BYTES: usize = PROOFS_MAX * PROOF_BYTES;

/// Bytes of a peer's key: an Ed25519 public key.
pub const PEER_KEY_BYTES: usize = 32;

/// Sets these proofs apart from every other use of the same key. Its length is part of the
/// format.
const DOMAIN: &[u8; 28] = b"grapevine group admission 1\0";

/// Bytes of what a proof is computed over.
pub const PROOF_INPUT_BYTES: usize = DOMAIN.len() + 1 + 2 * PEER_KEY_BYTES + 2 * NONCE_BYTES;

/// Random bytes that make a proof good for one connection only.
pub type Nonce = [u8; NONCE_BYTES];

/// A message authentication code over [`proof_input`].
pub type Proof = [u8; PROOF_BYTES];

/// Whose proof it is. A proof sent back to its maker is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// The side that dialled.
    Dialer,
    /// The side that was dialled.
    Listener,
}

impl Prover {
    const fn byte(self) -> u8 {
        match self {
            Prover::Dialer => b'd',
            Prover::Listener => b'l',
        }
    }
}

/// What a proof is computed over: this protocol, the side that proves, both ends of the encrypted
/// connection, and a nonce of each. Every part has a fixed size, so no two inputs read alike.
#[must_use]
pub fn proof_input(
    prover: Prover,
    dialer: &[u8; PEER_KEY_BYTES],
    listener: &[u8; PEER_KEY_BYTES],
    dialer_nonce: &Nonce,
    listener_nonce: &Nonce,
) -> [u8; PROOF_INPUT_BYTES] {
    let mut input = [0; PROOF_INPUT_BYTES];
    let parts: [&[u8]; 6] = [
        DOMAIN,
        &[prover.byte()],
        dialer,
        listener,
        dialer_nonce,
        listener_nonce,
    ];
    let mut rest = input.as_mut_slice();
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    input
}

/// The dialler's proofs as they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proofs(pub [Proof; PROOFS_MAX]);

impl Proofs {
    /// One after the other.
    #[must_use]
    pub fn encode(&self) -> [u8; PROOFS_BYTES] {
        let mut bytes = [0; PROOFS_BYTES];
        for (place, proof) in bytes.chunks_exact_mut(PROOF_BYTES).zip(&self.0) {
            place.copy_from_slice(proof);
        }
        bytes
    }

    /// Every message of the right size has proofs; whether one is good is another matter.
    #[must_use]
    pub fn decode(bytes: &[u8; PROOFS_BYTES]) -> Self {
        let mut proofs = [[0; PROOF_BYTES]; PROOFS_MAX];
        for (proof, here) in proofs.iter_mut().zip(bytes.chunks_exact(PROOF_BYTES)) {
            proof.copy_from_slice(here);
        }
        Proofs(proofs)
    }
}
