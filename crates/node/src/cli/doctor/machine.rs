//! Memory, file descriptors, huge pages and the clock.

use std::fs;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::config::Config;

/// Descriptors that a node needs besides its connections: files, listeners, timers.
const DESCRIPTORS_SPARE: u64 = 256;
/// Before this program was written: 2026-01-01T00:00:00Z, in seconds of Unix time.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);
/// So far ahead of a file's time a clock may go back without a word.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

pub(super) fn check(config: &Config, memory: Option<u64>, checks: &mut Vec<Check>) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let listeners = config.listeners();
    let tcp = listeners
        .iter()
        .filter(|listener| listener.address.is_some() && !listener.key.ends_with(".udp"));
    let wanted = tcp.count() as u64 * config.limits.connections as u64 + DESCRIPTORS_SPARE;
    checks.push(descriptors(&limits, wanted));
    checks.push(bound(config.limits.memory.bytes, memory));
    let pages = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    checks.push(huge_pages(pages.ok().as_deref()));
    let written = fs::metadata(config.node.data_dir.join("manifest"));
    let written = written.and_then(|metadata| metadata.modified()).ok();
    checks.push(clock(SystemTime::now(), written));
}

fn descriptors(limits: &str, wanted: u64) -> Check {
    const SUBJECT: &str = "file descriptors";
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    let number = match soft {
        Some("unlimited") => Some(u64::MAX),
        soft => soft.and_then(|soft| soft.parse().ok()),
    };
    match (soft, number) {
        (Some(soft), Some(number)) if number >= wanted => {
            Check::ok(SUBJECT, format!("{soft} allowed, at most {wanted} used"))
        }
        (Some(soft), Some(_)) => Check::warn(
            SUBJECT,
            format!("{soft} allowed, but limits.connections may take {wanted}"),
            "raise the limit (ulimit -n, LimitNOFILE=) or lower limits.connections",
        ),
        _ => Check::warn(SUBJECT, "the limit is not known", "see ulimit -n"),
    }
}

fn bound(limit: u64, machine: Option<u64>) -> Check {
    const SUBJECT: &str = "memory";
    match machine {
        None => Check::warn(
            SUBJECT,
            "/proc does not say how much there is",
            "set limits.memory",
        ),
        Some(machine) if limit > machine => Check::fail(
            SUBJECT,
            format!("limits.memory is {limit} bytes, the machine or control group has {machine}"),
            "lower limits.memory",
        ),
        Some(machine) if limit > machine / 10 * 9 => Check::warn(
            SUBJECT,
            format!("limits.memory is {limit} of {machine} bytes"),
            "leave a tenth for buffers and for the system",
        ),
        Some(machine) => Check::ok(SUBJECT, format!("{limit} of {machine} bytes may be used")),
    }
}

/// Large filters ask for huge pages; where the system never gives them, each look-up misses the
/// processor's page cache.
fn huge_pages(setting: Option<&str>) -> Check {
    const SUBJECT: &str = "transparent huge pages";
    let chosen = setting.and_then(|text| text.split_once('[')?.1.split(']').next());
    match chosen {
        Some(chosen @ ("always" | "madvise")) => Check::ok(SUBJECT, chosen),
        Some(chosen) => Check::warn(
            SUBJECT,
            chosen,
            "write madvise to /sys/kernel/mm/transparent_hugepage/enabled for faster look-ups",
        ),
        None => Check::ok(SUBJECT, "not known to this system"),
    }
}

fn clock(now: SystemTime, written: Option<SystemTime>) -> Check {
    const SUBJECT: &str = "clock";
    const ADVICE: &str = "set the clock, and keep it set (NTP)";
    if now < SystemTime::UNIX_EPOCH + WRITTEN {
        return Check::fail(
            SUBJECT,
            "shows a time before this program was written",
            ADVICE,
        );
    }
    match written.and_then(|written| written.duration_since(now).ok()) {
        Some(ahead) if ahead > CLOCK_SLACK => Check::warn(
            SUBJECT,
            format!(
                "went back: the data was written {} s from now",
                ahead.as_secs()
            ),
            ADVICE,
        ),
        _ => Check::ok(SUBJECT, "plausible"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn limits_are_held_against_the_need() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        let verdict = |text, wanted| descriptors(text, wanted).verdict;
        assert_eq!(verdict(limits, 1024), Verdict::Ok);
        assert_eq!(verdict(limits, 1025), Verdict::Warn);
        assert_eq!(
            verdict("Max open files unlimited unlimited", 9),
            Verdict::Ok
        );
        assert_eq!(verdict("", 9), Verdict::Warn);
        assert_eq!(bound(101, Some(100)).verdict, Verdict::Fail);
        assert_eq!(bound(95, Some(100)).verdict, Verdict::Warn);
        assert_eq!(bound(75, Some(100)).verdict, Verdict::Ok);
    }

    #[test]
    fn pages_and_clock_are_judged() {
        let pages = |text| huge_pages(text).verdict;
        assert_eq!(pages(Some("always [madvise] never\n")), Verdict::Ok);
        assert_eq!(pages(Some("always madvise [never]\n")), Verdict::Warn);
        let now = SystemTime::UNIX_EPOCH + WRITTEN + Duration::from_secs(1000);
        assert_eq!(clock(now, None).verdict, Verdict::Ok);
        let later = now + Duration::from_secs(3600);
        assert_eq!(clock(now, Some(later)).verdict, Verdict::Warn);
        assert_eq!(clock(later, Some(now)).verdict, Verdict::Ok);
        assert_eq!(clock(SystemTime::UNIX_EPOCH, None).verdict, Verdict::Fail);
    }
}
