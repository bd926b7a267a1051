//! What the fuzz targets share: files of our own formats, made or repaired so that a mutated byte
//! is not stopped by the first checksum.

pub mod checksums;
pub mod data_directory;
pub mod segment;
