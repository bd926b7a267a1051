//! What a node reports when it is ready: to the terminal that it was started from a banner, else
//! lines of its log.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use super::listeners::Bound;
use crate::cli::NodeAddress;
use crate::config::{Config, Origin};
use crate::engine::Engine;

/// Whether whoever reads the log sees the banner: it has what the log would repeat, and goes before
/// the log's lines.
pub(crate) fn is_seen() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The lines of the log that stand for the banner.
pub(super) fn log(config: &Config, engine: &Engine, bound: &Bound) {
    for (key, address) in bound.addresses() {
        tracing::info!("{key} listens on {address}");
    }
    let (name, origin) = (&config.node.name, engine.filters().identity().origin);
    tracing::info!("node {name} ({origin}) is ready");
}

/// Prints the banner, if standard output is a terminal. Nobody is served worse when that has gone.
pub(super) fn print(banner: &str) {
    let mut output = io::stdout().lock();
    if output.is_terminal() {
        let written = output.write_all(banner.as_bytes());
        drop(written.and_then(|()| output.flush()));
    }
}

/// The banner of a node that is ready.
pub(super) fn text(config: &Config, engine: &Engine, bound: &Bound) -> String {
    let origin = engine.filters().identity().origin;
    let mut rows = vec![
        (
            "node".to_owned(),
            format!("{} ({origin})", config.node.name),
        ),
        (
            "data".to_owned(),
            config.node.data_dir.display().to_string(),
        ),
    ];
    for (key, address) in bound.addresses() {
        rows.push((key.to_owned(), address.to_string()));
    }
    for skipped in &bound.skipped {
        rows.push(("skipped".to_owned(), skipped.clone()));
    }
    let http = bound.http_address();
    if let Some(address) = http {
        rows.push(("API".to_owned(), format!("http://{address}/")));
    }
    rows.push(("next".to_owned(), next(config, http)));
    rows.push(("stop".to_owned(), "Ctrl-C".to_owned()));
    lines(&rows)
}

/// Under the program's name and version, keys and values in two columns.
fn lines(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = format!("grapevine {}\n", env!("CARGO_PKG_VERSION"));
    for (key, value) in rows {
        text.push_str(&format!("  {key:<width$}  {value}\n"));
    }
    text
}

/// A command that works on this node.
fn next(config: &Config, http: Option<SocketAddr>) -> String {
    let Some(address) = http else {
        return "set http.listen to an address to use this node from the command line".to_owned();
    };
    let data_dir = &config.node.data_dir;
    let is_default = format!("http://{address}") == NodeAddress::DEFAULT;
    // A word that a shell would take apart is not offered to be pasted.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    let shown = data_dir.to_str().filter(|path| path.chars().all(plain));
    let node = match (is_default, shown) {
        (true, _) => String::new(),
        (false, Some(path)) if config.origin("node.data_dir") != Some(&Origin::Default) => {
            format!(" --data-dir {path}")
        }
        (false, _) => format!(" --node http://{address}"),
    };
    format!("grapevine{node} filter create visitors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_is_aligned() {
        let rows = [
            ("node", "a"),
            ("group.listen", "127.0.0.1:1"),
            ("next", "x"),
        ];
        let rows = rows.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let text = lines(&rows);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        assert_eq!(first, format!("grapevine {}", env!("CARGO_PKG_VERSION")));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "  node          a",
                "  group.listen  127.0.0.1:1",
                "  next          x"
            ]
        );
    }
}
