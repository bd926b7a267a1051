//! A disk that says it has synced and has not: with it the ledger must find violations, or the
//! ledger is worth nothing.

use std::io;
use std::sync::Arc;

use grapevine_store::disk::{Disk, DiskFile, OpenMode, SimulatedDisk};

/// A simulated disk whose files are never synced.
#[derive(Clone)]
pub struct ForgetfulDisk(pub SimulatedDisk);

struct ForgetfulFile(Arc<dyn DiskFile>);

impl Disk for ForgetfulDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(ForgetfulFile(self.0.open(path, mode)?)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn free_space(&self) -> io::Result<u64> {
        self.0.free_space()
    }
}

impl DiskFile for ForgetfulFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
}
