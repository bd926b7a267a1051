//! `p2ptbl COMMAND TABLE …`: tables in plain files, without any node. What the commands do, and
//! where that differs from the original, is in `docs/protocols/p2ptbl.md`.

mod program;
mod sending;
mod table_file;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use grapevine_core::plain_table::{self, LastVersion, TooLarge};
use grapevine_core::wire::p2ptbl::{HBBP_KEY_PREFIX, Packet, Row, RowError, number, pack, rows};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::gzip;
use program::ProgramError;
use sending::{SendError, send};
pub(super) use table_file::{TableFileError, change, create, find, read};

/// A version grows by 1 and up to this much at random, so that two who change a row at the same
/// time hardly ever reach the same one. The original's, whose shell has random numbers of 15 bits.
const STEP_MAX: u16 = 0x7fff;

/// Why a command ends with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub(super) enum P2ptblError {
    #[error("wrong usage")]
    Usage,
    #[error(transparent)]
    File(#[from] TableFileError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("{}: {source}", path.display())]
    LastVersion { path: PathBuf, source: LastVersion },
    #[error("{}: {source}", path.display())]
    TooLarge { path: PathBuf, source: TooLarge },
    #[error("{}: with this it would have {bytes} bytes, more than it may ({limit})", path.display())]
    Full {
        path: PathBuf,
        bytes: usize,
        limit: usize,
    },
    /// Not said: the original does not either.
    #[error("both tables are empty")]
    BothEmpty,
    /// Said on standard output, as the original does.
    #[error("{} has rows bigger then requested packet size", path.display())]
    NothingFits { path: PathBuf },
    #[error("{source}; the table is as it was")]
    Program { source: ProgramError },
    #[error("{}: the path ends in no name", path.display())]
    Unnamed { path: PathBuf },
    #[error("packing: {0}")]
    Pack(io::Error),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("no random numbers: {0}")]
    Entropy(getrandom::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
}

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let program = super::called_as("p2ptbl");
    let mut output = io::stdout().lock();
    let ended = obey(arguments, &mut output).and_then(|()| match output.flush() {
        Ok(()) => Ok(()),
        Err(error) => Err(P2ptblError::Output(error)),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error, &program, &mut output),
    }
}

