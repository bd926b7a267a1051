//! The member that a restored directory is to replace, until the group knows that it has left.
//!
//! The file `replacing` is text: `grapevine-replacing 1`, a line `member KEY NAME` for each member
//! (the key in hexadecimal, the name without control characters), and a checksum of the lines
//! before it. It exists from the restore until the node has entered what it says.

use std::io;

use grapevine_core::membership::NodeId;
use grapevine_core::origin::Origin;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::collections::Collections;
use crate::disk::{Disk, read_file, replace_file};

/// Name of the file in the data directory.
pub const REPLACING_FILE: &str = "replacing";
/// Members that one directory may be to replace: one for each time it was made anew before it met
/// its group.
pub const REPLACING_MAX: usize = 16;
/// The longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The largest file.
const BYTES_MAX: u64 = 8192;
const FIRST_LINE: &str = "grapevine-replacing 1\n";

/// A member of a group whose data directory was lost or made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMember {
    /// Its key.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
}

/// Why the file cannot be read or written.
#[derive(Debug, Error)]
pub enum ReplacingError {
    /// The file is not what this program wrote.
    #[error("{REPLACING_FILE} is corrupt: {0}")]
    Corrupt(&'static str),
    /// There are too many members in it.
    #[error(
        "{REPLACING_FILE} names {REPLACING_MAX} members, the limit: enter them with `grapevine group leave KEY`, and remove the file"
    )]
    Full,
    /// The disk refused.
    #[error("{REPLACING_FILE}: {0}")]
    Io(#[from] io::Error),
}

impl LostMember {
    /// The member of the group that a directory is, by its own row.
    pub(super) fn of(collections: &Collections, origin: Origin) -> Option<Self> {
        let members = collections.members();
        let mut joined = members.joined();
        let (node, member) = joined.find(|(_, member)| member.origin == origin)?;
        let name = member.name.replace(char::is_control, "\u{fffd}");
        let end = name.floor_char_boundary(NAME_BYTES_MAX);
        Some(LostMember {
            node,
            name: name[..end].to_owned(),
        })
    }
}

/// Reads the members to replace; none when there is no file.
///
/// # Errors
/// When the file is corrupt or cannot be read.
pub fn read(disk: &dyn Disk) -> Result<Vec<LostMember>, ReplacingError> {
    match read_file(disk, REPLACING_FILE, BYTES_MAX) {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Replaces what the file says, atomically and durably; without members it is removed.
///
/// # Errors
/// When there are too many members, or the disk refuses.
pub fn write(disk: &dyn Disk, members: &[LostMember]) -> Result<(), ReplacingError> {
    if members.len() > REPLACING_MAX {
        return Err(ReplacingError::Full);
    }
    if !members.is_empty() {
        return Ok(replace_file(
            disk,
            REPLACING_FILE,
            encode(members).as_bytes(),
        )?);
    }
    if disk.exists(REPLACING_FILE)? {
        disk.remove(REPLACING_FILE)?;
        disk.sync_dir("")?;
    }
    Ok(())
}

fn encode(members: &[LostMember]) -> String {
    let lines = members
        .iter()
        .map(|lost| format!("member {} {}\n", lost.node, lost.name));
    let lines: String = std::iter::once(FIRST_LINE.to_owned())
        .chain(lines)
        .collect();
    format!("{lines}checksum {:016x}\n", xxh3_64(lines.as_bytes()))
}

fn decode(bytes: &[u8]) -> Result<Vec<LostMember>, ReplacingError> {
    use ReplacingError::Corrupt;
    let text = std::str::from_utf8(bytes).map_err(|_| Corrupt("not text"))?;
    let end = text.rfind("checksum ").ok_or(Corrupt("no checksum line"))?;
    let (lines, checksum) = text.split_at(end);
    if checksum != format!("checksum {:016x}\n", xxh3_64(lines.as_bytes())) {
        return Err(Corrupt("the checksum does not match"));
    }
    let lines = lines.strip_prefix(FIRST_LINE);
    let lines = lines.ok_or(Corrupt("its first line is another one"))?;
    let members = lines.lines().map(|line| {
        let rest = line.strip_prefix("member ");
        let (key, name) = rest
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_default();
        let node = key_of(key).ok_or(Corrupt("a line is no member"))?;
        let name = name.to_owned();
        Ok(LostMember { node, name })
    });
    let members: Vec<LostMember> = members.collect::<Result<_, ReplacingError>>()?;
    if members.len() > REPLACING_MAX {
        return Err(ReplacingError::Full);
    }
    Ok(members)
}

fn key_of(text: &str) -> Option<NodeId> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(NodeId::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(byte: u8, name: &str) -> LostMember {
        LostMember {
            node: NodeId::new([byte; 32]),
            name: name.to_owned(),
        }
    }

    #[test]
    fn members_come_back_as_they_were_written() {
        for members in [
            vec![lost(1, "alpha")],
            vec![lost(1, ""), lost(0xab, "a name with checksum 12 in it")],
        ] {
            let text = encode(&members);
            assert_eq!(decode(text.as_bytes()).expect("whole"), members);
            assert!(text.len() as u64 <= BYTES_MAX);
            for at in 0..text.len() {
                let mut damaged = text.clone().into_bytes();
                damaged[at] ^= 1;
                assert!(decode(&damaged).is_err(), "byte {at}");
                assert!(decode(&text.as_bytes()[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn the_largest_file_can_be_read() {
        let most = vec![lost(1, &"n".repeat(NAME_BYTES_MAX)); REPLACING_MAX];
        let text = encode(&most);
        assert!(text.len() as u64 <= BYTES_MAX, "{}", text.len());
        assert_eq!(decode(text.as_bytes()).expect("whole"), most);
        let more = encode(&vec![lost(1, ""); REPLACING_MAX + 1]);
        assert!(matches!(decode(more.as_bytes()), Err(ReplacingError::Full)));
    }
}
