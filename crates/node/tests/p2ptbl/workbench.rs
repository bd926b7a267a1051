//! A directory of tables with links to the program beside it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that goes with the test.
pub(crate) struct Workbench {
    directory: tempfile::TempDir,
}

impl Workbench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for folder in ["bin", "path", "tables"] {
            fs::create_dir(directory.path().join(folder)).expect("a folder");
        }
        for name in ["p2ptbl", "p2ptbl-recv"] {
            let link = directory.path().join("bin").join(name);
            symlink(env!("CARGO_BIN_EXE_grapevine"), link).expect("a link");
        }
        Workbench { directory }
    }

    /// Where the tables are, and where commands run.
    pub(crate) fn tables(&self) -> PathBuf {
        self.directory.path().join("tables")
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.path().join("bin").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.tables().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.tables().join(name)).expect("a table")
    }

    /// All files there are, by their names from where the tables are.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.tables()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.tables()).expect("below it");
                    let name = name.to_string_lossy().into_owned();
                    files.insert(name, fs::read(&path).expect("readable"));
                }
            }
        }
        files
    }

    /// `p2ptbl`, to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program("p2ptbl"));
        command.current_dir(self.tables()).stdin(Stdio::null());
        let mut path = self.directory.path().join("path").into_os_string();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        command.env("PATH", path);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    /// A client that records what it is called with and given, and ends with `code`.
    pub(crate) fn install_client(&self, code: u8) {
        let client = self.directory.path().join("path/hbbpc");
        let record = self.directory.path().join("sent");
        let record = record.display();
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" >'{record}.arguments'\ncat >'{record}.payload'\nexit {code}\n"
        );
        fs::write(&client, text).expect("written");
        fs::set_permissions(client, fs::Permissions::from_mode(0o755)).expect("a program");
    }

    /// What the client was called with and given, once.
    pub(crate) fn sent(&self) -> Option<(String, Vec<u8>)> {
        let take = |name: &str| {
            let path = self.directory.path().join(name);
            let bytes = fs::read(&path).ok()?;
            fs::remove_file(path).expect("it was there");
            Some(bytes)
        };
        let arguments = take("sent.arguments")?;
        let payload = take("sent.payload")?;
        Some((String::from_utf8(arguments).expect("text"), payload))
    }
}

/// Runs a program with `input` on its standard input.
pub(crate) fn feed(program: &Path, directory: &OsStr, input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .env("P2PTBL_DIR", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may refuse without reading.
    drop(stdin.write_all(input));
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
