//! The import of a C server's data directory, against one that the C server wrote.

use grapevine_core::filter::legacy::{BloomdLayer, LayerError, LegacyHashes};
use grapevine_store::import::bloomd::{BloomdDirectory, ImportError, ImportLimits, ImportedFilter};
use grapevine_store::import::bloomd_config::{BloomdConfig, ConfigError};
use std::fs;
use std::path::{Path, PathBuf};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// A copy of the server's directory that a test may damage.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for folder in fs::read_dir(vectors().join("bloomd-data")).expect("the vectors") {
        let folder = folder.expect("a folder").path();
        let target = copy.path().join(folder.file_name().expect("a name"));
        fs::create_dir(&target).expect("a folder");
        for file in fs::read_dir(&folder).expect("a folder") {
            let file = file.expect("a file").path();
            fs::copy(&file, target.join(file.file_name().expect("a name"))).expect("a copy");
        }
    }
    copy
}

fn import(path: &Path) -> Vec<Result<ImportedFilter, ImportError>> {
    BloomdDirectory::open(path)
        .expect("a directory")
        .into_filters()
        .collect()
}

/// What the filters of `path` came to, by the one that was damaged; the others must be sound.
fn import_one(path: &Path, name: &str) -> Result<ImportedFilter, ImportError> {
    let mut wanted = None;
    let folder = path.join(format!("bloomd.{name}"));
    for result in import(path) {
        match result {
            Ok(filter) if filter.name == name.as_bytes() => wanted = Some(Ok(filter)),
            Ok(_) => {}
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with(&*folder.to_string_lossy()), "{message}");
                wanted = Some(Err(error));
            }
        }
    }
    wanted.expect("the filter or an error that names it")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a write");
}

fn edit_text(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a text");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("a write");
}

fn contains(filter: &ImportedFilter, key: &str) -> bool {
    let hashes = LegacyHashes::of(key.as_bytes());
    filter.layers.iter().any(|layer| layer.contains(&hashes))
}

#[test]
fn every_key_is_answered_as_the_c_server_answered() {
    let text = fs::read(vectors().join("bloomd-data.json")).expect("the vectors");
    let vectors_json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let filters: Vec<_> = import(&vectors().join("bloomd-data"))
        .into_iter()
        .map(|filter| filter.expect("a sound filter"))
        .collect();
    let rows = vectors_json["filters"].as_array().expect("rows");
    assert_eq!(filters.len(), 3);
    assert_eq!(rows.len(), 3);
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        let filter = filters
            .iter()
            .find(|f| f.name == name.as_bytes())
            .expect("the filter");
        assert_eq!(Some(filter.capacity), row["capacity"].as_u64());
        assert_eq!(Some(filter.error), row["prob"].as_f64());
        assert_eq!(Some(filter.size), row["answered_yes_to_set"].as_u64());
        assert_eq!(
            filter.layers.iter().map(BloomdLayer::count).sum::<u64>(),
            filter.size
        );
        let key = |template: &str, i: u64| {
            row[template]
                .as_str()
                .expect("a template")
                .replace("%d", &i.to_string())
        };
        for i in 0..row["keys"].as_u64().expect("a number") {
            assert!(
                contains(filter, &key("key_template", i)),
                "{name} has lost key {i}"
            );
        }
        let absent = 0..row["absent_keys"].as_u64().expect("a number");
        let taken: Vec<u64> = absent
            .filter(|i| contains(filter, &key("absent_template", *i)))
            .collect();
        assert_eq!(
            serde_json::json!(taken),
            row["false_positive_indices"],
            "{name}"
        );
    }
}

