use super::*;
use proptest::prelude::*;

/// Length of a message and its hashes by the reference implementations in C++ (smhasher's
/// `MurmurHash3.cpp` and `Spooky.cpp`, V1): two words of murmur3, two of spooky. The lengths stand
/// on both sides of every boundary of the two: 16, 32, 192 and each multiple of 96.
#[rustfmt::skip]
const REFERENCE: [(usize, u64, u64, u64, u64); 43] = [
    (0, 0x0000000000000000, 0x0000000000000000, 0x7a65fec8a24295ec, 0xd7a296758404604f),
    (1, 0x5a414d6c8067ce3c, 0x9d909cdb11dd37f0, 0x423e7d476fd2f6b2, 0x544678503b327d85),
    (2, 0x6ccf02f541edb1c2, 0x5c6c45ffac36f58e, 0x93595da611bbefd3, 0x507e156971a4cd1c),
    (3, 0x55f38f265ef14a59, 0x163acb584e219b58, 0x4ddfec3ba1b1ba32, 0x5c88bae215f4f342),
    (4, 0x5d5067eeb015a65e, 0x6b886b8191e07791, 0x839c36a02c9415e5, 0x83e194db08ce280b),
    (5, 0x6ff5773c72e46e28, 0xe0855f89635a7830, 0x9befa678a15e5d3a, 0xe6e604da29aed796),
    (7, 0xa58b5964d8a5cd39, 0x22e9c5357cc61fa0, 0x4c30cff71c7d8a17, 0xb62ed852020b8bfd),
    (8, 0x1dcd8e3808543053, 0xc01ba62216f1ff17, 0x8c4e9ca5bc0aac9e, 0xfb5a89e763dc9b1b),
    (9, 0x92fd9c7300465ac3, 0xeea574bd05972cc3, 0xc89c6b6c2a2c1f97, 0xdc73005f7468642e),
    (11, 0x413da84fc7323175, 0x6923484e86e0366a, 0x8d2961ae5b683699, 0x15bf0d67f496edae),
    (12, 0x62e9db0814bd467a, 0x5f7a77a0425ec4e7, 0xc8121d493d421070, 0xf14281090c8bbb50),
    (13, 0xb74ee21d5920bb3a, 0xe46d90681a46f63a, 0x483158b25f2c7a2f, 0xf68f594cef3b437e),
    (15, 0x9d30243d0a6d968c, 0xa2a0790846880ae2, 0x49674721f9ad227d, 0xcd222ad0c09f3d3b),
    (16, 0x74c59fe8da2cae3c, 0xe9fb5092755ec343, 0x526e77574707f68e, 0x97dee718c01abcf7),
    (17, 0x1360bca56a44f58e, 0x1324eff03dd5ce01, 0xb6e99ea7b00a9154, 0x8b6631421c2f6d47),
    (20, 0x51e07b6cb32d3092, 0x89623854a157177e, 0xae938f1359289b21, 0xa88ceea09ac0bc7d),
    (27, 0x154bf85dc759c6de, 0x961432ffa606e110, 0x3798198f217e80b5, 0xb2ac08626166c95a),
    (28, 0x80736fc8c0f74d3e, 0xdc7b281dc1653848, 0x8e62bbd2eeff74d8, 0xcc17c9875637909c),
    (31, 0xefdd31937c6fd000, 0x38500ad9b2db00a2, 0xed7b92831228a93e, 0x91bcafcf4a7234e0),
    (32, 0x631062ddea20379b, 0x696e77af85c5548d, 0x7fd265128c49bc9f, 0x05f19ef9bfbf0ca5),
    (33, 0x3b813536e9d76ca4, 0xa613ea261ce76580, 0x08f70b4b2c8ec4eb, 0xee3262df1bf1ec80),
    (44, 0xcf82d259401a4e10, 0xb1baa7aa13585d0e, 0xf9e9cc900ca1c59d, 0x353a7ddcc2faeb3b),
    (47, 0xbe11142fcc7bac13, 0x05701693d2938b02, 0xe29aac545d861e3f, 0x7e251a879b9cbc1d),
    (48, 0xd19894b770f690c9, 0xf164ff4ed6dafdc5, 0x4105dc9a0b25f603, 0xad46af9da735e243),
    (63, 0xc10ebef7205f0218, 0x3e4fd276b70890bb, 0x26c7e68dbcfa6638, 0x76bb92ccd40c94cb),
    (64, 0xe66c2a574a26e663, 0xe5e009db3f651698, 0x1abc1994795e314d, 0xe1183ba789baadfb),
    (95, 0x5efa3175a02922e4, 0xb3c257efbc6105c9, 0x9893e7af8b55ef90, 0x030f9e1ab0ca30f4),
    (96, 0x452b21d8e60f94ac, 0x03e1f4cbbabe4433, 0x9bbf8c219d5debe3, 0x3494ddd063a25b8a),
    (100, 0x493f61fa0e0a4465, 0x2b94571009da8449, 0xfa687a8e9a4f10d1, 0x29873fde760ee817),
    (150, 0x62e5fd9af01a94a6, 0x1bfb46d8445931bd, 0x95c09a98acecee63, 0x829cd4fdb5cc2693),
    (176, 0xed4f333c4bec4301, 0x97f2082e3d4f6ec3, 0xaf00a4acbafc5bb4, 0x2929db8a2c474ba5),
    (191, 0x354a4b584c313d09, 0xa7b18aa5f5f7216b, 0xc705b4916a9f3824, 0x58a12699950277e1),
    (192, 0x5f12b50d0f9988ee, 0x6f128a5cc66302c5, 0x67ce209cba7d8d40, 0x964729c075635b03),
    (193, 0x44d205a318fec4e9, 0x55b0c51e8ca055c1, 0x522f8b2e9c75480e, 0xce3a54738d1c3724),
    (200, 0x30f90b1c8f9755ce, 0x1cc23d176ec03751, 0x33f9bb5b7aaeebd7, 0x7e06ef43178881aa),
    (287, 0x1970fd5dbe104ed7, 0xbf0488acc825593f, 0x614e1ec97d070578, 0xa53851e4ed0aead9),
    (288, 0x13e602ac092f5622, 0x5cac2de3e8142171, 0x57c6f244f5d35d55, 0x79a7ae9eb3af6f6f),
    (289, 0x869b28041acb3393, 0x44e786437828418d, 0x64dd5a9a237a1b1d, 0xfc837d90b05451eb),
    (383, 0x3783f495504bfdd4, 0xf623cb9424875121, 0x14aa1eacf7d314f8, 0x25ab05737e69a3ed),
    (384, 0xa8ec2eab1d0c27ab, 0xbcedaf2a3d46283e, 0x8f8476bbf3269066, 0xebd5926b03093a88),
    (400, 0xc7f6771924e7a853, 0xef7d1b76a2f8bfd6, 0xfb2f9a7890b13ef8, 0x4da4086ed3083ef7),
    (1000, 0xc8c2bb641d53e815, 0xe65cf416ba81357b, 0x07d29fb5b08b2b91, 0x8bb9893f94715af4),
    (4096, 0x60fd2dee154d8349, 0xd1eb1b08103a417c, 0xe1cd07077d162462, 0x58b59a6eea3ac570),
];

