//! A peer's messages: what decodes has one form, and a machine that is given them, in whatever
//! order, keeps within its bounds and never fails.
#![no_main]

use std::collections::BTreeMap;

use grapevine_core::catalogue::FilterId;
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::origin::Origin;
use grapevine_core::sync::fingerprint::{block_hash, line_hash};
use grapevine_core::sync::limits::{
    BATCH_BYTES, MESSAGE_BYTES_MAX, OPERATION_BYTES_MAX, REPORT_ENTRIES_MAX, REQUESTS_MAX,
    WINDOW_BYTES,
};
use grapevine_core::sync::{
    Applied, BLOCK_LINES, Blob, BlockHashes, BlockLines, Cursor, Input, LayerName, LegacyName,
    Line, Machine, Message, Output, Page, PageError, Part, Read, Replica, Run, Source, Unavailable,
    Wait,
};
use grapevine_core::version::{Dot, VersionVector};
use libfuzzer_sys::fuzz_target;

const ME: Origin = Origin::new([0; 16]);
const PEER: Origin = Origin::new([1; 16]);
const SESSION: u64 = 1;
/// Messages of one input at most.
const MESSAGES_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = Message::decode(input) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(again, input, "a message has one form");
    }
    let mut replica = Toy::default();
    let mut machine = Machine::new(ME, 3);
    machine.set_members([ME, PEER].into());
    let (mut now, mut rest) = (0, input);
    let connected = Input::Connected(PEER, SESSION);
    step(&mut machine, &mut replica, now, connected);
    for _ in 0..MESSAGES_MAX {
        let Some((head, tail)) = rest.split_first_chunk::<3>() else {
            return;
        };
        let length = usize::from(u16::from_le_bytes([head[0], head[1]])).min(tail.len());
        let (bytes, after) = tail.split_at(length);
        rest = after;
        now += u64::from(head[2] >> 1) * 50;
        if head[2] & 1 == 1 {
            step(&mut machine, &mut replica, now, Input::Tick);
        }
        if let Ok(mut message) = Message::decode(bytes) {
            if let Message::Report(report) = &mut message {
                report.heard = SESSION;
            }
            step(
                &mut machine,
                &mut replica,
                now,
                Input::Received(PEER, message),
            );
        }
    }
});

