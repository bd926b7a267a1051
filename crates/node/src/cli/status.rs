//! `grapevine status`: how the node is, at a glance.

use std::io::{self, IsTerminal, Write};

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use ureq::http::Method;

use super::{Context, Failure, Outcome};
use crate::client::RequestBody;
use crate::http::{GroupStatus, Member, NodeStatus};

/// Width of the first column on a terminal.
const TITLE_WIDTH: usize = 12;
/// Width of what stands behind it: the narrowest usual terminal shows both.
const TEXT_WIDTH: usize = 80 - TITLE_WIDTH;

/// Arguments of `grapevine status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `grapevine status`. A node that takes no writes still answers, and the command succeeds.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let client = context.client()?;
    let asked = client.ask(Method::GET, "/api/v1/status", RequestBody::Nothing);
    let said: Value = asked.map_err(Failure::from_error)?;
    let text = if args.json {
        format!("{said:#}\n")
    } else {
        let status: NodeStatus = serde_json::from_value(said).map_err(Failure::from_error)?;
        if io::stdout().is_terminal() {
            for_people(&status)
        } else {
            for_pipes(&status)
        }
    };
    let mut output = context.output();
    output.write_all(text.as_bytes()).map_err(Failure::Output)?;
    output.flush().map_err(Failure::Output)?;
    Ok(Outcome::Done)
}

/// Names come from other nodes: nothing in them steers a terminal or ends a column.
fn harmless(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Lines of a title and a text; further ones of the same title stand below without it.
struct Screen(String);

impl Screen {
    fn line(&mut self, mut title: &str, text: &str) {
        for piece in folded(&harmless(text), TEXT_WIDTH) {
            let line = format!("{title:TITLE_WIDTH$}{piece}");
            self.0.push_str(line.trim_end());
            self.0.push('\n');
            title = "";
        }
    }

    fn list(&mut self, title: &str, nothing: &str, items: impl IntoIterator<Item = String>) {
        let mut title = Some(title);
        for item in items {
            self.line(title.take().unwrap_or_default(), &item);
        }
        if let Some(title) = title {
            self.line(title, nothing);
        }
    }
}

/// A text in lines of at most `width` characters, cut at blanks; a longer word stays whole.
fn folded(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((end, _)) = rest.char_indices().nth(width) {
        // The blank may be the first character that does not fit.
        let fits = &rest[..end];
        let cut = if rest[end..].starts_with(' ') {
            Some(end)
        } else {
            fits.rfind(' ').or_else(|| rest.find(' '))
        };
        let Some(cut) = cut else { break };
        lines.push(&rest[..cut]);
        rest = &rest[cut + 1..];
    }
    lines.push(rest);
    lines
}

fn for_people(status: &NodeStatus) -> String {
    let mut screen = Screen(String::new());
    let node = &status.node;
    screen.line("node", &format!("{} ({})", node.name, node.id));
    let up = duration(node.uptime_ms);
    screen.line("version", &format!("{}, up for {up}", node.version));
    screen.line("data", &node.data_dir);
    match &status.reason {
        None => screen.line("ready", "yes"),
        Some(reason) => screen.line("ready", &format!("no: {reason}")),
    }
    let listeners = &status.listeners;
    let width = listeners.iter().map(|one| one.key.len()).max().unwrap_or(0);
    let lines = listeners.iter();
    let lines = lines.map(|one| format!("{:width$}  {}", one.key, one.address));
    screen.list("listeners", "none", lines);
    match &status.group {
        None => screen.line("group", "none: group.listen is off, or its port was taken"),
        Some(group) => show_group(&mut screen, group),
    }
    let filters = &status.filters;
    screen.line(
        "filters",
        &format!(
            "{}, {} in memory; {}",
            HumanCount(filters.count),
            HumanCount(filters.loaded),
            counted(filters.keys, "key", "keys")
        ),
    );
    let tables = &status.tables;
    match &tables.damaged {
        Some(reason) => screen.line("tables", reason),
        None => screen.line(
            "tables",
            &format!(
                "{}; {}, {} deleted",
                HumanCount(tables.count),
                counted(tables.rows, "row", "rows"),
                HumanCount(tables.gone_rows)
            ),
        ),
    }
    show_resources(&mut screen, status);
    screen.list("warnings", "none", status.warnings.iter().cloned());
    screen.0
}

fn show_resources(screen: &mut Screen, status: &NodeStatus) {
    let memory = &status.memory;
    let process = HumanBytes(memory.resident_bytes);
    let mut text = format!(
        "{} of {} for filters; {process}",
        HumanBytes(memory.filters_bytes),
        HumanBytes(memory.filters_limit_bytes)
    );
    if memory.limit_bytes > 0 {
        text.push_str(&format!(" of {}", HumanBytes(memory.limit_bytes)));
    }
    screen.line("memory", &format!("{text} for the process"));
    let durability = &status.durability;
    let sync = match durability.sync.as_str() {
        "interval" => format!("sync every {}", duration(durability.interval_ms)),
        "always" => "sync before each reply".to_owned(),
        "os" => "sync left to the system".to_owned(),
        other => other.to_owned(),
    };
    let unsynced = match durability.unsynced_bytes {
        0 => "everything is synced".to_owned(),
        bytes => format!(
            "{} not synced, for {} at most",
            HumanBytes(bytes),
            duration(durability.unsynced_ms)
        ),
    };
    screen.line("durability", &format!("{sync}; {unsynced}"));
    let dropped = counted(status.log.lines_dropped, "line", "lines");
    screen.line("log", &format!("{dropped} dropped"));
}

fn show_group(screen: &mut Screen, group: &GroupStatus) {
    let members = counted(group.members as u64, "member", "members");
    let mut text = format!(
        "{}: {members}, {} up, {} down; {} in step",
        group.name, group.up, group.down, group.in_step
    );
    if group.left {
        text.push_str("; this node has left");
    }
    screen.line("group", &text);
    let others = &group.others;
    let width = others.iter().map(|one| one.name.chars().count()).max();
    let width = width.unwrap_or(0);
    for member in others {
        let name = &member.name;
        screen.line("", &format!("{name:width$}  {}", member_text(member)));
    }
}

fn member_text(member: &Member) -> String {
    let since = member.since_ms.map(duration);
    let since = since.map_or_else(String::new, |since| format!(" for {since}"));
    let lag = match (member.to_send, member.to_receive) {
        (Some(0), Some(0)) => "in step".to_owned(),
        (Some(send), Some(receive)) => format!(
            "{} operations to send, {} to receive",
            HumanCount(send),
            HumanCount(receive)
        ),
        _ => "not connected".to_owned(),
    };
    format!("{}{since}; {lag}", member.liveness)
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    let word = if count == 1 { one } else { many };
    format!("{} {word}", HumanCount(count))
}

/// In the two largest units that it has.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else if seconds > 0 {
        format!("{seconds} s")
    } else {
        format!("{milliseconds} ms")
    }
}

