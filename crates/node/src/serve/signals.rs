//! What the node is told by signals. They are caught before anything else is done: until then
//! SIGHUP would end the process, and as the first process of a container SIGTERM would be lost.

use std::future::Future;
use std::io;
use std::pin::pin;

use tokio::signal::unix::{self, SignalKind, signal};

use crate::orphans;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// To end: SIGTERM, SIGINT.
    Stop,
    /// To read the configuration again: SIGHUP.
    Reload,
}

/// The signals that are caught.
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Catches them from now on, and waits for what others leave behind. To be called within a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn catch() -> io::Result<Self> {
        orphans::adopt()?;
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one; one that came before is kept.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// What comes of `work`; none when the node is to end first. It has just read its
    /// configuration: to read that again is for nothing.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return Some(outcome),
                signal = self.next() => match signal {
                    Signal::Stop => return None,
                    Signal::Reload => {}
                },
            }
        }
    }
}