/// One input, and what must hold after each.
fn step(machine: &mut Machine, replica: &mut Toy, now: u64, input: Input) {
    let mut out = Vec::new();
    machine.handle(now, input, replica, &mut out);
    let mut bytes = 0;
    for output in out {
        if let Output::Send(_, message) = output {
            let mut buffer = Vec::new();
            message.encode(&mut buffer);
            assert!(buffer.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(
                Message::decode(&buffer),
                Ok(message),
                "what is sent is read"
            );
            bytes += buffer.len();
        }
    }
    let window = WINDOW_BYTES as usize + OPERATION_BYTES_MAX;
    let requests = REQUESTS_MAX * (4 * BLOCK_LINES + 100);
    let most = window + requests + MESSAGE_BYTES_MAX + REPORT_ENTRIES_MAX * 64 + BATCH_BYTES;
    assert!(bytes <= most, "{bytes} bytes in answer to one input");
    for status in machine.status(replica) {
        assert!(status.in_flight <= window);
    }
    machine.held_by_all(replica);
}

/// A replica that takes everything that is in order. Its first byte says what an operation needs.
struct Toy {
    applied: VersionVector,
    log: Vec<(Dot, Vec<u8>)>,
    lines: Vec<[u64; 8]>,
}

impl Default for Toy {
    fn default() -> Self {
        let log: Vec<(Dot, Vec<u8>)> = (1..20)
            .map(|sequence| {
                let dot = Dot {
                    origin: ME,
                    sequence,
                };
                (dot, vec![sequence as u8; 4])
            })
            .collect();
        Toy {
            applied: VersionVector::from_iter([(ME, log.len() as u64)]),
            log,
            lines: vec![[0; 8]; BLOCK_LINES],
        }
    }
}

impl Replica for Toy {
    fn applied(&self) -> &VersionVector {
        &self.applied
    }

    fn durable(&self) -> &VersionVector {
        &self.applied
    }

    fn read(&mut self, wanted: &BTreeMap<Origin, u64>, cursor: Option<Cursor>, _: usize) -> Read {
        let from = cursor
            .map_or(0, |cursor| cursor.0 as usize)
            .min(self.log.len());
        let Some((dot, operation)) = self.log.get(from) else {
            return Read::Runs {
                runs: vec![],
                next: Cursor(from as u64, 0),
                end: true,
            };
        };
        if wanted.get(&dot.origin).is_some_and(|first| *first == 7) {
            return Read::Gone;
        }
        let is_wanted = wanted
            .get(&dot.origin)
            .is_some_and(|first| dot.sequence >= *first);
        let run = Run {
            origin: dot.origin,
            first: dot.sequence,
            operations: vec![operation.clone()],
        };
        Read::Runs {
            runs: if is_wanted { vec![run] } else { vec![] },
            next: Cursor(from as u64 + 1, 0),
            end: from + 1 == self.log.len(),
        }
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        assert_ne!(origin, ME);
        assert_eq!(first, self.applied.get(origin) + 1, "in order");
        for (count, operation) in operations.iter().enumerate() {
            let sequence = first + count as u64;
            let waits = match operation[..] {
                [1, by, ..] => Some(Wait::For(Dot {
                    origin: Origin::new([by; 16]),
                    sequence: 1,
                }))
                .filter(|_| self.applied.get(Origin::new([by; 16])) == 0),
                [2, ..] => Some(Wait::Parts(vec![Part::Layer(layer())])),
                [3, ..] => Some(Wait::Refused),
                _ => None,
            };
            if waits.is_some() {
                return Applied { count, waits };
            }
            self.applied.advance(origin, sequence);
            self.log.push((Dot { origin, sequence }, operation.clone()));
        }
        Applied {
            count: operations.len(),
            waits: None,
        }
    }

    fn fetched(&mut self, _: Part, _: Option<Dot>) {}

    fn give_up(&mut self, _: Part, _: Option<Dot>) {}

    fn sections(&self) -> &[u8] {
        &[1, 2]
    }

    fn page(&mut self, section: u8, after: &[u8], _: usize) -> Option<Page> {
        (section < 3).then(|| Page {
            section,
            after: after.to_vec(),
            next: None,
            bytes: vec![5; 10],
        })
    }

    fn merge_page(&mut self, page: &Page, _: Source<'_>) -> Result<Vec<Part>, PageError> {
        let legacy = Part::Legacy(LegacyName {
            filter: FilterId::new([0; 16]),
            index: 0,
        });
        match page.bytes.first() {
            Some(0) => Err(PageError::Rows {
                section: page.section,
                at: 0,
            }),
            Some(1) => Ok(vec![Part::Layer(layer()), legacy]),
            _ => Ok(vec![]),
        }
    }

    fn block_hashes(
        &mut self,
        name: LayerName,
        first: u32,
        _: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        Ok((name == layer()).then(|| BlockHashes {
            total: 1,
            hashes: Vec::from_iter((first == 0).then(|| block_hash(0, &self.lines))),
        }))
    }

    fn block_count(&mut self, name: LayerName) -> Option<u32> {
        (name == layer()).then_some(1)
    }

    fn differing(&mut self, _: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        let same = hashes.first() == Some(&block_hash(0, &self.lines));
        Vec::from_iter((first == 0 && !hashes.is_empty() && !same).then_some(0))
    }

    fn line_hashes(&mut self, _: LayerName, block: u32, salt: u64) -> Vec<u32> {
        let lines = self.lines.iter().filter(|_| block == 0);
        lines.map(|line| line_hash(salt, line)).collect()
    }

    fn lines(
        &mut self,
        _: LayerName,
        block: u32,
        _: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        let lines = (0_u16..).zip(&self.lines).skip(hashes.len());
        Ok((block == 0).then(|| BlockLines {
            hash: block_hash(0, &self.lines),
            lines: lines
                .map(|(index, words)| Line {
                    index,
                    words: *words,
                })
                .collect(),
        }))
    }

    fn merge_lines(&mut self, _: LayerName, _: u32, lines: &[Line]) -> bool {
        let mut new = false;
        for line in lines {
            for (ours, theirs) in self.lines[usize::from(line.index)]
                .iter_mut()
                .zip(line.words)
            {
                new |= theirs & !*ours != 0;
                *ours |= theirs;
            }
        }
        new
    }

    fn blob(&mut self, _: LegacyName, offset: u64, bytes_max: usize) -> Option<Blob> {
        (offset < 100).then(|| Blob {
            total: 100,
            bytes: vec![0; bytes_max],
        })
    }

    fn merge_blob(&mut self, _: LegacyName, offset: u64, blob: &Blob) -> Option<u64> {
        let next = offset.saturating_add(blob.bytes.len() as u64);
        (next < blob.total).then_some(next)
    }

    fn adopt(&mut self, version: &VersionVector) {
        assert_eq!(version.get(ME), 0, "own operations are not adopted");
        self.applied.merge(version);
    }

    fn compared(&mut self, _: Origin) {}

    fn forget_partial(&mut self) {}

    fn shortages(&mut self, _: u64) -> Vec<(FilterId, u64)> {
        vec![(FilterId::new([1; 16]), 1)]
    }

    fn grant(&mut self, _: FilterId, _: Origin, _: u64) {}
}

fn layer() -> LayerName {
    LayerName {
        filter: FilterId::new([0; 16]),
        layer: LayerId {
            index: 0,
            creator: ME,
        },
    }
}
