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
        Ok(match Data::decode(bytes)? {
            Data::Sync(message) => Frame::Sync(Message::decode(message)?),
            Data::Memory(message) => Frame::Memory(Message::decode(message)?),
            Data::Liveness(packet) => Frame::Liveness(bytes.slice_ref(packet)),
            Data::Standing(standing) => Frame::Standing(standing),
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
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &b""[..],
            b"\x04",
            b"\x03",
            b"\x00",
            b"\x00\xff",
            b"\x02\x93",
        ] {
            let refused = Frame::decode(&Bytes::copy_from_slice(bytes));
            assert!(refused.is_err(), "{bytes:?}: {refused:?}");
        }
    }
}
