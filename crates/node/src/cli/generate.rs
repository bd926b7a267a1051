//! `grapevine generate`: what is made from the declarations of the command line and of the
//! configuration.

use std::io::{self, Write};

use clap_complete::Shell;
use clap_mangen::Man;

use super::{Context, Failure, Outcome};
use crate::config::reference_page;

/// Arguments of `grapevine generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to print
    #[arg(value_enum)]
    what: Product,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Product {
    /// The man page, with every command
    Man,
    /// Completions for bash
    CompleteBash,
    /// Completions for zsh
    CompleteZsh,
    /// Completions for fish
    CompleteFish,
    /// The configuration reference, docs/configuration.md
    Configuration,
}

/// Runs `grapevine generate`.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let product = match args.what {
        Product::Man => man_page()?,
        Product::CompleteBash => completions(Shell::Bash),
        Product::CompleteZsh => completions(Shell::Zsh),
        Product::CompleteFish => completions(Shell::Fish),
        Product::Configuration => reference_page().into_bytes(),
    };
    let mut output = context.output();
    output.write_all(&product)?;
    output.flush()?;
    Ok(Outcome::Done)
}

/// Made in memory, because the generator panics when it cannot write.
fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "grapevine", &mut script);
    script
}

/// One page for the program and all its commands.
fn man_page() -> io::Result<Vec<u8>> {
    let mut command = super::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        add_command(&mut page, inner)?;
    }
    writeln!(page, "{EXIT_STATUS}")?;
    Ok(page)
}

const EXIT_STATUS: &str = "\
.SH \"EXIT STATUS\"
0 done, 1 failed, 2 wrong usage, 3 not found, no or absent.";

/// Adds the commands that can be run, each with its synopsis, description and own options.
fn add_command(page: &mut Vec<u8>, command: &clap::Command) -> io::Result<()> {
    let mut inner = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
        .peekable();
    if inner.peek().is_some() {
        return inner.try_for_each(|inner| add_command(page, inner));
    }
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_uppercase();
    writeln!(page, ".SH \"{name}\"")?;
    let man = Man::new(without_global_options(command));
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    // One level down: these are sections of the command.
    page.extend(
        String::from_utf8_lossy(&body)
            .replace(".SH ", ".SS ")
            .into_bytes(),
    );
    Ok(())
}

/// The page says the global options once, at its head.
fn without_global_options(command: &clap::Command) -> clap::Command {
    command.clone().mut_args(|arg| {
        let global = super::is_global(&arg);
        arg.hide(global)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_man_page_has_every_command() -> io::Result<()> {
        let page = String::from_utf8_lossy(&man_page()?).into_owned();
        for part in [
            "GRAPEVINE CONFIG SHOW",
            "GRAPEVINE CONFIG CHECK",
            "GRAPEVINE GENERATE",
        ] {
            assert!(page.contains(part), "{part} is missing from:\n{page}");
        }
        // The global options are said once, not for each command.
        assert_eq!(page.matches("<DIR>").count(), 1, "{page}");
        assert!(page.contains("Check a file alone"), "{page}");
        Ok(())
    }

    #[test]
    fn completions_know_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8_lossy(&completions(shell)).into_owned();
            assert!(
                script.contains("data-dir") && script.contains("origin"),
                "{shell}"
            );
        }
    }

    #[test]
    fn the_reference_page_in_the_tree_is_up_to_date() {
        let written = include_str!("../../../../docs/configuration.md");
        assert!(
            written == reference_page(),
            "run: grapevine generate configuration > docs/configuration.md"
        );
    }
}