#[test]
fn sizes_capacities_and_parameters_are_those_the_server_listed() {
    let grown = import_one(&vectors().join("bloomd-data"), "grown").expect("a sound filter");
    assert_eq!(
        (grown.scale, grown.reduction, grown.in_memory),
        (4, 0.9, false)
    );
    let capacities: Vec<_> = grown.layers.iter().map(BloomdLayer::capacity).collect();
    assert_eq!(capacities, [10_001, 40_004, 160_016]);
    assert_eq!(
        grown.layers.iter().map(BloomdLayer::bytes).sum::<u64>(),
        388_856
    );
    let counts: Vec<_> = grown.layers.iter().map(BloomdLayer::count).collect();
    assert_eq!(counts, [10_001, 40_004, 19_910]);
    // The layers were sized for 1 in 1000 and somewhat less; the first two are full.
    let rates: Vec<_> = grown
        .layers
        .iter()
        .map(BloomdLayer::false_positive_rate)
        .collect();
    assert!((0.0008..0.0012).contains(&rates[0]), "{rates:?}");
    assert!((0.0007..0.0011).contains(&rates[1]), "{rates:?}");
    assert!(rates[2] < 1e-6, "{rates:?}");
}

#[test]
fn a_layers_own_bytes_rebuild_it() {
    let folder = vectors().join("bloomd-data/bloomd.grown");
    let grown = import_one(&vectors().join("bloomd-data"), "grown").expect("a sound filter");
    for (i, layer) in grown.layers.iter().enumerate() {
        let file = fs::read(folder.join(format!("data.{i:03}.mmap"))).expect("a file");
        assert_eq!(layer.as_bytes(), file);
        let rebuilt = BloomdLayer::from_bytes(layer.as_bytes()).expect("the same checks");
        assert_eq!(&rebuilt.with_capacity(layer.capacity()), layer);
    }
}

