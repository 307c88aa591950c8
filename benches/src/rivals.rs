//! What Rust servers do today, each on one thread. They are built with the race, since a library has
//! no program that could be installed.

pub mod actix;
pub mod memory;
pub mod serve_dir;
pub mod staticfile;
