//! What every gateway stands on: the node's filters, and when an answer may be given.
//!
//! A request gets a position of the log. It is answered once everything before that position is
//! as durable as `durability.sync` promises: handed to the operating system (`os`, `interval`)
//! or synced (`always`). Waiting callers are served by one write, or one sync, for all of them.

mod scrub;
mod sync_age;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Collections;
use grapevine_store::filters::{FilterError, Filters, NewFilter};
use grapevine_store::journal::Journal;
use grapevine_store::log::Position;
use grapevine_store::tables::Tables;
use tokio::sync::watch;

use crate::company::Company;
use crate::complaints::Complaints;
use crate::config::{Durability, SyncMode};
use crate::large_filters::{Told, aside};
use sync_age::SyncAge;

/// How often filters are looked through for idle and dropped ones, and for a snapshot being due.
const TIDY_EVERY: Duration = Duration::from_millis(500);
/// How long the last snapshot may take when the node stops.
const LAST_SNAPSHOT: Duration = Duration::from_secs(2);

/// What an operator does about a node that takes no writes.
pub(crate) const REMEDY: &str =
    "Mend what it names (on a full disk: make room), then restart the node";

/// What a new filter is like when its creator does not say.
#[derive(Clone, Copy, Debug)]
pub struct FilterDefaults {
    /// Size, error and growth.
    pub parameters: Parameters,
    /// Whether its keys outlive the process.
    pub storage: Storage,
}

impl FilterDefaults {
    /// A filter as asked for, the rest as configured.
    #[must_use]
    pub fn filter(&self, wish: FilterWish) -> NewFilter {
        let parameters = Parameters {
            capacity: wish.capacity.unwrap_or(self.parameters.capacity),
            error: wish.error.unwrap_or(self.parameters.error),
            growth: if wish.fixed {
                Growth::Fixed
            } else {
                wish.growth.map_or(self.parameters.growth, Growth::By)
            },
        };
        let storage = match wish.in_memory {
            Some(true) => Storage::Memory,
            Some(false) => Storage::Durable,
            None => self.storage,
        };
        NewFilter {
            parameters,
            storage,
            seed: None,
            scope: if wish.local {
                Scope::Local
            } else {
                Scope::Group
            },
        }
    }
}

/// What somebody asks of a new filter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FilterWish {
    /// Keys the first layer holds.
    pub capacity: Option<u64>,
    /// Bound on the false-positive rate.
    pub error: Option<f64>,
    /// Its keys need not outlive the process.
    pub in_memory: Option<bool>,
    /// How many times larger each further layer is.
    pub growth: Option<u32>,
    /// It does not grow.
    pub fixed: bool,
    /// It is kept on this node alone.
    pub local: bool,
}

/// The node's state and its durability.
pub struct Engine {
    collections: Arc<Collections>,
    defaults: FilterDefaults,
    durability: Durability,
    synced: watch::Sender<Result<Position, FilterError>>,
    /// Told after each change of a table.
    tables_changed: watch::Sender<()>,
    wanted: Wanted,
    stopping: AtomicBool,
    complaints: Complaints,
    /// Whether others join a write that waits a turn.
    company: Company,
    /// It was said that snapshots cannot be read back.
    unreadable_said: AtomicBool,
    large_filters: Told,
    sync_age: Mutex<SyncAge>,
    started: Instant,
}

/// A position that somebody waits to see synced.
#[derive(Default)]
struct Wanted {
    position: Mutex<Position>,
    /// There is more to sync, or the node stops: for the thread that syncs.
    changed: Condvar,
    /// The node stops: for the thread that tidies.
    stopped: Condvar,
}

impl Engine {
    /// An engine over an opened data directory. [`Engine::start`] gives it its threads.
    #[must_use]
    pub fn new(
        collections: Collections,
        defaults: FilterDefaults,
        durability: Durability,
    ) -> Arc<Self> {
        let journal = collections.journal();
        if durability.sync == SyncMode::Always {
            journal.promise_synced();
        }
        // At that moment and outside every limiter: nothing else that is logged matters as much.
        journal.set_alarm(|reason| {
            tracing::error!(
                "read-only from now on: {reason}. What is here is served, changes are refused. \
                 {REMEDY}"
            );
        });
        let tables_changed = watch::Sender::new(());
        let bell = tables_changed.clone();
        collections.tables().set_bell(move || {
            bell.send_replace(());
        });
        collections.filters().set_aside(aside);
        let started = Instant::now();
        let sync_age = SyncAge::new(started, collections.journal().appended());
        Arc::new(Engine {
            tables_changed,
            synced: watch::Sender::new(Ok(collections.journal().synced())),
            collections: Arc::new(collections),
            defaults,
            durability,
            wanted: Wanted::default(),
            stopping: AtomicBool::new(false),
            complaints: Complaints::default(),
            company: Company::default(),
            unreadable_said: AtomicBool::new(false),
            large_filters: Told::default(),
            sync_age: Mutex::new(sync_age),
            started,
        })
    }

