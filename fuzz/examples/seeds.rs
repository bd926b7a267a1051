//! Writes the binary seeds under `seeds/`: small files as the program writes them. Run it in
//! `fuzz/` after a format has changed: `cargo run --example seeds`. The seeds of text protocols
//! are written by hand.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::write::DeflateEncoder;
use flate2::{Compression, GzBuilder};
use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, LegacyShape, Scope, Storage};
use grapevine_core::filter::legacy::HEADER_BYTES;
use grapevine_core::filter::parameters::{Growth, LayerId, Parameters};
use grapevine_core::filter::rights::Rights;
use grapevine_core::filter::{Layer, Run};
use grapevine_core::hash::{KeyHash, Seed};
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use grapevine_core::operation::{
    CatalogueChange, EntryHeader, Grant, Name, Share, Spent, Stream, encode_adopted_version,
    encode_bits, encode_change, encode_draw, encode_grant, encode_group, encode_insert,
    encode_member, encode_row, encode_rows_of, encode_table,
};
use grapevine_core::origin::Origin;
use grapevine_core::table::{Content, Row, TableRow};
use grapevine_core::version::Dot;
use grapevine_fuzz::data_directory::open_empty;
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::filters::{NewFilter, Recreation, Scratch};
use grapevine_store::journal::{Bookmark, Note};
use grapevine_store::layer_file::write_layer;
use grapevine_store::manifest::{MANIFEST_FILE, Manifest};

type Outcome = Result<(), Box<dyn Error>>;

const ME: Origin = Origin::new([1; 16]);
const MADE: Dot = Dot {
    origin: ME,
    sequence: 5,
};
/// First byte of a seed: the checksums are repaired after a mutation.
const REPAIR: u8 = 1;

fn main() -> Outcome {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    write(&seeds, "export/filter", &export()?)?;
    write(&seeds, "gzip/member", &gzip_member()?)?;
    write(&seeds, "gzip/deflated", &gzip_deflated()?)?;
    write(&seeds, "layer_file/layer", &layer()?)?;
    write(&seeds, "legacy_layer/layer", &legacy_layer())?;
    write(&seeds, "manifest/one_row", &manifest()?)?;
    for (name, bytes) in operations()? {
        write(&seeds, &format!("operation/{name}"), &bytes)?;
    }
    Ok(())
}

fn write(seeds: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let path = seeds.join(name);
    fs::create_dir_all(path.parent().ok_or("a seed lies in a directory")?)?;
    Ok(fs::write(path, bytes)?)
}

fn parameters() -> Parameters {
    Parameters {
        capacity: 20,
        error: 0.01,
        growth: Growth::By(2),
    }
}

fn row() -> Result<FilterRow, Box<dyn Error>> {
    Ok(FilterRow {
        id: FilterId::new([3; 16]),
        created: MADE,
        scope: Scope::Group,
        name: b"seen".to_vec(),
        parameters: parameters(),
        seed: Seed::new([9; 16]),
        storage: Storage::Durable,
        layers: vec![LayerRow {
            shape: parameters().layer(0, ME, 1)?,
            opened: MADE,
        }],
        legacy: vec![LegacyShape {
            index: 0,
            bytes: 600,
            checksum: 7,
            capacity: 9,
            inserted: 5,
            error: 1e-5,
        }],
        other: BTreeMap::new(),
    })
}

fn group() -> GroupIdentity {
    GroupIdentity {
        id: [6; 16],
        seed: Seed::new([7; 16]),
        met: true,
    }
}

fn member() -> MemberRow {
    let member = Member {
        name: "alpha".to_owned(),
        origin: ME,
        addresses: vec!["127.0.0.1:8676".to_owned()],
        software: "0.1.0".to_owned(),
        weight: 1,
        state: MemberState::Joined,
    };
    MemberRow::new(NodeId::new([8; 32]), 3, &member)
}

fn export() -> Result<Vec<u8>, Box<dyn Error>> {
    let node = open_empty();
    let filters = node.filters();
    let new = NewFilter {
        parameters: parameters(),
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    filters.create(b"seen", new, Recreation::AtOnce)?;
    let handle = filters.get(b"seen").ok_or("the filter was made")?;
    let keys: Vec<Vec<u8>> = (0..30u8).map(|key| vec![key; 4]).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    filters.set(&handle, &keys, &mut Scratch::default())?;
    let mut bytes = vec![REPAIR];
    filters.export(&handle, &mut bytes)??;
    Ok(bytes)
}

const ROWS: &[u8] = b"alpha\t5\t10.0.0.1\nbeta\t7\t10.0.0.2\teth0\n";

/// A zero, which says that a whole member follows.
fn gzip_member() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut member = GzBuilder::new().write(vec![0], Compression::default());
    member.write_all(ROWS)?;
    Ok(member.finish()?)
}

/// A one, which says that a member's data alone follows.
fn gzip_deflated() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut deflated = DeflateEncoder::new(vec![1], Compression::default());
    deflated.write_all(ROWS)?;
    Ok(deflated.finish()?)
}

