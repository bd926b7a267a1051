//! Text of a fixed width: a length byte, that many bytes, padding.

/// Bytes of the field with its length byte.
pub(super) const FIELD_BYTES: usize = 140;
/// Longest content of a field, in bytes.
pub const FIELD_BYTES_MAX: usize = FIELD_BYTES - 1;

/// The content. A length beyond the field means all of it; what follows the content is ignored.
pub(super) fn read(field: &[u8; FIELD_BYTES]) -> &[u8] {
    let length = usize::from(field[0]).min(FIELD_BYTES_MAX);
    &field[1..=length]
}

/// Writes the content, cut when too long, into a field of zeros.
pub(super) fn write(content: &[u8], field: &mut [u8]) {
    let content = &content[..content.len().min(FIELD_BYTES_MAX)];
    field[0] = content.len() as u8;
    field[1..=content.len()].copy_from_slice(content);
}
