//! NaCl's `crypto_box` as HBBP uses it: X25519, XSalsa20 and Poly1305, the nonce in front of the
//! box, the box without the sixteen zeros of NaCl's own interface. No randomness, no files.

use crypto_box::aead::AeadInPlace;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use grapevine_core::wire::hbbp::{MAC_BYTES, NONCE_BYTES, Sealed};
use sha2::{Digest, Sha256};

/// Bytes of a key, private or public.
pub const KEY_BYTES: usize = 32;
/// Random bytes in a nonce of ours.
pub(super) const NONCE_RANDOM_BYTES: usize = 16;
/// What the rest of such a nonce is computed from, before its random bytes.
const NONCE_MARK: &[u8] = b"grapevine hbbp nonce";

/// The private key of one side and the public key of the other.
#[derive(Clone)]
pub struct KeyPair {
    private: SecretKey,
    public: PublicKey,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(…)")
    }
}

impl KeyPair {
    /// The pair of these keys.
    #[must_use]
    pub fn new(private: [u8; KEY_BYTES], public: [u8; KEY_BYTES]) -> Self {
        KeyPair {
            private: SecretKey::from(private),
            public: PublicKey::from(public),
        }
    }

    /// The sealed form of a payload.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], payload: &[u8]) -> Vec<u8> {
        let mut cipher_text = payload.to_vec();
        let mac = self
            .secret()
            .encrypt_in_place_detached(nonce.into(), b"", &mut cipher_text)
            .expect("no message is too long for the cipher");
        let mac: [u8; MAC_BYTES] = mac.into();
        let sealed = Sealed {
            nonce,
            mac: &mac,
            cipher_text: &cipher_text,
        };
        sealed.encode()
    }

    /// The payload that was sealed; nothing when it was sealed with other keys, or changed.
    #[must_use]
    pub fn open(&self, sealed: &Sealed<'_>) -> Option<Vec<u8>> {
        let mut payload = sealed.cipher_text.to_vec();
        self.secret()
            .decrypt_in_place_detached(sealed.nonce.into(), b"", &mut payload, sealed.mac.into())
            .ok()?;
        Some(payload)
    }

    fn secret(&self) -> SalsaBox {
        SalsaBox::new(&self.public, &self.private)
    }
}

/// Whether a public key makes the same box of every private key, so that anybody can open and
/// make it: a point of small order, such as a file full of zeros.
#[must_use]
pub(super) fn is_weak(public: [u8; KEY_BYTES]) -> bool {
    let mac = |public| KeyPair::new([1; KEY_BYTES], public).seal(&[0; NONCE_BYTES], b"");
    mac(public) == mac([0; KEY_BYTES])
}

/// The public key of a private one.
#[must_use]
pub fn public_key(private: [u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    *SecretKey::from(private).public_key().as_bytes()
}

/// A nonce of ours. Its last bytes follow from the others, so that a listener can tell it from
/// nonces of senders that may use one again.
#[must_use]
pub(super) fn own_nonce(random: [u8; NONCE_RANDOM_BYTES]) -> [u8; NONCE_BYTES] {
    let digest = Sha256::new()
        .chain_update(NONCE_MARK)
        .chain_update(random)
        .finalize();
    let mut nonce = [0; NONCE_BYTES];
    let (own, mark) = nonce.split_at_mut(NONCE_RANDOM_BYTES);
    own.copy_from_slice(&random);
    mark.copy_from_slice(&digest[..NONCE_BYTES - NONCE_RANDOM_BYTES]);
    nonce
}

/// Whether a nonce is one of [`own_nonce`].
#[must_use]
pub(super) fn is_own_nonce(nonce: &[u8; NONCE_BYTES]) -> bool {
    nonce
        .first_chunk()
        .is_some_and(|random| own_nonce(*random) == *nonce)
}