/// The message the reference hashed. It may hold NUL bytes, which end a key but not a message.
fn message(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i * 7 + length * 13 + 1) as u8)
        .collect()
}

#[test]
fn both_hashes_agree_with_the_reference_at_every_boundary() {
    for (length, murmur_low, murmur_high, spooky_low, spooky_high) in REFERENCE {
        let message = message(length);
        let murmur = fastmurmur3::murmur3_x64_128(&message, 0);
        assert_eq!(murmur as u64, murmur_low, "murmur, {length} bytes");
        assert_eq!((murmur >> 64) as u64, murmur_high, "murmur, {length} bytes");
        assert_eq!(
            spooky_128(&message),
            [spooky_low, spooky_high],
            "spooky, {length} bytes"
        );
    }
}

#[test]
fn the_first_four_hashes_are_the_words_of_murmur_and_spooky() {
    let row = REFERENCE
        .into_iter()
        .find(|row| row.0 == 33)
        .expect("a row of 33 bytes");
    let key = message(33);
    assert!(!key.contains(&0), "the row must hash as a whole");
    let hashes = LegacyHashes::of(&key);
    assert_eq!(
        [0, 1, 2, 3].map(|i| hashes.get(i)),
        [row.1, row.2, row.3, row.4]
    );
}

#[test]
fn derived_hashes_wrap_and_fold_by_the_prime() {
    let hashes = LegacyHashes {
        words: [1, u64::MAX, 3, 1 << 62],
    };
    // 4 · 2⁶² wraps to 0; 7 · 2⁶² wraps to 3 · 2⁶², below the prime.
    assert_eq!(hashes.get(4), u64::MAX);
    assert_eq!(hashes.get(7), (3_u64 << 62) - 1);
    // 5 · h3 = 2⁶⁴ - 4 lies above the prime 2⁶⁴ - 59 by 55.
    let above = LegacyHashes {
        words: [0, 0, 0, (u64::MAX - 3) / 5 + 1],
    };
    let product = u128::from(above.words[3]) * 5 % (1 << 64);
    assert_eq!(u128::from(above.get(5)), product % u128::from(PRIME));
    let folding = LegacyHashes {
        words: [0, 0, 0, (u64::MAX - 1) / 6],
    };
    assert!(
        folding.words[3].wrapping_mul(6) >= PRIME,
        "the case must fold"
    );
    assert_eq!(folding.get(6), folding.words[3].wrapping_mul(6) - PRIME);
}

#[test]
fn a_key_ends_at_its_first_nul_byte() {
    let plain = LegacyHashes::of(b"a");
    assert_eq!(LegacyHashes::of(b"a\0b"), plain);
    assert_eq!(LegacyHashes::of(b"a\0"), plain);
    assert_ne!(LegacyHashes::of(b"ab"), plain);
    assert_eq!(LegacyHashes::of(b"\0a"), LegacyHashes::of(b""));
}

proptest! {
    #[test]
    fn derived_hashes_follow_the_formula(words: [u64; 4], index in 4_u32..1024) {
        let product = words[3].wrapping_mul(u64::from(index));
        let folded = (u128::from(product) % u128::from(PRIME)) as u64;
        prop_assert_eq!(LegacyHashes { words }.get(index), words[1].wrapping_add(folded));
    }

    #[test]
    fn every_byte_of_a_key_counts(key in prop::collection::vec(1_u8.., 1..600), at: prop::sample::Index) {
        let mut other = key.clone();
        let at = at.index(key.len());
        other[at] = if other[at] == 1 { 2 } else { other[at] - 1 };
        let (a, b) = (LegacyHashes::of(&key), LegacyHashes::of(&other));
        for i in 0..4 {
            prop_assert_ne!(a.get(i), b.get(i));
        }
    }
}
