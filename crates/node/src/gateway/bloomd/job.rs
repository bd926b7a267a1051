//! Work that touches files: done on the blocking pool while the connection waits.

use std::sync::Arc;

use grapevine_core::wire::bloomd::reply::{self, Status};
use grapevine_store::filters::{FilterError, Handle};

use super::Gateway;
use super::execute::{Executor, list, status_of};
use crate::replies::Room;

/// Why a long reply is not made.
const NO_ROOM: &str = "replies that clients do not take fill the memory for them (limits.memory)";

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
    /// `list` of so many filters that the reply, of about so many bytes, needs room among those of
    /// all connections.
    List(Vec<Arc<Handle>>, usize),
}

impl Job {
    /// Whether it is to begin only once the replies before it are sent.
    pub(super) fn wants_room(&self) -> bool {
        matches!(self, Job::List(..))
    }

    /// Does the work and appends the reply, if the line is answered by it. Gives the room that a
    /// long reply takes.
    pub(super) async fn run(
        self,
        gateway: &Gateway,
        executor: &mut Executor<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Room> {
        if let Job::List(handles, bytes) = self {
            let room = gateway.replies.wait(bytes).await;
            match &room {
                Some(_) => list(out, &handles),
                None => {
                    gateway.metrics.failures.inc();
                    gateway.engine.complain("bloomd", &NO_ROOM);
                    reply::status(out, Status::InternalError);
                }
            }
            return room;
        }
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
                // Done above, without a thread of its own.
                Job::List(..) => Ok(()),
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
        None
    }
}
