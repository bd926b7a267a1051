//! The command line. One declaration gives the parser, the help, the man page and the
//! completions. A command is one file with `pub(super) struct Args` and
//! `pub(super) fn run(&Args, &Context) -> Result<Outcome, Failure>`, named once in `Command`
//! and once in `dispatch`.

mod applet;
mod backup;
mod bench;
mod config;
mod consent;
mod doctor;
mod download;
mod examples;
mod exit;
mod figures;
mod filter;
mod generate;
mod group;
mod hbbp;
mod import;
mod line_blocks;
mod listing;
mod nearest;
mod node_address;
mod restore;
mod serve;
mod status;
mod table;
mod verify;

use std::ffi::OsString;
use std::io::{self, BufWriter, StdoutLock};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::client::Client;
use crate::config::{Config, ConfigErrors, GLOBAL_OPTIONS, GlobalOptions, Surroundings};

pub use exit::{Failure, Outcome};
pub use node_address::{NodeAddress, NodeAddressError, Owner};

/// How deep commands nest: `grapevine dht bag add` is 3.
const COMMAND_DEPTH_MAX: usize = 4;

/// The arguments of the program.
#[derive(Debug, Parser)]
#[command(name = "grapevine", version, about, arg_required_else_help = true)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT
    Serve(serve::Args),
    /// Be another program, such as bloomd
    Applet(applet::Args),
    /// Copy the data directory, also while a node runs on it
    Backup(backup::Args),
    /// Measure a server under load
    Bench(Box<bench::Args>),
    /// Show or check the configuration
    Config(config::Args),
    /// Check what a node needs of this machine
    Doctor(doctor::Args),
    /// Make, use and look at filters
    Filter(filter::Args),
    /// Print the man page, shell completions or the configuration reference
    Generate(generate::Args),
    /// Look at the group, join or leave it, keep its secrets
    Group(group::Args),
    /// Say something to everybody on a link, listen, make keys
    Hbbp(hbbp::Args),
    /// Take over the data of another program
    Import(import::Args),
    /// Make the data directory from a backup, under a new origin
    Restore(restore::Args),
    /// Describe the node: whether it is well, what it holds, its group
    Status(status::Args),
    /// Make, use, watch and look at tables
    Table(table::Args),
    /// Check every file of the data directory, changing nothing
    Verify(verify::Args),
}

fn dispatch(command: &Command, context: &Context) -> Result<Outcome, Failure> {
    match command {
        Command::Serve(args) => serve::run(args, context),
        Command::Applet(args) => applet::run(args, context),
        Command::Backup(args) => backup::run(args, context),
        Command::Bench(args) => bench::run(args, context),
        Command::Config(args) => config::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Filter(args) => filter::run(args, context),
        Command::Generate(args) => generate::run(args, context),
        Command::Group(args) => group::run(args, context),
        Command::Hbbp(args) => hbbp::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::Restore(args) => restore::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Table(args) => table::run(args, context),
        Command::Verify(args) => verify::run(args, context),
    }
}

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The options that every command takes.
    pub options: GlobalOptions,
    /// The process's environment and machine.
    pub surroundings: Surroundings,
}

impl Context {
    /// The configuration from all layers.
    ///
    /// # Errors
    /// Every mistake found in any layer.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        Config::load_in(&self.options, &self.surroundings)
    }

    /// The node that a command talks to.
    ///
    /// # Errors
    /// When the address is not valid, or the data directory names no running node.
    pub fn node(&self) -> Result<NodeAddress, NodeAddressError> {
        NodeAddress::resolve(&self.options, &self.surroundings)
    }

    /// Refuses `--node` for a command that works on a data directory of this machine. A node in the
    /// environment is meant for the commands that talk to one, and is passed over.
    ///
    /// # Errors
    /// When it was typed.
    pub fn without_node(&self, command: &str) -> Result<(), Failure> {
        if self.options.node.is_none() {
            return Ok(());
        }
        let said = format!(
            "grapevine {command} works on the files of a data directory and asks no node: leave \
             out --node and name the directory with --data-dir\n"
        );
        Err(Failure::Usage(clap::Error::raw(
            ErrorKind::ArgumentConflict,
            said,
        )))
    }

    /// A client of that node.
    ///
    /// # Errors
    /// When something that was given is wrong, it is not known which node, or the file with the token cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        Config::check_given(&self.options, &self.surroundings)?;
        Client::new(self.node()?, &self.options, &self.surroundings).map_err(Failure::from_error)
    }

    /// Standard output, buffered. Write with `?`, end with `flush()?`: the macros of the standard
    /// library panic when the reader has gone, errors from here end the command quietly.
    #[must_use]
    pub fn output(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::new(io::stdout().lock())
    }
}

