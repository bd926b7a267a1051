//! Asking before something is destroyed.

use std::io::{self, IsTerminal, Write};

/// Whether whoever sits at the terminal agrees; none: there is no terminal to ask.
pub(super) fn agrees(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let mut errors = io::stderr();
    drop(write!(errors, "{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    let agrees = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
    if !agrees {
        drop(writeln!(errors, "grapevine: nothing was changed"));
    }
    Some(agrees)
}
