//! Layers, mistakes and rules of the configuration as a whole.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod given;

type Done = Result<(), Box<dyn std::error::Error>>;

/// A machine with 8 GiB of memory, no environment and a home without files.
fn machine() -> Surroundings {
    let mut machine = Surroundings {
        host_name: Some("box".to_owned()),
        memory: Some(8 << 30),
        ..Surroundings::default()
    };
    machine
        .variables
        .insert("HOME".into(), "/nonexistent/home".into());
    machine
}

fn machine_with(variables: &[(&str, &str)]) -> Surroundings {
    let mut machine = machine();
    machine.variables.extend(
        variables
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v))),
    );
    machine
}

fn set(assignments: &[&str]) -> GlobalOptions {
    let set = assignments.iter().map(OsString::from).collect();
    GlobalOptions {
        set,
        ..GlobalOptions::default()
    }
}

fn load(assignments: &[&str]) -> Result<Config, ConfigErrors> {
    Config::load_in(&set(assignments), &machine())
}

/// What is wrong with a file, one line each; nothing when it is right.
fn mistakes_in(text: &str) -> Result<Vec<String>, std::io::Error> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.toml");
    fs::write(&file, text)?;
    let prefix = format!("{}/", dir.path().display());
    Ok(match Config::check_file(&file, &machine()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .0
            .iter()
            .map(|e| e.to_string().replace(&prefix, ""))
            .collect(),
    })
}

fn mistakes(loaded: Result<Config, ConfigErrors>) -> Vec<String> {
    loaded
        .err()
        .map(|errors| errors.0.iter().map(ToString::to_string).collect())
        .unwrap_or_default()
}

#[test]
fn the_defaults_are_those_of_the_interface() -> Done {
    let config = load(&[])?;
    assert_eq!(config.node.name, "box");
    assert_eq!(
        config.node.data_dir,
        Path::new("/nonexistent/home/.local/share/grapevine")
    );
    assert_eq!(
        (config.node.log.as_str(), config.node.log_format),
        ("info", LogFormat::Text)
    );
    assert_eq!(config.durability.sync, SyncMode::Interval);
    assert_eq!(config.durability.interval, Duration::from_secs(1));
    assert_eq!(config.limits.memory.bytes / (1 << 20), 6 << 10);
    assert_eq!(config.limits.connections, 4096);
    assert_eq!(
        (config.limits.line, config.limits.output),
        (16 << 20, 16 << 20)
    );
    assert_eq!(config.limits.idle_timeout, None);
    assert_eq!(
        (config.filters.capacity, config.filters.growth),
        (100_000, 4)
    );
    assert!((config.filters.error - 1e-4).abs() < f64::EPSILON);
    assert_eq!(config.filters.idle_unload, Some(Duration::from_secs(3600)));
    assert_eq!(config.filters.checkpoint_log, 64 << 20);
    assert!(!config.bloomd.open && config.http.token_file.is_none());
    let group = &config.group;
    assert_eq!((group.name.as_str(), group.log_keep), ("default", 1 << 30));
    assert!(group.advertise.is_empty() && group.join.is_empty());
    assert!(group.secret_file.is_none() && !group.discover);
    assert_eq!(config.rmbd.rows, 5);
    assert_eq!(config.rmbd.sync_delay, Duration::from_millis(500));
    assert!(config.rmbd.peers.is_empty() && !config.rmbd.open);
    let listeners = config.listeners().map(|listener| {
        assert!(!listener.is_configured());
        (
            listener.key,
            listener.address.as_ref().map(ToString::to_string),
        )
    });
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(
        listeners,
        [
            ("group.listen", at("127.0.0.1:8676")),
            ("bloomd.tcp", at("127.0.0.1:8673")),
            ("bloomd.udp", at("127.0.0.1:8674")),
            ("rmbd.udp", at("127.0.0.1:8000")),
            ("http.listen", at("127.0.0.1:8675")),
        ]
    );
    Ok(())
}