/// Says what went wrong, where the original says it, and gives the exit code.
fn report(error: &P2ptblError, program: &OsStr, output: &mut impl Write) -> ExitCode {
    let mut errors = io::stderr().lock();
    let usage = usage(program);
    // Both may be closed; the exit code still tells.
    drop(match error {
        P2ptblError::Usage => errors.write_all(&usage),
        P2ptblError::File(TableFileError::NotATable { .. })
        | P2ptblError::Program {
            source: ProgramError::None,
        } => writeln!(errors, "{error}").and_then(|()| errors.write_all(&usage)),
        P2ptblError::BothEmpty => Ok(()),
        P2ptblError::NothingFits { .. } => writeln!(output, "{error}"),
        P2ptblError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        error => writeln!(errors, "p2ptbl: {error}"),
    });
    match error {
        P2ptblError::Send(SendError::Failed(status)) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        // The reader has what it wanted.
        P2ptblError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

fn usage(program: &OsStr) -> Vec<u8> {
    let mut text = b"Usage:\n".to_vec();
    for command in [
        "init   table",
        "get    table key",
        "show   table",
        "update table key value [interface]",
        "filter table program [args]",
        "merge  table foreign-table",
        "gossip table target-size interface",
    ] {
        text.extend_from_slice(b"  ");
        text.extend_from_slice(program.as_bytes());
        text.push(b' ');
        text.extend_from_slice(command.as_bytes());
        text.push(b'\n');
    }
    text
}

/// Does what the arguments say. As in the original, those beyond a command's own count for nothing.
fn obey(arguments: &[OsString], output: &mut impl Write) -> Result<(), P2ptblError> {
    let argument = |index: usize| {
        let argument = arguments.get(index).filter(|text| !text.is_empty());
        argument.map(OsString::as_os_str).ok_or(P2ptblError::Usage)
    };
    let command = argument(0)?;
    let table = || argument(1).map(Path::new);
    match command.as_bytes() {
        b"init" => Ok(create(table()?)?),
        b"get" => get(table()?, argument(2)?, output),
        b"show" => show(table()?, output),
        b"update" => {
            let (table, key, value) = (table()?, argument(2)?, argument(3)?);
            update(table, key, value, argument(4).ok())
        }
        b"filter" => filter(table()?, arguments.get(2..).unwrap_or_default()),
        b"merge" => merge(table()?, Path::new(argument(2)?)),
        b"gossip" => gossip(table()?, argument(2)?, argument(3)?),
        _ => Err(P2ptblError::Usage),
    }
}

fn get(table: &Path, key: &OsStr, output: &mut impl Write) -> Result<(), P2ptblError> {
    let text = read(table)?;
    let mut found = Vec::new();
    for value in plain_table::values(&text, key.as_bytes()) {
        found.extend_from_slice(value);
        found.push(b'\n');
    }
    output.write_all(&found).map_err(P2ptblError::Output)
}

fn show(table: &Path, output: &mut impl Write) -> Result<(), P2ptblError> {
    let shown = plain_table::show(&read(table)?);
    output.write_all(&shown).map_err(P2ptblError::Output)
}

fn update(
    table: &Path,
    key: &OsStr,
    value: &OsStr,
    interface: Option<&OsStr>,
) -> Result<(), P2ptblError> {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    Row::check(key, value)?;
    let mut random = random()?;
    let mut line = Vec::new();
    change(table, |text| {
        let next = plain_table::next_version(text, key, step(&mut random));
        let version = next.map_err(|source| P2ptblError::LastVersion {
            path: table.to_owned(),
            source,
        })?;
        let version = version.to_string();
        let row = Row {
            key,
            version: version.as_bytes(),
            value,
        };
        line.clear();
        row.encode(&mut line);
        plain_table::merge(&[text, &line]).map_err(too_large(table))
    })?;
    match interface {
        None => Ok(()),
        Some(interface) => {
            let payload = gzip::pack(&line).map_err(P2ptblError::Pack)?;
            Ok(send(interface, &hbbp_key(table)?, &payload)?)
        }
    }
}

fn filter(table: &Path, command: &[OsString]) -> Result<(), P2ptblError> {
    let mut random = random()?;
    let refused = |source| P2ptblError::Program { source };
    // Before the table is looked at, so that a missing word is told as such.
    if command.is_empty() {
        return Err(refused(ProgramError::None));
    }
    change(table, |text| {
        let too_large = || too_large(table);
        let input = plain_table::without_versions(text).map_err(too_large())?;
        let printed = program::run(command, &input).map_err(refused)?;
        plain_table::filter(text, &printed, || step(&mut random)).map_err(too_large())
    })
}

fn merge(table: &Path, foreign: &Path) -> Result<(), P2ptblError> {
    // Before the table, which may be the same file, is locked. A table that is not there is told
    // first, as in the original.
    find(table)?;
    let foreign = read(foreign)?;
    merge_text(table, &foreign, usize::MAX)
}

/// Merges the rows of `foreign` into the table, which may then be `bytes_max` long unless it was
/// longer before.
pub(super) fn merge_text(
    table: &Path,
    foreign: &[u8],
    bytes_max: usize,
) -> Result<(), P2ptblError> {
    change(table, |text| {
        let merged = plain_table::merge(&[text, foreign]).map_err(too_large(table))?;
        if merged.is_empty() {
            return Err(P2ptblError::BothEmpty);
        }
        if merged.len() > bytes_max.max(text.len()) {
            return Err(P2ptblError::Full {
                path: table.to_owned(),
                bytes: merged.len(),
                limit: bytes_max,
            });
        }
        Ok(merged)
    })
}

fn gossip(table: &Path, size: &OsStr, interface: &OsStr) -> Result<(), P2ptblError> {
    let size = number(size.as_bytes()).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size > 0).ok_or(P2ptblError::Usage)?;
    let text = read(table)?;
    // What others could not take as it is would be a burden on their tables.
    let mut chosen: Vec<Row<'_>> = rows(&text).filter(Row::is_well_formed).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    chosen.shuffle(&mut random()?);
    let packet = pack(&chosen, size, gzip::pack).map_err(P2ptblError::Pack)?;
    let Packet { payload, .. } = packet.ok_or_else(|| P2ptblError::NothingFits {
        path: table.to_owned(),
    })?;
    Ok(send(interface, &hbbp_key(table)?, &payload)?)
}

/// Where a table's packets go: to those who receive a table of its file's name.
fn hbbp_key(table: &Path) -> Result<OsString, P2ptblError> {
    let name = table.file_name().ok_or_else(|| P2ptblError::Unnamed {
        path: table.to_owned(),
    })?;
    let mut key = OsString::from(HBBP_KEY_PREFIX);
    key.push(name);
    Ok(key)
}

fn too_large(path: &Path) -> impl Fn(TooLarge) -> P2ptblError + '_ {
    |source| P2ptblError::TooLarge {
        path: path.to_owned(),
        source,
    }
}

fn random() -> Result<SmallRng, P2ptblError> {
    let seed = getrandom::u64().map_err(P2ptblError::Entropy)?;
    Ok(SmallRng::seed_from_u64(seed))
}

fn step(random: &mut SmallRng) -> u16 {
    // The low 15 bits of as many as there are.
    (random.next_u32() & u32::from(STEP_MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_grows_to_its_bound_and_not_beyond() {
        let directory = tempfile::tempdir().expect("a directory");
        let table = directory.path().join("table");
        std::fs::write(&table, "a\t1\tx\n").expect("written");
        let text = || std::fs::read_to_string(&table).expect("a table");
        merge_text(&table, b"b\t1\ty\n", 12).expect("just fits");
        let refused = merge_text(&table, b"c\t1\tz\n", 12);
        assert!(matches!(
            refused,
            Err(P2ptblError::Full {
                bytes: 18,
                limit: 12,
                ..
            })
        ));
        assert_eq!(text(), "a\t1\tx\nb\t1\ty\n");
        // One that is too long already still takes what makes it no longer.
        merge_text(&table, b"b\t2\tw\n", 5).expect("no longer than before");
        assert_eq!(text(), "a\t1\tx\nb\t2\tw\n");
    }
}
