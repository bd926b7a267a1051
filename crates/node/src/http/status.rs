//! How the node is, at a glance: `GET /api/v1/status`, and the command `grapevine status`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, answer, pages};
use crate::config::SyncMode;
use crate::engine::Engine;
use crate::group::{Liveness, MemberStatus, Status};
use crate::logging;
use crate::metrics::Process;

/// Other members that are listed; of a group with more, the first by key.
const MEMBERS_MAX: usize = 1000;
/// Members that do not answer and are named in warnings.
const DOWN_NAMED_MAX: usize = 10;

/// What a server is told about its node beyond what the engine knows.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its configured name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Configuration key and address of each listener.
    pub listeners: Vec<(String, String)>,
    /// Why defaults are not listened on.
    pub skipped: Vec<String>,
    /// `limits.memory`, in bytes.
    pub memory_limit: u64,
}

/// The answer. Readers take what is missing, as from an older node, for empty.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) node: Node,
    pub(crate) listeners: Vec<Listening>,
    /// Whether it takes writes.
    pub(crate) ready: bool,
    /// Why it takes none.
    pub(crate) reason: Option<String>,
    /// None on a node that is in no group.
    pub(crate) group: Option<GroupStatus>,
    pub(crate) filters: FilterCounts,
    pub(crate) tables: TableCounts,
    pub(crate) memory: MemoryUse,
    pub(crate) durability: DurabilityStatus,
    pub(crate) log: LogStatus,
    /// What people should know although the node works.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The origin of its operations.
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) data_dir: String,
    pub(crate) uptime_ms: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Listening {
    pub(crate) key: String,
    pub(crate) address: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct GroupStatus {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether the node has left and waits to be joined to a group.
    pub(crate) left: bool,
    /// Members, this node included; those that answer, and the others.
    pub(crate) members: usize,
    pub(crate) up: usize,
    pub(crate) down: usize,
    /// Members that have the same as this node, itself included.
    pub(crate) in_step: usize,
    pub(crate) others: Vec<Member>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) up: bool,
    /// `alive`, `suspect`, `down` or `unknown`.
    pub(crate) liveness: String,
    /// Milliseconds for which it has been so.
    pub(crate) since_ms: Option<u64>,
    /// Operations here that it lacks, and the other way round; none while it is not connected.
    pub(crate) to_send: Option<u64>,
    pub(crate) to_receive: Option<u64>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct FilterCounts {
    pub(crate) count: u64,
    pub(crate) loaded: u64,
    pub(crate) damaged: u64,
    pub(crate) too_large: u64,
    pub(crate) keys: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct TableCounts {
    pub(crate) count: u64,
    pub(crate) rows: u64,
    pub(crate) gone_rows: u64,
    /// Why none is served.
    pub(crate) damaged: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct MemoryUse {
    /// Of the process, as the system counts it, and `limits.memory`.
    pub(crate) resident_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// The bits of filters, and their share of the limit.
    pub(crate) filters_bytes: u64,
    pub(crate) filters_limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct DurabilityStatus {
    /// `durability.sync` and `durability.interval`.
    pub(crate) sync: String,
    pub(crate) interval_ms: u64,
    /// What a power cut would lose, and how old the oldest of it is at most.
    pub(crate) unsynced_bytes: u64,
    pub(crate) unsynced_ms: u64,
    /// What a restart would replay.
    pub(crate) log_tail_bytes: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LogStatus {
    pub(crate) lines_dropped: u64,
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(api): State<Arc<Api>>) -> Response {
    let shared = Arc::clone(&api);
    let looked = api.engine.run_blocking(move |_| look(&shared)).await;
    answer::json(StatusCode::OK, &json!(looked))
}

fn look(api: &Api) -> NodeStatus {
    let (engine, about) = (&*api.engine, &api.about);
    let group = api.group.as_deref().map(crate::group::Group::status);
    let listeners = about.listeners.iter();
    let lines_dropped = logging::dropped_lines();
    let mut warnings = pages::notes(api);
    warnings.extend(group.iter().flat_map(|status| down_notes(status)));
    warnings.extend(about.skipped.iter().cloned());
    if lines_dropped > 0 {
        warnings.push(format!(
            "{lines_dropped} lines of the log were dropped because nobody read those before them"
        ));
    }
    NodeStatus {
        node: Node {
            name: about.name.clone(),
            id: engine.filters().identity().origin.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: about.data_dir.display().to_string(),
            uptime_ms: milliseconds(engine.uptime()),
        },
        listeners: listeners
            .map(|(key, address)| Listening {
                key: key.clone(),
                address: address.clone(),
            })
            .collect(),
        reason: pages::why_not_ready(api),
        ready: pages::why_not_ready(api).is_none(),
        group: group.map(|status| of_group(&status)),
        filters: of_filters(engine),
        tables: of_tables(engine),
        memory: MemoryUse {
            resident_bytes: Process::read().unwrap_or_default().resident_bytes,
            limit_bytes: about.memory_limit,
            filters_bytes: engine.filters().memory().used(),
            filters_limit_bytes: engine.filters().memory().limit(),
        },
        durability: of_durability(engine),
        log: LogStatus { lines_dropped },
        warnings,
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a member answers, as far as is known.
fn is_up(member: &MemberStatus) -> bool {
    member.link.is_some() || matches!(member.liveness, Liveness::Alive | Liveness::Suspect)
}

fn down_notes(status: &Status) -> Vec<String> {
    let down: Vec<&MemberStatus> = status.others().filter(|member| !is_up(member)).collect();
    let named = down.iter().take(DOWN_NAMED_MAX);
    let mut notes: Vec<String> = named
        .map(|member| format!("member {} does not answer", member.name))
        .collect();
    if down.len() > DOWN_NAMED_MAX {
        let more = down.len() - DOWN_NAMED_MAX;
        notes.push(format!("{more} more members do not answer"));
    }
    notes
}

fn of_group(status: &Status) -> GroupStatus {
    let others = status.others().count();
    let up = status.others().filter(|member| is_up(member)).count();
    let own = usize::from(!status.left);
    let member = |member: &MemberStatus| Member {
        name: member.name.clone(),
        key: member.key.to_string(),
        up: is_up(member),
        liveness: member.liveness.word().to_owned(),
        since_ms: member.since_ms,
        to_send: member.link.as_ref().map(|link| link.to_send),
        to_receive: member.link.as_ref().map(|link| link.to_receive),
    };
    GroupStatus {
        id: status.id.clone(),
        name: status.name.clone(),
        left: status.left,
        members: others + own,
        up: up + own,
        down: others - up,
        in_step: status.in_step(),
        others: status.others().take(MEMBERS_MAX).map(member).collect(),
    }
}

fn of_filters(engine: &Engine) -> FilterCounts {
    let handles = engine.filters().list(b"");
    let count = |what: &dyn Fn(&grapevine_store::filters::Handle) -> bool| {
        handles.iter().filter(|handle| what(handle)).count() as u64
    };
    FilterCounts {
        count: handles.len() as u64,
        loaded: count(&|handle| handle.is_loaded()),
        damaged: count(&|handle| handle.damage().is_some()),
        too_large: engine.filters().too_large().len() as u64,
        keys: handles.iter().map(|handle| handle.summary().inserted).sum(),
    }
}

fn of_tables(engine: &Engine) -> TableCounts {
    match engine.tables().list() {
        Ok(tables) => TableCounts {
            count: tables.len() as u64,
            rows: tables.iter().map(|table| table.rows).sum(),
            gone_rows: tables.iter().map(|table| table.tombstones).sum(),
            damaged: None,
        },
        Err(error) => TableCounts {
            damaged: Some(error.to_string()),
            ..TableCounts::default()
        },
    }
}

fn of_durability(engine: &Engine) -> DurabilityStatus {
    let (journal, durability) = (engine.journal(), engine.durability());
    let unsynced = engine.oldest_unsynced();
    DurabilityStatus {
        sync: match durability.sync {
            SyncMode::Os => "os",
            SyncMode::Interval => "interval",
            SyncMode::Always => "always",
        }
        .to_owned(),
        interval_ms: milliseconds(durability.interval),
        unsynced_bytes: journal.appended().saturating_sub(journal.synced()),
        unsynced_ms: unsynced.map_or(0, milliseconds),
        log_tail_bytes: engine.collections().log_tail(),
    }
}
