//! Comparing layers with a peer's and fetching what differs, a few layers at a time.
//!
//! Fingerprints show which blocks differ. For each of those the hashes of this side's lines are
//! shown, and the peer sends the lines that have others. A block is done when it is equal to the
//! peer's; or, because bits that only this side has keep it different for ever, when two answers
//! have come and the last brought nothing new: a line that differs could hide behind an equal
//! hash once, but each question has a salt of its own.

use std::collections::{BTreeMap, VecDeque};

use super::limits::{BLOCK_ROUNDS_MAX, PARTS_ACTIVE_MAX};
use super::machine::{Machine, Turn};
use super::message::Message;
use super::replica::{Blob, BlockHashes, BlockLines, LayerName, LegacyName, Part, Replica};
use super::transfer::{Request, Transfer};

/// Bits to be compared.
#[derive(Debug, Default)]
pub(super) struct Parts {
    waiting: VecDeque<Part>,
    layers: BTreeMap<LayerName, Comparison>,
    files: BTreeMap<LegacyName, u64>,
}

/// How far a layer is compared.
#[derive(Debug, Default)]
struct Comparison {
    /// The next block whose fingerprint is asked for.
    first: u32,
    /// Whether fingerprints of all blocks came.
    scanned: bool,
    /// Blocks that differ and are not asked for yet.
    differing: VecDeque<u32>,
    /// Blocks asked for.
    asked: BTreeMap<u32, Round>,
}

/// A block's last question.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    salt: u64,
    /// Answers that came.
    answers: u32,
}

impl Parts {
    pub(super) fn add(&mut self, parts: Vec<Part>) {
        self.waiting.extend(parts);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.layers.is_empty() && self.files.is_empty()
    }

    pub(super) fn remove(&mut self, part: Part) {
        match part {
            Part::Layer(layer) => drop(self.layers.remove(&layer)),
            Part::Legacy(legacy) => drop(self.files.remove(&legacy)),
        }
    }

    /// Requests that can be made now, at most `room`.
    fn next_requests(&mut self, room: usize) -> Vec<Request> {
        let mut requests = Vec::new();
        for (layer, comparison) in &mut self.layers {
            while requests.len() < room
                && let Some(block) = comparison.differing.pop_front()
            {
                comparison.asked.insert(block, Round::default());
                requests.push(Request::Lines(*layer, block));
            }
        }
        while requests.len() < room
            && self.layers.len() + self.files.len() < PARTS_ACTIVE_MAX
            && let Some(part) = self.waiting.pop_front()
        {
            match part {
                Part::Layer(layer) if !self.layers.contains_key(&layer) => {
                    self.layers.insert(layer, Comparison::default());
                    requests.push(Request::Blocks(layer, 0));
                }
                Part::Legacy(legacy) if !self.files.contains_key(&legacy) => {
                    self.files.insert(legacy, 0);
                    requests.push(Request::Blob(legacy, 0));
                }
                _ => {}
            }
        }
        requests
    }
}