#[test]
fn each_layer_goes_over_the_ones_before_it() -> Done {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.toml");
    let directory = |name: &str| format!("node.data_dir={name}");
    let mut options = GlobalOptions::default();
    let mut machine = machine();
    let look = |options: &GlobalOptions, machine: &Surroundings| {
        let config = Config::load_in(options, machine)?;
        let origin = config.origin("node.data_dir").map(ToString::to_string);
        Ok::<_, ConfigErrors>((config.node.data_dir, origin.unwrap_or_default()))
    };
    machine
        .variables
        .insert("XDG_DATA_HOME".into(), "/xdg".into());
    assert_eq!(
        look(&options, &machine)?,
        ("/xdg/grapevine".into(), "default".into())
    );

    fs::write(&file, "# comment\n[node]\ndata_dir = \"/from/file\"\n")?;
    options.config = Some(file.clone());
    let origin = format!("{}:3", file.display());
    assert_eq!(look(&options, &machine)?, ("/from/file".into(), origin));

    machine
        .variables
        .insert("GRAPEVINE_NODE__DATA_DIR".into(), "/from/env".into());
    let origin = "environment GRAPEVINE_NODE__DATA_DIR".to_owned();
    assert_eq!(look(&options, &machine)?, ("/from/env".into(), origin));

    options.set = vec![directory("/first").into(), directory("/last").into()];
    assert_eq!(look(&options, &machine)?, ("/last".into(), "--set".into()));

    options.data_dir = Some("/from/flag".into());
    assert_eq!(
        look(&options, &machine)?,
        ("/from/flag".into(), "--data-dir".into())
    );
    Ok(())
}