fn layer() -> Result<Vec<u8>, Box<dyn Error>> {
    let layer = Layer::new(parameters().layer(0, ME, 1)?, ME)?;
    let seed = Seed::new([5; 16]);
    for key in 0..10u8 {
        layer.apply(seed.hash(&[key]));
    }
    layer.observe_inserted(ME, 10);
    let mut bytes = vec![REPAIR];
    write_layer(&mut bytes, FilterId::new([2; 16]), &layer)?;
    Ok(bytes)
}

/// Eight bytes of key, then a layer of three hashes with one key by its count and all bits set.
fn legacy_layer() -> Vec<u8> {
    let mut bytes = vec![0; 8 + HEADER_BYTES];
    bytes[8..12].copy_from_slice(&0xCB10_05DDu32.to_le_bytes());
    bytes[12..16].copy_from_slice(&3u32.to_le_bytes());
    bytes[16..20].copy_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&[0xff; 24]);
    bytes
}

fn manifest() -> Result<Vec<u8>, Box<dyn Error>> {
    let disk = SimulatedDisk::new();
    Manifest {
        directory: Some(ME),
        bookmark: Bookmark {
            at: Note {
                position: 4096,
                version: [(ME, 12)].into_iter().collect(),
            },
            local: 3,
            earlier: vec![Note::default()],
            ..Bookmark::default()
        },
        rows: vec![row()?],
        hidden: vec![],
        group: Some(group()),
        members: vec![member()],
        bitmap: vec![2].into(),
        tables: 2048,
        revisions: vec![vec![7]],
    }
    .write(&disk)?;
    let mut bytes = vec![REPAIR];
    bytes.extend_from_slice(&disk.bytes(MANIFEST_FILE)?);
    Ok(bytes)
}

fn operations() -> Result<Vec<(&'static str, Vec<u8>)>, Box<dyn Error>> {
    let row = row()?;
    let (epoch, layer) = (row.epoch(), row.layers[0]);
    let rights = Rights::new(20, ME);
    let name = Name {
        name: row.name.clone(),
    };
    let changes = [
        ("create", CatalogueChange::Create(row.clone())),
        ("import", CatalogueChange::Import(row, vec![rights.clone()])),
        ("drop", CatalogueChange::Drop(epoch)),
        ("hide", CatalogueChange::Hide(name.clone())),
        ("show", CatalogueChange::Show(name)),
        ("open_layer", CatalogueChange::OpenLayer(epoch, layer)),
        (
            "adopt_layer",
            CatalogueChange::AdoptLayer(epoch, layer, rights),
        ),
    ];
    let header = EntryHeader {
        stream: Stream::Group,
        dot: MADE,
    };
    let mut seeds = Vec::new();
    for (name, change) in changes {
        let mut bytes = header.encode().to_vec();
        encode_change(&mut bytes, &change);
        seeds.push((name, bytes));
    }
    let mut bytes = header.encode().to_vec();
    let run = Run {
        layer: LayerId {
            index: 0,
            creator: ME,
        },
        opened: 5,
        count: 2,
        inserted: 2,
    };
    encode_insert(&mut bytes, epoch.filter, run, &[KeyHash::default(); 2]);
    seeds.push(("insert", bytes));
    let grant = Grant {
        filter: epoch.filter,
        layer: layer.shape.id,
        opened: layer.opened,
        shares: vec![Share {
            taker: Origin::new([2; 16]),
            total: 4,
        }],
    };
    let drawn = Spent {
        filter: epoch.filter,
        layer: layer.shape.id,
        opened: 5,
        total: 16,
    };
    let others: [(&str, &dyn Fn(&mut Vec<u8>)); 8] = [
        ("draw", &|bytes| encode_draw(bytes, &drawn)),
        ("grant", &|bytes| encode_grant(bytes, &grant)),
        ("bits", &|bytes| encode_bits(bytes, &[1, 1999])),
        ("table", &|bytes| {
            encode_table(bytes, &TableRow::new(b"leases"))
        }),
        ("rows", &|bytes| {
            let lease = Row {
                version: 7,
                content: Content::Values(b"10.0.0.9\talpha".to_vec()),
                expires: Some(1 << 40),
            };
            encode_rows_of(bytes, b"leases", None);
            encode_row(bytes, b"9", &lease, None);
            encode_row(bytes, b"10", &Row::tombstone(-1), Some(MADE));
        }),
        ("member", &|bytes| encode_member(bytes, &member())),
        ("group", &|bytes| encode_group(bytes, &group())),
        ("adopt_version", &|bytes| {
            encode_adopted_version(bytes, &[(ME, 7)].into_iter().collect());
        }),
    ];
    for (name, encode) in others {
        let mut bytes = header.encode().to_vec();
        encode(&mut bytes);
        seeds.push((name, bytes));
    }
    Ok(seeds)
}
