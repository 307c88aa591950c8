//! The least of HTTP/1.1 that answers the race's client.

/// The longest request that is understood, pipelined ones included.
pub(crate) const REQUEST_BYTES: usize = 4096;

/// The file's name in the first request of `received`, and where that request ends; `None` if it has not
/// come whole. The name of what is not `GET /NAME HTTP/1.1` is empty.
pub(crate) fn find(received: &[u8]) -> Option<(&[u8], usize)> {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let path = received[..end].split(|byte| *byte == b' ').nth(1);
    let name = path.and_then(|path| path.strip_prefix(b"/"));
    Some((name.unwrap_or_default(), end))
}

/// The head of the response with a file of `length` bytes.
pub(crate) fn head(length: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}
