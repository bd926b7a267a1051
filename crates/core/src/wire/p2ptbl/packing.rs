//! How many rows go into one packet.

use super::Row;

/// Deflate (RFC 1951) makes at most this many bytes of one: what is longer by more than this
/// factor need not be tried.
pub const PACK_RATIO_MAX: usize = 1032;

/// The most rows from the front of `rows` that fit a packet, of all of them, half of them, a
/// quarter of them, and so on, and that packet. `squeeze` packs a text of rows; `packed_bytes_max`
/// bounds what it returns. The rows should be shuffled before, so that all get their turn.
///
/// Nothing when not even the first row fits, or when there is none.
pub fn pack<E>(
    rows: &[Row<'_>],
    packed_bytes_max: usize,
    mut squeeze: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Option<Packet>, E> {
    let longest = packed_bytes_max.saturating_mul(PACK_RATIO_MAX);
    let mut count = rows.len();
    while count > 0 {
        let taken = &rows[..count];
        let mut bytes = 0usize;
        let too_long = taken.iter().any(|row| {
            bytes = bytes.saturating_add(row.encoded_bytes());
            bytes > longest
        });
        if !too_long {
            let mut text = Vec::with_capacity(bytes);
            taken.iter().for_each(|row| row.encode(&mut text));
            let payload = squeeze(&text)?;
            if payload.len() <= packed_bytes_max {
                return Ok(Some(Packet {
                    payload,
                    rows: count,
                }));
            }
        }
        count /= 2;
    }
    Ok(None)
}

/// Packed rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What is sent.
    pub payload: Vec<u8>,
    /// How many rows of the front are in it.
    pub rows: usize,
}
