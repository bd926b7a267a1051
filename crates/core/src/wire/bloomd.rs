//! bloomd's line protocol.
