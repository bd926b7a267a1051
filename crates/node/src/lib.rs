//! Grapevine's node: configuration, command line and, with later parts, the gateways. The program
//! `grapevine` is [`cli::run`] and nothing else; this is a library so that tests and examples
//! reach its parts.
#![deny(unsafe_code)]

pub mod applet;
mod audit;
pub mod cli;
pub mod client;
mod clock;
mod company;
mod complaints;
pub mod config;
pub mod data_directory;
mod descriptors;
pub mod engine;
pub mod failure;
pub mod gateway;
pub mod group;
pub mod gzip;
pub mod http;
mod large_filters;
pub mod logging;
pub mod metrics;
mod orphans;
mod replies;
pub mod serve;
