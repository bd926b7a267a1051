//! The program that `filter` gives the rows to.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use grapevine_core::plain_table::TABLE_BYTES_MAX;

/// Why there is nothing to filter by. The table is as it was before.
#[derive(Debug, thiserror::Error)]
pub(in crate::applet) enum ProgramError {
    #[error("filter needs a program")]
    None,
    #[error("cannot run {}: {source}", program.display())]
    Start {
        program: OsString,
        source: io::Error,
    },
    #[error("cannot talk to {}: {source}", program.display())]
    Talk {
        program: OsString,
        source: io::Error,
    },
    #[error("{} prints more than a table may have ({TABLE_BYTES_MAX} bytes)", program.display())]
    TooLong { program: OsString },
    #[error("{} failed: {status}", program.display())]
    Failed {
        program: OsString,
        status: ExitStatus,
    },
}

/// Runs the command (the program, then its arguments) with `input` and gives what it prints, once
/// it has ended well. It need not read its input.
pub(super) fn run(command: &[OsString], input: &[u8]) -> Result<Vec<u8>, ProgramError> {
    let (program, arguments) = command.split_first().ok_or(ProgramError::None)?;
    let program = || program.clone();
    let started = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|source| ProgramError::Start {
        program: program(),
        source,
    })?;
    let talked = talk(&mut child, input);
    if !matches!(&talked, Ok(printed) if printed.len() <= TABLE_BYTES_MAX) {
        // It may have ended by itself meanwhile.
        drop(child.kill());
    }
    let status = child.wait();
    let talking = |source| ProgramError::Talk {
        program: program(),
        source,
    };
    let printed = talked.map_err(talking)?;
    if printed.len() > TABLE_BYTES_MAX {
        return Err(ProgramError::TooLong { program: program() });
    }
    let status = status.map_err(talking)?;
    if !status.success() {
        return Err(ProgramError::Failed {
            program: program(),
            status,
        });
    }
    Ok(printed)
}

/// Writes and reads at the same time, since neither side may have room for all of it.
fn talk(child: &mut Child, input: &[u8]) -> io::Result<Vec<u8>> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().spawn_scoped(scope, move || match stdin {
            None => Ok(()),
            Some(mut stdin) => match stdin.write_all(input) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => written,
            },
        })?;
        let mut printed = Vec::new();
        if let Some(stdout) = stdout {
            // Dropped with the pipe, which a program that prints too much then finds closed.
            let mut bounded = stdout.take(TABLE_BYTES_MAX as u64 + 1);
            bounded.read_to_end(&mut printed)?;
        }
        match writer.join() {
            Ok(written) => written.map(|()| printed),
            Err(_) => Err(io::Error::other("the thread that wrote has panicked")),
        }
    })
}