/// Runs the program with its arguments, the first of which is its name, and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    exit::code(parse_and_run(arguments))
}

fn parse_and_run(arguments: impl IntoIterator<Item = OsString>) -> Result<Outcome, Failure> {
    let (cli, options) = parse(arguments)?;
    let context = Context {
        options,
        surroundings: Surroundings::of_process(),
    };
    dispatch(&cli.command, &context)
}

fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Cli, GlobalOptions), clap::Error> {
    let matches = with_help(command()).try_get_matches_from(arguments)?;
    let options = options_of_every_level(&matches)?;
    Ok((Cli::from_arg_matches(&matches)?, options))
}

/// The whole declaration, with the global options on every level.
fn command() -> clap::Command {
    with_global_options(Cli::command())
}

/// clap's own global arguments keep only those of the innermost level, so `--set` before and
/// after the command's name would silently lose the first. They are therefore declared at each.
fn with_global_options(command: clap::Command) -> clap::Command {
    // The options' own description would replace the command's.
    let (about, long_about) = (
        command.get_about().cloned(),
        command.get_long_about().cloned(),
    );
    let command = GlobalOptions::augment_args(command)
        .about(Resettable::from(about))
        .long_about(Resettable::from(long_about));
    command.mut_subcommands(with_global_options)
}

/// What ends the help of a command.
const GLOBAL_OPTIONS_NOTE: &str =
    "Options of every command (--node, --data-dir, --set and more): grapevine --help";

/// The help of a command has its own options and examples; the program's has the global options.
fn with_help(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|inner| with_examples(inner, ""))
}

fn with_examples(command: clap::Command, before: &str) -> clap::Command {
    let path = format!("{before} {}", command.get_name());
    let path = path.trim_start().to_owned();
    let end = match examples::of(&path) {
        Some(examples) => format!("{examples}\n\n{GLOBAL_OPTIONS_NOTE}"),
        None => GLOBAL_OPTIONS_NOTE.to_owned(),
    };
    command
        .after_help(end)
        .mut_args(|arg| {
            let global = is_global(&arg);
            arg.hide(global)
        })
        .mut_subcommands(move |inner| with_examples(inner, &path))
}

/// Whether an option is one of every command.
fn is_global(arg: &clap::Arg) -> bool {
    arg.get_help_heading() == Some(GLOBAL_OPTIONS)
}

fn options_of_every_level(matches: &ArgMatches) -> Result<GlobalOptions, clap::Error> {
    let mut options = GlobalOptions::from_arg_matches(matches)?;
    let mut level = matches;
    for _ in 0..COMMAND_DEPTH_MAX {
        let Some((_, inner)) = level.subcommand() else {
            break;
        };
        options = options.and(GlobalOptions::from_arg_matches(inner)?);
        level = inner;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn options(line: &str) -> Result<GlobalOptions, clap::Error> {
        parse(line.split(' ').map(OsString::from)).map(|(_, options)| options)
    }

    #[test]
    fn the_declaration_is_sound() {
        with_help(command()).debug_assert();
    }

    #[test]
    fn the_help_of_a_command_has_its_own_options_and_examples_alone() {
        let whole = command().render_long_help().to_string();
        assert!(whole.contains("--data-dir <DIR>"), "{whole}");
        for line in [
            "grapevine filter create --help",
            "grapevine filter create -h",
        ] {
            let Err(help) = options(line) else {
                panic!("{line} gives no help")
            };
            let help = help.to_string();
            assert!(!help.contains("--data-dir <DIR>"), "{help}");
            assert!(help.contains("--capacity"), "{help}");
            assert!(
                help.contains("Examples:\n  grapevine filter create"),
                "{help}"
            );
            assert!(
                help.ends_with(&format!("{GLOBAL_OPTIONS_NOTE}\n")),
                "{help}"
            );
        }
    }

    #[test]
    fn global_options_stand_at_any_level_and_add_up() -> Result<(), clap::Error> {
        let found = options(
            "grapevine --set a.b=1 --data-dir outer --node one config --set a.b=2 show \
             --data-dir inner --config f --set a.b=3",
        )?;
        assert_eq!(found.set, ["a.b=1", "a.b=2", "a.b=3"]);
        assert_eq!(found.data_dir, Some(PathBuf::from("inner")));
        assert_eq!(found.config, Some(PathBuf::from("f")));
        assert_eq!(found.node.as_deref(), Some("one"));
        Ok(())
    }

    #[test]
    fn commands_nest_no_deeper_than_options_are_looked_for() {
        fn depth(command: &clap::Command) -> usize {
            command
                .get_subcommands()
                .map(|inner| 1 + depth(inner))
                .max()
                .unwrap_or(0)
        }
        assert!(depth(&command()) <= COMMAND_DEPTH_MAX);
    }
}
