use super::*;
use proptest::prelude::*;

const FILTER: &str = "[bloomd]\ninitial_capacity = 10001\ndefault_probability = 0.010000\n\
    scale_size = 4\nprobability_reduction = 0.900000\nin_memory = 0\nsize = 69915\n\
    capacity = 210021\nbytes = 388856\n";

#[test]
fn an_empty_file_gives_the_servers_defaults() {
    let config = BloomdConfig::parse(b"").expect("an empty file is sound");
    assert_eq!(config, BloomdConfig::default());
    assert_eq!((config.tcp_port, config.udp_port), (8673, 8674));
    assert_eq!(
        (config.initial_capacity, config.default_probability),
        (100_000, 1e-4)
    );
}

#[test]
fn every_key_is_read_and_the_rest_is_reported() {
    let text = "[Bloomd]\nPORT = 1\nudp_port=2\nbind_address = 127.0.0.1\ndata_dir = /x y\n\
        log_level = warn\nworkers = 4\nflush_interval = 60s\ncold_interval = 0\nin_memory = 1\n\
        initial_capacity = 20000\ndefault_probability = 1e-3\nuse_mmap = 1\nscale_size = 2\n\
        probability_reduction = 0.5 ; half\ncolour = red\nnonsense\n[other]\nport = 9\n";
    let config = BloomdConfig::parse(text.as_bytes()).expect("a sound file");
    let ignored = |line, text: &str| IgnoredLine {
        line,
        text: text.into(),
    };
    let expected = BloomdConfig {
        tcp_port: 1,
        udp_port: 2,
        bind_address: Some(Ipv4Addr::LOCALHOST),
        data_dir: "/x y".into(),
        log_level: LogLevel::Warn,
        workers: 4,
        flush_interval_seconds: 60,
        cold_interval_seconds: 0,
        in_memory: true,
        initial_capacity: 20_000,
        default_probability: 1e-3,
        use_mmap: true,
        scale_size: 2,
        probability_reduction: 0.5,
        ignored: vec![ignored(16, "colour"), ignored(17, "nonsense")],
        misread: Vec::new(),
    };
    assert_eq!(config, expected);
    let twice = BloomdConfig::parse(b"[bloomd]\nport = 5\ntcp_port = 6\n").expect("sound");
    assert_eq!(twice.tcp_port, 6);
}

#[test]
fn values_out_of_range_are_named_with_their_range() {
    let cases = [
        ("port = 65536", "tcp_port"),
        ("udp_port = -1", "udp_port"),
        ("bind_address = ::1", "bind_address"),
        ("data_dir =", "data_dir"),
        ("log_level = LOUD", "log_level"),
        ("workers = 0", "workers"),
        ("flush_interval = -1", "flush_interval"),
        ("workers = many", "workers"),
        ("in_memory = 2", "in_memory"),
        ("initial_capacity = 10000", "initial_capacity"),
        ("initial_capacity = 1e6", "initial_capacity"),
        ("initial_capacity = all", "initial_capacity"),
        ("flush_interval = 99999999999999999999", "flush_interval"),
        ("default_probability = -0.01", "default_probability"),
        ("default_probability = 0.1", "default_probability"),
        ("default_probability = nan", "default_probability"),
        ("default_probability = 0x1p-4", "default_probability"),
        ("default_probability = 1e999", "default_probability"),
        ("scale_size = 3", "scale_size"),
        ("scale_size = twice", "scale_size"),
        ("probability_reduction = 0.1", "probability_reduction"),
        ("probability_reduction = 1", "probability_reduction"),
    ];
    for (line, wanted) in cases {
        let text = format!("[bloomd]\n{line}\n");
        let Err(ConfigError::Value { key, value, range }) = BloomdConfig::parse(text.as_bytes())
        else {
            panic!("{line} was not refused");
        };
        assert_eq!(key, wanted, "{line}");
        assert!(
            line.ends_with(&value) && !range.is_empty(),
            "{line}: {value}, {range}"
        );
    }
    let error = BloomdConfig::parse(b"[bloomd]\nscale_size = 3").expect_err("refused");
    assert_eq!(error.to_string(), "scale_size = \"3\": must be 2 or 4");
    let edges = b"[bloomd]\ninitial_capacity = 10001\ndefault_probability = 0.0999\n";
    assert!(BloomdConfig::parse(edges).is_ok());
}

