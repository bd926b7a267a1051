//! The message that carries operations. Each is written as what it has in common with the one
//! before it and the rest: operations that follow each other are mostly inserts into one layer,
//! which differ in a counter and in their hashes.

use super::super::limits::{
    MESSAGE_BYTES_MAX, OPERATION_BYTES_MAX, OPERATIONS_PER_MESSAGE_MAX, SEQUENCE_MAX,
};
use super::super::replica::Run;
use super::bytes::{Reader, varint_bytes, write_varint};
use super::{Message, MessageError, OPERATIONS};
use crate::origin::Origin;

/// Bytes that an operation is counted for: what it takes where it has nothing in common with the
/// one before it, but for two bytes that say so.
pub(in super::super) fn operation_bytes(operation: &[u8]) -> usize {
    varint_bytes(operation.len() as u64) + operation.len()
}

/// What an operation has in common with the one before it, both read from their beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Likeness {
    /// Bytes that are the same.
    same: usize,
    /// Bytes behind them that all differ.
    changed: usize,
    /// Bytes behind those that are the same again.
    again: usize,
}

impl Likeness {
    fn of(before: &[u8], operation: &[u8]) -> Self {
        let mut alike = before.iter().zip(operation).map(|(old, new)| old == new);
        let mut next = alike.next();
        let mut count = |wanted: bool| {
            let mut count = 0;
            while next == Some(wanted) {
                count += 1;
                next = alike.next();
            }
            count
        };
        Likeness {
            same: count(true),
            changed: count(false),
            again: count(true),
        }
    }

    fn end(self) -> usize {
        self.same + self.changed + self.again
    }
}

pub(super) fn encode_run(buffer: &mut Vec<u8>, before: u64, run: &Run) {
    buffer.push(OPERATIONS);
    buffer.extend_from_slice(&run.origin.bytes());
    buffer.extend_from_slice(&run.first.to_le_bytes());
    buffer.extend_from_slice(&before.to_le_bytes());
    let mut last: &[u8] = &[];
    for operation in &run.operations {
        let likeness = Likeness::of(last, operation);
        let Likeness {
            same,
            changed,
            again,
        } = likeness;
        write_varint(buffer, same as u64);
        write_varint(buffer, changed as u64);
        buffer.extend_from_slice(&operation[same..same + changed]);
        write_varint(buffer, again as u64);
        write_varint(buffer, (operation.len() - likeness.end()) as u64);
        buffer.extend_from_slice(&operation[likeness.end()..]);
        last = operation;
    }
}

pub(super) fn decode_run(reader: &mut Reader<'_>) -> Result<Message, MessageError> {
    let origin = Origin::new(reader.array("origin")?);
    let first = reader.u64("sequence number")?;
    let before = reader.u64("mark")?;
    let mut operations: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    while reader.left() > 0 || operations.is_empty() {
        reader.room(operations.len(), "operations", OPERATIONS_PER_MESSAGE_MAX)?;
        let last = operations.last().map_or(&[][..], Vec::as_slice);
        let operation = decode_operation(reader, last, bytes)?;
        bytes += operation_bytes(&operation);
        operations.push(operation);
    }
    if first == 0 || first > SEQUENCE_MAX - operations.len() as u64 {
        return Err(MessageError::Malformed {
            field: "sequence number",
        });
    }
    let run = Run {
        origin,
        first,
        operations,
    };
    Ok(Message::Operations { before, run })
}

/// Reads the operation behind `before`; the message has `bytes` of operations so far, and may not
/// have more than a message has bytes, however few they take in it.
fn decode_operation(
    reader: &mut Reader<'_>,
    before: &[u8],
    bytes: usize,
) -> Result<Vec<u8>, MessageError> {
    const FIELD: &str = "operation";
    let malformed = MessageError::Malformed { field: FIELD };
    let same = reader.length(FIELD, 0, before.len())?;
    let changed = reader.length(FIELD, 0, before.len() - same)?;
    let other = reader.take(changed, FIELD)?;
    let again = reader.length(FIELD, 0, before.len() - same - changed)?;
    let likeness = Likeness {
        same,
        changed,
        again,
    };
    let alike = likeness.end();
    let least = usize::from(alike == 0);
    let rest = reader.length(FIELD, least, OPERATION_BYTES_MAX - alike)?;
    let rest = reader.take(rest, FIELD)?;
    let length = alike + rest.len();
    let total = bytes + varint_bytes(length as u64) + length;
    if total > MESSAGE_BYTES_MAX {
        return Err(MessageError::Limit {
            field: "operations' bytes",
            count: total as u64,
            limit: MESSAGE_BYTES_MAX as u64,
        });
    }
    let mut operation = Vec::with_capacity(length);
    operation.extend_from_slice(&before[..same]);
    operation.extend_from_slice(other);
    operation.extend_from_slice(&before[same + changed..alike]);
    operation.extend_from_slice(rest);
    // An operation has one form: the one that says of every byte whether it is the same.
    if Likeness::of(before, &operation) != likeness {
        return Err(malformed);
    }
    Ok(operation)
}
