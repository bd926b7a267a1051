//! The messages about the bits of layers and of foreign layers' files.

use super::super::limits::{BLOCK_HASHES_MAX, BLOCK_LINES, MESSAGE_BYTES_MAX};
use super::super::replica::{Blob, BlockHashes, BlockLines, LayerName, LegacyName};
use super::bytes::Reader;
use super::{
    BLOB, BLOB_REQUEST, BLOCKS, BLOCKS_REQUEST, LINES, LINES_REQUEST, Message, MessageError,
};

pub(super) fn write_layer(buffer: &mut Vec<u8>, name: LayerName) {
    buffer.extend_from_slice(&name.filter.bytes());
    buffer.extend_from_slice(&name.layer.index.to_le_bytes());
    buffer.extend_from_slice(&name.layer.creator.bytes());
}

pub(super) fn write_legacy(buffer: &mut Vec<u8>, name: LegacyName) {
    buffer.extend_from_slice(&name.filter.bytes());
    buffer.extend_from_slice(&name.index.to_le_bytes());
}

/// Appends a message about bits.
pub(super) fn encode_bits(buffer: &mut Vec<u8>, message: &Message) {
    match message {
        Message::BlocksRequest { layer, first } => {
            buffer.push(BLOCKS_REQUEST);
            write_layer(buffer, *layer);
            buffer.extend_from_slice(&first.to_le_bytes());
        }
        Message::Blocks {
            layer,
            first,
            blocks,
        } => {
            buffer.push(BLOCKS);
            write_layer(buffer, *layer);
            buffer.extend_from_slice(&first.to_le_bytes());
            buffer.extend_from_slice(&blocks.total.to_le_bytes());
            buffer.extend(blocks.hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        }
        Message::LinesRequest {
            layer,
            block,
            salt,
            hashes,
        } => {
            buffer.push(LINES_REQUEST);
            write_layer(buffer, *layer);
            buffer.extend_from_slice(&block.to_le_bytes());
            buffer.extend_from_slice(&salt.to_le_bytes());
            buffer.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        }
        Message::Lines {
            layer,
            block,
            salt,
            lines,
        } => {
            buffer.push(LINES);
            write_layer(buffer, *layer);
            buffer.extend_from_slice(&block.to_le_bytes());
            buffer.extend_from_slice(&salt.to_le_bytes());
            buffer.extend_from_slice(&lines.hash.to_le_bytes());
            for line in &lines.lines {
                buffer.extend_from_slice(&line.index.to_le_bytes());
                buffer.extend(line.words.iter().flat_map(|word| word.to_le_bytes()));
            }
        }
        Message::BlobRequest { legacy, offset } => {
            buffer.push(BLOB_REQUEST);
            write_legacy(buffer, *legacy);
            buffer.extend_from_slice(&offset.to_le_bytes());
        }
        Message::Blob {
            legacy,
            offset,
            blob,
        } => {
            buffer.push(BLOB);
            write_legacy(buffer, *legacy);
            buffer.extend_from_slice(&offset.to_le_bytes());
            buffer.extend_from_slice(&blob.total.to_le_bytes());
            buffer.extend_from_slice(&blob.bytes);
        }
        _ => unreachable!("the other messages are written by their own functions"),
    }
}

/// Reads what follows the kind of a message about bits, the only kinds that are left.
pub(super) fn decode_bits(reader: &mut Reader<'_>, kind: u8) -> Result<Message, MessageError> {
    Ok(match kind {
        BLOCKS_REQUEST => Message::BlocksRequest {
            layer: reader.layer()?,
            first: reader.u32("block")?,
        },
        BLOCKS => Message::Blocks {
            layer: reader.layer()?,
            first: reader.u32("block")?,
            blocks: BlockHashes {
                total: reader.u32("blocks")?,
                hashes: reader.numbers("fingerprints", BLOCK_HASHES_MAX, u64::from_le_bytes)?,
            },
        },
        LINES_REQUEST => Message::LinesRequest {
            layer: reader.layer()?,
            block: reader.u32("block")?,
            salt: reader.u64("salt")?,
            hashes: reader.numbers("hashes", BLOCK_LINES, u32::from_le_bytes)?,
        },
        LINES => Message::Lines {
            layer: reader.layer()?,
            block: reader.u32("block")?,
            salt: reader.u64("salt")?,
            lines: BlockLines {
                hash: reader.u64("fingerprint")?,
                lines: reader.lines()?,
            },
        },
        BLOB_REQUEST => Message::BlobRequest {
            legacy: reader.legacy()?,
            offset: reader.u64("offset")?,
        },
        BLOB => Message::Blob {
            legacy: reader.legacy()?,
            offset: reader.u64("offset")?,
            blob: Blob {
                total: reader.u64("length")?,
                bytes: reader.rest("piece", MESSAGE_BYTES_MAX)?.to_vec(),
            },
        },
        unknown => return Err(MessageError::Kind(unknown)),
    })
}
