//! Other programs that this one can be: called by one of their names, through a link or a copy,
//! it takes that program's arguments. `grapevine applet NAME …` does the same without a link.

mod bloomd;
mod hbbp;
mod p2ptbl;
mod p2ptbl_recv;
mod rmbd;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// A program to be.
#[derive(Clone, Copy)]
pub struct Applet {
    name: &'static str,
    run: fn(&[OsString]) -> ExitCode,
}

const APPLETS: &[Applet] = &[
    Applet {
        name: "bloomd",
        run: bloomd::run,
    },
    Applet {
        name: "hbbp_keygen",
        run: hbbp::keygen::run,
    },
    Applet {
        name: "hbbpc",
        run: hbbp::client::run,
    },
    Applet {
        name: "hbbpd",
        run: hbbp::daemon::run,
    },
    Applet {
        name: "hbbpp",
        run: hbbp::client::run_plain,
    },
    Applet {
        name: "p2ptbl",
        run: p2ptbl::run,
    },
    Applet {
        name: p2ptbl_recv::NAME,
        run: p2ptbl_recv::run,
    },
    Applet {
        name: "rmbd",
        run: rmbd::run,
    },
];

/// Programs that only this one starts, under names of its own. Nobody is told of them.
const INNER: &[Applet] = &[Applet {
    name: crate::gateway::hbbp::program::LAUNCHER,
    run: crate::gateway::hbbp::program::launch,
}];

impl Applet {
    /// The applet of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        APPLETS.iter().find(|applet| applet.name == name).copied()
    }

    /// The applet that the program was called as, and the arguments that are its own. They are
    /// taken as they are: `-h` after the name is the applet's, not the program's.
    #[must_use]
    pub fn called(arguments: &[OsString]) -> Option<(Self, &[OsString])> {
        let (program, rest) = arguments.split_first()?;
        if p2ptbl_recv::is_called_through_link(program) {
            // Whatever the link is called: that is the name of a table.
            return Some((Self::named(p2ptbl_recv::NAME)?, rest));
        }
        let name = Path::new(program).file_name()?.to_str()?;
        let inner = INNER.iter().find(|applet| applet.name == name).copied();
        if let Some(applet) = inner.or_else(|| Self::named(name)) {
            return Some((applet, rest));
        }
        match rest {
            [verb, name, rest @ ..] if verb == "applet" => {
                Some((Self::named(name.to_str()?)?, rest))
            }
            _ => None,
        }
    }

    /// The names there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        APPLETS.iter().map(|applet| applet.name)
    }

    /// Runs it with its arguments, its name not among them.
    #[must_use]
    pub fn run(&self, arguments: &[OsString]) -> ExitCode {
        (self.run)(arguments)
    }
}

/// What people write to call an applet of that name: what they wrote, when that ends in the name.
fn called_as(name: &str) -> OsString {
    let program = std::env::args_os().next().unwrap_or_default();
    if Path::new(&program).file_name() == Some(OsStr::new(name)) {
        program
    } else {
        format!("grapevine applet {name}").into()
    }
}
