//! Operations that tell histories of one origin apart.

use super::{KIND_FORK, KIND_MARK, KIND_MARKS, OperationError, encode_body};
use crate::history::History;
use crate::origin::Origin;
use crate::version::Dot;

/// Appends the mark of a run, which is not 0, to `buffer`.
pub fn encode_mark(buffer: &mut Vec<u8>, mark: u64) {
    buffer.push(KIND_MARK);
    buffer.extend_from_slice(&mark.to_le_bytes());
}

/// Appends the marks of an origin to `buffer`.
pub fn encode_marks(buffer: &mut Vec<u8>, origin: Origin, history: &History) {
    encode_body(buffer, KIND_MARKS, &(origin, history));
}

/// Appends the first operation that is not what others have to `buffer`.
pub fn encode_fork(buffer: &mut Vec<u8>, first: Dot) {
    encode_body(buffer, KIND_FORK, &first);
}

pub(super) fn decode_mark(body: &[u8]) -> Result<u64, OperationError> {
    let mark = body.try_into().map(u64::from_le_bytes);
    let mark = mark.ok().filter(|mark| *mark != 0);
    mark.ok_or(OperationError::Mark { bytes: body.len() })
}
