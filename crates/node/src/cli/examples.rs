//! Examples at the end of each help page, by the words of the command.

/// The commands that can be run, each with lines to copy.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "serve",
        &[
            "grapevine serve",
            "grapevine serve --data-dir /srv/grapevine --join alpha.example:8676",
            "grapevine serve --set bloomd.tcp=0.0.0.0:8673 --set durability.sync=always",
        ],
    ),
    ("applet", &["grapevine applet bloomd -f bloomd.conf"]),
    ("backup", &["grapevine backup /var/backups/grapevine"]),
    (
        "bench",
        &[
            "grapevine bench --operation set --keys 1000000 --connections 16",
            "grapevine bench --protocol rmbd --addr 127.0.0.1:8000",
        ],
    ),
    (
        "config show",
        &["grapevine config show --origin", "grapevine config show"],
    ),
    (
        "config check",
        &["grapevine config check /etc/grapevine.toml"],
    ),
    ("doctor", &["grapevine doctor", "grapevine doctor --json"]),
    (
        "filter create",
        &[
            "grapevine filter create seen --capacity 1000000 --error 0.001",
            "grapevine filter create recent --in-memory",
        ],
    ),
    (
        "filter list",
        &["grapevine filter list", "grapevine filter list web --json"],
    ),
    ("filter info", &["grapevine filter info seen"]),
    ("filter drop", &["grapevine filter drop seen --yes"]),
    ("filter set", &["grapevine filter set seen alpha beta"]),
    (
        "filter check",
        &[
            "grapevine filter check seen alpha beta",
            "cut -f 1 log.tsv | grapevine filter check seen --input -",
        ],
    ),
    (
        "filter import",
        &[
            "grapevine filter import seen keys.txt",
            "zcat keys.gz | grapevine filter import seen -",
        ],
    ),
    (
        "filter flush",
        &["grapevine filter flush", "grapevine filter flush seen"],
    ),
    ("filter close", &["grapevine filter close seen"]),
    ("filter clear", &["grapevine filter clear seen --yes"]),
    ("filter forget", &["grapevine filter forget seen"]),
    ("filter export", &["grapevine filter export seen seen.gvf"]),
    ("filter load", &["grapevine filter load copy seen.gvf"]),
    ("filter merge", &["grapevine filter merge seen other.gvf"]),
    (
        "filter plan",
        &["grapevine filter plan --capacity 1000000 --error 0.001"],
    ),
    (
        "generate",
        &[
            "grapevine generate man > grapevine.1",
            "grapevine generate complete-bash > /etc/bash_completion.d/grapevine",
        ],
    ),
    ("group status", &["grapevine group status"]),
    (
        "group members",
        &["grapevine group members", "grapevine group members --json"],
    ),
    ("group join", &["grapevine group join alpha.example:8676"]),
    (
        "group leave",
        &["grapevine group leave", "grapevine group leave beta --yes"],
    ),
    (
        "group secret new",
        &["grapevine group secret new --file group.secret"],
    ),
    (
        "group secret add",
        &["grapevine group secret add other.secret --file group.secret"],
    ),
    (
        "group secret list",
        &["grapevine group secret list --file group.secret"],
    ),
    (
        "group secret use",
        &["grapevine group secret use maple --file group.secret"],
    ),
    (
        "group secret remove",
        &["grapevine group secret remove maple --file group.secret"],
    ),
    (
        "hbbp send",
        &[
            "grapevine hbbp send eth0 hello",
            "uptime | grapevine hbbp send eth0 load -",
        ],
    ),
    (
        "hbbp listen",
        &["grapevine hbbp listen", "grapevine hbbp listen eth0 --json"],
    ),
    ("hbbp keygen", &["grapevine hbbp keygen /etc/hbbp/keys"]),
    (
        "import bloomd",
        &[
            "grapevine import bloomd /var/lib/bloomd",
            "grapevine import bloomd /etc/bloomd.conf",
        ],
    ),
    (
        "restore",
        &[
            "grapevine restore /var/backups/grapevine --data-dir /srv/grapevine",
            "grapevine restore /var/backups/grapevine --replace",
            "grapevine restore --in-place",
        ],
    ),
    (
        "status",
        &[
            "grapevine status",
            "grapevine status --data-dir /srv/grapevine",
        ],
    ),
    ("table create", &["grapevine table create services"]),
    ("table list", &["grapevine table list"]),
    (
        "table set",
        &[
            "grapevine table set services web/alpha 192.0.2.10 8080",
            "grapevine table set services web/beta 192.0.2.11 8080 --ttl 60s",
        ],
    ),
    ("table get", &["grapevine table get services web/alpha"]),
    (
        "table delete",
        &["grapevine table delete services web/alpha"],
    ),
    ("table drop", &["grapevine table drop services --yes"]),
    ("table info", &["grapevine table info services"]),
    (
        "table touch",
        &["grapevine table touch services web/beta --ttl 60s"],
    ),
    ("table show", &["grapevine table show services"]),
    (
        "table watch",
        &[
            "grapevine table watch services --prefix web/",
            "grapevine table watch services --after 0 --json",
        ],
    ),
    (
        "table import",
        &["grapevine table import services services.tbl"],
    ),
    (
        "table export",
        &["grapevine table export services services.tbl"],
    ),
    ("table forget", &["grapevine table forget --damaged"]),
    (
        "verify",
        &["grapevine verify --data-dir /var/backups/grapevine"],
    ),
];

/// The examples of a command, as they stand in its help; none for a command that only holds others.
pub(super) fn of(path: &str) -> Option<String> {
    let (_, lines) = EXAMPLES.iter().find(|(command, _)| *command == path)?;
    Some(format!("Examples:\n  {}", lines.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{command, parse};
    use super::*;

    fn runnable(command: &clap::Command, before: &str, found: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            let path = format!("{before} {}", inner.get_name());
            let path = path.trim_start();
            if inner.has_subcommands() {
                runnable(inner, path, found);
            } else {
                found.push(path.to_owned());
            }
        }
    }

    #[test]
    fn every_command_that_can_be_run_has_an_example() {
        let mut commands = Vec::new();
        runnable(&command(), "", &mut commands);
        let without: Vec<_> = commands.iter().filter(|path| of(path).is_none()).collect();
        assert!(without.is_empty(), "no example: {without:?}");
        let unknown: Vec<_> = EXAMPLES
            .iter()
            .map(|(path, _)| *path)
            .filter(|path| !commands.iter().any(|command| command == path))
            .collect();
        assert!(unknown.is_empty(), "no such command: {unknown:?}");
    }

    #[test]
    fn every_example_is_a_call_of_its_command() {
        for (path, lines) in EXAMPLES {
            for line in *lines {
                let start = line.find("grapevine ").expect("a call of the program");
                let call = &line[start..];
                let call = call.split(" > ").next().unwrap_or(call);
                assert!(call.starts_with(&format!("grapevine {path}")), "{line}");
                let words = call.split(' ').map(OsString::from);
                if let Err(error) = parse(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
