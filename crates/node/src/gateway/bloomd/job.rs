//! Work that touches files: done on the blocking pool while the connection waits.

use std::sync::Arc;

use grapevine_core::wire::bloomd::reply::{self, Status};
use grapevine_store::filters::{FilterError, Handle};

use super::Gateway;
use super::execute::{Executor, status_of};

/// A piece of such work.
#[derive(Debug)]
pub(super) enum Job {
    /// Read the bits of a filter; the line that needs them is executed afterwards.
    Load(Arc<Handle>),
    /// `close`.
    Close(Arc<Handle>),
    /// `flush NAME`.
    Flush(Arc<Handle>),
    /// `flush`.
    FlushAll,
}

impl Job {
    /// Does the work and appends the reply, if the line is answered by it.
    pub(super) async fn run(
        self,
        gateway: &Gateway,
        executor: &mut Executor<'_>,
        out: &mut Vec<u8>,
    ) {
        let loads = matches!(self, Job::Load(_));
        if loads {
            executor.loaded();
        }
        let outcome: Result<(), FilterError> = gateway
            .engine
            .run_blocking(move |engine| match &self {
                Job::Load(handle) => engine.filters().load(handle),
                Job::Close(handle) => engine.filters().unload(handle),
                Job::Flush(handle) => engine.filters().flush(handle),
                Job::FlushAll => engine.collections().checkpoint(),
            })
            .await;
        match outcome {
            Ok(()) if loads => {}
            Ok(()) => reply::status(out, Status::Done),
            Err(error) => {
                gateway.metrics.failures.inc();
                gateway.engine.complain("bloomd", &error);
                // A line whose filter could not be loaded finds that out when it is executed.
                if !loads {
                    reply::status(out, status_of(&error));
                }
            }
        }
    }
}
