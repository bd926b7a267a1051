//! How much memory this machine, or the control group of this process, may use.

use std::fs;
use std::path::Path;

/// How many levels of control groups are looked at.
const GROUP_LEVELS_MAX: usize = 64;

/// The memory of the machine in bytes, or of the tightest control group (cgroup v2) around this
/// process when that is less. Nothing when `/proc` does not say.
pub(crate) fn of_machine() -> Option<u64> {
    let installed = total_in_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(group_in_membership).unwrap_or("");
    Some(group_limit(Path::new("/sys/fs/cgroup"), group).map_or(installed, |l| l.min(installed)))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_in_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim_end()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The path of the version 2 group in `/proc/self/cgroup`.
fn group_in_membership(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The smallest `memory.max` from `group` up to the root of the hierarchy. A group path that a
/// container cannot see leaves the root's own limit.
fn group_limit(root: &Path, group: &str) -> Option<u64> {
    let path = root.join(group);
    let levels = path.ancestors().take_while(|level| level.starts_with(root));
    let limit = |level: &Path| -> Option<u64> {
        fs::read_to_string(level.join("memory.max"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    levels.take(GROUP_LEVELS_MAX).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_meminfo() {
        let text = "MemTotal:       16318388 kB\nMemFree:         1000000 kB\n";
        assert_eq!(total_in_meminfo(text), Some(16_318_388 * 1024));
        assert_eq!(total_in_meminfo("MemFree: 1 kB\n"), None);
        assert_eq!(total_in_meminfo("MemTotal: lots\n"), None);
        assert_eq!(
            total_in_meminfo("MemTotal: 18446744073709551615 kB\n"),
            None
        );
    }

    #[test]
    fn the_group_is_the_version_2_line() {
        assert_eq!(
            group_in_membership("1:cpu:/x\n0::/user.slice/a\n"),
            Some("user.slice/a")
        );
        assert_eq!(group_in_membership("1:cpu:/x\n"), None);
    }

    #[test]
    fn the_tightest_group_counts() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner)?;
        assert_eq!(group_limit(root.path(), "outer/inner"), None);
        fs::write(inner.join("memory.max"), "max\n")?;
        fs::write(root.path().join("outer/memory.max"), "2000\n")?;
        assert_eq!(group_limit(root.path(), "outer/inner"), Some(2000));
        fs::write(inner.join("memory.max"), "1000\n")?;
        assert_eq!(group_limit(root.path(), "outer/inner"), Some(1000));
        assert_eq!(group_limit(root.path(), "outer"), Some(2000));
        Ok(())
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(of_machine().is_some_and(|bytes| bytes > 1 << 20));
    }
}
