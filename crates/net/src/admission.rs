//! How two nodes prove to each other that they know a secret of the group.
//!
//! The caller sends a nonce; the other answers with one. The caller sends a proof for each of its
//! keys, filled up with random ones; the other looks for one that a key of its own makes, and if
//! there is one, proves that key in turn. Whoever is not convinced hangs up without a word. Only
//! then the openings follow, which say who is who. A proof covers both keys of the encrypted
//! connection and both nonces, so that it is of no use in any other connection.

use std::io;

use grapevine_core::wire::group::{
    Decoded, FrameError, Kind, Nonce, Opening, OpeningError, PROOF_BYTES, PROOFS_BYTES, Proofs,
    Prover, decode, proof_input, push_frame,
};
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::event::Malformed;
use super::intake::Intake;
use super::{Goodbye, Key, Keyring, PeerKey};

/// Why two nodes did not come together.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other made no proof that is accepted.
    NoProof,
    /// It hung up, or the connection broke.
    HungUp,
    /// It sent what the protocol does not allow, after its proof.
    Malformed(Malformed),
    /// It said why it leaves.
    Told(Goodbye),
    /// This side says why it leaves.
    Tell(Goodbye),
    /// It took too long.
    Late,
    /// There are no random numbers.
    NoRandomness,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Failure::HungUp
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Failure::Malformed(error.into())
    }
}

impl From<OpeningError> for Failure {
    fn from(error: OpeningError) -> Self {
        Failure::Malformed(error.into())
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Failure::NoRandomness)?;
    Ok(bytes)
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) local: PeerKey,
    pub(super) remote: PeerKey,
}

/// Proves and is shown, on the side that called. Returns the key that both know.
pub(super) async fn as_dialer<S>(stream: &mut S, ends: Ends, ring: &Keyring) -> Result<Key, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let own: Nonce = random()?;
    stream.write_all(&own).await?;
    stream.flush().await?;
    let mut other: Nonce = [0; _];
    stream.read_exact(&mut other).await?;
    let input = |prover| {
        let (dialer, listener) = (ends.local.bytes(), ends.remote.bytes());
        proof_input(prover, dialer, listener, &own, &other)
    };
    let keys = ring.provers();
    let mut proofs = Proofs::decode(&random::<PROOFS_BYTES>()?);
    for (proof, key) in proofs.0.iter_mut().zip(&keys) {
        *proof = key.proof(&input(Prover::Dialer));
    }
    stream.write_all(&proofs.encode()).await?;
    stream.flush().await?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    let input = input(Prover::Listener);
    keys.into_iter()
        .find(|key| key.verifies(&input, &proof))
        .ok_or(Failure::NoProof)
}

/// Is shown and proves, on the side that was called. Returns the key that both know; where there
/// are several, the one that comes first here.
pub(super) async fn as_listener<S>(
    stream: &mut S,
    ends: Ends,
    ring: &Keyring,
) -> Result<Key, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let own: Nonce = random()?;
    let mut other: Nonce = [0; _];
    stream.read_exact(&mut other).await?;
    stream.write_all(&own).await?;
    stream.flush().await?;
    let input = |prover| {
        let (dialer, listener) = (ends.remote.bytes(), ends.local.bytes());
        proof_input(prover, dialer, listener, &other, &own)
    };
    let mut bytes = [0; PROOFS_BYTES];
    stream.read_exact(&mut bytes).await?;
    let proofs = Proofs::decode(&bytes);
    let shown = input(Prover::Dialer);
    // Every proof is compared with every key, so that time says nothing of which one it was.
    let mut found = None;
    for key in ring.provers().into_iter().rev() {
        let matches = proofs.0.iter().map(|proof| key.verifies(&shown, proof));
        if matches.fold(false, |any, one| any | one) {
            found = Some(key);
        }
    }
    let key = found.ok_or(Failure::NoProof)?;
    stream
        .write_all(&key.proof(&input(Prover::Listener)))
        .await?;
    stream.flush().await?;
    Ok(key)
}

pub(super) async fn send_opening<S>(stream: &mut S, opening: &Opening) -> Result<(), Failure>
where
    S: AsyncWrite + Unpin,
{
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Opening, &opening.encode())?;
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads the other's opening, or its goodbye instead of one. What comes after it stays in the
/// intake.
pub(super) async fn receive_opening<S>(
    stream: &mut S,
    intake: &mut Intake,
) -> Result<Opening, Failure>
where
    S: AsyncRead + Unpin,
{
    loop {
        match decode(intake.bytes())? {
            Decoded::Whole(frame, end) => {
                let opening = match frame.kind {
                    Kind::Opening => Ok(Opening::decode(frame.content)?),
                    Kind::Goodbye => Err(match Goodbye::decode(frame.content) {
                        Some(goodbye) => Failure::Told(goodbye),
                        None => Failure::Malformed(Malformed::Goodbye),
                    }),
                    Kind::Data | Kind::Heartbeat | Kind::Newer(_) => {
                        Err(Failure::Malformed(Malformed::Order))
                    }
                };
                intake.consume(end);
                return opening;
            }
            Decoded::Partial(needed) => intake.fill(stream, needed).await?,
        }
    }
}
