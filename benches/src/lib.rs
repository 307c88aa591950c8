//! The race: lendfile, its peers and the limit serve the same files on the same machine.
//!
//! The measuring is [`lendfile_bench`]'s; here are the contestants: [`bare`], the least a server can
//! do; [`rivals`], what Rust servers do today; and [`contestants`], the table of all of them.

#![forbid(unsafe_code)]

pub mod bare;
pub mod contestants;
mod request;
pub mod rivals;
