//! The HTTP server over real sockets and a real directory, and the commands that use it.

mod admission;
mod collection;
mod commands;
mod keys;
mod server;
mod status;
mod table_commands;
mod tables;
mod transfer;
mod watching;
mod well_being;
