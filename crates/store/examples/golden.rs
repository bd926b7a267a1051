//! Writes a small data directory with something of everything, for `tests/golden/`: what this
//! version writes, so that every later one can be held to read it, or to refuse it by name.
//!
//! ```sh
//! cargo run -p grapevine-store --example golden -- crates/store/tests/golden/format-N
//! ```
//! N is the format version of the manifest. The directory must be absent. It gets the data under
//! `data/`, and what is in there as `expected`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;
use grapevine_store::filters::{Entropy, NewFilter, Options, Recreation, Scratch};
use grapevine_store::log::LogConfig;

type Failed = Box<dyn std::error::Error>;

/// The same bytes in every run.
fn entropy() -> Entropy {
    let drawn = AtomicU64::new(1);
    Arc::new(move || {
        let number = u128::from(drawn.fetch_add(1, Ordering::Relaxed));
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        mixed.to_le_bytes()
    })
}

/// Writes as much as there is of everything, and says in `expected` what it is. `part` is what
/// tells the names of the first half from those of the second.
fn fill(node: &Collections, part: &str, expected: &mut String) -> Result<(), Failed> {
    let filters = node.filters();
    for (name, scope, storage) in [
        ("shared", Scope::Group, Storage::Durable),
        ("own", Scope::Local, Storage::Durable),
        ("memory", Scope::Group, Storage::Memory),
    ] {
        let name = format!("{name}-{part}");
        let new = NewFilter {
            parameters: Parameters {
                capacity: 50,
                error: 1e-4,
                growth: Growth::By(2),
            },
            storage,
            seed: None,
            scope,
        };
        filters.create(name.as_bytes(), new, Recreation::AtOnce)?;
        let handle = filters.get(name.as_bytes()).ok_or("it was made")?;
        let keys: Vec<String> = (0..60).map(|number| format!("key-{number}")).collect();
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        filters.set(&handle, &keys, &mut Scratch::default())?;
        // Those of a filter that is kept in memory are gone with the process.
        let kept = if storage == Storage::Durable { 60 } else { 0 };
        writeln!(expected, "filter {name} {kept}")?;
    }
    let bit = if part == "snapshot" { 7 } else { 64_000 };
    node.bitmap().set(&[bit])?;
    writeln!(expected, "bit {bit}")?;
    node.tables().create(b"services")?;
    for number in 0..5 {
        let (key, value) = (format!("{part}-{number}"), format!("192.0.2.{number}"));
        node.tables()
            .set(b"services", key.as_bytes(), value.as_bytes(), None)?;
        writeln!(expected, "row services {key} {value}")?;
    }
    let number = part.len() as u8;
    let member = Member {
        name: part.to_owned(),
        origin: node.journal().origin(),
        addresses: vec!["127.0.0.1:8676".to_owned()],
        software: env!("CARGO_PKG_VERSION").to_owned(),
        weight: 1,
        state: MemberState::Joined,
        group: node.group().id,
    };
    node.enter_member(MemberRow::new(NodeId::new([number; 32]), 1, &member))?;
    writeln!(expected, "member {part}")?;
    Ok(())
}

fn main() -> Result<(), Failed> {
    let target = PathBuf::from(std::env::args().nth(1).ok_or("name a directory")?);
    std::fs::create_dir_all(&target)?;
    std::fs::create_dir(target.join("data"))?;
    let disk = Arc::new(RealDisk::new(target.join("data")));
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 20,
        checkpoint_log: 1 << 30,
        idle_unload: None,
    };
    let (node, _) = Collections::open(disk, options, entropy())?;
    let mut expected = "opens\n".to_owned();
    node.join(GroupIdentity {
        met: true,
        ..node.group()
    })?;
    fill(&node, "snapshot", &mut expected)?;
    node.checkpoint()?;
    fill(&node, "log", &mut expected)?;
    node.journal().sync()?;
    std::fs::write(target.join("expected"), expected)?;
    Ok(())
}
