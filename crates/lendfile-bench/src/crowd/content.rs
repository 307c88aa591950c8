//! Content that says of itself which version it is, so that any byte of any version can be checked
//! by whoever does not know what was there when.
//!
//! A block begins with the version's seed, its own index and the file's length; the rest follows
//! from seed and index.

/// Length of a block.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Length of its head.
const HEAD_BYTES: usize = 24;

/// The block `index` of the version `seed` of a file.
fn block(seed: u64, index: u64, length: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    for (word, bytes) in block.chunks_exact_mut(8).enumerate() {
        let value = match word {
            0 => seed,
            1 => index,
            2 => length,
            _ => mix(seed ^ mix(index << 9 | word as u64)),
        };
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    block
}

/// splitmix64.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A version of a file.
pub(super) fn bytes(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..length.div_ceil(BLOCK_BYTES as u64) {
        bytes.extend_from_slice(&block(seed, index, length));
    }
    bytes.truncate(usize::try_from(length).expect("in memory"));
    bytes
}

/// Checks a part of a file, from the beginning of a block on, as it comes in.
#[derive(Debug)]
pub(super) struct Checker {
    index: u64,
    /// The whole file's, as the response says.
    length: u64,
    /// Of the first block: all others must have it.
    seed: Option<u64>,
    partial: Vec<u8>,
    wrong: Option<String>,
}

impl Checker {
    pub(super) fn new(first_block: u64, length: u64) -> Self {
        Self {
            index: first_block,
            length,
            seed: None,
            partial: Vec::new(),
            wrong: None,
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wrong.is_none() {
            if self.partial.is_empty() && bytes.len() >= BLOCK_BYTES {
                let (whole, rest) = bytes.split_at(BLOCK_BYTES);
                self.check(whole);
                bytes = rest;
                continue;
            }
            let room = BLOCK_BYTES - self.partial.len();
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if self.partial.len() == BLOCK_BYTES {
                let whole = std::mem::take(&mut self.partial);
                self.check(&whole);
            }
        }
    }

    /// What was wrong, if anything was. A last block may be shorter.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() && self.wrong.is_none() {
            self.check(&rest);
        }
        self.wrong.map_or(Ok(()), Err)
    }

    fn check(&mut self, got: &[u8]) {
        let index = self.index;
        self.index += 1;
        let says = got.first_chunk().map(|seed| u64::from_le_bytes(*seed));
        let Some(seed) = self.seed.or(says) else {
            self.wrong = Some(format!("{} bytes are too few to check", got.len()));
            return;
        };
        self.seed = Some(seed);
        let right = block(seed, index, self.length);
        if let Some(at) = (0..got.len()).find(|at| got[*at] != right[*at]) {
            let head = &got[..got.len().min(HEAD_BYTES)];
            self.wrong = Some(format!(
                "version {seed}, length {}: byte {at} of block {index} is wrong; the block begins \
                 with {head:x?}",
                self.length,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first_block: u64, length: u64, bytes: &[u8], piece: usize) -> Result<(), String> {
        let mut checker = Checker::new(first_block, length);
        for piece in bytes.chunks(piece) {
            checker.push(piece);
        }
        checker.finish()
    }

    #[test]
    fn any_version_is_right_however_it_is_cut() {
        for length in [24, 4095, 4096, 4097, 3 * 4096 + 100] {
            let bytes = bytes(length, length);
            assert_eq!(bytes.len() as u64, length);
            for piece in [1, 7, 4096, 5000, 1 << 20] {
                check(0, length, &bytes, piece).unwrap();
            }
        }
        let bytes = bytes(7, 40_000);
        check(3, 40_000, &bytes[3 * BLOCK_BYTES..5 * BLOCK_BYTES], 1000).unwrap();
    }

    #[test]
    fn a_wrong_byte_a_mixture_and_another_place_are_seen() {
        let length = 40_000;
        let (old, new) = (bytes(1, length), bytes(2, length));
        let mut flipped = old.clone();
        flipped[39_999] ^= 1;
        check(0, length, &flipped, 999).unwrap_err();
        let mixture = [&old[..BLOCK_BYTES], &new[BLOCK_BYTES..]].concat();
        check(0, length, &mixture, 999).unwrap_err();
        check(1, length, &old, 999).unwrap_err();
        check(0, length + 1, &old, 999).unwrap_err();
    }
}