    /// Everything that the data directory holds.
    #[must_use]
    pub fn collections(&self) -> &Arc<Collections> {
        &self.collections
    }

    /// The filters.
    #[must_use]
    pub fn filters(&self) -> &Filters {
        self.collections.filters()
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        self.collections.tables()
    }

    /// Wakes whoever watches tables: it changes after each change of a row of any of them.
    #[must_use]
    pub fn table_changes(&self) -> watch::Receiver<()> {
        self.tables_changed.subscribe()
    }

    /// The journal that every change goes through.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        self.collections.journal()
    }

    /// What a new filter is like when its creator does not say.
    #[must_use]
    pub fn defaults(&self) -> FilterDefaults {
        self.defaults
    }

    /// When a write is acknowledged, and when it is synced.
    #[must_use]
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// For how long the engine has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether everything before `position` may be acknowledged now.
    #[inline]
    #[must_use]
    pub fn is_settled(&self, position: Position) -> bool {
        position
            <= match self.durability.sync {
                SyncMode::Always => self.journal().synced(),
                SyncMode::Os | SyncMode::Interval => self.journal().committed(),
            }
    }

    /// Everything before this position is there after a crash of the machine, or, with
    /// `durability.sync = "os"`, of the process. Who gives positions away that outlive the process
    /// gives none behind it.
    #[must_use]
    pub fn lasting(&self) -> Position {
        match self.durability.sync {
            SyncMode::Always | SyncMode::Interval => self.journal().synced(),
            SyncMode::Os => self.journal().committed(),
        }
    }

    /// Waits until everything before `position` may be acknowledged.
    ///
    /// # Errors
    /// When the log has failed and the position is not as durable as promised.
    pub async fn settle(&self, position: Position) -> Result<(), FilterError> {
        if self.is_settled(position) {
            return Ok(());
        }
        if self.durability.sync == SyncMode::Always {
            return self.wait_for_sync(position).await;
        }
        // Let the other connections that have input join the batch; the first to come back
        // writes for all of them. Where nobody joins, that is only a turn of the runtime more.
        if self.company.is_expected() {
            tokio::task::yield_now().await;
            let journal = self.journal();
            let others = journal.appended() > position || journal.committed() >= position;
            self.company.came(others);
        }
        Ok(self.journal().commit(position)?)
    }

    async fn wait_for_sync(&self, position: Position) -> Result<(), FilterError> {
        let mut synced = self.synced.subscribe();
        {
            let mut wanted = self.lock_wanted();
            *wanted = (*wanted).max(position);
            self.wanted.changed.notify_one();
        }
        let reached = |synced: &Result<Position, FilterError>| {
            synced.as_ref().map_or(true, |synced| *synced >= position)
        };
        match synced.wait_for(reached).await {
            Ok(outcome) => outcome.as_ref().map(drop).map_err(Clone::clone),
            Err(_) => Err(FilterError::ReadOnly("the node is stopping".into())),
        }
    }

    /// Runs work that reads or writes files, or waits for them, off the connection's thread.
    pub async fn run_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> T {
        let engine = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            // A panic has aborted the process; what is left is a runtime that is going away.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Logs trouble that clients can cause at will, a few times of each kind in a while.
    pub fn complain(&self, kind: &'static str, what: &dyn std::fmt::Display) {
        self.complaints.say(kind, what);
    }

    /// Starts the threads that sync the log and take snapshots.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<Keepers> {
        let spawn = |name: &str, work: fn(&Engine)| {
            let engine = Arc::clone(self);
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&engine))
        };
        let syncer = spawn("log-sync", Engine::keep_synced)?;
        let keeper = spawn("snapshots", Engine::keep_tidy)?;
        Ok(Keepers {
            engine: Arc::clone(self),
            threads: vec![syncer, keeper],
        })
    }

    fn lock_wanted(&self) -> std::sync::MutexGuard<'_, Position> {
        self.wanted
            .position
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Syncs the log when somebody waits for it (`always`), every interval otherwise; leaves a
    /// mark when there was nothing to do.
    fn keep_synced(&self) {
        let interval = match self.durability.sync {
            SyncMode::Interval => self.durability.interval,
            SyncMode::Always | SyncMode::Os => Duration::from_secs(1),
        };
        while !self.is_stopping() {
            {
                let wanted = self.lock_wanted();
                drop(
                    self.wanted
                        .changed
                        .wait_timeout_while(wanted, interval, |wanted| {
                            !self.is_stopping() && !self.is_sync_due(*wanted)
                        }),
                );
            }
            self.sync_once();
        }
    }

    /// Whether somebody waits for a sync that can still come: after a failure none will.
    fn is_sync_due(&self, wanted: Position) -> bool {
        self.durability.sync == SyncMode::Always
            && wanted > self.journal().synced()
            && self.journal().read_only().is_none()
    }

    fn sync_once(&self) {
        // Notes how far the log reaches now.
        self.oldest_unsynced();
        if self.durability.sync == SyncMode::Os {
            return;
        }
        let outcome = if self.journal().synced() < self.journal().appended() {
            self.journal().sync()
        } else {
            self.filters()
                .journal()
                .mark_synced()
                .map(|()| self.journal().synced())
        };
        if let Err(error) = &outcome {
            self.complain("syncing the log", error);
        }
        drop(self.synced.send_replace(outcome.map_err(FilterError::from)));
    }

    /// How old the oldest write that is not synced is at most; none when all are synced.
    pub fn oldest_unsynced(&self) -> Option<Duration> {
        let mut age = self.sync_age.lock().unwrap_or_else(PoisonError::into_inner);
        let (appended, synced) = (self.journal().appended(), self.journal().synced());
        age.oldest(Instant::now(), appended, synced)
    }

    /// Unloads what is idle, removes what was dropped, takes snapshots when they are due.
    fn keep_tidy(&self) {
        let mut scrubbed = None;
        while !self.is_stopping() {
            {
                let guard = self.lock_wanted();
                drop(
                    self.wanted
                        .stopped
                        .wait_timeout_while(guard, TIDY_EVERY, |_| !self.is_stopping()),
                );
            }
            self.large_filters.tell(self.filters());
            self.scrub_rows(&mut scrubbed);
            if self.journal().read_only().is_some() {
                continue;
            }
            if let Err(error) = self.filters().tidy(self.started.elapsed().as_secs()) {
                self.complain("tidying", &error);
            }
            if self.collections.checkpoint_due() {
                match self.collections.checkpoint_while(&|| !self.is_stopping()) {
                    Ok(_) => tracing::debug!("took a snapshot"),
                    Err(FilterError::Unreadable(_)) => {}
                    Err(error) => self.complain("taking a snapshot", &error),
                }
            }
            self.tell_unreadable();
        }
    }
}

