//! The composition root: a node from its configuration, until it is told to stop.

pub(crate) mod banner;
mod listeners;
mod predecessor;
mod reload;
mod signals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::bitmap::BitmapError;
use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Recovered;
use grapevine_store::disk::DirectoryLock;
use grapevine_store::filters::{FilterError, Filters};
use grapevine_store::import::bloomd::BloomdDirectory;
use grapevine_store::tables::{LostRows, ROWS_FILE};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, ConfigErrors, MemoryDivision};
use crate::data_directory::{self, DataDirectoryError, Opened};
use crate::descriptors::{self, Division};
use crate::engine::{Engine, FilterDefaults, Keepers};
use crate::gateway::{bloomd, hbbp, p2ptbl, rmbd};
use crate::group::{FORK_REMEDY, Group, GroupError};
use crate::http::{self, TokenError, TokenSource};
use crate::logging::LogControl;
use crate::metrics::Metrics;
use crate::replies::ClientMemory;
use listeners::{BindError, Bound, ListenersFile};
use signals::{Signal, Signals};

/// How long connections may take to end when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a node did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// A token of HTTP requests cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Every listener has its default address, and each of those is taken.
    #[error(
        "nobody would be served, because every default address is taken:\n{taken}\nIs another node \
         running? `grapevine doctor` names who has them; port 0 picks a free one"
    )]
    ServesNobody {
        /// Each of them, a line each.
        taken: String,
    },
    /// The bitmap cannot be shown as configured.
    #[error("rmbd.rows: {0}")]
    Bitmap(#[from] BitmapError),
    /// The HBBP gateway cannot be started.
    #[error(transparent)]
    Hbbp(#[from] hbbp::GatewayError),
    /// The data directory has filters that cannot be taken over.
    #[error(transparent)]
    PythonFilters(#[from] predecessor::PythonFilters),
    /// The group cannot be started.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The system refused what every process needs: threads, signals, random bytes.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The last writes failed.
    #[error("stopping: {0}")]
    Stop(#[from] FilterError),
}

/// Reads the configuration again.
pub type Reload = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// What is not a matter of configuration: how this node is run as another program.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where filters are kept when their creator does not say.
    pub storage: Storage,
    /// A C bloomd's data directory whose filters a new data directory begins with.
    pub takes_over: Option<PathBuf>,
    /// Threads that serve connections; none: one per processor.
    pub workers: Option<usize>,
}

impl Default for Service {
    fn default() -> Self {
        Service {
            storage: Storage::Durable,
            takes_over: None,
            workers: None,
        }
    }
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or could not write everything at its end.
pub fn run(
    config: &Config,
    service: Service,
    log: &LogControl,
    reload: &Reload,
) -> Result<(), ServeError> {
    descriptors::raise_limit();
    let runtime = runtime(service.workers)?;
    let signals = runtime.block_on(async { Signals::catch() });
    let mut signals = signals.map_err(|source| ServeError::System {
        what: "catching signals",
        source,
    })?;
    let opened = runtime.block_on(signals.unless_stopped(open(config, service)));
    let Some(opened) = opened else {
        // What was replayed by then is replayed again by the next start.
        tracing::info!("stopped before it was ready");
        runtime.shutdown_background();
        return Ok(());
    };
    let (_lock, engine) = opened?;
    let keepers = start(&engine)?;
    let served = runtime.block_on(serve(config, &engine, signals, log, reload));
    // What is left of it are connections that did not end in time.
    runtime.shutdown_background();
    let stopped = keepers.stop();
    served?;
    stopped?;
    tracing::info!("stopped");
    Ok(())
}

/// Takes the data directory and recovers what is in it, on a thread that may block.
async fn open(
    config: &Config,
    service: Service,
) -> Result<(DirectoryLock, Arc<Engine>), ServeError> {
    let config = config.clone();
    let opening = tokio::task::spawn_blocking(move || open_blocking(&config, &service));
    match opening.await {
        Ok(opened) => opened,
        // A panic has aborted the process.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn open_blocking(
    config: &Config,
    service: &Service,
) -> Result<(DirectoryLock, Arc<Engine>), ServeError> {
    if !banner::is_seen() {
        let (version, place) = (env!("CARGO_PKG_VERSION"), config.node.data_dir.display());
        tracing::info!("grapevine {version} starts, with the data directory {place}");
    }
    if let Some(directory) = &service.takes_over {
        predecessor::refuse_python_filters(directory)?;
    }
    let Opened {
        collections,
        recovered,
        lock,
    } = data_directory::open(config)?;
    let filters = collections.filters();
    report(filters, &recovered);
    if let (Some(directory), true) = (&service.takes_over, recovered.created) {
        take_over(filters, directory);
    }
    let parameters = Parameters {
        capacity: config.filters.capacity,
        error: config.filters.error,
        growth: Growth::By(config.filters.growth),
    };
    let defaults = FilterDefaults {
        parameters,
        storage: service.storage,
    };
    let engine = Engine::new(collections, defaults, config.durability.clone());
    let journal = engine.collections().journal();
    if journal.forks().contains_key(&journal.origin()) {
        // Known since before this start: what it would make now would be lost to the group, too.
        journal.fail(|| format!("its own history is not the group's. To mend it, {FORK_REMEDY}"));
    }
    Ok((lock, engine))
}

/// That the file of rows was not what it was, and where the rows come from.
fn report_lost_rows(lost: &LostRows) {
    let kept = lost.set_aside.as_deref();
    let kept = kept.map_or_else(String::new, |kept| format!(", kept as {kept}"));
    let reason = &lost.reason;
    if lost.rebuilt {
        tracing::warn!("{reason}{kept}; all rows were made anew from the log");
    } else {
        tracing::error!(
            "{reason}{kept}; the log does not have all rows, so tables answer with an error until \
             they have come from another member"
        );
    }
}

fn report(filters: &Filters, recovered: &Recovered) {
    if let Some(cut) = &recovered.cut {
        tracing::warn!(
            "{}: {} bytes from offset {} had not been written whole and were cut (kept as {})",
            cut.file,
            cut.bytes,
            cut.offset,
            cut.kept
        );
    }
    for (name, reason) in &recovered.damaged {
        tracing::error!("filter {} is damaged: {reason}", name.escape_ascii());
    }
    if let Some(reason) = &recovered.lost_manifest {
        tracing::warn!("{reason}; recovered from the snapshot before and the log behind it");
    }
    if let Some(position) = recovered.older_rows {
        tracing::warn!(
            "{ROWS_FILE} is as of log position {position}, earlier than the snapshot says; the rows \
             behind it came from the log"
        );
    }
    if let Some(lost) = &recovered.lost_rows {
        report_lost_rows(lost);
    }
    tracing::info!(
        "{} filters, {} operations with {} keys replayed from the log",
        filters.list(b"").len(),
        recovered.operations,
        recovered.keys
    );
}

/// Enters the filters of a C bloomd. What cannot be read is said and left where it is.
fn take_over(filters: &Filters, directory: &Path) {
    let found = match BloomdDirectory::open(directory) {
        Ok(found) => found,
        Err(error) => return tracing::error!("taking over filters: {error}"),
    };
    for imported in found.into_filters() {
        let entered = imported
            .map_err(|error| error.to_string())
            .and_then(|filter| {
                let name = filter.name.escape_ascii().to_string();
                let imported = filters.import_bloomd(filter);
                imported
                    .map_err(|error| format!("{name}: {error}"))
                    .map(|_| name)
            });
        match entered {
            Ok(name) => tracing::info!("took over filter {name}"),
            Err(error) => tracing::error!("taking over filters: {error}"),
        }
    }
}

fn runtime(workers: Option<usize>) -> Result<Runtime, ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder
        .enable_all()
        .build()
        .map_err(|source| ServeError::System {
            what: "starting threads",
            source,
        })
}

fn start(engine: &Arc<Engine>) -> Result<Keepers, ServeError> {
    engine.start().map_err(|source| ServeError::System {
        what: "starting threads",
        source,
    })
}

async fn serve(
    config: &Config,
    engine: &Arc<Engine>,
    mut signals: Signals,
    log: &LogControl,
    reload: &Reload,
) -> Result<(), ServeError> {
    let token = TokenSource::open(config.http.token_file.as_deref())?
        .and_metrics(config.http.metrics_token_file.as_deref())?;
    let mut bound = Bound::bind(config)?;
    let group = start_group(config, engine, &mut bound).await?;
    if bound.serves_nobody() {
        let taken = bound.skipped.join("\n");
        return Err(ServeError::ServesNobody { taken });
    }
    let file = ListenersFile::write(&config.node.data_dir, &bound)?;
    let text = banner::text(config, engine, &bound);
    if !banner::is_seen() {
        banner::log(config, engine, &bound);
    }
    let (stop, stopping) = watch::channel(false);
    let mut tasks = spawn(config, engine, bound, group.clone(), &token, &stopping)?;
    let held = log.held();
    // A terminal that was stopped takes nothing.
    tokio::task::spawn_blocking(move || {
        banner::print(&text);
        held.release();
    });
    while let Signal::Reload = signals.next().await {
        reload::apply(config, log, &token, group.as_deref(), reload).await;
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
        tracing::warn!(
            "some connections did not end within {} s",
            STOP_GRACE.as_secs()
        );
    }
    if let Some(group) = group {
        group.stop().await;
    }
    drop(file);
    Ok(())
}

/// Starts the group where it is to listen; none when that is turned off, or its default port is
/// taken.
async fn start_group(
    config: &Config,
    engine: &Arc<Engine>,
    bound: &mut Bound,
) -> Result<Option<Arc<Group>>, ServeError> {
    let settings = &config.group;
    let listen = bound.places(&settings.listen)?;
    if listen.is_empty() {
        return Ok(None);
    }
    let collections = Arc::clone(engine.collections());
    let drift = config.limits.clock_drift;
    let data_dir = &config.node.data_dir;
    let name = &config.node.name;
    match Group::start(settings, name, listen, collections, drift, data_dir).await {
        Ok(group) => {
            for address in group.addresses().iter() {
                bound.serves(settings.listen.key, *address);
            }
            Ok(Some(group))
        }
        Err(error) => match error.taken_address() {
            Some(address) if !settings.listen.is_configured() => {
                bound.skip(settings.listen.key, address);
                Ok(None)
            }
            _ => Err(error.into()),
        },
    }
}

fn spawn(
    config: &Config,
    engine: &Arc<Engine>,
    bound: Bound,
    group: Option<Arc<Group>>,
    token: &TokenSource,
    stopping: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, ServeError> {
    let metrics = Arc::new(Metrics::with_group(Arc::clone(engine), group.clone()));
    let about = bound.about(config);
    let connections = connections(config);
    let limits = bloomd::Limits {
        connections,
        line: config.limits.line,
        output: config.limits.output,
        write_timeout: config.limits.write_timeout,
        idle: config.limits.idle_timeout,
    };
    let memory = ClientMemory::of(MemoryDivision::of(config.limits.memory.bytes));
    let udp = bound.bloomd_udp.first();
    let udp = udp.and_then(|socket| socket.local_addr().ok());
    let gateway = bloomd::Gateway::new(
        Arc::clone(engine),
        limits,
        memory.clone(),
        metrics.bloomd.clone(),
        bloomd::Settings::of(config, udp.map(|address| address.port())),
    );
    let mut tasks = JoinSet::new();
    if !bound.bloomd_tcp.is_empty() {
        let listeners = bound.bloomd_tcp.into();
        tasks.spawn(Arc::clone(&gateway).serve_tcp(listeners, stopping.clone()));
    }
    for socket in bound.bloomd_udp {
        tasks.spawn(Arc::clone(&gateway).serve_udp(socket, stopping.clone()));
    }
    if !bound.rmbd_udp.is_empty() {
        let bitmap = rmbd::DurableBitmap::new(Arc::clone(engine), config.rmbd.rows)?;
        let settings = rmbd::Settings::from(&config.rmbd);
        let gateway = rmbd::Gateway::new(Arc::new(bitmap), settings, metrics.rmbd.clone());
        tasks.spawn(gateway.serve(bound.rmbd_udp, stopping.clone()));
    }
    if !bound.hbbp.is_empty() {
        let settings = hbbp::Settings::from(&config.hbbp);
        let exchanged = p2ptbl::Settings::from(&config.hbbp);
        let mut consumers: Vec<Arc<dyn hbbp::Consumer>> = Vec::new();
        let mut teller = None;
        if !exchanged.is_empty() {
            link_tables(engine, &exchanged);
            let (receiver, told) = p2ptbl::exchange(&exchanged, engine, &metrics.p2ptbl);
            consumers.push(Arc::new(receiver));
            teller = Some(told);
        }
        let gateway = hbbp::Gateway::new(&settings, consumers, metrics.hbbp.clone())?;
        if let Some(teller) = teller {
            let voice: Arc<dyn hbbp::Voice> = Arc::clone(&gateway) as _;
            tasks.spawn(teller.serve(voice, stopping.clone()));
        }
        for (ear, socket) in bound.hbbp {
            tasks.spawn(Arc::clone(&gateway).serve(ear, socket, stopping.clone()));
        }
    }
    if !bound.http.is_empty() {
        let limits = http::Limits {
            connections,
            line: config.limits.line,
        };
        let server = http::Server::new(Arc::clone(engine), metrics, token.clone())
            .with_limits(limits)
            .with_memory(memory, config.limits.write_timeout)
            .with_links(p2ptbl::Settings::from(&config.hbbp))
            .with_group(group)
            .with_about(about);
        let stopping = stopping.clone();
        tasks.spawn(async move { server.serve(bound.http, stopping).await });
    }
    Ok(tasks)
}

/// Connections per gateway: as configured, or as many as the system's limit of open files leaves.
fn connections(config: &Config) -> usize {
    let wanted = config.limits.connections;
    let division = Division::here(wanted);
    if division.connections < wanted {
        tracing::warn!(
            "limits.connections is {wanted}, but this process may open {} files: {} connections \
             per gateway leave the others for files and the group (raise ulimit -n, \
             LimitNOFILE=)",
            division.limit,
            division.connections
        );
    }
    division.connections
}

/// Makes the tables that are exchanged over links, and says of them that they are. Those that were
/// dropped stay so.
fn link_tables(engine: &Engine, exchanged: &p2ptbl::Settings) {
    for table in exchanged.tables() {
        let (tables, shown) = (engine.collections().tables(), table.escape_ascii());
        if let Err(error) = tables.link(table) {
            tracing::error!("table {shown}: {error}");
        } else if let Ok(None) = tables.summary(table) {
            tracing::warn!(
                "table {shown} was dropped and is not exchanged: take it out of hbbp.tables and \
                 hbbp.gossip, or run `grapevine table create {shown}`"
            );
        }
    }
}
