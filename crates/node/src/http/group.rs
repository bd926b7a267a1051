//! The group as a resource: how it is, joining, leaving.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use grapevine_core::membership::MemberState;
use grapevine_net::Seed;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Api, answer, body};
use crate::group::{Clock, Group, Link, MemberStatus, Status};

/// Longest body of a request about the group, in bytes.
const BODY_BYTES_MAX: usize = 4096;

type Answer = Result<Response, ApiError>;

impl Api {
    fn group(&self) -> Result<&Group, ApiError> {
        self.group.as_deref().ok_or(ApiError::NoGroup)
    }
}

/// `GET /api/v1/group`.
pub(super) async fn status(State(api): State<Arc<Api>>) -> Answer {
    let group = api.group()?;
    let status = group.status();
    let mut described = describe(&status);
    described["joining"] = group.joining().iter().map(called).collect();
    let off = status.clock.off.map(|off| off.to_string());
    let large = crate::large_filters::notes(api.engine.filters());
    let notes = off.into_iter().chain(large).chain(group.replacing());
    described["notes"] = json!(notes.collect::<Vec<_>>());
    Ok(answer::json(StatusCode::OK, &described))
}

/// `GET /api/v1/group/members`.
pub(super) async fn members(State(api): State<Arc<Api>>) -> Answer {
    let status = api.group()?.status();
    let members = json!({ "members": list(&status) });
    Ok(answer::json(StatusCode::OK, &members))
}

fn describe(status: &Status) -> Value {
    let me = status.members.iter().find(|member| member.key == status.me);
    let connected = status.others().filter(|member| member.link.is_some());
    json!({
        "id": status.id,
        "name": status.name,
        "met": status.met,
        "left": status.left,
        "refused": status.refused,
        "me": {
            "key": status.me.to_string(),
            "name": me.map(|me| &me.name),
            "addresses": me.map(|me| &me.addresses),
        },
        "connected": connected.count(),
        "copies": copies(status),
        "divergences": divergences(status),
        "forks": status.forks(),
        "clock": clock(&status.clock),
        "members": list(status),
    })
}

fn clock(clock: &Clock) -> Value {
    let off = clock.off.map(|off| {
        json!({
            "ahead_ms": off.by,
            "members": off.from,
            "heard": off.heard,
        })
    });
    json!({"bound_ms": clock.bound, "off": off})
}

fn divergences(status: &Status) -> Vec<Value> {
    let divergences = status.divergences.iter();
    divergences
        .map(|found| {
            json!({
                "member": found.member,
                "kind": found.kind,
                "name": found.name,
                "count": found.count,
                "since_ms": found.since_ms,
            })
        })
        .collect()
}

fn list(status: &Status) -> Vec<Value> {
    let members = status.members.iter();
    members
        .map(|one| member(one, one.key == status.me))
        .collect()
}

fn member(member: &MemberStatus, me: bool) -> Value {
    json!({
        "key": member.key.to_string(),
        "name": member.name,
        "me": me,
        "origin": member.origin.to_string(),
        "addresses": member.addresses,
        "version": member.software,
        "state": match member.state {
            MemberState::Joined => "joined",
            MemberState::Left => "left",
        },
        "liveness": member.liveness.word(),
        "since_ms": member.since_ms,
        "connected": me || member.link.is_some(),
        "link": member.link.as_ref().map(link),
    })
}

fn link(link: &Link) -> Value {
    json!({
        "remote": link.remote,
        "dialed": link.dialed,
        "in_step": link.in_step(),
        "to_send": link.to_send,
        "to_receive": link.to_receive,
        "in_flight_bytes": link.in_flight,
        "waiting_bytes": link.waiting,
        "forks": link.forks,
        "clock_ahead_ms": link.clock.map(|clock| clock.ahead),
        "clock_uncertainty_ms": link.clock.map(|clock| clock.uncertainty),
        "snapshot_lines": link.snapshot_lines,
    })
}

/// An address that is called, and how that goes.
fn called(seed: &Seed) -> Value {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "address": seed.address.to_string(),
        "attempts": seed.attempts,
        "last_attempt_ms_ago": seed.last_attempt.map(milliseconds),
        "reason": seed.trouble.as_ref().map(ToString::to_string),
        "next_attempt_ms": seed.next_attempt.map(milliseconds),
        "waiting_ms": milliseconds(seed.waiting),
        "peer": seed.peer.map(|peer| peer.to_string()),
    })
}

/// How many members have what this node has, and how much the others lack.
pub(super) fn copies(status: &Status) -> Value {
    let lag = status.others().map(|member| {
        json!({
            "member": member.name,
            "key": member.key.to_string(),
            "to_send": member.link.as_ref().map(|link| link.to_send),
            "to_receive": member.link.as_ref().map(|link| link.to_receive),
        })
    });
    json!({
        "members": 1 + status.others().count(),
        "in_step": status.in_step(),
        "lag": lag.collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    address: String,
}

/// `POST /api/v1/group/join`.
pub(super) async fn join(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let text = body::whole(&mut request.into_body(), BODY_BYTES_MAX).await?;
    let wish: JoinBody = serde_json::from_slice(&text)?;
    let joined = api.group()?.join(&wish.address).await?;
    let said = json!({"member": joined.name, "key": joined.peer.to_string()});
    Ok(answer::json(StatusCode::OK, &said))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LeaveBody {
    member: Option<String>,
}

/// `POST /api/v1/group/leave`.
pub(super) async fn leave(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let text = body::whole(&mut request.into_body(), BODY_BYTES_MAX).await?;
    let wish: LeaveBody = if text.is_empty() {
        LeaveBody::default()
    } else {
        serde_json::from_slice(&text)?
    };
    let left = api.group()?.leave(wish.member).await?;
    let said = json!({
        "member": left.name,
        "key": left.peer.to_string(),
        "known": left.known,
    });
    Ok(answer::json(StatusCode::OK, &said))
}