#[test]
fn a_file_in_the_data_directory_is_found_and_cannot_move_it() -> Done {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("grapevine.toml");
    fs::write(
        &file,
        "[limits]\nconnections = 1_000\n[http]\ntoken_file = \"token\"\n",
    )?;
    let by_flag = GlobalOptions {
        data_dir: Some(dir.path().into()),
        ..GlobalOptions::default()
    };
    let config = Config::load_in(&by_flag, &machine())?;
    assert_eq!(config.limits.connections, 1000);
    assert_eq!(config.http.token_file, Some(dir.path().join("token")));
    let variable = dir.path().display().to_string();
    let by_variable = machine_with(&[("GRAPEVINE_NODE__DATA_DIR", &variable)]);
    let config = Config::load_in(&GlobalOptions::default(), &by_variable)?;
    assert_eq!(config.limits.connections, 1000);

    fs::write(&file, "[node]\ndata_dir = \"elsewhere\"\n")?;
    let mut at_home = machine();
    fs::rename(&file, {
        let home = dir.path().join("grapevine");
        fs::create_dir(&home)?;
        home.join("grapevine.toml")
    })?;
    at_home
        .variables
        .insert("XDG_DATA_HOME".into(), dir.path().into());
    let refused = mistakes(Config::load_in(&GlobalOptions::default(), &at_home));
    assert!(
        refused.len() == 1 && refused[0].contains("cannot move it to"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn files_are_named_when_they_cannot_be_read() -> Done {
    let dir = tempfile::tempdir()?;
    let check = |file: &Path| mistakes(Config::check_file(file, &machine())).join("\n");
    let file = dir.path().join("f.toml");
    assert!(
        check(&file).contains("f.toml: cannot be read"),
        "{}",
        check(&file)
    );
    fs::write(&file, b"[node]\nname = \"\xff\"\n")?;
    assert!(
        check(&file).ends_with("f.toml:2: not UTF-8"),
        "{}",
        check(&file)
    );
    fs::write(&file, "#".repeat((1 << 20) + 1))?;
    assert!(
        check(&file).contains("larger than 1048576 bytes"),
        "{}",
        check(&file)
    );
    Ok(())
}

#[test]
fn every_mistake_of_a_file_is_reported_with_its_line() -> Done {
    let found = mistakes_in(
        "[limit]\nline = 1\n\n[bloomd]\ntpc = \"127.0.0.1:1\"\nudp = 7\nopen = \"ja\"\n\
         [filters]\nerror = 1\ncapacity = [1]\n",
    )?;
    let listen = "an address \"host:port\" or \"[v6]:port\" (port 0 picks a free one), or \"off\"";
    assert_eq!(
        found,
        [
            "f.toml:1: unknown section `limit`; the nearest is `limits`".to_owned(),
            "f.toml:5: unknown key `bloomd.tpc`; the nearest is `bloomd.tcp`".to_owned(),
            "f.toml:10: `filters.capacity` cannot be a list: it takes a whole number from 1 to \
             1000000000000, as 100000, 100_000, 100k or 1e5"
                .to_owned(),
            "f.toml:9: `filters.error` cannot be 1: it takes a probability from 1e-15 to below 1, as \
             0.0001 or 1e-4"
                .to_owned(),
            format!("f.toml:6: `bloomd.udp` cannot be 7: it takes {listen}"),
            "f.toml:7: `bloomd.open` cannot be \"ja\": it takes true or false".to_owned(),
        ]
    );
    assert_eq!(
        mistakes_in("capacity = 1\nnode = 2\n")?,
        [
            "f.toml:1: `capacity` is in no section; the nearest key is `filters.capacity`",
            "f.toml:2: `node` is a section and wants `[node]` with keys below it",
        ]
    );
    let syntax = mistakes_in("[node]\nname = \"a\nlog = \"info\"\n[bloomd\n")?;
    assert!(syntax.len() > 1, "{syntax:?}");
    assert!(syntax[0].starts_with("f.toml:2: "), "{syntax:?}");
    Ok(())
}

#[test]
fn mistakes_outside_of_files_name_their_place() {
    let machine = machine_with(&[
        ("GRAPEVINE_NODE", "http://127.0.0.1:1"),
        ("GRAPEVINE_NOD__NAME", "x"),
        ("GRAPEVINE_LIMITS__LINES", "x"),
        ("GRAPEVINE_LIMITS__LINE", "a lot"),
        ("GRAPEVINE_TOKEN_FILE", "token"),
        ("GRAPEVINE_SERVICE_HOST", "10.0.0.1"),
        ("GRAPEVINE_BLOOMD_TCP", "127.0.0.1:1"),
        ("Grapevine_Node__Name", "x"),
    ]);
    let mut options = set(&["limits", "http.lisen=off", "durability.sync=never"]);
    options.config = None;
    let found = mistakes(Config::load_in(&options, &machine));
    assert_eq!(
        found,
        [
            "environment GRAPEVINE_BLOOMD_TCP: there is no such variable; the nearest is \
             `GRAPEVINE_BLOOMD__TCP` (two underscores divide section and key). Correct it or unset \
             it",
            "environment GRAPEVINE_LIMITS__LINES: unknown key `limits.LINES`; the nearest is \
             `GRAPEVINE_LIMITS__LINE`",
            "environment GRAPEVINE_NOD__NAME: unknown section `NOD`; the nearest is \
             `GRAPEVINE_NODE__…`",
            "environment Grapevine_Node__Name: there is no such variable; the nearest is \
             `GRAPEVINE_NODE__NAME` (two underscores divide section and key). Correct it or unset \
             it",
            "--set \"limits\": wants section.key=value",
            "--set: unknown key `http.lisen`; the nearest is `http.listen`",
            "--set: `durability.sync` cannot be \"never\": it takes one of \"interval\", \"os\", \
             \"always\"",
            "environment GRAPEVINE_LIMITS__LINE: `limits.line` cannot be \"a lot\": it takes a \
             size from 1KiB to 1GiB, in B, KiB, MiB, GiB or TiB",
        ]
    );
}

#[test]
fn mistakes_are_bounded() -> Done {
    let lines: String = (0..5000).map(|i| format!("k{i} = 1\n")).collect();
    let found = mistakes_in(&lines)?;
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "more than 100 mistakes; the rest is not shown");
    Ok(())
}

#[test]
fn listeners_off_loopback_want_protection() -> Done {
    let found = mistakes(load(&[
        "bloomd.tcp=0.0.0.0:1",
        "bloomd.udp=[::]:2",
        "http.listen=box:3",
        "group.listen=10.0.0.1:4",
        "rmbd.udp=0.0.0.0:5",
    ]));
    assert_eq!(found.len(), 5, "{found:?}");
    for (mistake, (key, set)) in found.iter().zip([
        ("`group.listen`", "set group.secret_file"),
        ("`bloomd.tcp`", "set bloomd.open = true"),
        ("`bloomd.udp`", "set bloomd.open = true"),
        ("`rmbd.udp`", "set rmbd.open = true"),
        ("`http.listen`", "set http.token_file"),
    ]) {
        assert!(mistake.contains(key) && mistake.contains(set), "{mistake}");
    }
    let config = load(&[
        "bloomd.tcp=0.0.0.0:1",
        "bloomd.udp=",
        "bloomd.open=true",
        "http.listen=0.0.0.0:3",
        "http.token_file=/t",
        "group.listen=[::]:4",
        "group.secret_file=/s",
        "rmbd.udp=0.0.0.0:5",
        "rmbd.open=true",
    ])?;
    assert!(config.bloomd.tcp.is_configured());
    assert_eq!(config.bloomd.udp.address, None);
    assert_eq!(config.http.token_file, Some(PathBuf::from("/t")));
    Ok(())
}

#[test]
fn lists_are_arrays_or_separated_by_commas() -> Done {
    let join = |config: &Config| -> Vec<String> {
        config.group.join.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        join(&load(&["group.join=a:1,[::1]:2 , b:3"])?),
        ["a:1", "[::1]:2", "b:3"]
    );
    assert!(join(&load(&["group.join=a:1", "group.join="])?).is_empty());
    let machine = machine_with(&[("GRAPEVINE_GROUP__JOIN", "c:1,d:2")]);
    let config = Config::load_in(&set(&[]), &machine)?;
    assert_eq!(join(&config), ["c:1", "d:2"]);
    let mut options = set(&["group.join=e:1"]);
    options.join = vec!["f:1".into(), "g:2".into()];
    let config = Config::load_in(&options, &machine)?;
    assert_eq!(join(&config), ["f:1", "g:2"]);
    let origin = config.origin("group.join").map(ToString::to_string);
    assert_eq!(origin.as_deref(), Some("--join"));

    let list = "it takes a list of at most 256 elements, each an address \"host:port\" or \
                \"[v6]:port\" with a port above 0";
    let wrong = |value: &str| mistakes_in(&format!("[group]\njoin = {value}\n"));
    assert!(wrong("[\"a:1\", \"b:2\"]")?.is_empty());
    for (value, problem) in [
        ("[\"a:1\", \"b:0\"]", "a list: element 2 is \"b:0\"; "),
        ("[7]", "a list: element 1 is 7; "),
        ("[[\"a:1\"]]", "a list: element 1 is a list; "),
        ("true", "true: "),
    ] {
        let expected = format!("f.toml:2: `group.join` cannot be {problem}{list}");
        assert_eq!(wrong(value)?, [expected]);
    }
    let many = format!("[{}]", "\"a:1\",".repeat(257));
    assert!(wrong(&many)?[0].contains("it has too many elements"));
    let many = format!("rmbd.peers={}", vec!["a:1"; 257].join(","));
    assert!(mistakes(load(&[&many]))[0].contains("it has too many elements"));
    assert_eq!(
        load(&[&many.replace("a:1,a:1", "a:1")])?.rmbd.peers.len(),
        129
    );
    Ok(())
}

#[test]
fn memory_is_a_size_or_a_share() -> Done {
    let limit = |text: &str| load(&[&format!("limits.memory={text}")]);
    assert_eq!(
        limit("1GiB")?.limits.memory,
        MemoryLimit {
            bytes: 1 << 30,
            percent: None
        }
    );
    let half = limit("50 %")?.limits.memory;
    assert_eq!((half.bytes / (1 << 20), half.percent), (4096, Some(50)));
    for wrong in ["", "%", "0%", "101%", "-1%", "1MiB", "half"] {
        assert_eq!(mistakes(limit(wrong)).len(), 1, "{wrong:?}");
    }
    let unknown = Surroundings {
        memory: None,
        ..machine()
    };
    let found = mistakes(Config::load_in(&set(&[]), &unknown));
    assert!(
        found.len() == 1 && found[0].contains("does not say"),
        "{found:?}"
    );
    assert!(Config::load_in(&set(&["limits.memory=1GiB"]), &unknown).is_ok());
    Ok(())
}

#[test]
fn a_machine_without_a_home_is_told_what_to_set() {
    let homeless = Surroundings {
        memory: Some(8 << 30),
        ..Surroundings::default()
    };
    let found = mistakes(Config::load_in(&set(&[]), &homeless));
    assert!(
        found.len() == 1 && found[0].contains("--set node.data_dir="),
        "{found:?}"
    );
    assert!(Config::load_in(&set(&["node.data_dir=/d"]), &homeless).is_ok());
}

#[test]
fn values_have_bounds() {
    for wrong in [
        "node.name=",
        "node.name=a\nb",
        "node.data_dir=",
        "node.log=",
        "node.log=grapevine=loud",
        "node.log=warning",
        "node.log=info,debugg",
        "node.log_format=xml",
        "durability.interval=0",
        "durability.interval=2h",
        "limits.connections=0",
        "limits.connections=1000001",
        "limits.connections=-1",
        "limits.line=1023",
        "limits.output=1KiB",
        "limits.idle_timeout=10ms",
        "filters.capacity=0",
        "filters.error=0",
        "filters.error=NaN",
        "filters.error=inf",
        "filters.growth=1",
        "filters.checkpoint_log=2TiB",
        "bloomd.tcp=8673",
        "bloomd.open=yes",
        "group.name=",
        "group.name=a b",
        "group.name=ä",
        "group.log_keep=1KiB",
        "group.join=a",
        "group.advertise=a:0",
        "rmbd.rows=0",
        "rmbd.rows=164",
        "rmbd.sync_delay=1ms",
        "rmbd.peers=,",
    ] {
        let found = mistakes(load(&[wrong]));
        let key = wrong.split('=').next().unwrap_or_default();
        assert!(
            found.len() == 1 && found[0].contains(key),
            "{wrong:?}: {found:?}"
        );
    }
}

#[test]
fn what_is_shown_reads_back_the_same() -> Done {
    let dir = tempfile::tempdir()?;
    let config = load(&[
        "node.name=a \"b\" \\ #c",
        "limits.line=1500B",
        "limits.idle_timeout=90s",
        "filters.error=1e-9",
        "filters.idle_unload=off",
        "bloomd.udp=off",
        "bloomd.open=true",
        "http.listen=[::1]:0",
        "http.token_file=/a/b",
        "group.join=a:1, [::1]:2",
        "rmbd.peers=10.0.0.1:8000",
    ])?;
    for origins in [false, true] {
        let file = dir.path().join("f.toml");
        fs::write(&file, config.to_toml(origins))?;
        let again = Config::check_file(&file, &machine())?;
        assert_eq!(again.to_toml(false), config.to_toml(false));
        assert_eq!(again.to_json(false), config.to_json(false));
    }
    let json = config.to_json(true);
    let join = serde_json::json!(["a:1", "[::1]:2"]);
    assert_eq!(json["group"]["join"]["value"], join);
    assert_eq!(json["limits"]["line"]["value"], "1500B");
    assert_eq!(json["limits"]["line"]["origin"], "--set");
    assert_eq!(json["limits"]["output"]["origin"], "default");
    Ok(())
}

#[test]
fn key_files_are_where_the_originals_look_for_them() -> Done {
    let of = |variables: &[(&str, &str)], set: &[&str]| {
        let machine = machine_with(variables);
        Config::load_in(&self::set(set), &machine).map(|config| config.hbbp)
    };
    let named = [("HBBP_KEYDIR", "/nonexistent/keys")];
    assert_eq!(of(&[], &[])?.key_dir, Path::new("/etc/hbbp/keys"));
    assert_eq!(of(&named, &[])?.key_dir, Path::new("/nonexistent/keys"));
    assert_eq!(
        of(&[("HBBP_KEYDIR", "")], &[])?.key_dir,
        Path::new("/etc/hbbp/keys")
    );
    let set = of(
        &named,
        &["hbbp.key_dir=/nonexistent/other", "hbbp.handlers=off"],
    )?;
    assert_eq!(set.key_dir, Path::new("/nonexistent/other"));
    assert_eq!(set.handlers, None);
    assert!(of(&[], &["hbbp.interfaces=lan0,a/b"]).is_err());
    assert_eq!(
        of(&[], &["hbbp.interfaces=lan0, br-1"])?.interfaces,
        ["lan0", "br-1"]
    );
    Ok(())
}

#[test]
fn the_table_is_whole() -> Done {
    let config = load(&[])?;
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        assert_eq!(key.full_name, format!("{}.{}", key.section, key.name));
        assert!(
            config.origin(key.full_name).is_some(),
            "{} is not read",
            key.full_name
        );
        assert!(!key.help.trim().is_empty() && !key.shape.word().is_empty());
        let variable = machine_with(&[(&key.variable(), "\u{7}")]);
        let found = mistakes(Config::load_in(&set(&[]), &variable));
        let paths = ["path", "path, or off", "path of a secret, or off"];
        let takes_any_path = paths.contains(&key.shape.word());
        assert_eq!(
            found.is_empty(),
            takes_any_path,
            "{}: {found:?}",
            key.full_name
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_value_of_any_key_is_read_or_refused(key in 0usize..64, value in "\\PC{0,40}") {
        let keys: Vec<_> = SECTIONS.iter().flat_map(|section| section.keys).collect();
        let key = keys[key % keys.len()];
        let loaded = load(&[&format!("{}={value}", key.full_name)]);
        if let Ok(config) = loaded {
            let shown = toml::from_str::<toml::Table>(&config.to_toml(true));
            prop_assert!(shown.is_ok(), "{:?}", shown);
        }
    }

    #[test]
    fn any_file_is_read_or_refused(text in "[\\[\\]a-z_.=\"{}#0-9 \n-]{0,200}") {
        let found = mistakes_in(&text);
        prop_assert!(found.is_ok());
    }
}
