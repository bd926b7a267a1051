//! Figures that are read when they are asked for: the process, the log, the filters.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use grapevine_store::filters::{Handle, Summary, UsageCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::param::{clock_ticks_per_second, page_size};

use super::figures::Figures;
use crate::engine::Engine;
use crate::logging;

/// Filters that get figures of their own; of a node with more, the first by name.
const FILTERS_MAX: usize = 1000;

/// Reads the figures.
pub(super) struct NodeState {
    engine: Arc<Engine>,
    started: f64,
}

impl NodeState {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        NodeState {
            engine,
            started: started.map_or(0.0, |since| since.as_secs_f64()),
        }
    }
}

impl fmt::Debug for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeState").finish_non_exhaustive()
    }
}

impl Collector for NodeState {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut figures = Figures::new(encoder);
        self.process(&mut figures)?;
        self.log(&mut figures)?;
        self.totals(&mut figures)?;
        self.per_filter(&mut figures)
    }
}

impl NodeState {
    /// The names are those that Prometheus's own clients use.
    fn process(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let process = Process::read().unwrap_or_default();
        figures.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            self.started,
        )?;
        figures.counter(
            "process_cpu_seconds",
            "Processor time used, user and system",
            process.cpu_seconds,
        )?;
        figures.gauge(
            "process_resident_memory_bytes",
            "Memory in use, as the system counts it",
            process.resident_bytes,
        )?;
        figures.gauge("process_threads", "Threads", process.threads)?;
        let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
        figures.gauge("process_open_fds", "Open file descriptors", files)?;
        figures.counter(
            "grapevine_log_lines_dropped",
            "Lines of the program's own log that were dropped because nobody read those before them",
            logging::dropped_lines(),
        )
    }

    fn log(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let filters = self.engine.filters();
        let counts = filters.journal().log_counts();
        let counters = [
            (
                "grapevine_log_written_bytes",
                "Bytes written to the log",
                counts.bytes,
            ),
            ("grapevine_log_frames", "Batches written", counts.frames),
            (
                "grapevine_log_commits",
                "Writes that let requests be answered",
                counts.commits,
            ),
            ("grapevine_log_syncs", "Syncs to the disk", counts.syncs),
            ("grapevine_log_segments", "Log files begun", counts.segments),
        ];
        for (name, help, count) in counters {
            figures.counter(name, help, count)?;
        }
        let unsynced = filters
            .journal()
            .appended()
            .saturating_sub(filters.journal().synced());
        figures.gauge(
            "grapevine_log_unsynced_bytes",
            "Bytes of the log that a power cut would lose",
            unsynced,
        )?;
        figures.gauge(
            "grapevine_log_tail_bytes",
            "Bytes of the log that a restart would replay",
            self.engine.collections().log_tail(),
        )?;
        figures.gauge(
            "grapevine_snapshot_unreadable",
            "1 when the last snapshot could not be read back and the one before was kept, else 0",
            u64::from(self.engine.collections().unreadable_snapshot().is_some()),
        )?;
        figures.gauge(
            "grapevine_read_only",
            "1 when the node takes no writes, else 0",
            u64::from(filters.journal().read_only().is_some()),
        )
    }

    fn totals(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let filters = self.engine.filters();
        let memory = filters.memory();
        figures.gauge(
            "grapevine_memory_used_bytes",
            "Memory of all filters' bits",
            memory.used(),
        )?;
        figures.gauge(
            "grapevine_memory_limit_bytes",
            "Memory they may take, their share of limits.memory",
            memory.limit(),
        )?;
        let handles = filters.list(b"");
        let count =
            |what: fn(&Handle) -> bool| handles.iter().filter(|handle| what(handle)).count() as u64;
        figures.gauge("grapevine_filters", "Filters", handles.len() as u64)?;
        figures.gauge(
            "grapevine_filters_loaded",
            "Filters whose bits are in memory",
            count(Handle::is_loaded),
        )?;
        figures.gauge(
            "grapevine_filters_damaged",
            "Filters that a corrupt file makes unusable",
            count(|handle| handle.damage().is_some()),
        )?;
        figures.gauge(
            "grapevine_filters_too_large",
            "Filters that do not fit limits.memory: their keys are refused here",
            filters.too_large().len() as u64,
        )?;
        figures.gauge(
            "grapevine_filters_unlisted",
            "Filters without figures of their own, because there are more than 1000",
            handles.len().saturating_sub(FILTERS_MAX) as u64,
        )
    }

    fn per_filter(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let mut handles = self.engine.filters().list(b"");
        handles.truncate(FILTERS_MAX);
        let read = |handle: &Arc<Handle>| OfFilter {
            label: label(handle.name()),
            summary: handle.summary(),
            usage: handle.usage(),
            loaded: handle.is_loaded(),
        };
        let filters: Vec<OfFilter> = handles.iter().map(read).collect();
        for (name, help, figure) in FILTER_GAUGES {
            let values = filters.iter().map(|of| (&of.label, figure(of)));
            figures.gauges(name, help, "filter", values)?;
        }
        for (name, help, figure) in FILTER_COUNTERS {
            let values = filters.iter().map(|of| (&of.label, figure(of)));
            figures.counters(name, help, "filter", values)?;
        }
        Ok(())
    }
}

