//! SpookyHash V1, 128 bits (Bob Jenkins, 2012, public domain).
//!
//! Written here because the crates at hand either carry V2, whose results differ, change the
//! constants, or wrap C++. Messages shorter than [`LONG_BYTES`] run through four words of state,
//! longer ones through twelve, which absorb one block of [`BLOCK_BYTES`] per round.

/// What the state starts from: odd, not zero, with an irregular pattern of bits.
const START: u64 = 0xdead_beef_dead_beef;
/// Bytes absorbed by one round of the long form.
const BLOCK_BYTES: usize = 96;
/// Messages of this many bytes and more use the long form.
const LONG_BYTES: usize = 2 * BLOCK_BYTES;

/// Rotations of one long round, one for each word of the state.
const LONG_ROTATIONS: [u32; 12] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
/// Rotations of one pass of the long form's end.
const LONG_END_ROTATIONS: [u32; 12] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];
/// Rotations of one short round; the word they turn cycles through 2, 3, 0, 1.
const SHORT_ROTATIONS: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
/// Rotations of the short form's end; the word they turn cycles through 2, 3, 0, 1.
const SHORT_END_ROTATIONS: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];

/// The 128-bit hash of `message` with both seeds zero, as the two words in the order in which the
/// reference returns them.
pub(super) fn spooky_128(message: &[u8]) -> [u64; 2] {
    if message.len() < LONG_BYTES {
        short(message)
    } else {
        long(message)
    }
}

fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// At most 16 bytes as two little-endian words, the missing ones zero.
fn two_words(bytes: &[u8]) -> [u64; 2] {
    let mut padded = [0; 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    let (words, _) = padded.as_chunks::<8>();
    [word(&words[0]), word(&words[1])]
}

fn short(message: &[u8]) -> [u64; 2] {
    let mut state = [0, 0, START, START];
    let (blocks, mut tail) = message.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        state[2] = state[2].wrapping_add(word(&words[0]));
        state[3] = state[3].wrapping_add(word(&words[1]));
        short_round(&mut state);
        state[0] = state[0].wrapping_add(word(&words[2]));
        state[1] = state[1].wrapping_add(word(&words[3]));
    }
    if let Some((half, rest)) = tail.split_at_checked(16) {
        let words = two_words(half);
        state[2] = state[2].wrapping_add(words[0]);
        state[3] = state[3].wrapping_add(words[1]);
        short_round(&mut state);
        tail = rest;
    }
    // V1 replaces the fourth word here where V2 adds to it. Only the length's low byte counts,
    // and it never collides with the tail, which is shorter than 16 bytes.
    state[3] = (message.len() as u64) << 56;
    let last = if tail.is_empty() {
        [START, START]
    } else {
        two_words(tail)
    };
    state[2] = state[2].wrapping_add(last[0]);
    state[3] = state[3].wrapping_add(last[1]);
    short_end(&mut state);
    [state[0], state[1]]
}

fn short_round(state: &mut [u64; 4]) {
    for (step, rotation) in SHORT_ROTATIONS.into_iter().enumerate() {
        let turned = (step + 2) % 4;
        let next = (step + 3) % 4;
        let after = step % 4;
        state[turned] = state[turned]
            .rotate_left(rotation)
            .wrapping_add(state[next]);
        state[after] ^= state[turned];
    }
}

fn short_end(state: &mut [u64; 4]) {
    for (step, rotation) in SHORT_END_ROTATIONS.into_iter().enumerate() {
        let turned = (step + 2) % 4;
        let next = (step + 3) % 4;
        state[next] ^= state[turned];
        state[turned] = state[turned].rotate_left(rotation);
        state[next] = state[next].wrapping_add(state[turned]);
    }
}

fn long(message: &[u8]) -> [u64; 2] {
    let mut state = [0, 0, START, 0, 0, START, 0, 0, START, 0, 0, START];
    let (blocks, tail) = message.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        long_round(&mut state, block);
    }
    // The last block is always padded, even when nothing is left, and ends with its length.
    let mut last = [0; BLOCK_BYTES];
    last[..tail.len()].copy_from_slice(tail);
    last[BLOCK_BYTES - 1] = tail.len() as u8;
    long_round(&mut state, &last);
    for _ in 0..3 {
        long_end(&mut state);
    }
    [state[0], state[1]]
}

fn long_round(state: &mut [u64; 12], block: &[u8; BLOCK_BYTES]) {
    let (words, _) = block.as_chunks::<8>();
    for (i, rotation) in LONG_ROTATIONS.into_iter().enumerate() {
        state[i] = state[i].wrapping_add(word(&words[i]));
        state[(i + 2) % 12] ^= state[(i + 10) % 12];
        state[(i + 11) % 12] ^= state[i];
        state[i] = state[i].rotate_left(rotation);
        state[(i + 11) % 12] = state[(i + 11) % 12].wrapping_add(state[(i + 1) % 12]);
    }
}

fn long_end(state: &mut [u64; 12]) {
    for (i, rotation) in LONG_END_ROTATIONS.into_iter().enumerate() {
        let (sum, turned, mixed) = ((i + 11) % 12, (i + 1) % 12, (i + 2) % 12);
        state[sum] = state[sum].wrapping_add(state[turned]);
        state[mixed] ^= state[sum];
        state[turned] = state[turned].rotate_left(rotation);
    }
}
