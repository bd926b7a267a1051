//! The files of the repository, as far as they are ours and text.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold what was built, found or fetched.
const SKIPPED_DIRECTORIES: [&str; 6] = [
    ".git",
    "target",
    "corpus",
    "artifacts",
    "node_modules",
    "proptest-regressions",
];
/// Deepest nesting of directories; more is a loop of links.
const DEPTH_MAX: usize = 20;

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Path from the root of the repository, `/` between names.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of the file is tests.
    pub(crate) fn is_test(&self) -> bool {
        let path = Path::new(&self.path);
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        self.path.split('/').any(|part| part == "tests")
            || stem == "tests"
            || stem.ends_with("_tests")
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All text files, sorted by path.
pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    visit(&root(), "", 0, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "this is the root"
    );
    files
}

/// All Rust files.
pub(crate) fn rust_files() -> Vec<File> {
    let files: Vec<File> = files().into_iter().filter(File::is_rust).collect();
    assert!(
        files
            .iter()
            .any(|file| file.path == "crates/core/src/lib.rs")
    );
    files
}

fn visit(directory: &Path, prefix: &str, depth: usize, files: &mut Vec<File>) {
    assert!(depth < DEPTH_MAX, "{prefix} lies too deep");
    let entries = fs::read_dir(directory).expect("the repository can be read");
    for entry in entries {
        let entry = entry.expect("the repository can be read");
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().expect("the repository can be read");
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
            visit(&entry.path(), &format!("{path}/"), depth + 1, files);
        } else if kind.is_file()
            && name != ".git"
            && let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap_or_default())
        {
            files.push(File { path, text });
        }
    }
}
