//! The datagrams that wait in the socket together: their bits are set by one call, and what they
//! are answered is sent once that may be acknowledged.

use grapevine_core::bitmap::{FirstRows, ROW_BITS};
use grapevine_core::wire::rmbd::{ACK, HASHES, KEY_DATAGRAM_BYTES, encode_has_reply, positions};

use super::sockets::Way;

/// What waits for the bits to be settled.
pub(super) enum Reply {
    /// The acknowledgement of a row.
    Ack {
        /// How the row came.
        way: Way,
        /// Whether it set bits that were not set.
        new: bool,
    },
    /// The answer to a question.
    Answer {
        /// How the question came.
        way: Way,
        /// The reply, its verdict included.
        datagram: Box<[u8; KEY_DATAGRAM_BYTES]>,
        /// The bits that decide the verdict.
        bits: [u16; HASHES],
    },
}

impl Reply {
    /// What to send, and what it answers.
    pub(super) fn datagram(&self) -> (&[u8], &Way) {
        match self {
            Reply::Ack { way, .. } => (&ACK, way),
            Reply::Answer { way, datagram, .. } => (&datagram[..], way),
        }
    }
}

/// What a batch comes to so far. Questions are answered as if the bits before them were set.
#[derive(Default)]
pub(super) struct Batch {
    /// Bits to be set, each once.
    new: Vec<u16>,
    /// Whether a bit is in `new`.
    is_new: Vec<bool>,
    replies: Vec<Reply>,
}

impl Batch {
    /// The bits to be set.
    pub(super) fn new_bits(&self) -> &[u16] {
        &self.new
    }

    /// The replies, in the order of the datagrams.
    pub(super) fn replies(&self) -> &[Reply] {
        &self.replies
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.replies.is_empty()
    }

    /// Adds a key.
    pub(super) fn add(&mut self, bitmap: FirstRows<'_>, key: &[u8]) {
        for bit in positions(key, bitmap.bits()) {
            self.set(bitmap, bit);
        }
    }

    /// Answers whether a key is there.
    pub(super) fn ask(&mut self, bitmap: FirstRows<'_>, key: &[u8], way: Way) {
        let bits = positions(key, bitmap.bits());
        let present = bits.iter().all(|bit| self.contains(bitmap, *bit));
        self.replies.push(Reply::Answer {
            way,
            datagram: Box::new(encode_has_reply(key, present)),
            bits,
        });
    }

    /// Merges a row; `false` when there is no such row, and then nothing is answered.
    pub(super) fn merge(
        &mut self,
        bitmap: FirstRows<'_>,
        row: u16,
        bits: &[u8; ROW_BITS],
        way: Way,
    ) -> bool {
        if row >= bitmap.rows() {
            return false;
        }
        let first = row * ROW_BITS as u16;
        let mut new = false;
        for (column, _) in (0..).zip(bits).filter(|(_, byte)| **byte != 0) {
            new |= self.set(bitmap, first + column);
        }
        self.replies.push(Reply::Ack { way, new });
        true
    }

    /// Gives the new bits up: the rows that brought them are not acknowledged, and questions are
    /// answered from what the bitmap holds.
    pub(super) fn give_up_new(&mut self, bitmap: FirstRows<'_>) {
        self.forget_new();
        self.replies.retain_mut(|reply| match reply {
            Reply::Ack { new, .. } => !*new,
            Reply::Answer { datagram, bits, .. } => {
                let present = bits.iter().all(|bit| bitmap.contains(*bit));
                datagram[KEY_DATAGRAM_BYTES - 1] = u8::from(present);
                true
            }
        });
    }

    /// Begins the next batch.
    pub(super) fn clear(&mut self) {
        self.forget_new();
        self.replies.clear();
    }

    fn forget_new(&mut self) {
        for bit in self.new.drain(..) {
            self.is_new[usize::from(bit)] = false;
        }
    }

    fn contains(&self, bitmap: FirstRows<'_>, bit: u16) -> bool {
        bitmap.contains(bit) || self.is_new.get(usize::from(bit)) == Some(&true)
    }

    /// Whether the bit is new.
    fn set(&mut self, bitmap: FirstRows<'_>, bit: u16) -> bool {
        if self.contains(bitmap, bit) {
            return false;
        }
        self.is_new.resize(usize::from(bitmap.bits()), false);
        self.is_new[usize::from(bit)] = true;
        self.new.push(bit);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use grapevine_core::bitmap::Bitmap;
    use grapevine_core::wire::rmbd::HasReply;

    use super::*;

    const KEY: &[u8] = b"sensor/20";

    fn client() -> Way {
        Way {
            from: SocketAddr::from(([127, 0, 0, 1], 1)),
            to: None,
            socket: 0,
        }
    }

    fn empty() -> Bitmap {
        Bitmap::new(5).expect("five rows")
    }

    fn answers(batch: &Batch) -> Vec<Option<bool>> {
        let answer = |reply: &Reply| match reply {
            Reply::Ack { .. } => None,
            Reply::Answer { datagram, .. } => HasReply::parse(&datagram[..])?.answer(KEY),
        };
        batch.replies().iter().map(answer).collect()
    }

    fn row_zero(set: impl Fn(usize) -> bool) -> [u8; ROW_BITS] {
        std::array::from_fn(|column| u8::from(set(column)) * 7)
    }

    #[test]
    fn questions_see_what_came_before_them() {
        let (bitmap, mut batch) = (empty(), Batch::default());
        batch.ask(bitmap.whole(), KEY, client());
        batch.add(bitmap.whole(), KEY);
        batch.ask(bitmap.whole(), KEY, client());
        batch.add(bitmap.whole(), KEY);
        assert_eq!(answers(&batch), [Some(false), Some(true)]);
        assert_eq!(batch.new_bits().len(), 5, "each bit once");
        assert_eq!(bitmap.count(), 0, "nothing is set yet");
        batch.clear();
        assert!(batch.is_empty());
        batch.ask(bitmap.whole(), KEY, client());
        assert_eq!(answers(&batch), [Some(false)]);
    }

    #[test]
    fn rows_are_acknowledged_when_there_is_such_a_row() {
        let (bitmap, mut batch) = (empty(), Batch::default());
        assert!(batch.merge(bitmap.whole(), 0, &row_zero(|column| column < 3), client()));
        assert!(batch.merge(bitmap.whole(), 4, &row_zero(|_| false), client()));
        assert!(!batch.merge(bitmap.whole(), 5, &row_zero(|_| true), client()));
        assert_eq!(batch.new_bits(), [0, 1, 2]);
        let sent: Vec<_> = batch.replies().iter().map(Reply::datagram).collect();
        assert_eq!(sent, [(&ACK[..], &client()), (&ACK[..], &client())]);
    }

    #[test]
    fn bits_that_cannot_be_kept_are_not_acknowledged() {
        let (bitmap, mut batch) = (empty(), Batch::default());
        bitmap.set(0).expect("a bit");
        assert!(batch.merge(bitmap.whole(), 0, &row_zero(|column| column == 0), client()));
        assert!(batch.merge(bitmap.whole(), 0, &row_zero(|column| column == 1), client()));
        batch.add(bitmap.whole(), KEY);
        batch.ask(bitmap.whole(), KEY, client());
        batch.give_up_new(bitmap.whole());
        assert!(batch.new_bits().is_empty());
        assert_eq!(
            answers(&batch),
            [None, Some(false)],
            "the old row and the question"
        );
    }
}
