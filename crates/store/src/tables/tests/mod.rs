//! Tables of one node and of a few, in process.

mod clocks;
mod collecting;
mod dropping;
mod durability;
mod exchange;
mod failing;
mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_core::origin::Origin;
use grapevine_core::sync::Stable;
use grapevine_core::table::{Content, Row};
use grapevine_core::version::VersionVector;

use crate::collections::Collections;
use crate::disk::SimulatedDisk;
use crate::filters::{Entropy, Options};
use crate::log::LogConfig;

/// Distinct bytes each time.
fn entropy() -> Entropy {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        u128::from(number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    })
}

fn open(disk: &SimulatedDisk) -> Arc<Collections> {
    try_open(disk).expect("the directory opens")
}

fn try_open(disk: &SimulatedDisk) -> Result<Arc<Collections>, crate::collections::OpenError> {
    let opened = Collections::open(Arc::new(disk.clone()), options(), entropy())?;
    Ok(Arc::new(opened.0))
}

fn options() -> Options {
    Options {
        log: LogConfig::default(),
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    }
}

fn row(version: i64, values: &str) -> Row {
    Row {
        version,
        content: Content::Values(values.as_bytes().to_vec()),
        expires: None,
    }
}

/// Everything that readers see of a table at time 0.
fn shown(collections: &Collections, name: &str) -> Vec<(String, String)> {
    let page = collections
        .tables()
        .page(name.as_bytes(), b"", usize::MAX, usize::MAX, 0);
    let page = page.expect("it reads").expect("there is such a table");
    assert_eq!(page.next, None);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let rows = page.rows.iter();
    rows.map(|(key, row)| (text(key), text(row.values().expect("it is there"))))
        .collect()
}

fn set(collections: &Collections, key: &str, values: &str) -> i64 {
    let tables = collections.tables();
    match tables.set(b"t", key.as_bytes(), values.as_bytes(), None) {
        Ok(super::Written::Row { version, .. }) => version,
        other => panic!("{other:?}"),
    }
}

fn delete(collections: &Collections, key: &str) -> bool {
    let deleted = collections.tables().delete(b"t", key.as_bytes(), 0);
    matches!(deleted.expect("it writes"), super::Deletion::Deleted { .. })
}

fn value(collections: &Collections, key: &str) -> Option<String> {
    let lookup = collections.tables().get(b"t", key.as_bytes(), 0);
    let row = lookup.expect("it reads").expect("there is a table").row?;
    Some(String::from_utf8(row.values()?.to_vec()).expect("text"))
}

fn origin(collections: &Collections) -> Origin {
    collections.journal().origin()
}

/// That everything here is stable among these nodes.
fn stable(nodes: &[&Collections]) -> Stable {
    let mut version: VersionVector = nodes[0].journal().applied();
    for node in nodes {
        version.meet(&node.journal().applied());
    }
    Stable {
        version,
        members: nodes.iter().map(|node| origin(node)).collect(),
        horizon: nodes
            .iter()
            .map(|node| node.tables().horizon())
            .min()
            .unwrap_or(0),
        at_rest: false,
    }
}

/// Removes what is gone on a node that is alone in its group; gives how many rows.
fn collect_alone(node: &Collections) -> u64 {
    let collected = node.tables().collect(&stable(&[node]));
    collected.expect("collected")
}

/// Reads all of the file of rows from the disk.
fn scrub(node: &Collections) {
    while !node.tables().scrub(&|| true).expect("it reads") {}
}
