//! Answering those who take a snapshot. Every question stands alone, so nothing is kept for them.

use super::Event;
use super::limits::{BLOB_BYTES, BLOCK_HASHES_MAX, BLOCK_LINES, MESSAGE_BYTES_MAX, PAGE_BYTES};
use super::machine::{Machine, Turn};
use super::message::Message;
use super::replica::{Part, Replica};
use crate::origin::Origin;

/// Bytes that an answer counts beside what it carries.
const ANSWER_COST_BYTES: usize = 256;
/// Bytes kept for what a message has beside its rows or piece.
const HEADER_BYTES_MAX: usize = 4096;

impl Machine {
    /// A peer asks for a piece of this node's state.
    pub(super) fn serve_snapshot<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        request: Message,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if !peer.budget.spend(turn.now, ANSWER_COST_BYTES) {
            return turn.event(Event::ServingLimited(from));
        }
        // Who does not know yet where its history parts from this one would take rows that are
        // not here for removed.
        let informed = peer.is_ready() && peer.forks.values().all(Option::is_some);
        if matches!(request, Message::PageRequest { .. }) && !informed {
            return;
        }
        if let Some((answer, bytes)) = answer(turn.replica, request) {
            peer.budget.spend(turn.now, bytes);
            turn.send(from, answer);
        }
    }
}

/// The answer and about how many bytes it has.
fn answer(replica: &mut impl Replica, request: Message) -> Option<(Message, usize)> {
    let room = MESSAGE_BYTES_MAX - HEADER_BYTES_MAX;
    match request {
        Message::PageRequest { section, after } => {
            let page = replica.page(section, &after, PAGE_BYTES)?;
            let bytes = page.bytes.len();
            (bytes <= room).then_some((Message::Page(page), bytes))
        }
        Message::BlocksRequest { layer, first } => Some(
            match replica.block_hashes(layer, first, BLOCK_HASHES_MAX).ok()? {
                Some(mut blocks) => {
                    blocks.hashes.truncate(BLOCK_HASHES_MAX);
                    let bytes = blocks.hashes.len() * 8;
                    let blocks = Message::Blocks {
                        layer,
                        first,
                        blocks,
                    };
                    (blocks, bytes)
                }
                None => (Message::Gone(Part::Layer(layer)), 0),
            },
        ),
        Message::LinesRequest {
            layer,
            block,
            salt,
            hashes,
        } => Some(match replica.lines(layer, block, salt, &hashes).ok()? {
            Some(mut lines) => {
                lines.lines.truncate(BLOCK_LINES);
                let bytes = lines.lines.len() * 66;
                let lines = Message::Lines {
                    layer,
                    block,
                    salt,
                    lines,
                };
                (lines, bytes)
            }
            None => (Message::Gone(Part::Layer(layer)), 0),
        }),
        Message::BlobRequest { legacy, offset } => {
            Some(match replica.blob(legacy, offset, BLOB_BYTES) {
                Some(mut blob) => {
                    blob.bytes.truncate(room);
                    let bytes = blob.bytes.len();
                    let blob = Message::Blob {
                        legacy,
                        offset,
                        blob,
                    };
                    (blob, bytes)
                }
                None => (Message::Gone(Part::Legacy(legacy)), 0),
            })
        }
        _ => None,
    }
}
