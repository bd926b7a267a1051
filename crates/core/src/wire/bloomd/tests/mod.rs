//! Tests of the codec. The tables are transcripts of the original servers: what a line meant there,
//! byte for byte, and each deliberate difference beside it.

mod create;
mod properties;
mod replies;
mod transcript;

use super::{ClientError, Command, Lines, parse};

/// What one line earns.
type Outcome = Result<Command<'static>, ClientError>;

/// Checks each row: the line with its line feed, and what it means.
fn check_table(rows: &[(&'static str, Outcome)]) {
    for (input, expected) in rows {
        let mut lines = Lines::new(input.as_bytes(), usize::MAX);
        let line = lines.next().expect("each row is a whole line");
        assert_eq!(parse(line), *expected, "{input:?}");
        assert_eq!(lines.next(), None, "{input:?} is one line");
        assert_eq!(lines.consumed(), input.len(), "{input:?}");
    }
}
