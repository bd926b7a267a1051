//! The two INI files of a C bloomd: the server's and a filter's.
#![no_main]

use grapevine_store::import::bloomd_config::{BloomdConfig, FilterConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match BloomdConfig::parse(bytes) {
        Ok(config) => assert!(
            config.ignored.len() <= bytes.len(),
            "a line is ignored once"
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Err(error) = FilterConfig::parse(bytes) {
        assert!(!error.to_string().is_empty());
    }
});
