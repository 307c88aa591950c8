//! `multipart/byteranges`: several parts of one representation in a response (RFC 9110 §14.6).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderValue;

use super::range::Part;

/// The framing of a response: what stands before each part, and behind the last.
#[derive(Debug)]
pub(super) struct Framing {
    boundary: String,
    /// One for each part, in their order, and the end.
    pub(super) pieces: Vec<Bytes>,
    /// Of the framing and the parts.
    pub(super) len: u64,
}

impl Framing {
    /// For `parts` of a representation of `total` bytes.
    pub(super) fn of(parts: &[Part], total: u64, content_type: Option<&HeaderValue>) -> Self {
        let boundary = boundary();
        let content_type = content_type
            // A value that is not ASCII cannot be repeated here as text.
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/octet-stream");
        let mut pieces: Vec<Bytes> = Vec::with_capacity(parts.len() + 1);
        for (index, (offset, len)) in parts.iter().enumerate() {
            let start = if index == 0 { "" } else { "\r\n" };
            let last = offset + len - 1;
            let head = format!(
                "{start}--{boundary}\r\n\
                 content-type: {content_type}\r\n\
                 content-range: bytes {offset}-{last}/{total}\r\n\r\n"
            );
            pieces.push(head.into());
        }
        pieces.push(format!("\r\n--{boundary}--\r\n").into());
        let framing: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let content: u64 = parts.iter().map(|(_, len)| len).sum();
        Self {
            boundary,
            pieces,
            len: framing + content,
        }
    }

    pub(super) fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/byteranges; boundary={}", self.boundary))
            .expect("hexadecimal digits are a header value")
    }
}

/// Not to be guessed, so that nobody writes it into a file: a secret of the process, and a count.
fn boundary() -> String {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [a, b] = [0_u8, 1].map(|half| SECRET.hash_one((count, half)));
    format!("{a:016x}{b:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_all_pieces_and_boundaries_differ() {
        let text = HeaderValue::from_static("text/plain");
        let framing = Framing::of(&[(0, 2), (5, 3)], 10, Some(&text));
        let pieces: usize = framing.pieces.iter().map(Bytes::len).sum();
        assert_eq!(framing.len, pieces as u64 + 5);
        let other = Framing::of(&[(0, 2), (5, 3)], 10, Some(&text));
        assert_ne!(framing.boundary, other.boundary);
        let head = std::str::from_utf8(&framing.pieces[1]).unwrap();
        let expected = format!(
            "\r\n--{}\r\ncontent-type: text/plain\r\ncontent-range: bytes 5-7/10\r\n\r\n",
            framing.boundary
        );
        assert_eq!(head, expected);
    }
}