#[test]
fn a_layer_cut_short_or_extended_is_named() {
    for change in [-1_i64, -4096, -70_000, 1, 512] {
        let copy = copy();
        let path = copy.path().join("bloomd.grown/data.001.mmap");
        let length = fs::metadata(&path).expect("a file").len();
        let damaged = length.saturating_add_signed(change).max(100);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("a file");
        file.set_len(damaged).expect("a length");
        match import_one(copy.path(), "grown") {
            Err(ImportError::LayerSize {
                path: named,
                found,
                min,
                max,
            }) => {
                assert_eq!((named, found), (path, damaged));
                assert!((min..=max).contains(&length));
            }
            // One byte is within what six decimals leave open; the total is exact.
            Err(ImportError::TotalSize {
                bytes: 388_856,
                found,
                ..
            }) if change.abs() == 1 => {
                assert_eq!(found, 388_856_u64.saturating_add_signed(change));
            }
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[test]
fn a_damaged_layer_is_named_with_its_reason() {
    let copy = copy();
    let path = copy.path().join("bloomd.small/data.000.mmap");
    edit(&path, |bytes| bytes[4] = 0);
    match import_one(copy.path(), "small") {
        Err(ImportError::Layer {
            path: named,
            source: LayerError::Hashes { found: 0, .. },
        }) => {
            assert_eq!(named, path);
        }
        other => panic!("{other:?}"),
    }
    edit(&path, |bytes| bytes[4] = 11);
    let result = import_one(copy.path(), "small");
    let expected = matches!(
        result,
        Err(ImportError::LayerHashes {
            found: 11,
            expected: 10,
            ..
        })
    );
    assert!(expected, "{result:?}");
    edit(&path, |bytes| {
        bytes[4] = 10;
        bytes[12] = 1;
    });
    let result = import_one(copy.path(), "small");
    let is_count = |source: &LayerError| matches!(source, LayerError::Count { .. });
    assert!(
        matches!(&result, Err(ImportError::Layer { source, .. }) if is_count(source)),
        "{result:?}"
    );
}

#[test]
fn a_missing_layer_is_named() {
    let copy = copy();
    let folder = copy.path().join("bloomd.grown");
    let last = fs::read(folder.join("data.002.mmap")).expect("a file");
    for missing in ["data.001.mmap", "data.000.mmap", "data.002.mmap"] {
        let bytes = fs::read(folder.join(missing)).expect("a file");
        fs::remove_file(folder.join(missing)).expect("a removal");
        match import_one(copy.path(), "grown") {
            Err(ImportError::LayerMissing { path }) => assert_eq!(path, folder.join(missing)),
            other => panic!("{missing}: {other:?}"),
        }
        fs::write(folder.join(missing), bytes).expect("a write");
    }
    fs::write(folder.join("copy.mmap"), last).expect("a write");
    let result = import_one(copy.path(), "grown");
    assert!(
        matches!(result, Err(ImportError::LayerName { .. })),
        "{result:?}"
    );
}

#[test]
fn a_layer_added_after_the_last_flush_of_the_configuration_is_read() {
    let copy = copy();
    let config = copy.path().join("bloomd.grown/config.ini");
    edit_text(&config, "bytes = 388856", "bytes = 92033");
    let result = import_one(copy.path(), "grown");
    assert!(
        matches!(result, Err(ImportError::TotalSize { bytes: 92_033, .. })),
        "{result:?}"
    );
    let two: u64 = ["data.000.mmap", "data.001.mmap"]
        .iter()
        .map(|file| {
            fs::metadata(copy.path().join("bloomd.grown").join(file))
                .expect("a file")
                .len()
        })
        .sum();
    edit_text(&config, "bytes = 92033", &format!("bytes = {two}"));
    assert_eq!(
        import_one(copy.path(), "grown")
            .expect("a sound filter")
            .layers
            .len(),
        3
    );
}

#[test]
fn a_missing_or_damaged_configuration_is_named_and_the_others_go_on() {
    let copy = copy();
    let path = copy.path().join("bloomd.grown/config.ini");
    fs::write(&path, "[bloomd]\ninitial_capacity = 10001\n").expect("a write");
    match import_one(copy.path(), "grown") {
        Err(ImportError::Config {
            path: named,
            source,
        }) => {
            assert_eq!(named, path);
            assert_eq!(
                source,
                ConfigError::Missing {
                    key: "default_probability"
                }
            );
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&path).expect("a removal");
    let results = import(copy.path());
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    let named =
        |error: &ImportError| matches!(error, ImportError::Io { path: p, .. } if *p == path);
    assert!(
        results
            .iter()
            .any(|result| matches!(result, Err(error) if named(error)))
    );
    fs::create_dir(&path).expect("a folder");
    let refused = |e: &ImportError| matches!(e, ImportError::NotRegular { path: p } if *p == path);
    assert!(
        import(copy.path())
            .iter()
            .any(|r| matches!(r, Err(e) if refused(e)))
    );
}

#[test]
fn an_in_memory_filter_has_no_layers() {
    let copy = copy();
    let folder = copy.path().join("bloomd.memory");
    fs::create_dir(&folder).expect("a folder");
    let text = fs::read_to_string(copy.path().join("bloomd.small/config.ini")).expect("a text");
    fs::write(
        folder.join("config.ini"),
        text.replace("in_memory = 0", "in_memory = 1"),
    )
    .expect("a write");
    let memory = import_one(copy.path(), "memory").expect("a sound filter");
    assert!(memory.in_memory);
    assert!(memory.layers.is_empty());
    fs::write(folder.join("config.ini"), text).expect("a write");
    let result = import_one(copy.path(), "memory");
    assert!(
        matches!(result, Err(ImportError::LayerMissing { .. })),
        "{result:?}"
    );
}

#[test]
fn foreign_nested_and_misnamed_folders_are_refused() {
    let copy = copy();
    let root = copy.path();
    fs::create_dir(root.join("bloomd.python")).expect("a folder");
    fs::write(root.join("bloomd.python/config"), b"(dp0\n.").expect("a write");
    fs::create_dir(root.join("bloomd.small/inner")).expect("a folder");
    fs::create_dir(root.join("bloomd.two words")).expect("a folder");
    fs::create_dir(root.join(format!("bloomd.{}", "n".repeat(201)))).expect("a folder");
    fs::write(root.join("bloomd.file"), b"").expect("a write");
    fs::create_dir(root.join("elsewhere")).expect("a folder");
    let results = import(root);
    let errors: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert_eq!(results.len() - errors.len(), 3);
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(matches!(errors[0], ImportError::FilterName { .. }));
    assert!(matches!(errors[1], ImportError::PythonServer { .. }));
    assert!(errors[1].to_string().contains("Python pickle"));
    let inner = root.join("bloomd.small/inner");
    assert!(matches!(errors[2], ImportError::Nested { path } if *path == inner));
    assert!(matches!(errors[3], ImportError::FilterName { .. }));
}

#[test]
fn an_error_rate_lost_by_rounding_is_told_from_the_first_layer() {
    let copy = copy();
    let config = copy.path().join("bloomd.strict/config.ini");
    edit_text(
        &config,
        "default_probability = 0.000010",
        "default_probability = 0.000000",
    );
    let strict = import_one(copy.path(), "strict").expect("a sound filter");
    assert!((strict.error / 1e-5 - 1.0).abs() < 1e-3, "{}", strict.error);
    edit_text(&config, "in_memory = 0", "in_memory = 1");
    let result = import_one(copy.path(), "strict");
    assert!(
        matches!(result, Err(ImportError::ErrorRateLost { .. })),
        "{result:?}"
    );
}

#[test]
fn bounds_are_held_before_anything_is_read() {
    let data = vectors().join("bloomd-data");
    let within = |limits: ImportLimits| {
        BloomdDirectory::open_within(&data, limits).map(|directory| {
            directory
                .into_filters()
                .filter_map(Result::err)
                .collect::<Vec<_>>()
        })
    };
    let all = ImportLimits::default();
    assert!(within(all).expect("a directory").is_empty());
    let few = within(ImportLimits { filters: 2, ..all });
    assert!(
        matches!(few, Err(ImportError::TooMany { max: 2, .. })),
        "{few:?}"
    );
    let entries = within(ImportLimits { entries: 2, ..all }).expect("a directory");
    assert!(
        matches!(entries[..], [ImportError::TooMany { max: 2, .. }]),
        "{entries:?}"
    );
    let layers = within(ImportLimits { layers: 2, ..all }).expect("a directory");
    assert!(
        matches!(layers[..], [ImportError::TooMany { max: 2, .. }]),
        "{layers:?}"
    );
    let bytes = within(ImportLimits {
        filter_bytes: 388_855,
        ..all
    })
    .expect("a directory");
    let refused = [(388_856, 388_855)];
    let found = bytes.iter().filter_map(|error| match error {
        ImportError::TooLarge { found, max, .. } => Some((*found, *max)),
        _ => None,
    });
    assert_eq!(found.collect::<Vec<_>>(), refused);
    // A sparse file claims a terabyte; it is refused by its length.
    let copy = copy();
    let path = copy.path().join("bloomd.small/data.000.mmap");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("a file");
    if file.set_len(1 << 40).is_ok() {
        let result = import_one(copy.path(), "small");
        assert!(
            matches!(result, Err(ImportError::TooLarge { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_server_configuration_leads_to_its_filters() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("bloomd.conf");
    let data = vectors().join("bloomd-data");
    fs::write(
        &path,
        format!("[bloomd]\nport = 7000\ndata_dir = {}\n", data.display()),
    )
    .expect("a write");
    let config = BloomdConfig::read(&path).expect("a sound file");
    assert_eq!(config.tcp_port, 7000);
    let directory = BloomdDirectory::open(&config.data_dir).expect("the data directory");
    let names: Vec<_> = directory.names().collect();
    assert_eq!(names, [&b"grown"[..], b"small", b"strict"]);
    fs::write(&path, "[bloomd]\nworkers = 0\n").expect("a write");
    let refused = BloomdConfig::read(&path).expect_err("refused").to_string();
    assert!(
        refused.contains("bloomd.conf: workers = \"0\": must be 1 to"),
        "{refused}"
    );
}
