//! What the frames between members carry: the first byte says which. `docs/protocols/group.md`.

use bytes::Bytes;
use grapevine_core::membership::GroupIdentity;
use grapevine_core::sync::{Message, MessageError};
use serde::{Deserialize, Serialize};

/// A message of the sync machine.
const SYNC: u8 = 0;
/// A packet of the failure detector.
const LIVENESS: u8 = 1;
/// A [`Standing`].
const STANDING: u8 = 2;

/// Which group a node belongs to while the two get to know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Its group now.
    pub(super) group: GroupIdentity,
    /// It has found that the other belongs to the same one, and takes no other group while this
    /// session lasts.
    pub(super) same: bool,
}

/// A frame's content.
#[derive(Debug)]
pub(super) enum Frame {
    Sync(Message),
    Liveness(Bytes),
    Standing(Standing),
}

/// Why a frame cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("an empty frame")]
    Empty,
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("{0}")]
    Sync(#[from] MessageError),
    #[error("a standing that does not decode: {0}")]
    Standing(#[from] rmp_serde::decode::Error),
}

impl Frame {
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let (kind, content) = bytes.split_first().ok_or(FrameError::Empty)?;
        match *kind {
            SYNC => Ok(Frame::Sync(Message::decode(content)?)),
            LIVENESS => Ok(Frame::Liveness(bytes.slice(1..))),
            STANDING => Ok(Frame::Standing(rmp_serde::from_slice(content)?)),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// The frame of a sync message.
pub(super) fn of_message(message: &Message) -> Bytes {
    let mut frame = vec![SYNC];
    message.encode(&mut frame);
    frame.into()
}

/// The frame of a packet of the failure detector.
pub(super) fn of_packet(packet: &[u8]) -> Bytes {
    [&[LIVENESS], packet].concat().into()
}

/// The frame of a standing.
pub(super) fn of_standing(standing: &Standing) -> Bytes {
    let mut frame = vec![STANDING];
    frame.extend(rmp_serde::to_vec_named(standing).expect("a standing is plain data"));
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::hash::Seed;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let standing = Standing {
            group: GroupIdentity {
                id: [1; 16],
                seed: Seed::new([2; 16]),
                met: true,
            },
            same: true,
        };
        assert!(matches!(
            Frame::decode(&of_standing(&standing)),
            Ok(Frame::Standing(read)) if read == standing
        ));
        assert!(matches!(
            Frame::decode(&of_message(&Message::Behind)),
            Ok(Frame::Sync(Message::Behind))
        ));
        assert!(matches!(
            Frame::decode(&of_packet(b"xyz")),
            Ok(Frame::Liveness(packet)) if &packet[..] == b"xyz"
        ));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&b""[..], b"\x03", b"\x00", b"\x00\xff", b"\x02\x93"] {
            let refused = Frame::decode(&Bytes::copy_from_slice(bytes));
            assert!(refused.is_err(), "{bytes:?}: {refused:?}");
        }
    }
}
