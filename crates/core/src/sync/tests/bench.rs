//! One machine, whose peers are played by the test.

use super::toy::{Toy, origin};
use crate::origin::Origin;
use crate::sync::*;

/// A machine whose peers are played by the test.
pub(super) struct Bench {
    pub(super) now: u64,
    pub(super) toy: Toy,
    pub(super) machine: Machine,
    pub(super) events: Vec<Event>,
    stamp: u64,
    /// What is due at the peers, as they say.
    pub(super) horizon: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Bench {
            now: 10_000,
            toy: Toy::new(origin(0)),
            machine: Machine::new(origin(0), 7),
            events: vec![],
            stamp: 0,
            horizon: 0,
        }
    }

    /// What is sent in answer to an input; events are gathered.
    pub(super) fn input(&mut self, input: Input) -> Vec<(Origin, Message)> {
        let mut out = Vec::new();
        self.machine
            .handle(self.now, input, &mut self.toy, &mut out);
        let mut sent = Vec::new();
        for output in out {
            match output {
                Output::Send(to, message) => sent.push((to, message)),
                Output::Event(event) => self.events.push(event),
            }
        }
        sent
    }

    pub(super) fn receive(&mut self, from: usize, message: Message) -> Vec<(Origin, Message)> {
        self.input(Input::Received(origin(from), message))
    }

    pub(super) fn after(&mut self, time: u64) -> Vec<(Origin, Message)> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while self.now < end {
            self.now = (self.now + 100).min(end);
            sent.extend(self.input(Input::Tick));
        }
        sent
    }

    pub(super) fn report(
        &mut self,
        session: u64,
        heard: u64,
        window: u32,
        content: Content,
    ) -> Message {
        self.stamp += 1;
        Message::Report(Report {
            session,
            heard,
            stamp: self.stamp,
            horizon: self.horizon,
            window,
            ask: false,
            content,
        })
    }

    /// A peer in session 1000 + its number, to this side's session 1 + its number, says what it
    /// has.
    pub(super) fn tell(&mut self, peer: usize, has: &[(usize, u64)]) -> Vec<(Origin, Message)> {
        let entries = has.iter().map(|(origin, count)| entry(*origin, *count));
        let content = Content::Range {
            after: None,
            through: None,
            entries: entries.collect(),
        };
        let (theirs, ours) = (1000 + peer as u64, 1 + peer as u64);
        let report = self.report(theirs, ours, 1 << 20, content);
        self.receive(peer, report)
    }

    pub(super) fn join(&mut self, peer: usize, has: &[(usize, u64)]) -> Vec<(Origin, Message)> {
        self.input(Input::Connected(origin(peer), 1 + peer as u64));
        self.tell(peer, has)
    }
}

pub(super) fn entry(number: usize, count: u64) -> Entry {
    Entry {
        origin: origin(number),
        durable: count,
        received: count,
        mark: 0,
    }
}

pub(super) fn put(value: u64) -> Vec<u8> {
    let mut operation = vec![1];
    operation.extend(value.to_le_bytes());
    operation
}

pub(super) fn run(number: usize, first: u64, operations: Vec<Vec<u8>>) -> Message {
    let run = Run {
        origin: origin(number),
        first,
        operations,
    };
    Message::Operations { before: 0, run }
}

/// A page that ends its section.
pub(super) fn page(section: u8, bytes: Vec<u8>) -> Message {
    Message::Page(Page {
        section,
        after: vec![],
        next: None,
        bytes,
    })
}

/// Whose operations were sent to whom, from which number on and how many.
pub(super) fn operations(sent: &[(Origin, Message)]) -> Vec<(Origin, Origin, u64, usize)> {
    sent.iter()
        .filter_map(|(to, message)| match message {
            Message::Operations { run, .. } => {
                Some((*to, run.origin, run.first, run.operations.len()))
            }
            _ => None,
        })
        .collect()
}

pub(super) fn wants(sent: &[(Origin, Message)]) -> Vec<(Origin, Vec<(Origin, u64)>)> {
    sent.iter()
        .filter_map(|(to, message)| match message {
            Message::Want(wanted) => Some((*to, wanted.clone())),
            _ => None,
        })
        .collect()
}