/// Lines of a name, a tab and a value. A name may come more than once.
fn for_pipes(status: &NodeStatus) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, columns: &[&dyn std::fmt::Display]| {
        let columns = columns.iter().map(|column| harmless(&column.to_string()));
        let columns: Vec<String> = columns.collect();
        lines.push_str(&format!("{name}\t{}\n", columns.join("\t")));
    };
    let or_none = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let node = &status.node;
    line("node.name", &[&node.name]);
    line("node.id", &[&node.id]);
    line("node.version", &[&node.version]);
    line("node.data_dir", &[&node.data_dir]);
    line("node.uptime_ms", &[&node.uptime_ms]);
    line("ready", &[&status.ready]);
    line("reason", &[&or_none(status.reason.as_ref())]);
    for one in &status.listeners {
        line("listener", &[&one.key, &one.address]);
    }
    if let Some(group) = &status.group {
        line("group.id", &[&group.id]);
        line("group.name", &[&group.name]);
        line("group.left", &[&group.left]);
        line("group.members", &[&group.members]);
        line("group.up", &[&group.up]);
        line("group.down", &[&group.down]);
        line("group.in_step", &[&group.in_step]);
        for one in &group.others {
            let (send, receive) = (number(one.to_send), number(one.to_receive));
            line(
                "group.other",
                &[&one.name, &one.liveness, &send, &receive, &one.key],
            );
        }
    }
    line("filters.count", &[&status.filters.count]);
    line("filters.loaded", &[&status.filters.loaded]);
    line("filters.damaged", &[&status.filters.damaged]);
    line("filters.too_large", &[&status.filters.too_large]);
    line("filters.keys", &[&status.filters.keys]);
    line("tables.count", &[&status.tables.count]);
    line("tables.rows", &[&status.tables.rows]);
    line("tables.gone_rows", &[&status.tables.gone_rows]);
    line(
        "tables.damaged",
        &[&or_none(status.tables.damaged.as_ref())],
    );
    line("memory.resident_bytes", &[&status.memory.resident_bytes]);
    line("memory.limit_bytes", &[&status.memory.limit_bytes]);
    line("memory.filters_bytes", &[&status.memory.filters_bytes]);
    let limit = status.memory.filters_limit_bytes;
    line("memory.filters_limit_bytes", &[&limit]);
    let durability = &status.durability;
    line("durability.sync", &[&durability.sync]);
    line("durability.interval_ms", &[&durability.interval_ms]);
    line("durability.unsynced_bytes", &[&durability.unsynced_bytes]);
    line("durability.unsynced_ms", &[&durability.unsynced_ms]);
    line("durability.log_tail_bytes", &[&durability.log_tail_bytes]);
    line("log.lines_dropped", &[&status.log.lines_dropped]);
    for warning in &status.warnings {
        line("warning", &[warning]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> NodeStatus {
        let said = json!({
            "node": {"name": "alpha", "id": "ab12", "version": "0.1.0", "data_dir": "/srv/x",
                "uptime_ms": 11_520_000},
            "listeners": [{"key": "bloomd.tcp", "address": "127.0.0.1:8673"},
                {"key": "http.listen", "address": "127.0.0.1:8675"}],
            "ready": true,
            "reason": null,
            "group": {"id": "01", "name": "default", "members": 3, "up": 2, "down": 1,
                "in_step": 2, "others": [
                {"name": "be\u{1b}ta", "key": "aa", "up": true, "liveness": "alive",
                    "since_ms": 65_000, "to_send": 0, "to_receive": 0},
                {"name": "c", "key": "bb", "liveness": "down"}]},
            "filters": {"count": 12, "loaded": 3, "keys": 1_234_567},
            "tables": {"count": 1, "rows": 1, "gone_rows": 0},
            "memory": {"resident_bytes": 2048, "filters_bytes": 1024, "filters_limit_bytes": 4096},
            "durability": {"sync": "interval", "interval_ms": 1000, "unsynced_bytes": 120,
                "unsynced_ms": 400},
            "warnings": ["member c does not answer"],
            "of a newer version": 1,
        });
        serde_json::from_value(said).expect("what a newer node says is passed over")
    }

    #[test]
    fn on_a_terminal_the_texts_stand_below_each_other() {
        let screen = "\
node        alpha (ab12)
version     0.1.0, up for 3 h 12 min
data        /srv/x
ready       yes
listeners   bloomd.tcp   127.0.0.1:8673
            http.listen  127.0.0.1:8675
group       default: 3 members, 2 up, 1 down; 2 in step
            be\u{fffd}ta  alive for 1 min 5 s; in step
            c      down; not connected
filters     12, 3 in memory; 1,234,567 keys
tables      1; 1 row, 0 deleted
memory      1.00 KiB of 4.00 KiB for filters; 2.00 KiB for the process
durability  sync every 1 s; 120 B not synced, for 400 ms at most
log         0 lines dropped
warnings    member c does not answer
";
        assert_eq!(for_people(&status()), screen);
        let stopped = NodeStatus {
            reason: Some("the node is read-only: disk full".to_owned()),
            ..NodeStatus::default()
        };
        let screen = for_people(&stopped);
        for line in [
            "ready       no: the node is read-only: disk full\n",
            "listeners   none\n",
            "group       none: ",
            "warnings    none\n",
        ] {
            assert!(screen.contains(line), "{line}{screen}");
        }
    }

    #[test]
    fn in_a_pipe_each_line_is_a_name_and_its_columns() {
        let lines = for_pipes(&status());
        for line in [
            "node.uptime_ms\t11520000",
            "ready\ttrue",
            "reason\t-",
            "listener\tbloomd.tcp\t127.0.0.1:8673",
            "group.down\t1",
            "group.other\tbe\u{fffd}ta\talive\t0\t0\taa",
            "group.other\tc\tdown\t-\t-\tbb",
            "filters.keys\t1234567",
            "durability.unsynced_ms\t400",
            "warning\tmember c does not answer",
        ] {
            assert!(lines.lines().any(|there| there == line), "{line}: {lines}");
        }
    }

    #[test]
    fn long_texts_are_folded_at_blanks() {
        assert_eq!(folded("", 5), [""]);
        assert_eq!(folded("ab cd", 5), ["ab cd"]);
        assert_eq!(folded("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(folded("ab cde fg", 5), ["ab", "cde", "fg"]);
        assert_eq!(folded("abcdefgh ij", 5), ["abcdefgh", "ij"]);
        assert_eq!(folded("äöüäö üä abcdefgh", 5), ["äöüäö", "üä", "abcdefgh"]);
        let mut screen = Screen(String::new());
        screen.line("ready", &"word ".repeat(20));
        let words = "word ".repeat(13);
        let words = words.trim_end();
        let wanted = format!(
            "ready       {words}\n            {}\n",
            "word ".repeat(7).trim_end()
        );
        assert_eq!(screen.0, wanted);
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let texts = [999, 59_999, 60_000, 3_599_000, 86_399_000, 90_000_000].map(duration);
        let wanted = [
            "999 ms",
            "59 s",
            "1 min 0 s",
            "59 min 59 s",
            "23 h 59 min",
            "1 d 1 h",
        ];
        assert_eq!(texts, wanted);
    }
}