impl Engine {
    /// Says once that snapshots cannot be read back, whoever tried to take one.
    fn tell_unreadable(&self) {
        let reason = self.collections.unreadable_snapshot();
        let said = self
            .unreadable_said
            .swap(reason.is_some(), Ordering::Relaxed);
        if let Some(reason) = reason.filter(|_| !said) {
            tracing::error!(
                "{reason}; the snapshot before and all of the log are kept, and the log grows"
            );
        }
    }
}

/// The engine's threads.
pub struct Keepers {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
}

impl Keepers {
    /// Ends the threads, takes a last snapshot, as far as it comes in short time, and leaves the log synced and marked.
    ///
    /// # Errors
    /// When something could not be written; everything acknowledged is still in the log as far
    /// as its durability promised.
    pub fn stop(self) -> Result<(), FilterError> {
        {
            let _wanted = self.engine.lock_wanted();
            self.engine.stopping.store(true, Ordering::Release);
            self.engine.wanted.changed.notify_all();
            self.engine.wanted.stopped.notify_all();
        }
        for thread in self.threads {
            // A panic in it has aborted the process.
            drop(thread.join());
        }
        let collections = &self.engine.collections;
        collections.journal().sync()?;
        if collections.log_tail() > 0 {
            // What does not come into files in time is in the log, and so is what does not read back.
            let begun = Instant::now();
            match collections.checkpoint_while(&|| begun.elapsed() < LAST_SNAPSHOT) {
                Ok(true) | Err(FilterError::Unreadable(_)) => {}
                Ok(false) => tracing::info!("the next start replays the log"),
                Err(error) => return Err(error),
            }
        }
        Ok(collections.journal().mark_synced()?)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use grapevine_store::disk::{Operation, SimulatedDisk};
    use grapevine_store::filters::{Creation, Entropy, Options, Recreation};
    use grapevine_store::log::LogConfig;

    fn engine(disk: &SimulatedDisk) -> Arc<Engine> {
        engine_with(disk, SyncMode::Always)
    }

    fn engine_with(disk: &SimulatedDisk, sync: SyncMode) -> Arc<Engine> {
        let options = Options {
            log: LogConfig::default(),
            memory: 1 << 20,
            checkpoint_log: 1 << 20,
            idle_unload: None,
        };
        let entropy: Entropy = Arc::new(|| [7; 16]);
        let (collections, _) =
            Collections::open(Arc::new(disk.clone()), options, entropy).expect("it opens");
        let parameters = Parameters {
            capacity: 100,
            error: 0.01,
            growth: Growth::By(2),
        };
        let defaults = FilterDefaults {
            parameters,
            storage: Storage::Durable,
        };
        let durability = Durability {
            sync,
            interval: Duration::from_secs(1),
        };
        Engine::new(collections, defaults, durability)
    }

    fn create(engine: &Engine, name: &[u8]) -> Position {
        let new = engine.defaults().filter(FilterWish::default());
        match engine.filters().create(name, new, Recreation::AtOnce) {
            Ok(Creation::Created(position)) => position,
            other => panic!("not created: {other:?}"),
        }
    }

    fn settle(engine: &Engine, position: Position) -> Result<(), FilterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(engine.settle(position))
    }

