//! How a command ends: the one place that decides exit codes and prints failures.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::config::ConfigErrors;

use super::node_address::NodeAddressError;

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, or the answer is yes: exit code 0.
    Done,
    /// It did not succeed and has said why: exit code 1.
    Failed,
    /// What was asked for is absent, or the answer is no: exit code 3.
    Absent,
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments are wrong (exit code 2), or help was asked for (0).
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// An argument has a value that it cannot have (exit code 2).
    #[error(transparent)]
    Argument(Box<dyn Error + Send + Sync>),
    /// It is not known which node to talk to.
    #[error(transparent)]
    NodeAddress(#[from] NodeAddressError),
    /// Standard output cannot be written. A reader that has gone is no failure.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// An error of the command's own; it and its sources are printed.
    #[error(transparent)]
    Command(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure from a command's own error.
    pub fn from_error(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Command(Box::new(error))
    }

    /// The error of an argument that cannot have the value it was given.
    pub fn from_argument(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Argument(Box::new(error))
    }

    /// Whether the command line was wrong, and not what it led to.
    fn is_wrong_usage(&self) -> bool {
        match self {
            Failure::Usage(_) | Failure::Argument(_) => true,
            Failure::Config(errors) => errors.are_typed(),
            Failure::NodeAddress(error) => error.is_typed(),
            Failure::Output(_) | Failure::Command(_) => false,
        }
    }
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const ABSENT: u8 = 3;

/// How long a message may take to be written: where nobody reads it the program ends without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints a failure to standard error and gives the exit code.
pub(super) fn code(ended: Result<Outcome, Failure>) -> ExitCode {
    let mut message = Vec::new();
    let code = number(ended, &mut message);
    if !message.is_empty() {
        let (done, written) = channel();
        thread::spawn(move || {
            drop(io::stderr().write_all(&message));
            drop(done);
        });
        // It ends by that, or by the time that it may take.
        let _ended: Result<(), RecvTimeoutError> = written.recv_timeout(PATIENCE);
    }
    ExitCode::from(code)
}

fn number(ended: Result<Outcome, Failure>, errors: &mut dyn Write) -> u8 {
    let failure = match ended {
        Ok(Outcome::Done) => return DONE,
        Ok(Outcome::Failed) => return FAILED,
        Ok(Outcome::Absent) => return ABSENT,
        Err(failure) => failure,
    };
    match failure {
        // `grapevine … | head`: the reader has what it wanted.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Failure::Usage(error) => {
            // clap prints help to standard output and mistakes to standard error.
            let _ = error.print();
            if error.use_stderr() {
                WRONG_USAGE
            } else {
                DONE
            }
        }
        failure => {
            // Standard error may be closed; the exit code still tells.
            let _ = print_with_sources(&failure, errors);
            if failure.is_wrong_usage() {
                WRONG_USAGE
            } else {
                FAILED
            }
        }
    }
}

/// How many causes of causes are printed.
const SOURCES_MAX: usize = 16;

fn print_with_sources(failure: &Failure, errors: &mut dyn Write) -> io::Result<()> {
    let shown = failure.to_string();
    for line in shown.lines() {
        writeln!(errors, "grapevine: {line}")?;
    }
    let mut said = shown;
    let mut source = failure.source();
    for _ in 0..SOURCES_MAX {
        let Some(cause) = source else { break };
        let text = cause.to_string();
        // Many errors repeat their cause in their own words.
        if !said.contains(&text) {
            writeln!(errors, "  because: {text}")?;
        }
        said = text;
        source = cause.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(ended: Result<Outcome, Failure>) -> (u8, String) {
        let mut errors = Vec::new();
        let number = number(ended, &mut errors);
        (number, String::from_utf8_lossy(&errors).into_owned())
    }

    #[test]
    fn each_end_has_its_exit_code() {
        assert_eq!(ended(Ok(Outcome::Done)), (0, String::new()));
        assert_eq!(ended(Ok(Outcome::Failed)), (1, String::new()));
        assert_eq!(ended(Ok(Outcome::Absent)), (3, String::new()));
    }

    #[test]
    fn a_wrong_argument_is_wrong_usage() {
        let wrong = Failure::from_argument(Door(io::Error::other("no key")));
        assert_eq!(ended(Err(wrong)).0, 2);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(ended(Err(Failure::Output(gone))), (0, String::new()));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let (number, said) = ended(Err(Failure::Output(full)));
        assert_eq!(number, 1);
        assert!(said.starts_with("grapevine: standard output: "), "{said}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] io::Error);

    #[test]
    fn a_failure_is_printed_with_its_cause() {
        let failure = Failure::from_error(Door(io::Error::other("no key")));
        let said = "grapevine: cannot open the door\n  because: no key\n".to_owned();
        assert_eq!(ended(Err(failure)), (1, said));
    }
}
