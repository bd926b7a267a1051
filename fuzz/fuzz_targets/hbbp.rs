//! HBBP's packets: any datagram is read or is too long, what was read is written again as a
//! datagram that reads the same, and no key that passes the rules leads out of a directory.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use grapevine_core::wire::hbbp::{
    DATAGRAM_BYTES_MAX, EncodeError, Packet, SEAL_BYTES, Sealed, check_key,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(packet) = Packet::parse(datagram) else {
        return assert!(datagram.len() > DATAGRAM_BYTES_MAX);
    };
    assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
    match packet.encode() {
        Ok(again) => {
            assert_eq!(Packet::parse(&again), Ok(packet));
            assert_eq!(datagram, &again[..datagram.len()]);
        }
        Err(EncodeError::TooLong { .. }) => assert!(!datagram.contains(&0)),
        Err(EncodeError::Nul) => panic!("a NUL ends the key"),
    }
    if check_key(packet.key).is_ok() {
        let mut parts = Path::new(OsStr::from_bytes(packet.key)).components();
        let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        assert!(parts.all(stays), "{}", packet.key.escape_ascii());
    }
    match Sealed::parse(packet.payload) {
        Some(sealed) => assert_eq!(sealed.encode(), packet.payload),
        None => assert!(packet.payload.len() < SEAL_BYTES),
    }
});
