//! Frames of HTTP/2 made and read by hand (RFC 9113), for peers that no library would be.

use std::io::{self, Read};

/// Kinds of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs, reason = "they are the RFC's names")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

/// What ends a stream, or a connection (RFC 9113 §7).
pub mod code {
    #![allow(missing_docs, reason = "they are the RFC's names")]
    pub const NO_ERROR: u32 = 0;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The flag of an answer to a PING or to SETTINGS.
pub const ACK: u8 = 1;
/// The flag of the last frame of a stream.
pub const END_STREAM: u8 = 1;
/// The flag of the last frame of a head.
pub const END_HEADERS: u8 = 4;

/// A frame that was read.
#[derive(Clone, Debug)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// What is set, such as [`END_STREAM`].
    pub flags: u8,
    /// 0 for those of the connection.
    pub stream: u32,
    /// What follows the frame's head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// Those of reading; `UnexpectedEof` if the connection has ended.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        from.read_exact(&mut payload)?;
        Ok(Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The number at `offset` of the payload.
    ///
    /// # Panics
    ///
    /// If the payload is shorter.
    pub fn number(&self, offset: usize) -> u32 {
        let bytes = self.payload[offset..].first_chunk();
        u32::from_be_bytes(*bytes.expect("four bytes"))
    }
}

/// What a client begins with: the preface, and settings that say nothing.
pub fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// A GET of `path` that opens `stream`.
///
/// # Panics
///
/// If the path is longer than 126 bytes.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(
        kind::HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &fields(path),
    )
}

/// The fields of a GET of `path`, encoded.
///
/// # Panics
///
/// If the path is longer than 126 bytes.
pub fn fields(path: &str) -> Vec<u8> {
    // RFC 7541: two fields from the static table (:method GET, :scheme http), then two literals
    // with names from it (:path, :authority) that are not to be remembered.
    let len = u8::try_from(path.len()).ok().filter(|len| *len < 127);
    let mut fields = vec![0x82, 0x86, 0x04, len.expect("a short path")];
    fields.extend(path.as_bytes());
    fields.extend([0x01, 1, b'a']);
    fields
}

/// An end of `stream`.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// Opens the window of `stream`, or of the connection (0), by so many bytes.
pub fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(8, 0, stream, &bytes.to_be_bytes())
}

/// A PING, which must be answered.
pub fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[0; 8])
}

/// Any frame.
///
/// # Panics
///
/// If the payload is 4 GiB long.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = len.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
