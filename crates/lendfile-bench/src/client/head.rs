//! Reads a response's head: as much of HTTP/1.1 as decides whether a contestant may stay.

use crate::{Error, Result};

/// The longest head accepted. Also the most body bytes that are copied per request.
pub(super) const HEAD_BYTES: usize = 4096;

/// More header fields than any peer sends with a file.
const FIELDS: usize = 48;

/// A complete head.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Head {
    /// The head's own length in bytes, the empty line included.
    pub(super) bytes: usize,
    pub(super) content_length: u64,
}

/// Parses what has arrived so far; `None` asks for more.
///
/// # Errors
///
/// Disqualifies anything but a 200 of HTTP/1.1 that has one Content-Length, no Transfer-Encoding
/// and does not close the connection.
pub(super) fn parse(received: &[u8]) -> Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let status = response
        .parse(received)
        .map_err(|error| Error::disqualified(format!("the head is not HTTP/1.1: {error}")))?;
    let httparse::Status::Complete(bytes) = status else {
        if received.len() >= HEAD_BYTES {
            return Err(Error::disqualified(format!(
                "the head is longer than {HEAD_BYTES} bytes"
            )));
        }
        return Ok(None);
    };
    if (response.version, response.code) != (Some(1), Some(200)) {
        return Err(Error::disqualified(format!(
            "status {} of HTTP/1.{} instead of 200 of HTTP/1.1",
            response.code.unwrap_or(0),
            response.version.unwrap_or(0),
        )));
    }
    let mut content_length = None;
    for field in response.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or("").trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse::<u64>().ok();
            if length.is_none() || content_length.is_some() {
                return Err(Error::disqualified(
                    "Content-Length is malformed or doubled",
                ));
            }
            content_length = length;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Error::disqualified(format!("Transfer-Encoding: {value}")));
        } else if field.name.eq_ignore_ascii_case("connection")
            && value.eq_ignore_ascii_case("close")
        {
            return Err(Error::disqualified(
                "Connection: close on a keep-alive connection",
            ));
        }
    }
    match content_length {
        Some(content_length) => Ok(Some(Head {
            bytes,
            content_length,
        })),
        None => Err(Error::disqualified("no Content-Length")),
    }
}