impl Machine {
    /// Asks for bits, as far as requests may be open.
    pub(super) fn request_parts<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
    ) {
        for request in transfer.parts.next_requests(transfer.room()) {
            self.ask_part(turn, transfer, request);
        }
    }

    fn ask_part<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        request: Request,
    ) {
        transfer.requests.insert(request, turn.now);
        self.send_part_request(turn, transfer, request);
    }

    /// Sends a request for bits; a question for lines gets a new salt each time.
    pub(super) fn send_part_request<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        request: Request,
    ) {
        let message = match request {
            Request::Page => return,
            Request::Blocks(layer, first) => Message::BlocksRequest { layer, first },
            Request::Lines(layer, block) => {
                let salt = self.draw();
                if let Some(comparison) = transfer.parts.layers.get_mut(&layer) {
                    comparison.asked.entry(block).or_default().salt = salt;
                }
                let hashes = turn.replica.line_hashes(layer, block, salt);
                Message::LinesRequest {
                    layer,
                    block,
                    salt,
                    hashes,
                }
            }
            Request::Blob(legacy, offset) => Message::BlobRequest { legacy, offset },
        };
        turn.send(transfer.peer, message);
    }

    /// Takes an answer about bits; false if it cannot be right.
    pub(super) fn receive_bits<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        answer: Message,
    ) -> bool {
        match answer {
            Message::Blocks {
                layer,
                first,
                blocks,
            } => self.receive_blocks(turn, transfer, (layer, first), &blocks),
            Message::Lines {
                layer,
                block,
                salt,
                lines,
            } => {
                self.receive_lines(turn, transfer, (layer, block, salt), &lines);
                true
            }
            Message::Blob {
                legacy,
                offset,
                blob,
            } => self.receive_blob(turn, transfer, (legacy, offset), &blob),
            _ => true,
        }
    }

    fn receive_blocks<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        (layer, first): (LayerName, u32),
        blocks: &BlockHashes,
    ) -> bool {
        if !transfer.answered(turn.now, Request::Blocks(layer, first)) {
            return true;
        }
        let count = u32::try_from(blocks.hashes.len()).unwrap_or(u32::MAX);
        let (Some(comparison), Some(end)) = (
            transfer.parts.layers.get_mut(&layer),
            first.checked_add(count),
        ) else {
            return false;
        };
        if (count == 0 && first < blocks.total) || end > blocks.total {
            return false;
        }
        // All copies of a layer are of one shape; who says otherwise could go on for ever.
        if turn
            .replica
            .block_count(layer)
            .is_some_and(|own| own != blocks.total)
        {
            return false;
        }
        let differing = turn.replica.differing(layer, first, &blocks.hashes);
        let inside = differing.into_iter().filter(|b| (first..end).contains(b));
        comparison.differing.extend(inside);
        comparison.first = end;
        comparison.scanned = end == blocks.total;
        transfer.count.blocks += comparison.differing.len() as u64;
        self.go_on(turn, transfer, layer);
        true
    }

    fn receive_lines<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        (layer, block, salt): (LayerName, u32, u64),
        answer: &BlockLines,
    ) {
        let asked = transfer.parts.layers.get_mut(&layer);
        let Some(round) = asked
            .and_then(|comparison| comparison.asked.get_mut(&block))
            .filter(|round| round.salt == salt)
        else {
            return;
        };
        if transfer
            .requests
            .remove(&Request::Lines(layer, block))
            .is_none()
        {
            return;
        }
        transfer.heard_at = turn.now;
        round.answers += 1;
        let answers = round.answers;
        transfer.count.lines += answer.lines.len() as u64;
        let new = turn.replica.merge_lines(layer, block, &answer.lines);
        let equal = turn
            .replica
            .differing(layer, block, &[answer.hash])
            .is_empty();
        if equal || (answers >= 2 && !new) || answers >= BLOCK_ROUNDS_MAX {
            if let Some(comparison) = transfer.parts.layers.get_mut(&layer) {
                comparison.asked.remove(&block);
            }
            self.go_on(turn, transfer, layer);
        } else {
            self.ask_part(turn, transfer, Request::Lines(layer, block));
        }
    }

    /// Once all blocks asked for are done: the next fingerprints, or the layer's end.
    fn go_on<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        layer: LayerName,
    ) {
        let Some(comparison) = transfer.parts.layers.get(&layer) else {
            return;
        };
        if !comparison.differing.is_empty() || !comparison.asked.is_empty() {
            return;
        }
        if comparison.scanned {
            transfer.parts.layers.remove(&layer);
            transfer.count.layers += 1;
            turn.replica.fetched(Part::Layer(layer), transfer.waiting());
        } else {
            let first = comparison.first;
            self.ask_part(turn, transfer, Request::Blocks(layer, first));
        }
    }

    fn receive_blob<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        transfer: &mut Transfer,
        (legacy, offset): (LegacyName, u64),
        blob: &Blob,
    ) -> bool {
        if !transfer.answered(turn.now, Request::Blob(legacy, offset)) {
            return true;
        }
        transfer.count.blobs += 1;
        match turn.replica.merge_blob(legacy, offset, blob) {
            None => {
                transfer.parts.files.remove(&legacy);
                turn.replica
                    .fetched(Part::Legacy(legacy), transfer.waiting());
            }
            Some(next) if next > blob.total => return false,
            Some(next) => {
                transfer.parts.files.insert(legacy, next);
                let request = Request::Blob(legacy, next);
                if next > offset {
                    self.ask_part(turn, transfer, request);
                } else {
                    // It went back: asked for again when the time for a repetition comes, so
                    // that a peer cannot keep this going at the network's speed.
                    transfer.requests.insert(request, turn.now);
                }
            }
        }
        true
    }
}
