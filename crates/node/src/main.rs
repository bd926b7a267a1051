//! The program `grapevine`.

fn main() {}
