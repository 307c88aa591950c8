//! Frames of HTTP/2 made by hand (RFC 9113), for peers that no library would be.

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
    // RFC 7541: three fields from the static table (:method GET, :scheme http), then two literals
    // with names from it (:path, :authority) that are not to be remembered.
    let len = u8::try_from(path.len()).ok().filter(|len| *len < 127);
    let mut fields = vec![0x82, 0x86, 0x04, len.expect("a short path")];
    fields.extend(path.as_bytes());
    fields.extend([0x01, 1, b'a']);
    // END_STREAM and END_HEADERS.
    frame(1, 0x5, stream, &fields)
}

/// A PING, which must be answered.
pub fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[0; 8])
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = len.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