/// What is told of one filter.
struct OfFilter {
    label: String,
    summary: Summary,
    usage: UsageCounts,
    loaded: bool,
}

type FilterFigure = (&'static str, &'static str, fn(&OfFilter) -> u64);

const FILTER_GAUGES: [FilterFigure; 5] = [
    ("grapevine_filter_keys", "Keys inserted", |of| {
        of.summary.inserted
    }),
    (
        "grapevine_filter_capacity_keys",
        "Keys that the layers there are may hold",
        |of| of.summary.capacity,
    ),
    (
        "grapevine_filter_bytes",
        "Size of the bits, in memory or in files",
        |of| of.summary.bytes,
    ),
    ("grapevine_filter_layers", "Layers", |of| of.summary.layers),
    (
        "grapevine_filter_loaded",
        "1 when the bits are in memory, else 0",
        |of| u64::from(of.loaded),
    ),
];

const FILTER_COUNTERS: [FilterFigure; 6] = [
    (
        "grapevine_filter_check_hits",
        "Checked keys that were there",
        |of| of.usage.check_hits,
    ),
    (
        "grapevine_filter_check_misses",
        "Checked keys that were not",
        |of| of.usage.check_misses,
    ),
    (
        "grapevine_filter_set_hits",
        "Set keys that were new",
        |of| of.usage.set_hits,
    ),
    (
        "grapevine_filter_set_misses",
        "Set keys that were there",
        |of| of.usage.set_misses,
    ),
    (
        "grapevine_filter_page_ins",
        "Times the bits were read into memory",
        |of| of.usage.page_ins,
    ),
    (
        "grapevine_filter_page_outs",
        "Times the bits were unloaded",
        |of| of.usage.page_outs,
    ),
];

/// A name as a label: itself, but bytes that are no UTF-8 or would need an escape are written
/// `%XX`, so that different names are different labels.
pub(super) fn label(name: &[u8]) -> String {
    let mut label = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || matches!(character, '%' | '"' | '\\') {
                let mut bytes = [0; 4];
                push_bytes(&mut label, character.encode_utf8(&mut bytes).as_bytes());
            } else {
                label.push(character);
            }
        }
        push_bytes(&mut label, chunk.invalid());
    }
    label
}

fn push_bytes(label: &mut String, bytes: &[u8]) {
    for byte in bytes {
        label.push_str(percent_encoding::percent_encode_byte(*byte));
    }
}

/// What the system tells of this process.
#[derive(Default)]
pub(crate) struct Process {
    cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    threads: u64,
}

impl Process {
    pub(crate) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        Process::of_stat(&stat, clock_ticks_per_second() as f64, page_size() as u64)
    }

    /// Reads the fields of `proc_pid_stat(5)`. The second is the program's name in parentheses,
    /// which may hold anything.
    fn of_stat(stat: &str, ticks_per_second: f64, page_bytes: u64) -> Option<Self> {
        let (_, behind) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        // Fields are numbered from 1 there; the third is the first behind the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Process {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks_per_second,
            threads: field(20)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain_text_and_differ_as_names_do() {
        assert_eq!(label("straße".as_bytes()), "straße");
        assert_eq!(label(b"a/b.c"), "a/b.c");
        assert_eq!(label(b"50%\"\\\x01\xff"), "50%25%22%5C%01%FF");
    }

    #[test]
    fn the_processs_figures_are_found_behind_its_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 99 1000 25 0";
        let process = Process::of_stat(stat, 100.0, 4096).expect("all fields");
        assert_eq!(process.cpu_seconds, 2.0);
        assert_eq!(process.threads, 3);
        assert_eq!(process.resident_bytes, 25 * 4096);
        assert!(Process::of_stat("7 (a) S 1", 100.0, 4096).is_none());
        assert!(Process::read().is_some_and(|own| own.resident_bytes > 0));
    }
}
