//! `grapevine group …`.

mod secret;
mod show;

use std::io::{self, IsTerminal, Write};

use clap::Subcommand;
use clap::error::ErrorKind;
use serde_json::{Value, json};
use ureq::http::Method;

use super::{Context, Failure, Outcome, nearest};
use crate::client::{Client, ClientError, RequestBody};

/// Arguments of `grapevine group`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Describe the group as the node sees it
    Status(show::Args),
    /// List members: name, state, liveness, connected, operations to send and to receive,
    /// addresses, key, separated by tabs
    Members(show::Args),
    /// Join the group of a member, until the next start; group.join lasts
    Join {
        /// Where it listens, HOST:PORT
        address: String,
    },
    /// Leave the group and keep the data; or enter that a dead member has left
    Leave {
        /// Name, or beginning of the key, of a dead member
        member: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Keep the group's secrets; asks no node
    Secret(secret::Args),
}

/// Why one of the commands could not be carried out.
#[derive(Debug, thiserror::Error)]
enum GroupFailure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("standard input is not a terminal: pass --yes to confirm")]
    NotAsked,
}

impl From<GroupFailure> for Failure {
    fn from(failure: GroupFailure) -> Self {
        match failure {
            GroupFailure::Output(error) => Failure::Output(error),
            GroupFailure::NotAsked => {
                let said = format!("{failure}\n");
                Failure::Usage(clap::Error::raw(ErrorKind::MissingRequiredArgument, said))
            }
            GroupFailure::Client(error) if error.is_wrong_argument() => {
                Failure::from_argument(error)
            }
            failure => Failure::from_error(failure),
        }
    }
}

type Done = Result<Outcome, GroupFailure>;

/// Runs `grapevine group`.
///
/// # Errors
/// When the node cannot be reached or refuses, or a secret's file cannot be used.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    if let Verb::Secret(args) = &args.verb {
        return secret::run(args, context);
    }
    let client = context.client()?;
    let done = match &args.verb {
        Verb::Status(args) => show::status(args, &client, context),
        Verb::Members(args) => show::members(args, &client, context),
        Verb::Join { address } => join(address, &client, context),
        Verb::Leave { member, yes } => leave(member.as_deref(), *yes, &client, context),
        Verb::Secret(_) => Ok(Outcome::Done),
    };
    match done {
        Err(GroupFailure::Client(error)) if error.is_absent() => {
            match &args.verb {
                Verb::Leave {
                    member: Some(wanted),
                    ..
                } => nearest::say_absent_member(&client, wanted, &error),
                _ => nearest::say_absent(context, &error),
            }
            Ok(Outcome::Absent)
        }
        Err(error) => Err(error.into()),
        Ok(outcome) => Ok(outcome),
    }
}

fn post(client: &Client, path: &str, wish: &Value) -> Result<Value, ClientError> {
    let wish = wish.to_string();
    let body = RequestBody::Bytes {
        media_type: "application/json",
        bytes: wish.as_bytes(),
    };
    client.ask(Method::POST, path, body)
}

fn join(address: &str, client: &Client, context: &Context) -> Done {
    let said = post(client, "/api/v1/group/join", &json!({"address": address}))?;
    let mut output = context.output();
    writeln!(
        output,
        "joined\t{}\t{}",
        plain(&said["member"]),
        plain(&said["key"])
    )?;
    output.flush()?;
    drop(writeln!(
        io::stderr(),
        "grapevine: note: the address is not kept over a restart; put it into group.join if no \
         other member can call this node"
    ));
    Ok(Outcome::Done)
}

fn leave(member: Option<&str>, yes: bool, client: &Client, context: &Context) -> Done {
    if !yes && !agreed(member)? {
        return Ok(Outcome::Failed);
    }
    let said = post(client, "/api/v1/group/leave", &json!({"member": member}))?;
    let mut output = context.output();
    writeln!(
        output,
        "left\t{}\t{}",
        plain(&said["member"]),
        plain(&said["key"])
    )?;
    output.flush()?;
    if said["known"] != true {
        let advice = match member {
            None => "run `grapevine group leave` with this node's name on one of them",
            Some(_) => "they are told once one of them is connected",
        };
        drop(writeln!(
            io::stderr(),
            "grapevine: note: no other member knows it yet: {advice}"
        ));
    }
    Ok(Outcome::Done)
}

fn agreed(member: Option<&str>) -> Result<bool, GroupFailure> {
    if !io::stdin().is_terminal() {
        return Err(GroupFailure::NotAsked);
    }
    let mut errors = io::stderr();
    drop(match member {
        None => write!(errors, "Leave the group, keeping the data? [y/N] "),
        Some(member) => write!(errors, "Enter that {member} has left for good? [y/N] "),
    });
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    let agreed = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        drop(writeln!(errors, "grapevine: nothing was changed"));
    }
    Ok(agreed)
}

/// A value for a line of plain output. Names come from other nodes: nothing in them steers a
/// terminal or ends the column.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
