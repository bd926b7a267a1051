//! The group's own protocol, between its members: the messages that prove membership, the frames
//! that follow, and what these carry. `docs/protocols/group.md` has the byte map.

mod admission;
mod data;
mod frame;
mod greeting;
mod opening;
#[cfg(test)]
mod tests;

pub use admission::{
    NONCE_BYTES, Nonce, PEER_KEY_BYTES, PROOF_BYTES, PROOF_INPUT_BYTES, PROOFS_BYTES, PROOFS_MAX,
    Proof, Proofs, Prover, proof_input,
};
pub use data::{Data, DataError, LIVENESS_BYTES_MAX, STANDING_BYTES_MAX, memory_data, sync_data};
pub use frame::{
    DATA_BYTES_MAX, Decoded, Frame, FrameError, HEADER_BYTES, Kind, decode, push_frame,
};
pub use greeting::{
    GREETING_ADDRESS_BYTES_MAX, GREETING_ADDRESSES_MAX, GREETING_TEXT_BYTES_MAX, Greeting,
    GreetingError, Group, Standing,
};
pub use opening::{
    GOODBYE_TEXT_BYTES_MAX, GREETING_BYTES_MAX, Goodbye, OPENING_BYTES_MAX, Opening, OpeningError,
    PROTOCOL_NEWEST, PROTOCOL_OLDEST, Reason,
};
