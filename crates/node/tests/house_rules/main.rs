//! The rules of the house, held by a test of the tree and not by memory. They are explained in
//! `CONTRIBUTING.md`; lengths of functions, and what the core may call, are lints instead (see
//! the `clippy.toml`s).

mod code;
mod tree;

use std::collections::BTreeSet;

use code::{code_of, has_word};
use tree::{File, files, rust_files};

const LINES_PER_FILE_MAX: usize = 600;
const NAMES_WITHOUT_MEANING: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "managers",
];
/// The one place with unsafe code.
const UNSAFE_FILE: &str = "crates/core/src/memory.rs";
/// A pause in a test is one between two looks at a condition: this many lines before it name the
/// deadline.
const DEADLINE_LINES: usize = 12;

fn assert_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Each line of the file that `breaks` the rule, as `path:line: text`.
fn lines_that(file: &File, text: &str, breaks: impl Fn(&str) -> bool) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| breaks(line))
        .map(|(index, line)| format!("{}:{}: {}", file.path, index + 1, line.trim()))
        .collect()
}

#[test]
fn modules_are_named_after_the_domain() {
    let mut found = Vec::new();
    for file in rust_files() {
        let stem = file.path.trim_end_matches(".rs");
        if stem
            .split('/')
            .any(|part| NAMES_WITHOUT_MEANING.contains(&part))
        {
            found.push(file.path.clone());
        }
        let code = code_of(&file.text);
        found.extend(lines_that(&file, &code, |line| {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == "mod")
                && NAMES_WITHOUT_MEANING
                    .iter()
                    .any(|name| has_word(line, name))
        }));
    }
    assert_none("names that say nothing", &found);
}

#[test]
fn files_stay_short() {
    let found: Vec<String> = rust_files()
        .iter()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LINES_PER_FILE_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(
        &format!("files of more than {LINES_PER_FILE_MAX} lines"),
        &found,
    );
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not hold them.
    let notes = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let code = [
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
        concat!("dbg", "!"),
        concat!("#[ig", "nore"),
    ];
    let mut found = Vec::new();
    for file in files() {
        found.extend(lines_that(&file, &file.text, |line| {
            notes.iter().any(|note| has_word(line, note))
                || (file.is_rust() && code.iter().any(|word| line.contains(word)))
        }));
    }
    assert_none("notes to self, stubs and tests that do not run", &found);
}

#[test]
fn tests_do_not_sleep() {
    let mut found = Vec::new();
    for file in rust_files() {
        let code = code_of(&file.text);
        let tests = if file.is_test() {
            Some(0)
        } else {
            tests_within(&code)
        };
        if let Some(start) = tests {
            let skipped = code[..start].lines().count();
            found.extend(
                sleeps(&code[start..])
                    .into_iter()
                    .map(|line| format!("{}:{}", file.path, skipped + line)),
            );
        }
    }
    assert_none("tests that sleep, and not until a deadline", &found);
}

/// The lines, from 1, that sleep without a deadline near.
fn sleeps(code: &str) -> Vec<usize> {
    let lines: Vec<&str> = code.lines().collect();
    let without_deadline = |index: &usize| {
        let near = &lines[index.saturating_sub(DEADLINE_LINES)..*index];
        !near.iter().any(|line| line.contains("deadline"))
    };
    (0..lines.len())
        .filter(|index| calls_sleep(lines[*index]))
        .filter(without_deadline)
        .map(|index| index + 1)
        .collect()
}

fn calls_sleep(line: &str) -> bool {
    ["sleep", "sleep_until"]
        .iter()
        .any(|name| has_word(line, name) && line.contains(&format!("{name}(")))
        && !has_word(line, "fn")
}

/// Where the tests of a source file begin, if they are in it.
fn tests_within(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]\nmod ")
        .map(|(at, _)| at)
        .find(|at| {
            code[*at..]
                .lines()
                .nth(1)
                .is_some_and(|line| line.ends_with('{'))
        })
}

#[test]
fn a_sleep_is_seen_unless_it_polls_until_a_deadline() {
    let sleep = concat!("thread::sl", "eep(pause);");
    assert_eq!(sleeps(&format!("fn test() {{\n{sleep}\n}}")), [2]);
    let polls = format!("while now() < deadline {{\n{sleep}\n}}");
    assert!(sleeps(&polls).is_empty());
}

#[test]
fn unsafe_code_has_one_place() {
    let mut seen = false;
    let mut found = Vec::new();
    for file in rust_files() {
        let code = code_of(&file.text);
        if file.path == UNSAFE_FILE {
            seen = has_word(&code, "unsafe");
        } else {
            found.extend(lines_that(&file, &code, |line| {
                has_word(line, "unsafe") || line.contains("allow(unsafe_code)")
            }));
        }
    }
    assert!(seen, "{UNSAFE_FILE} is where it was");
    assert_none("unsafe code elsewhere", &found);
}