    #[test]
    fn with_always_a_reply_waits_for_a_sync() {
        let engine = engine(&SimulatedDisk::new());
        let position = create(&engine, b"first");
        assert!(engine.is_sync_due(position) && !engine.is_settled(position));
        let keepers = engine.start().expect("threads");
        settle(&engine, position).expect("synced");
        assert!(engine.filters().journal().synced() >= position);
        assert!(!engine.is_sync_due(position));
        keepers.stop().expect("all is written");
    }

    #[test]
    fn a_client_that_is_alone_is_not_made_to_wait_a_turn() {
        let engine = engine_with(&SimulatedDisk::new(), SyncMode::Os);
        let mut cx = Context::from_waker(Waker::noop());
        let mut at_once = 0;
        for number in 0..100 {
            let position = create(&engine, format!("filter-{number}").as_bytes());
            let mut settled = pin!(engine.settle(position));
            match settled.as_mut().poll(&mut cx) {
                Poll::Ready(outcome) => {
                    outcome.expect("written");
                    at_once += 1;
                }
                Poll::Pending => {
                    let polled = settled.poll(&mut cx);
                    assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
                }
            }
            assert!(engine.is_settled(position));
        }
        assert!((70..100).contains(&at_once), "{at_once} of 100");
    }

    #[test]
    fn the_journals_bell_wakes_its_thread_at_the_next_append() {
        let engine = engine(&SimulatedDisk::new());
        let journal = engine.journal();
        journal.set_bell(std::thread::current());
        journal.arm_bell();
        // An unpark before the park counts: without one it would wait for all this time.
        let long = Duration::from_secs(20);
        create(&engine, b"first");
        let begun = Instant::now();
        std::thread::park_timeout(long);
        assert!(begun.elapsed() < long / 2, "nobody woke it");
    }

    #[test]
    fn after_a_failed_sync_replies_are_refused_and_no_sync_is_due() {
        let disk = SimulatedDisk::new();
        let engine = engine(&disk);
        let position = create(&engine, b"first");
        disk.fail_next(Operation::Sync, 0, std::io::ErrorKind::Other);
        engine.sync_once();
        let refused = settle(&engine, position);
        assert!(
            matches!(refused, Err(FilterError::ReadOnly(_))),
            "{refused:?}"
        );
        let rests = !engine.is_sync_due(position);
        assert!(rests, "the thread that syncs would never rest");
    }
}
