//! One node: filters on a simulated disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grapevine_store::collections::{Collections, OpenError, Recovered};
use grapevine_store::disk::{
    CrashPlan, Disk, DiskFile, NameFate, OpenMode, SimulatedDisk, WriteFate,
};
use grapevine_store::filters::{Entropy, Options};
use grapevine_store::log::LogConfig;
use grapevine_store::manifest::MANIFEST_FILE;

use crate::random::Random;

/// A fault built into the node, to show that the ledger finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutation {
    /// None: the node as it is.
    #[default]
    None,
    /// Syncs of files do nothing.
    SyncsIgnored,
    /// Syncs of directories do nothing.
    NameSyncsIgnored,
    /// Manifests are not put in their place.
    ManifestForgotten,
    /// Requests are acknowledged before they are committed.
    AcknowledgedEarly,
}

/// Settings of one seed's node.
#[must_use]
pub fn options(random: &mut Random) -> Options {
    Options {
        log: LogConfig {
            segment_size: 512 << random.below(8),
            ..LogConfig::default()
        },
        memory: if random.one_in(4) { 3 << 10 } else { 1 << 30 },
        checkpoint_log: 1 << 20,
        idle_unload: Some(Duration::from_secs(2)),
    }
}

/// Distinct bytes each time, the same ones for each run of a seed.
pub fn entropy(seed: u64, drawn: &Arc<AtomicU64>) -> Entropy {
    let drawn = Arc::clone(drawn);
    Arc::new(move || {
        let number = drawn.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::new(seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let (low, high) = (random.bits(), random.bits());
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    })
}

/// How a disk comes out of a power cut.
#[must_use]
pub fn crash_plan(random: &mut Random) -> CrashPlan {
    let writes = [
        WriteFate::Lost,
        WriteFate::Kept,
        WriteFate::Torn,
        WriteFate::Reordered,
        WriteFate::Flipped,
        WriteFate::Random,
    ][random.below(6) as usize];
    let names = [
        NameFate::Lost,
        NameFate::Kept,
        NameFate::Prefix,
        NameFate::Reordered,
    ][random.below(4) as usize];
    CrashPlan {
        writes,
        names,
        seed: random.bits(),
    }
}

/// Opens the node's directory.
pub fn open(
    disk: &SimulatedDisk,
    mutation: Mutation,
    options: Options,
    entropy: Entropy,
) -> Result<(Collections, Recovered), OpenError> {
    let plain = Arc::new(disk.clone());
    let disk: Arc<dyn Disk> = match mutation {
        Mutation::SyncsIgnored | Mutation::NameSyncsIgnored | Mutation::ManifestForgotten => {
            Arc::new(Forgetful {
                disk: plain,
                what: mutation,
            })
        }
        Mutation::None | Mutation::AcknowledgedEarly => plain,
    };
    Collections::open(disk, options, entropy)
}

/// A disk that forgets to do something.
struct Forgetful {
    disk: Arc<SimulatedDisk>,
    what: Mutation,
}

struct ForgetfulFile(Arc<dyn DiskFile>);

impl Disk for Forgetful {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(if self.what == Mutation::SyncsIgnored {
            Arc::new(ForgetfulFile(file))
        } else {
            file
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.what == Mutation::ManifestForgotten
            && to == MANIFEST_FILE
            && self.disk.exists(MANIFEST_FILE)?
        {
            return Ok(());
        }
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        if self.what == Mutation::NameSyncsIgnored {
            Ok(())
        } else {
            self.disk.sync_dir(dir)
        }
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.disk.free_space()
    }
}

impl DiskFile for ForgetfulFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
