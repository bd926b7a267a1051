//! CPU time and memory of a process, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use super::error::BenchError;

/// Length of a tick in `/proc/PID/stat`. The kernel shows the hundredths of USER_HZ to programs,
/// whatever its own clock runs at.
const TICK: Duration = Duration::from_millis(10);
/// Place of the user and the system time among the fields after the name (proc_pid_stat(5)).
const USER_FIELD: usize = 11;
const SYSTEM_FIELD: usize = 12;

/// What a process has used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Usage {
    /// User and system time of all its threads, in steps of 10 ms.
    pub(super) cpu: Duration,
    /// Resident memory in bytes.
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// Of process `pid`, so far.
    pub(super) fn of(pid: u32) -> Result<Self, BenchError> {
        Self::read(&pid.to_string())
    }

    /// Of this process, so far.
    pub(super) fn of_self() -> Result<Self, BenchError> {
        Self::read("self")
    }

    /// The CPU time since `before`, with the memory of now.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            resident_bytes: self.resident_bytes,
        }
    }

    fn read(process: &str) -> Result<Self, BenchError> {
        let cpu = parse(&format!("/proc/{process}/stat"), parse_cpu)?;
        let resident_bytes = parse(&format!("/proc/{process}/status"), parse_resident)?;
        Ok(Self {
            cpu,
            resident_bytes,
        })
    }
}

fn parse<T>(path: &str, parser: fn(&str) -> Option<T>) -> Result<T, BenchError> {
    let fail = |source| BenchError::Process {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(fail)?;
    parser(&text).ok_or_else(|| fail(io::ErrorKind::InvalidData.into()))
}

/// The name of a program may hold blanks and brackets, so fields count from the last bracket.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some(TICK * ticks(USER_FIELD)?.checked_add(ticks(SYSTEM_FIELD)?)?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("12 (a) S 1 2"), None);
        assert_eq!(
            parse_resident("VmPeak: 9 kB\nVmRSS:\t  20 kB\n"),
            Some(20_480)
        );
        assert_eq!(parse_resident(""), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = Usage::of_self().unwrap();
        assert!(before.resident_bytes > 0);
        // Reading it is work; other threads of this process may have done some, too.
        while Usage::of_self().unwrap().since(before).cpu.is_zero() {}
        assert!(matches!(
            Usage::of(u32::MAX),
            Err(BenchError::Process { .. })
        ));
    }
}
