//! Directories of key files for tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use grapevine::gateway::hbbp::KeyDirectory;
use serde_json::Value;
use tempfile::TempDir;

use crate::reader::bytes;

/// A directory of keys that goes with this value.
pub(crate) struct Keys(TempDir);

impl Keys {
    pub(crate) fn empty() -> Self {
        Keys(tempfile::tempdir().expect("a directory"))
    }

    /// The files of a vector's `keydir`.
    pub(crate) fn of(keydir: &Value) -> Self {
        let keys = Self::empty();
        for (task, files) in keydir.as_object().expect("directories") {
            for (file, content) in files.as_object().expect("files") {
                keys.put(task, file, &bytes(content));
            }
        }
        keys
    }

    /// Writes a file with the mode that its kind should have.
    pub(crate) fn put(&self, task: &str, file: &str, content: &[u8]) -> PathBuf {
        let directory = self.0.path().join(task);
        fs::create_dir_all(&directory).expect("made");
        let path = directory.join(file);
        fs::write(&path, content).expect("written");
        let private = file.ends_with(".priv");
        set_mode(&path, if private { 0o400 } else { 0o444 });
        path
    }

    pub(crate) fn directory(&self) -> KeyDirectory {
        KeyDirectory::new(self.path())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

pub(crate) fn set_mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}