/// Each of these files starts a C server, which makes of the values what its `strtol` and `strtod`
/// make of them.
#[test]
fn values_without_digits_are_read_as_the_server_reads_them() {
    let read = |line: &str| {
        let text = format!("[bloomd]\n{line}\n");
        let config = BloomdConfig::parse(text.as_bytes()).expect("it starts the server");
        let said = config.misread.iter().map(ToString::to_string).collect();
        (config, said)
    };
    let (config, said): (_, Vec<String>) = read("in_memory = True");
    assert!(!config.in_memory);
    let expected = "line 2: in_memory = \"True\" is not a number and counts as 0, as in bloomd";
    assert_eq!(said, [expected]);
    let (config, said): (_, Vec<String>) = read("default_probability = 0");
    assert!((config.default_probability - 1e-4).abs() < f64::EPSILON);
    let expected = "line 2: default_probability = \"0\" leaves the default as it is, as in bloomd";
    assert_eq!(said, [expected]);
    for line in [
        "default_probability = low",
        "default_probability = 0.0",
        "default_probability = -0",
        "default_probability = .x",
        "default_probability = 1e-400",
        "probability_reduction =",
        "use_mmap = yes",
        "cold_interval = soon",
    ] {
        let (config, said): (_, Vec<String>) = read(line);
        assert_eq!(said.len(), 1, "{line}");
        let kept = BloomdConfig {
            cold_interval_seconds: if line.starts_with("cold") { 0 } else { 3600 },
            misread: config.misread.clone(),
            ..BloomdConfig::default()
        };
        assert_eq!(config, kept, "{line}");
    }
    for line in [
        "default_probability = .05",
        "in_memory = 1x",
        "scale_size = +2",
    ] {
        assert_eq!(read(line).1, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn a_filters_file_is_read_whole_or_refused() {
    let config = FilterConfig::parse(FILTER.as_bytes()).expect("as the server wrote it");
    let expected = FilterConfig {
        initial_capacity: 10_001,
        default_probability: 0.01,
        scale_size: 4,
        probability_reduction: 0.9,
        in_memory: false,
        size: 69_915,
        capacity: 210_021,
        bytes: 388_856,
    };
    assert_eq!(config, expected);
    for line in FILTER.lines().skip(1) {
        let without = FILTER.replace(line, "");
        let key = line.split(' ').next().expect("a key");
        match FilterConfig::parse(without.as_bytes()) {
            Err(ConfigError::Missing { key: missing }) => assert_eq!(missing, key),
            other => panic!("without {key}: {other:?}"),
        }
    }
    let garbage = FilterConfig::parse(b"[bloomd]\n\ngarbage\n");
    assert_eq!(garbage, Err(ConfigError::Malformed { line: 3 }));
    let elsewhere = FILTER.replace("[bloomd]", "[other]");
    let missing = ConfigError::Missing {
        key: "initial_capacity",
    };
    assert_eq!(FilterConfig::parse(elsewhere.as_bytes()), Err(missing));
}

#[test]
fn what_is_no_small_text_is_refused() {
    assert_eq!(
        FilterConfig::parse(b"[b\xff"),
        Err(ConfigError::NotText { offset: 2 })
    );
    let long = vec![b'\n'; 65_537];
    let refused = ConfigError::TooLong {
        found: 65_537,
        max: 65_536,
    };
    assert_eq!(BloomdConfig::parse(&long), Err(refused));
    assert!(BloomdConfig::parse(&long[1..]).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (BloomdConfig::parse(&bytes), FilterConfig::parse(&bytes));
    }

    #[test]
    fn any_value_is_read_or_refused(key in 0..8_usize, value in "\\PC{0,100}") {
        let name = FILTER.lines().nth(key + 1).and_then(|line| line.split(' ').next()).unwrap_or("");
        let text = format!("[bloomd]\n{name} = {value}\n");
        if let Err(ConfigError::Value { value, .. }) = BloomdConfig::parse(text.as_bytes()) {
            prop_assert!(value.chars().count() <= SHOWN_CHARS_MAX);
        }
        prop_assert!(FilterConfig::parse(text.as_bytes()).is_err());
    }
}
