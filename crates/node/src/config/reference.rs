//! The reference page, made from the declared table.

use super::SECTIONS;
use super::key::{Default, Key};

const INTRODUCTION: &str = "\
# Configuration

This page is printed by `grapevine generate configuration`; a test holds it to the program.

A node needs no configuration. What is set comes from these layers, a later one over an earlier:

1. the defaults below;
2. a TOML file: `--config FILE`, else `grapevine.toml` in the data directory if it is there;
3. the environment: `GRAPEVINE_SECTION__KEY`, for example `GRAPEVINE_LIMITS__LINE=2MiB`;
4. `--set section.key=value`, which may be repeated;
5. named flags, such as `--data-dir`.

`grapevine config show --origin` prints every value and where it came from, as a file that reads
back the same. `grapevine config check FILE` judges a file alone, without the environment, and
lists everything that is wrong with it. Unknown sections and keys are errors in every layer. So is
every other variable that begins with `GRAPEVINE_`, but for `GRAPEVINE_NODE` and
`GRAPEVINE_TOKEN_FILE`, which commands that talk to a node read, and for those that Kubernetes or
Docker make for a service of that name (`GRAPEVINE_SERVICE_HOST`, `GRAPEVINE_PORT_8675_TCP`, …).

Commands that talk to a node check the environment, `--config`, `--set` and flags in the same way.
They do not read `grapevine.toml` in the data directory: it is the node's.

Counts take `100000`, `100_000`, `100k`, `1.5M` or `1e5` (`k`, `M`, `G` and `T` are powers of 1000).
Sizes take `B`, `KiB`, `MiB`, `GiB`, `TiB` or are plain bytes; times take `ms`, `s`, `m`, `h`, `d`.
Addresses are `host:port` or `[v6]:port`; port `0` picks a free one, and `\"off\"` or `\"\"` turns the
listener off. A default port that is taken is reported and skipped; a configured one that is taken
is an error. A list is a TOML array of strings; in the environment and with `--set` its elements are
separated by commas. A relative path in a file is taken from the file's directory, elsewhere from
the working directory.

A listener has one port at all of its addresses. `[::]` is every address of the machine, IPv6 and
IPv4, `0.0.0.0` every IPv4 address; `localhost` is `127.0.0.1` and `::1`, whatever a resolver says;
any other name is all of its addresses, 16 at most. Addresses that the machine does not have are
left out with a warning, as long as it has one of them; a port that is taken at one of them is
treated as taken. `listeners.json` in the data directory has one address for each listener, the
first of several; the banner has all.

Every listener is on loopback by default. One that other machines can reach is refused unless the
keys below protect it or, for protocols without authentication, acknowledge that nothing does. A
secret is the content of a regular file that belongs to the node's user or root and that nobody but
its owner can access (`chmod 600`), without a final line end; its value is never shown.
";

/// The page `docs/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in SECTIONS {
        page.push_str(&format!(
            "\n## {}\n\n{}\n\n",
            section.name,
            plain(section.about)
        ));
        page.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        for key in section.keys {
            page.push_str(&row(key));
        }
    }
    page
}

fn row(key: &Key) -> String {
    let default = match key.default {
        Default::Text("") => "none".to_owned(),
        Default::Text(text) => format!("`{text}`"),
        Default::Found(_, words) => words.to_owned(),
    };
    let cells = [
        format!("`{}`", key.name),
        key.shape.allowed(),
        default,
        plain(key.help),
    ];
    format!(
        "| {} |\n",
        cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
    )
}

/// Doc comments keep the space after their slashes.
fn plain(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
