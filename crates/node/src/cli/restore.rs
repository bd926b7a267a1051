//! `grapevine restore DIR` and `grapevine restore --in-place`.

use std::io::{self, Write};
use std::path::PathBuf;

use grapevine_net::PeerKey;
use grapevine_store::restore::replacing::LostMember;
use grapevine_store::restore::{Lost, restore, restore_in_place};

use super::{Context, Failure, Outcome};
use crate::data_directory;

/// Arguments of `grapevine restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup
    #[arg(required_unless_present = "in_place")]
    directory: Option<PathBuf>,
    /// Make the data directory anew from itself, under a new origin: for one that was set back or
    /// copied behind the back of its node. The old one stays beside it
    #[arg(long, conflicts_with = "directory")]
    in_place: bool,
    /// Once the node has joined its group, enter that the member of which this is a backup has left
    /// for good; the node waits while that member is alive
    #[arg(long)]
    replace: bool,
}

/// Runs `grapevine restore`.
///
/// # Errors
/// When the data directory is there already (in place: is not there, or in use), the backup is
/// damaged, or the disk refuses; then nothing is made.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("restore")?;
    let config = context.config()?;
    let target = &config.node.data_dir;
    let entropy = data_directory::entropy().map_err(Failure::from_error)?;
    let options = data_directory::options(&config);
    let lost = if args.replace {
        Lost::Replace
    } else {
        Lost::Keep
    };
    let (made, kept) = if let Some(backup) = &args.directory {
        let made = restore(backup, target, lost, options, entropy).map_err(Failure::from_error)?;
        (made, None)
    } else {
        let target = data_directory::existing(&config).map_err(Failure::from_error)?;
        let _lock = data_directory::lock(target).map_err(Failure::from_error)?;
        let made = restore_in_place(target, lost, options, entropy);
        let (made, kept) = made.map_err(Failure::from_error)?;
        (made, Some(kept))
    };
    let mut output = context.output();
    writeln!(
        output,
        "{}: {} filters; origin {} (was {})",
        target.display(),
        made.filters,
        made.now,
        made.before,
    )?;
    if let Some(kept) = kept {
        writeln!(output, "what was there is in {}", kept.display())?;
    }
    if let Some(member) = &made.member {
        writeln!(output, "{}", description(member, lost))?;
    }
    output.flush()?;
    if let (Some(member), Lost::Keep) = (&made.member, lost) {
        let key = key_of(member);
        drop(writeln!(
            io::stderr(),
            "grapevine: note: the group goes on counting that member, and keeps deleted rows and its\n\
             log for it. Once its node is gone for good, run on any member\n\
             \x20 grapevine group leave {key}\n\
             `grapevine restore --replace` has the restored node do that by itself."
        ));
    }
    Ok(Outcome::Done)
}

/// Which member the backup was of, and what becomes of it.
fn description(member: &LostMember, lost: Lost) -> String {
    let (name, key) = (&member.name, key_of(member));
    match lost {
        Lost::Keep => format!("was member {name}, key {key}; this node joins as a new member"),
        Lost::Replace => format!(
            "replaces member {name}, key {key}, once this node has joined the group and that \
             member does not answer"
        ),
    }
}

fn key_of(member: &LostMember) -> PeerKey {
    PeerKey::from_bytes(member.node.bytes())
}
