//! What a power cut leaves of changes that were never synced.

use super::tree::{Change, Inode, Names, Tree};

/// Bytes that a device writes whole or not at all.
const SECTOR_LEN: usize = 512;

/// What happens to the unsynced writes of each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFate {
    /// None reached the device.
    Lost,
    /// All reached it.
    Kept,
    /// The last one reached it in part: its first sectors, or any mixture of them.
    Torn,
    /// Each one reached it or not, whatever came before.
    Reordered,
    /// All reached it, and one bit among them is wrong.
    Flipped,
    /// One of the others, drawn per file.
    Random,
}

/// What happens to the unsynced changes of names in each directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFate {
    /// None is kept.
    Lost,
    /// All are kept.
    Kept,
    /// The first few are kept, in order, as a journal does.
    Prefix,
    /// Each is kept or not, whatever came before, as POSIX allows.
    Reordered,
}

/// A power cut: what it leaves, and the seed of every choice in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPlan {
    /// Fate of bytes.
    pub writes: WriteFate,
    /// Fate of names.
    pub names: NameFate,
    /// Seed of the choices.
    pub seed: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for choices in a test, and the same everywhere.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.next() % bound as u64) as usize
        }
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

impl Tree {
    pub(super) fn crash(&mut self, plan: CrashPlan) {
        let mut random = SplitMix64(plan.seed);
        for (_, changes) in std::mem::take(&mut self.pending) {
            let prefix = random.below(changes.len() + 1);
            for (index, change) in changes.iter().enumerate() {
                let kept = match plan.names {
                    NameFate::Lost => false,
                    NameFate::Kept => true,
                    NameFate::Prefix => index < prefix,
                    NameFate::Reordered => random.coin(),
                };
                if kept {
                    self.durable.apply(change);
                }
            }
        }
        drop_orphans(&mut self.durable);
        self.live = self.durable.clone();
        for inode in self.inodes.values_mut() {
            crash_file(inode, plan.writes, &mut random);
        }
        let named = &self.durable.files;
        self.inodes
            .retain(|inode, _| named.values().any(|kept| kept == inode));
    }
}

/// A directory whose own name was lost takes everything under it along.
fn drop_orphans(names: &mut Names) {
    let dirs = names.dirs.clone();
    let rooted = |path: &String| {
        path.match_indices('/')
            .all(|(end, _)| path.get(..end).is_some_and(|dir| dirs.contains(dir)))
    };
    names.dirs.retain(rooted);
    names.files.retain(|path, _| rooted(path));
}

fn crash_file(inode: &mut Inode, fate: WriteFate, random: &mut SplitMix64) {
    let pending = std::mem::take(&mut inode.pending);
    let fate = match fate {
        WriteFate::Random => [
            WriteFate::Lost,
            WriteFate::Kept,
            WriteFate::Torn,
            WriteFate::Reordered,
            WriteFate::Flipped,
        ][random.below(5)],
        given => given,
    };
    let mut flips = Vec::new();
    for (index, change) in pending.iter().enumerate() {
        let last = index + 1 == pending.len();
        match fate {
            WriteFate::Lost => {}
            WriteFate::Torn if last => tear(change, &mut inode.durable, random),
            WriteFate::Reordered if random.coin() => {}
            _ => change.apply(&mut inode.durable),
        }
        if let (WriteFate::Flipped, Change::Write { offset, bytes }) = (fate, change) {
            flips.push((*offset as usize, bytes.len()));
        }
    }
    if !flips.is_empty() {
        let (start, len) = flips[random.below(flips.len())];
        let at = start + random.below(len);
        // A later cut may have taken the byte away.
        if let Some(byte) = inode.durable.get_mut(at).filter(|_| len > 0) {
            *byte ^= 1 << random.below(8);
        }
    }
    inode.live = inode.durable.clone();
}

/// Applies some of the sectors that a write covers.
fn tear(change: &Change, durable: &mut Vec<u8>, random: &mut SplitMix64) {
    let Change::Write { offset, bytes } = change else {
        return;
    };
    let mut parts = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let sector_left = SECTOR_LEN - (*offset as usize + from) % SECTOR_LEN;
        let to = bytes.len().min(from + sector_left);
        parts.push((from, to));
        from = to;
    }
    let mixed = random.coin();
    let kept = random.below(parts.len() + 1);
    for (index, (from, to)) in parts.into_iter().enumerate() {
        if if mixed { random.coin() } else { index < kept } {
            let part = Change::Write {
                offset: offset + from as u64,
                bytes: bytes[from..to].to_vec(),
            };
            part.apply(durable);
        }
    }
}
