//! What the frames between members carry, with the sync machine's messages read.

use bytes::Bytes;
use grapevine_core::sync::{Message, MessageError};
use grapevine_core::wire::group::{Data, DataError, Standing, memory_data, sync_data};

/// A frame's content.
#[derive(Debug)]
pub(super) enum Frame {
    Sync(Message),
    Memory(Message),
    Liveness(Bytes),
    Standing(Standing),
    /// Of a newer version, for those that know it: to be passed over.
    Newer(Newer),
}

/// What of a frame is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Newer {
    #[error("frames of the kind {0}")]
    Frame(u8),
    #[error("messages of the kind {0}")]
    Message(u8),
}

/// Why a frame cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Sync(#[from] MessageError),
}

impl Frame {
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let message = |message| match Message::decode(message) {
            Err(MessageError::Kind(kind)) => Ok(Err(Newer::Message(kind))),
            decoded => decoded.map(Ok),
        };
        Ok(match Data::decode(bytes) {
            Ok(Data::Sync(bytes)) => message(bytes)?.map_or_else(Frame::Newer, Frame::Sync),
            Ok(Data::Memory(bytes)) => message(bytes)?.map_or_else(Frame::Newer, Frame::Memory),
            Ok(Data::Liveness(packet)) => Frame::Liveness(bytes.slice_ref(packet)),
            Ok(Data::Standing(standing)) => Frame::Standing(standing),
            Err(DataError::Kind(kind)) => Frame::Newer(Newer::Frame(kind)),
            Err(error) => return Err(error.into()),
        })
    }
}

/// The frame of a sync message.
pub(super) fn of_message(message: &Message) -> Bytes {
    sync_data(|out| message.encode(out)).into()
}

/// The frame of a message about the filters that are kept in memory.
pub(super) fn of_memory(message: &Message) -> Bytes {
    memory_data(|out| message.encode(out)).into()
}

/// The frame of a packet of the failure detector.
pub(super) fn of_packet(packet: &[u8]) -> Bytes {
    Data::Liveness(packet).encode().into()
}

/// The frame of a standing.
pub(super) fn of_standing(standing: Standing) -> Bytes {
    Data::Standing(standing).encode().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        assert!(matches!(
            Frame::decode(&of_message(&Message::Behind)),
            Ok(Frame::Sync(Message::Behind))
        ));
        assert!(matches!(
            Frame::decode(&of_memory(&Message::Behind)),
            Ok(Frame::Memory(Message::Behind))
        ));
        assert!(matches!(
            Frame::decode(&of_packet(b"xyz")),
            Ok(Frame::Liveness(packet)) if &packet[..] == b"xyz"
        ));
    }

    #[test]
    fn what_only_a_newer_version_knows_is_told_from_what_is_broken() {
        for (bytes, newer) in [
            (&b"\x04"[..], Newer::Frame(4)),
            (b"\xffabc", Newer::Frame(255)),
            (b"\x00\xff", Newer::Message(255)),
            (b"\x03\xc8??", Newer::Message(200)),
        ] {
            let decoded = Frame::decode(&Bytes::copy_from_slice(bytes));
            assert!(
                matches!(decoded, Ok(Frame::Newer(found)) if found == newer),
                "{bytes:?}: {decoded:?}"
            );
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&b""[..], b"\x03", b"\x00", b"\x00\x04\x00", b"\x02\x93"] {
            let refused = Frame::decode(&Bytes::copy_from_slice(bytes));
            assert!(refused.is_err(), "{bytes:?}: {refused:?}");
        }
    }
}
