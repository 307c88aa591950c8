//! Files whose every byte depends on its place, so that a byte out of place is a wrong byte.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Eight bytes of the content: those at `8 * index`. `seed` tells files apart. (splitmix64)
fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut z = (seed << 32)
        .wrapping_add(index)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// `len` bytes of content.
///
/// # Panics
///
/// Never: a vector takes everything.
pub fn bytes(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, seed, len).expect("a vector takes everything");
    bytes
}

/// Writes `len` bytes of content to a new file.
///
/// # Errors
///
/// Those of writing it.
pub fn write(path: &Path, seed: u64, len: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write_to(&mut file, seed, len)?;
    file.flush()
}

fn write_to(out: &mut impl Write, seed: u64, len: u64) -> io::Result<()> {
    for index in 0..len / 8 {
        out.write_all(&word(seed, index))?;
    }
    let rest = usize::try_from(len % 8).expect("below 8");
    out.write_all(&word(seed, len / 8)[..rest])
}

/// SHA-256 of a file, read by `read(2)`.
///
/// # Errors
///
/// Those of reading it.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(hash))
}

/// A finished hash, as text.
pub fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
