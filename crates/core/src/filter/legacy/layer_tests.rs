use super::*;
use proptest::prelude::*;

/// A layer file as the server makes one, with these keys added: the test's own writer.
fn file(hashes: u32, bits_bytes: usize, keys: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + bits_bytes];
    bytes[..4].copy_from_slice(&0xCB10_05DD_u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&hashes.to_le_bytes());
    let partition = bits_bytes as u64 * 8 / u64::from(hashes);
    let mut count = 0_u64;
    for key in keys {
        let key = LegacyHashes::of(key);
        let mut new = false;
        for i in 0..hashes {
            let bit = (u64::from(i) * partition + key.get(i) % partition) as usize;
            let mask = 1_u8 << (7 - bit % 8);
            new |= bytes[HEADER_BYTES + bit / 8] & mask == 0;
            bytes[HEADER_BYTES + bit / 8] |= mask;
        }
        count += u64::from(new);
    }
    bytes[8..16].copy_from_slice(&count.to_le_bytes());
    bytes
}

fn keys(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|i| format!("key-{i}").into_bytes()).collect()
}

#[test]
fn a_layer_answers_for_what_was_added_and_keeps_its_bytes() {
    let keys = keys(0..500);
    let bytes = file(10, 1203, &keys);
    let layer = BloomdLayer::from_bytes(&bytes).expect("a sound file");
    assert!(
        keys.iter()
            .all(|key| layer.contains(&LegacyHashes::of(key)))
    );
    assert!(!layer.contains(&LegacyHashes::of(b"absent")));
    assert_eq!(layer.as_bytes(), bytes);
    assert_eq!(layer.bytes(), 512 + 1203);
    assert_eq!((layer.hashes(), layer.partition_bits()), (10, 962));
    assert_eq!(layer.count(), 500);
    assert_eq!(
        layer.capacity(),
        (std::f64::consts::LN_2 * 9624.0 / 10.0).round() as u64
    );
    assert_eq!(layer.clone().with_capacity(7).capacity(), 7);
    assert_eq!(BloomdLayer::from_vec(layer.as_bytes().to_vec()), Ok(layer));
}

#[test]
fn the_estimated_rate_is_the_measured_one() {
    let layer = BloomdLayer::from_vec(file(4, 1000, &keys(0..1500))).expect("a sound file");
    let estimate = layer.false_positive_rate();
    let probes = 40_000;
    let hits = (0..probes)
        .filter(|i| layer.contains(&LegacyHashes::of(format!("absent-{i}").as_bytes())))
        .count();
    let measured = hits as f64 / f64::from(probes);
    // About 7.8 % here; four standard deviations of the measurement are 0.54 points.
    assert!(
        (measured - estimate).abs() < 0.0055,
        "measured {measured}, estimated {estimate}"
    );
    let empty = BloomdLayer::from_vec(file(4, 1000, &[])).expect("a sound file");
    assert_eq!(empty.false_positive_rate(), 0.0);
    let mut full = file(4, 1000, &[]);
    full[HEADER_BYTES..].fill(0xff);
    let full = BloomdLayer::from_vec(full).expect("a full layer is sound");
    assert_eq!(full.false_positive_rate(), 1.0);
    assert!(full.contains(&LegacyHashes::of(b"anything")));
}

#[test]
fn lengths_outside_the_format_are_refused() {
    let bytes = file(3, 100, &[]);
    for length in [0, 1, 16, 511, 512] {
        let found = length as u64;
        assert_eq!(
            BloomdLayer::from_bytes(&bytes[..length]),
            Err(LayerError::TooShort { found, min: 513 })
        );
    }
}

#[test]
fn a_header_that_lies_is_refused_with_its_limit() {
    let sound = file(3, 100, &keys(0..5));
    let with = |offset: usize, patch: &[u8]| {
        let mut bytes = sound.clone();
        bytes[offset..offset + patch.len()].copy_from_slice(patch);
        BloomdLayer::from_vec(bytes)
    };
    assert!(with(0, &[0xdd]).is_ok());
    assert_eq!(
        with(0, &[0xde]),
        Err(LayerError::Magic {
            found: 0xcb10_05de,
            expected: 0xcb10_05dd
        })
    );
    for hashes in [0, HASHES_MAX + 1, u32::MAX] {
        let refused = LayerError::Hashes {
            found: hashes,
            max: HASHES_MAX,
        };
        assert_eq!(with(4, &hashes.to_le_bytes()), Err(refused));
    }
    assert_eq!(with(16, &[1]), Err(LayerError::Padding { offset: 16 }));
    assert_eq!(with(511, &[1]), Err(LayerError::Padding { offset: 511 }));
    for count in [16, 1_u64 << 32, u64::MAX] {
        let refused = LayerError::Count {
            found: count,
            max: 15,
        };
        assert_eq!(with(8, &count.to_le_bytes()), Err(refused));
    }
    // 800 bits make three partitions of 266; bits 798 and 799 belong to none.
    assert_eq!(
        with(611, &[1]),
        Err(LayerError::StrayBits {
            found: 1,
            first: 798
        })
    );
    let refused = LayerError::Partition { bits: 8, hashes: 9 };
    assert_eq!(
        BloomdLayer::from_vec(file(9, 2, &[])[..513].to_vec()),
        Err(refused)
    );
}

#[test]
fn messages_name_the_value_and_the_limit() {
    let refused = LayerError::Hashes {
        found: 300,
        max: HASHES_MAX,
    };
    assert_eq!(
        refused.to_string(),
        "layer uses 300 hashes, 1 to 256 are allowed"
    );
}

proptest! {
    #[test]
    fn ones_are_counted_in_any_range(bits in prop::collection::vec(any::<u8>(), 1..40), a: u64, b: u64) {
        let total = bits.len() as u64 * 8;
        let (start, end) = (a % (total + 1), b % (total + 1));
        let slow = (start..end)
            .filter(|bit| bits[(bit / 8) as usize] & (0x80 >> (bit % 8)) != 0)
            .count() as u64;
        prop_assert_eq!(count_ones(&bits, start..end), slow);
    }

    #[test]
    fn garbage_is_refused_or_read_whole(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        prop_assert!(BloomdLayer::from_bytes(&bytes).is_err());
    }

    #[test]
    fn damaged_headers_never_panic(
        hashes: u32, count: u64, length in 500_usize..900, fill: u8, key: Vec<u8>,
    ) {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&(hashes % 300).to_le_bytes());
        bytes[8..16].copy_from_slice(&(count >> (fill % 64)).to_le_bytes());
        if let Some(bits) = bytes.get_mut(HEADER_BYTES..) {
            bits.fill(fill);
        }
        if let Ok(layer) = BloomdLayer::from_bytes(&bytes) {
            prop_assert_eq!(layer.as_bytes(), &bytes[..]);
            let rate = layer.false_positive_rate();
            prop_assert!((0.0..=1.0).contains(&rate));
            let _ = layer.contains(&LegacyHashes::of(&key));
        }
    }

    #[test]
    fn added_keys_are_always_found(
        hashes in 1_u32..40, bits_bytes in 8_usize..400,
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..250), 0..20),
    ) {
        let layer = BloomdLayer::from_vec(file(hashes, bits_bytes, &keys)).expect("a sound file");
        for key in &keys {
            prop_assert!(layer.contains(&LegacyHashes::of(key)));
        }
    }
}
