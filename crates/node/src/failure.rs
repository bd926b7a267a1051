//! What happens on a panic: a report, then the end of the process. A thread that stopped half way
//! through a change leaves state that nobody has thought about; a restart from the log is safe.

use std::backtrace::Backtrace;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::thread;

/// Makes every panic, in whatever thread, print a report to standard error and abort the process.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let report = Report {
            thread: thread.name().unwrap_or("unnamed"),
            message: message(panic),
            place: panic.location(),
            backtrace: Backtrace::force_capture(),
        };
        // Standard error may be closed; there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "{report}");
        process::abort();
    }));
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    panic
        .payload_as_str()
        .unwrap_or("a payload that is no text")
}

struct Report<'a, P> {
    thread: &'a str,
    message: &'a str,
    place: Option<P>,
    backtrace: Backtrace,
}

impl<P: Display> Display for Report<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            thread,
            message,
            place,
            backtrace,
        } = self;
        writeln!(
            f,
            "grapevine {} stopped because of a defect.",
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(f, "thread: {thread}")?;
        if let Some(place) = place {
            writeln!(f, "place: {place}")?;
        }
        writeln!(f, "message: {message}")?;
        writeln!(f, "backtrace:\n{backtrace}")?;
        writeln!(
            f,
            "A node recovers its acknowledged writes when it is started again."
        )?;
        write!(f, "Please send this text to whoever gave you the program.")
    }
}
