//! Reading a message piece by piece, every length compared with its bound first.

use super::MessageError;
use crate::catalogue::FilterId;
use crate::filter::parameters::LayerId;
use crate::origin::Origin;
use crate::sync::limits::BLOCK_LINES;
use crate::sync::replica::{LayerName, LegacyName, Line};

/// Bits of a varint's byte that carry the number.
const VARINT_BITS: u32 = 7;
/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;
/// Bytes of a line in a message.
const LINE_BYTES: usize = 2 + 64;

/// Appends `number` in as few bytes as it has.
pub(super) fn write_varint(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 1 << VARINT_BITS {
        buffer.push(number as u8 | 1 << VARINT_BITS);
        number >>= VARINT_BITS;
    }
    buffer.push(number as u8);
}

/// Bytes that [`write_varint`] takes for `number`.
pub(super) fn varint_bytes(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(VARINT_BITS) as usize
}

/// What is left of a message.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(MessageError::Short { field })?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(MessageError::Short { field })?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.array(field).map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, MessageError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, MessageError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MessageError::Malformed { field }),
        }
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<u64, MessageError> {
        let mut number = 0_u64;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            let shift = VARINT_BITS * index as u32;
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    break;
                }
                return Ok(number);
            }
        }
        Err(MessageError::Malformed { field })
    }

    /// A length between two bounds.
    pub(super) fn length(
        &mut self,
        field: &'static str,
        least: usize,
        limit: usize,
    ) -> Result<usize, MessageError> {
        let length = self.varint(field)?;
        match usize::try_from(length) {
            Ok(length) if (least..=limit).contains(&length) => Ok(length),
            _ => Err(MessageError::Limit {
                field,
                count: length,
                limit: limit as u64,
            }),
        }
    }

    /// Whether another item may be added to `count` of them.
    pub(super) fn room(
        &self,
        count: usize,
        field: &'static str,
        limit: usize,
    ) -> Result<(), MessageError> {
        if count < limit {
            return Ok(());
        }
        Err(MessageError::Limit {
            field,
            count: count as u64 + 1,
            limit: limit as u64,
        })
    }

    /// Everything that is left.
    pub(super) fn rest(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], MessageError> {
        if self.bytes.len() > limit {
            return Err(MessageError::Limit {
                field,
                count: self.bytes.len() as u64,
                limit: limit as u64,
            });
        }
        Ok(std::mem::take(&mut self.bytes))
    }

    /// Everything that is left, as numbers of `N` bytes.
    pub(super) fn numbers<const N: usize, T>(
        &mut self,
        field: &'static str,
        limit: usize,
        number: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, MessageError> {
        let (chunks, []) = self.rest(field, limit * N)?.as_chunks::<N>() else {
            return Err(MessageError::Short { field });
        };
        Ok(chunks.iter().map(|chunk| number(*chunk)).collect())
    }

    pub(super) fn layer(&mut self) -> Result<LayerName, MessageError> {
        Ok(LayerName {
            filter: FilterId::new(self.array("filter")?),
            layer: LayerId {
                index: self.u32("layer")?,
                creator: Origin::new(self.array("creator")?),
            },
        })
    }

    pub(super) fn legacy(&mut self) -> Result<LegacyName, MessageError> {
        Ok(LegacyName {
            filter: FilterId::new(self.array("filter")?),
            index: self.u32("foreign layer")?,
        })
    }

    /// Everything that is left, as lines of a block.
    pub(super) fn lines(&mut self) -> Result<Vec<Line>, MessageError> {
        let lines = self.numbers("lines", BLOCK_LINES, line)?;
        let ordered = lines.is_sorted_by(|a, b| a.index < b.index);
        let inside = lines
            .last()
            .is_none_or(|line| usize::from(line.index) < BLOCK_LINES);
        if ordered && inside {
            Ok(lines)
        } else {
            Err(MessageError::Malformed { field: "line" })
        }
    }
}

fn line(bytes: [u8; LINE_BYTES]) -> Line {
    let mut words = [0; 8];
    let (index, bits) = bytes.split_at(2);
    for (word, bytes) in words.iter_mut().zip(bits.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Line {
        index: u16::from_le_bytes([index[0], index[1]]),
        words,
    }
}
