//! rmbd's datagrams: each is one message or none, what was read is written again as a datagram
//! that reads the same, and no row or key reaches beyond the filter.
#![no_main]

use grapevine_core::bitmap::{Bitmap, BitmapError};
use grapevine_core::wire::rmbd::{
    FIELD_BYTES_MAX, HasReply, Message, encode_add, encode_has, encode_has_reply, encode_peer,
    encode_sync, parse, positions,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((rows, datagram)) = input.split_first() else {
        return;
    };
    let rows = u16::from(*rows) % 163 + 1;
    let bitmap = Bitmap::new(rows).expect("1 to 163 rows");
    if let Some(reply) = HasReply::parse(datagram) {
        let again = encode_has_reply(reply.key, reply.present);
        assert_eq!(HasReply::parse(&again), Some(reply));
    }
    match parse(datagram) {
        None => {}
        Some(Message::Ack) => assert_eq!(datagram[0], 4),
        Some(message @ Message::Add { key }) => {
            assert_eq!(parse(&encode_add(key)), Some(message));
            check_key(&bitmap, key);
        }
        Some(message @ Message::Has { key }) => {
            assert_eq!(parse(&encode_has(key)), Some(message));
            check_key(&bitmap, key);
        }
        Some(message @ Message::Peer { host, port }) => {
            assert_eq!(parse(&encode_peer(host, port)), Some(message));
        }
        Some(Message::Sync { row, bits }) => check_row(&bitmap, row, &bits.map(|byte| byte != 0)),
    }
});

fn check_key(bitmap: &Bitmap, key: &[u8]) {
    assert!(key.len() <= FIELD_BYTES_MAX);
    let places = positions(key, bitmap.bits());
    for bit in places {
        bitmap.set(bit).expect("a key's bits are in the filter");
    }
    assert!(places.iter().all(|bit| bitmap.contains(*bit)));
    assert!(bitmap.iter().all(|bit| places.contains(&bit)));
}

fn check_row(bitmap: &Bitmap, row: u16, bits: &[bool; 400]) {
    let again = encode_sync(row, bits);
    let raw = bits.map(u8::from);
    assert_eq!(parse(&again), Some(Message::Sync { row, bits: &raw }));
    let set = bits.iter().filter(|bit| **bit).count();
    match bitmap.merge_row(row, bits) {
        Ok(new) => {
            assert_eq!((new, bitmap.count()), (set, set));
            assert_eq!(bitmap.row(row).as_ref(), Ok(bits));
        }
        Err(BitmapError::NoRow { .. }) => assert!(row >= bitmap.rows()),
        Err(error) => panic!("{error}"),
    }
}
