//! Which keys listeners take. A key is a path below some directory, of a program or of key files,
//! so it must not lead out of it.

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// It names nothing.
    #[error("the key is empty")]
    Empty,
    /// It begins with `/`.
    #[error("the key begins with \"/\"")]
    Absolute,
    /// `..` is somewhere in it, also inside of a name.
    #[error("there is \"..\" in the key")]
    Upwards,
    /// A NUL ends keys.
    #[error("there is a NUL in the key")]
    Nul,
}

/// Checks a key by the rules that all listeners follow.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_key(key: &[u8]) -> Result<(), KeyRefusal> {
    if key.first() == Some(&b'/') {
        return Err(KeyRefusal::Absolute);
    }
    if key.windows(2).any(|two| two == b"..") {
        return Err(KeyRefusal::Upwards);
    }
    if key.contains(&0) {
        return Err(KeyRefusal::Nul);
    }
    if key.is_empty() {
        return Err(KeyRefusal::Empty);
    }
    Ok(())
}
