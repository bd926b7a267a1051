//! The data directory: who may read it, what it lies on, and how long a sync takes there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grapevine_store::disk::{Disk, RealDisk, lock_holder};

use super::Check;

/// Below this a node soon stops taking writes.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Syncs that are timed; the median counts.
const SYNCS: usize = 5;
/// What is written before each.
const SYNC_BYTES: usize = 4096;
/// A sync that takes longer makes `durability.sync = "always"` slow.
const SYNC_SLOW: Duration = Duration::from_millis(50);

pub(super) fn check(directory: &Path, checks: &mut Vec<Check>) {
    let shown = format!("data directory {}", directory.display());
    match lock_holder(directory) {
        Ok(Some(pid)) => checks.push(Check::ok(&*shown, format!("in use by pid {pid}"))),
        Ok(None) => {}
        Err(error) => checks.push(Check::warn(
            &*shown,
            format!("whether a node uses it is not known: {error}"),
            "run this as the node's user",
        )),
    }
    let exists = match fs::metadata(directory) {
        Ok(metadata) => {
            checks.push(permissions(shown, &metadata));
            metadata.is_dir()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            checks.push(Check::ok(shown, "absent: the first start makes it"));
            false
        }
        Err(error) => {
            let advice = "let the node's user reach it";
            return checks.push(Check::fail(shown, error.to_string(), advice));
        }
    };
    let place = directory.ancestors().find(|place| place.is_dir());
    let Some(place) = place else { return };
    checks.push(free_space(place));
    checks.push(file_system(place));
    // A directory that is to be made later is not made for a measurement.
    checks.push(sync(place, exists));
}

fn permissions(subject: String, metadata: &fs::Metadata) -> Check {
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_dir() {
        Check::fail(
            subject,
            "is no directory",
            "set node.data_dir to a directory",
        )
    } else if mode & 0o077 != 0 {
        let advice = "it holds what users stored: chmod 700";
        Check::warn(
            subject,
            format!("others may reach it (mode {mode:o})"),
            advice,
        )
    } else {
        Check::ok(subject, format!("its owner's alone (mode {mode:o})"))
    }
}

fn free_space(place: &Path) -> Check {
    const SUBJECT: &str = "free space";
    const ADVICE: &str = "make room: a node that cannot write takes no more writes";
    match RealDisk::new(place.to_owned()).free_space() {
        Ok(free) if free < FREE_BYTES_MIN => Check::warn(SUBJECT, format!("{free} bytes"), ADVICE),
        Ok(free) => Check::ok(SUBJECT, format!("{free} bytes")),
        Err(error) => Check::warn(SUBJECT, error.to_string(), ADVICE),
    }
}

fn file_system(place: &Path) -> Check {
    const SUBJECT: &str = "file system";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    match kind_of(&mounts, &place) {
        Some(kind @ ("tmpfs" | "ramfs")) => {
            Check::warn(SUBJECT, kind, "everything on it is lost with the power")
        }
        Some(kind) if kind.starts_with("nfs") || kind.starts_with("fuse") || kind == "cifs" => {
            Check::warn(
                SUBJECT,
                kind,
                "locks and syncs may not hold there: use a local disk",
            )
        }
        Some(kind) => Check::ok(SUBJECT, kind),
        None => Check::ok(SUBJECT, "not known"),
    }
}

/// The type of the file system that a path lies on: that of the innermost mount point above it,
/// the last one where several are mounted in one place.
fn kind_of<'a>(mounts: &'a str, place: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = PathBuf::from(mount.split(' ').nth(4)?.replace("\\040", " "));
        let depth = point.components().count();
        place
            .starts_with(point)
            .then_some((depth, kind.split(' ').next()?))
    });
    mounted
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

fn sync(place: &Path, exists: bool) -> Check {
    let subject = if exists {
        "sync".to_owned()
    } else {
        format!("sync in {}", place.display())
    };
    match time_syncs(place) {
        Ok(median) if median > SYNC_SLOW => Check::warn(
            subject,
            format!("{median:.1?} each"),
            "durability.sync = \"always\" will be slow on this disk",
        ),
        Ok(median) => Check::ok(subject, format!("{median:.1?} each")),
        Err(error) => {
            let advice = "let the node's user write there";
            Check::fail(subject, error.to_string(), advice)
        }
    }
}

/// The median time of a sync of a few bytes, in a file of its own that is removed again.
fn time_syncs(place: &Path) -> io::Result<Duration> {
    let path = place.join(format!(".grapevine-doctor-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let mut time = || -> io::Result<Duration> {
        let begun = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])?;
        file.sync_all()?;
        Ok(begun.elapsed())
    };
    let times: io::Result<Vec<Duration>> = (0..SYNCS).map(|_| time()).collect();
    fs::remove_file(&path)?;
    let mut times = times?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                      2 1 0:5 / /data\\040dir rw shared:1 - tmpfs none rw\n\
                      3 2 0:6 / /data\\040dir/x rw - xfs /dev/b rw\n";
        let kind = |place: &str| kind_of(mounts, Path::new(place));
        assert_eq!(kind("/var/lib"), Some("ext4"));
        assert_eq!(kind("/data dir/y"), Some("tmpfs"));
        assert_eq!(kind("/data dir/x/y"), Some("xfs"));
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn a_sync_is_timed_and_leaves_nothing() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        assert!(time_syncs(place.path())? > Duration::ZERO);
        assert_eq!(fs::read_dir(place.path())?.count(), 0);
        assert!(time_syncs(&place.path().join("absent")).is_err());
        Ok(())
    }
}
