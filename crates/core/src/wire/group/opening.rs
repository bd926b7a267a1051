//! The first and the last frame of a side: who it is and what it speaks, and why it leaves. Both
//! are read before the sides know what version the other speaks, so later versions may only add
//! to their ends, and a reader ignores what it does not know there.

use std::fmt;

use thiserror::Error;

/// The newest version of the protocol that this program speaks.
pub const PROTOCOL_NEWEST: u16 = 3;
/// The oldest version of the protocol that this program speaks.
pub const PROTOCOL_OLDEST: u16 = 3;

/// The longest greeting, in bytes.
pub const GREETING_BYTES_MAX: usize = 16 << 10;

/// The largest content of an opening frame: this version's and as much again for later ones.
pub const OPENING_BYTES_MAX: usize = 2 * GREETING_BYTES_MAX;

/// The longest text of a goodbye, in bytes.
pub const GOODBYE_TEXT_BYTES_MAX: usize = 256;

/// The largest content of a goodbye frame.
pub(super) const GOODBYE_BYTES_MAX: usize = 2 + GOODBYE_TEXT_BYTES_MAX;

/// Bytes of an opening before its greeting.
const FIXED_BYTES: usize = 2 + 2 + 8 + 4;

/// What a side says first, to a peer that has proved its membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The newest version of this protocol it speaks.
    pub newest: u16,
    /// The oldest version it speaks.
    pub oldest: u16,
    /// A random number of this run of the program: another one means that it was restarted.
    pub incarnation: u64,
    /// What the layer above says of itself, at most [`GREETING_BYTES_MAX`].
    pub greeting: Vec<u8>,
}

/// Why the content of a frame is no opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// It ends before its last field.
    #[error("an opening of {0} bytes ends before its last field")]
    Truncated(usize),
    /// Its greeting is over the limit.
    #[error("an opening has a greeting of {claimed} bytes, the limit is {GREETING_BYTES_MAX}")]
    GreetingTooLong {
        /// What it says.
        claimed: u32,
    },
    /// Its oldest version is newer than its newest.
    #[error("an opening names the versions {oldest} to {newest}")]
    Versions {
        /// The oldest it names.
        oldest: u16,
        /// The newest it names.
        newest: u16,
    },
}

impl Opening {
    /// The content of its frame. A greeting over the limit is refused when it is set, not here.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.greeting.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(FIXED_BYTES + self.greeting.len());
        out.extend_from_slice(&self.newest.to_le_bytes());
        out.extend_from_slice(&self.oldest.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.greeting);
        out
    }

    /// Reads the content of its frame; what stands after the greeting is for later versions.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn decode(content: &[u8]) -> Result<Self, OpeningError> {
        let truncated = OpeningError::Truncated(content.len());
        let (newest, rest) = content.split_first_chunk().ok_or(truncated)?;
        let (oldest, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (incarnation, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (length, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (newest, oldest) = (u16::from_le_bytes(*newest), u16::from_le_bytes(*oldest));
        if oldest > newest {
            return Err(OpeningError::Versions { oldest, newest });
        }
        let claimed = u32::from_le_bytes(*length);
        let length = usize::try_from(claimed).unwrap_or(usize::MAX);
        if length > GREETING_BYTES_MAX {
            return Err(OpeningError::GreetingTooLong { claimed });
        }
        Ok(Opening {
            newest,
            oldest,
            incarnation: u64::from_le_bytes(*incarnation),
            greeting: rest.get(..length).ok_or(truncated)?.to_vec(),
        })
    }

    /// The version that two sides use: the newest that both speak. None when there is none.
    #[must_use]
    pub fn version_with(&self, other: &Opening) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// Why a side leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The node stops.
    Stopping,
    /// The two have another connection, which is kept.
    Duplicate,
    /// They speak no version in common.
    Version,
    /// The other belongs to another group.
    OtherGroup,
    /// The other is not, or no longer, a member.
    NotMember,
    /// The secret that the other was admitted by is no longer accepted.
    SecretRemoved,
    /// The other sent what the protocol does not allow.
    Malformed,
    /// No more peers are taken.
    Full,
    /// The node has left its group, and belongs to none.
    Left,
    /// A reason that this version does not know.
    Other(u16),
}

impl Reason {
    const NAMED: [Reason; 9] = [
        Reason::Stopping,
        Reason::Duplicate,
        Reason::Version,
        Reason::OtherGroup,
        Reason::NotMember,
        Reason::SecretRemoved,
        Reason::Malformed,
        Reason::Full,
        Reason::Left,
    ];

    /// Its number in a goodbye.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Reason::Stopping => 1,
            Reason::Duplicate => 2,
            Reason::Version => 3,
            Reason::OtherGroup => 4,
            Reason::NotMember => 5,
            Reason::SecretRemoved => 6,
            Reason::Malformed => 7,
            Reason::Full => 8,
            Reason::Left => 9,
            Reason::Other(code) => code,
        }
    }

    /// The reason with a number.
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        let named = Self::NAMED.into_iter().find(|known| known.code() == code);
        named.unwrap_or(Reason::Other(code))
    }

    /// Whether it will still hold in a few seconds, so that to come back soon is of no use.
    #[must_use]
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Reason::Version | Reason::OtherGroup | Reason::NotMember | Reason::Left
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Stopping => "the node stops",
            Reason::Duplicate => "there is another connection",
            Reason::Version => "no version of the protocol in common",
            Reason::OtherGroup => "another group",
            Reason::NotMember => "not a member",
            Reason::SecretRemoved => "its secret is no longer accepted",
            Reason::Malformed => "it sent what the protocol does not allow",
            Reason::Full => "no more peers are taken",
            Reason::Left => "it has left its group",
            Reason::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

/// The last frame of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// Why it leaves.
    pub reason: Reason,
    /// Details for a person to read, at most [`GOODBYE_TEXT_BYTES_MAX`].
    pub text: String,
}

impl From<Reason> for Goodbye {
    fn from(reason: Reason) -> Self {
        Goodbye {
            reason,
            text: String::new(),
        }
    }
}

impl fmt::Display for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if self.text.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.text)
    }
}

impl Goodbye {
    /// With details; what is over the limit is cut off at a character.
    #[must_use]
    pub fn new(reason: Reason, text: &str) -> Self {
        let end = text.floor_char_boundary(GOODBYE_TEXT_BYTES_MAX);
        Goodbye {
            reason,
            text: text[..end].to_owned(),
        }
    }

    /// The content of its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let end = self.text.floor_char_boundary(GOODBYE_TEXT_BYTES_MAX);
        let mut out = self.reason.code().to_le_bytes().to_vec();
        out.extend_from_slice(&self.text.as_bytes()[..end]);
        out
    }

    /// Reads the content of its frame. None when there is no room for a reason. The text goes to
    /// logs and terminals, so control characters and what is not UTF-8 are replaced.
    #[must_use]
    pub fn decode(content: &[u8]) -> Option<Self> {
        let (code, text) = content.split_first_chunk()?;
        let text = String::from_utf8_lossy(text);
        let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Some(Goodbye::new(
            Reason::from_code(u16::from_le_bytes(*code)),
            &text.chars().map(printable).collect::<String>(),
        ))
    }
}