#[test]
fn the_core_touches_nothing_of_the_world() {
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "std::os",
        "tokio",
        "Instant",
        "SystemTime",
        "RandomState",
        "HashMap",
        "HashSet",
        "getrandom",
        // Its generators are plain arithmetic; what seeds them from the system is not.
        "rand::rng(",
        "rand::random",
        "ThreadRng",
        "SysRng",
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
    ];
    let mut found = Vec::new();
    for file in rust_files() {
        if !file.path.starts_with("crates/core/src/") || file.is_test() {
            continue;
        }
        let code = code_of(&file.text);
        let code = &code[..tests_within(&code).unwrap_or(code.len())];
        found.extend(lines_that(&file, code, |line| {
            banned.iter().any(|word| line.contains(word))
        }));
    }
    let crates = [
        "tokio",
        "mio",
        "socket2",
        "rustix",
        "getrandom",
        "tempfile",
        "chrono",
    ];
    for name in dependencies("core")
        .iter()
        .filter(|name| crates.contains(&name.as_str()))
    {
        found.push(format!("crates/core/Cargo.toml: {name}"));
    }
    assert_none("the core is pure", &found);
}

/// The dependencies of a crate, those of its tests included.
fn dependencies(of: &str) -> BTreeSet<String> {
    let path = tree::root().join("crates").join(of).join("Cargo.toml");
    let manifest = std::fs::read_to_string(path).expect("each crate has a manifest");
    let names = dependency_names(&manifest);
    assert!(!names.is_empty(), "{of} depends on something");
    names
}

fn dependency_names(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut listing = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end().trim_end_matches(']');
            listing = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if listing && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.insert(name.to_owned());
        }
    }
    names.remove("");
    names.remove("#");
    names
}

#[test]
fn dependencies_are_found_in_every_form() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n\n\
                    [target.'cfg(unix)'.dependencies]\nc = { version = \"1\" }\n\
                    [dev-dependencies.d]\nversion = \"1\"\n[lints]\nworkspace = true\n";
    let names: Vec<String> = dependency_names(manifest).into_iter().collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn crates_depend_in_one_direction() {
    let may_use: [(&str, &[&str]); 6] = [
        ("core", &[]),
        ("store", &["grapevine-core"]),
        ("net", &["grapevine-core"]),
        ("bench", &["grapevine-core"]),
        (
            "node",
            &[
                "grapevine-bench",
                "grapevine-core",
                "grapevine-net",
                "grapevine-store",
            ],
        ),
        ("sim", &["grapevine-core", "grapevine-store"]),
    ];
    let mut found = Vec::new();
    for (name, allowed) in may_use {
        let own = dependencies(name)
            .into_iter()
            .filter(|name| name.starts_with("grapevine"));
        found.extend(
            own.filter(|used| !allowed.contains(&used.as_str()))
                .map(|used| format!("crates/{name} depends on {used}")),
        );
    }
    assert_none(
        "node rests on net, bench and store, sim on store, all on core, and nothing else",
        &found,
    );
}

/// The names of the modules directly in `directory`, which ends in `/`.
fn modules(files: &[File], directory: &str) -> BTreeSet<String> {
    files
        .iter()
        .filter_map(|file| file.path.strip_prefix(directory))
        .filter_map(|path| path.split('/').next())
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| name != "mod")
        .collect()
}

#[test]
fn each_protocol_has_its_page_and_its_fuzz_target() {
    let files = files();
    let codecs = modules(&files, "crates/core/src/wire/");
    assert!(codecs.contains("bloomd"), "codecs are where they were");
    let mut missing = Vec::new();
    for codec in codecs {
        for needed in [
            format!("docs/protocols/{codec}.md"),
            format!("fuzz/fuzz_targets/{codec}.rs"),
        ] {
            if !files.iter().any(|file| file.path == needed) {
                missing.push(needed);
            }
        }
    }
    assert_none("one word finds a protocol everywhere", &missing);
}

#[test]
fn each_fuzz_target_is_built() {
    let files = files();
    let manifest = files
        .iter()
        .find(|file| file.path == "fuzz/Cargo.toml")
        .expect("the fuzz targets have a manifest");
    let missing: Vec<String> = modules(&files, "fuzz/fuzz_targets/")
        .into_iter()
        .filter(|name| {
            !manifest
                .text
                .contains(&format!("path = \"fuzz_targets/{name}.rs\""))
        })
        .collect();
    assert_none("fuzz targets that fuzz/Cargo.toml does not name", &missing);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let paths = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/tmp/", "wt"),
        concat!("/ho", "me/"),
    ];
    let mut found = Vec::new();
    for file in files() {
        // `/nonexistent` and what lies under it is no machine's.
        found.extend(lines_that(&file, &file.text, |line| {
            let line = line.replace(concat!("/nonexistent/ho", "me/"), "");
            paths.iter().any(|path| names_path(&line, path))
        }));
    }
    assert_none("paths of one machine", &found);
}

/// Whether an absolute path in `line` begins with `path`: no name or dot stands before it.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}*/".contains(c))
    })
}
