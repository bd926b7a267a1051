//! Versions of new rows.
//!
//! A new row's version is that of the row before it, one, and a random step. The step makes it
//! improbable that two nodes that change a key at the same time choose the same version, in which
//! case the bytes decide and not the people: with 32 bits once in four thousand million. A random
//! step also carries rows upwards, and versions end at 2^63 - 1. So a step takes at most a
//! millionth of what is left: a row would have to be changed some forty million times before the
//! room for steps is used up, wherever it began.

/// A step is at most what is left of the versions, shifted right by this: a millionth of it.
pub const STEP_SHIFT: u32 = 20;

/// Largest version that a row from outside the group, of a file or a stranger on a link, may have
/// for a key that is not here: half of what there is. What is above it is left to those who
/// change the row afterwards.
pub const OUTSIDE_VERSION_MAX: i64 = 1 << 62;

/// By how much the version of a row from outside may exceed that of the row that is here, when it is
/// above [`OUTSIDE_VERSION_MAX`]. A row that was changed once or twice while the two did not hear
/// each other is within it; a row whose version is to leave no room above it is not.
pub const OUTSIDE_ADVANCE_MAX: i64 = 1 << 33;

/// Largest version that a floor carries: three quarters of what there is. A floor stands for many
/// keys, so it must leave room above it for all of them. A row with a larger version is not
/// removed: it holds up its own key alone.
pub const FLOOR_MAX: i64 = OUTSIDE_VERSION_MAX + (1 << 61);

/// There is no version above this one: the row cannot be changed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row's version is {version}, the largest there is: it cannot be changed")]
pub struct VersionsExhausted {
    /// The row's version.
    pub version: i64,
}

/// The version of a new row above `old` (the row that is there) and `floor` (what removed
/// tombstones left behind); above 0 where there is neither. `step` is random.
pub fn next_version(
    old: Option<i64>,
    floor: Option<i64>,
    step: u32,
) -> Result<i64, VersionsExhausted> {
    let base = old.max(floor).unwrap_or(0);
    // Up to 2^64 - 1 from the smallest version on.
    let left = i64::MAX.abs_diff(base);
    if left == 0 {
        return Err(VersionsExhausted { version: base });
    }
    let step = u64::from(step) % ((left >> STEP_SHIFT) + 1);
    Ok(base.saturating_add_unsigned(1 + step))
}

/// Whether a row with version `theirs` from outside the group may be taken in where the key has
/// version `ours` here. No version that is let in leaves the key without room for later ones: half
/// of them is out of reach, and into that half a row moves only by [`OUTSIDE_ADVANCE_MAX`] at a
/// time.
pub fn accepts_from_outside(ours: Option<i64>, theirs: i64) -> bool {
    let advances_little = |ours: i64| {
        theirs
            .checked_sub(ours)
            .is_some_and(|advance| advance <= OUTSIDE_ADVANCE_MAX)
    };
    theirs <= OUTSIDE_VERSION_MAX || ours.is_some_and(advances_little)
}
