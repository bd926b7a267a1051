//! `bloomd -f FILE`: a node that is a bloomd and nothing else, configured by bloomd's own file.
//!
//! Its data directory is bloomd's. The first start takes over the filters that a C bloomd left
//! there; their own folders are not touched.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use grapevine_core::catalogue::Storage;
use grapevine_store::import::bloomd::ImportError;
use grapevine_store::import::bloomd_config::{BloomdConfig, LogLevel};

use crate::config::{Config, ConfigErrors, GlobalOptions, Surroundings};
use crate::serve::{Reload, ServeError, Service};

const USAGE: &str = "\
usage: bloomd [-h] [-f filename] [-w num]

    -h, --help          : Displays this help info
    -f, --file filename : Reads the bloomd configuration from this file
    -w num              : Sets the number of worker threads
";

/// Why there is no bloomd.
#[derive(Debug, thiserror::Error)]
enum BloomdError {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error(transparent)]
    File(#[from] ImportError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Logging(#[from] crate::logging::LoggingError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// What the command line says.
#[derive(Debug, Default, PartialEq)]
struct Arguments {
    help: bool,
    file: Option<PathBuf>,
    workers: Option<u32>,
}

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    match parse(arguments).and_then(|arguments| serve(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            drop(writeln!(std::io::stderr(), "bloomd: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[OsString]) -> Result<Arguments, BloomdError> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let (option, joined) = option(&text);
        let mut value = || -> Result<OsString, BloomdError> {
            joined
                .map(OsString::from)
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| BloomdError::Usage(format!("{option} needs a value")))
        };
        match option {
            "-h" | "--help" => parsed.help = true,
            "-f" | "--file" => parsed.file = Some(PathBuf::from(value()?)),
            "-w" => {
                let value = value()?;
                let workers = value.to_str().and_then(|text| text.parse().ok());
                let workers = workers.filter(|workers| *workers > 0);
                let wrong = || {
                    BloomdError::Usage(format!("-w {} is not a number above 0", value.display()))
                };
                parsed.workers = Some(workers.ok_or_else(wrong)?);
            }
            _ => return Err(BloomdError::Usage(format!("unknown argument {text}"))),
        }
    }
    Ok(parsed)
}

/// An option and the value in the same word: `-fFILE` as getopt reads it for the C server,
/// `--file=FILE` as optparse does for the Python server.
fn option(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word
            .split_once('=')
            .map_or((word, None), |(option, value)| (option, Some(value)));
    }
    let (option, value) = word.split_at_checked(2).unwrap_or((word, ""));
    (option, (!value.is_empty()).then_some(value))
}

fn serve(arguments: &Arguments) -> Result<(), BloomdError> {
    if arguments.help {
        drop(write!(std::io::stdout(), "{USAGE}"));
        return Ok(());
    }
    let (bloomd, options) = settings(arguments)?;
    let surroundings = Surroundings::of_process();
    let config = Config::load_in(&options, &surroundings)?;
    let log = crate::logging::start(&config.node)?;
    for line in &bloomd.ignored {
        let file = arguments.file.as_deref().unwrap_or(Path::new("")).display();
        tracing::warn!("{file}:{}: passed over: {}", line.line, line.text);
    }
    for value in &bloomd.misread {
        tracing::warn!("in the configuration file, {value}");
    }
    if let Err(error) = std::fs::create_dir_all(&bloomd.data_dir) {
        tracing::warn!("{}: {error}", bloomd.data_dir.display());
    }
    let service = Service {
        storage: if bloomd.in_memory {
            Storage::Memory
        } else {
            Storage::Durable
        },
        takes_over: Some(bloomd.data_dir.clone()),
        workers: arguments
            .workers
            .or(Some(bloomd.workers))
            .map(|workers| workers as usize),
    };
    // bloomd knows no reload: what its file said at the start holds.
    let reload: Reload = Box::new(move || Config::load_in(&options, &surroundings));
    Ok(crate::serve::run(&config, service, &log, &reload)?)
}

/// The node's configuration that bloomd's comes to.
fn settings(arguments: &Arguments) -> Result<(BloomdConfig, GlobalOptions), BloomdError> {
    let bloomd = match &arguments.file {
        None => BloomdConfig::default(),
        Some(file) => BloomdConfig::read(file)?,
    };
    let seconds = |seconds: u32| match seconds {
        0 => "off".to_owned(),
        seconds => format!("{seconds}s"),
    };
    let host = bloomd.bind_address.unwrap_or(std::net::Ipv4Addr::LOCALHOST);
    let mut set = vec![
        format!("bloomd.tcp={host}:{}", bloomd.tcp_port),
        format!("bloomd.udp={host}:{}", bloomd.udp_port),
        // Whoever names an address in bloomd's file has chosen who may connect.
        "bloomd.open=true".to_owned(),
        "group.listen=off".to_owned(),
        "http.listen=off".to_owned(),
        "rmbd.udp=off".to_owned(),
        format!("filters.capacity={}", bloomd.initial_capacity),
        format!("filters.error={}", bloomd.default_probability),
        format!("filters.growth={}", bloomd.scale_size),
        format!(
            "filters.idle_unload={}",
            seconds(bloomd.cold_interval_seconds)
        ),
        format!("node.log={}", level(bloomd.log_level)),
    ];
    if bloomd.flush_interval_seconds == 0 {
        set.push("durability.sync=os".to_owned());
    } else {
        let interval = bloomd.flush_interval_seconds.min(3600);
        set.push(format!("durability.interval={interval}s"));
    }
    let options = GlobalOptions {
        set: set.into_iter().map(OsString::from).collect(),
        data_dir: Some(bloomd.data_dir.clone()),
        ..GlobalOptions::default()
    };
    Ok((bloomd, options))
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Arguments, BloomdError> {
        parse(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn arguments_are_read_as_getopt_reads_them() {
        let expected = Arguments {
            help: false,
            file: Some("a.conf".into()),
            workers: Some(3),
        };
        assert_eq!(arguments("-f a.conf -w 3").ok(), Some(expected));
        let expected = Arguments {
            help: true,
            file: Some("b".into()),
            workers: None,
        };
        for line in ["-fb -h", "--file b --help", "-h --file=b"] {
            assert_eq!(arguments(line).ok().as_ref(), Some(&expected), "{line}");
        }
        for wrong in [
            "-w 0",
            "-w x",
            "-f",
            "-x",
            "file",
            "--file",
            "--fil b",
            "--workers=2",
        ] {
            assert!(
                matches!(arguments(wrong), Err(BloomdError::Usage(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_file_becomes_the_nodes_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("bloomd.conf");
        let data = directory.path().join("data");
        let text = format!(
            "[bloomd]\ntcp_port = 9001\nudp_port = 9002\ndata_dir = {}\ncold_interval = 0\n\
             flush_interval = 7\ninitial_capacity = 20000\ndefault_probability = 0.01\n\
             scale_size = 2\nlog_level = WARN\n",
            data.display()
        );
        std::fs::write(&file, text).expect("written");
        let arguments = Arguments {
            file: Some(file),
            ..Arguments::default()
        };
        let (_, options) = settings(&arguments).expect("a good file");
        let config =
            Config::load_in(&options, &Surroundings::of_process()).expect("a good configuration");
        let address =
            |listener: &crate::config::Listener| listener.address.as_ref().map(ToString::to_string);
        assert_eq!(
            address(&config.bloomd.tcp).as_deref(),
            Some("127.0.0.1:9001")
        );
        assert_eq!(
            address(&config.bloomd.udp).as_deref(),
            Some("127.0.0.1:9002")
        );
        assert_eq!(address(&config.http.listen), None);
        assert_eq!(config.node.data_dir, data);
        assert_eq!(
            (config.filters.capacity, config.filters.growth),
            (20_000, 2)
        );
        assert_eq!(config.filters.idle_unload, None);
        assert_eq!(
            config.durability.interval,
            std::time::Duration::from_secs(7)
        );
    }
}
