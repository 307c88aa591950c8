//! One line of the log: the request's part is written when it begins, the rest when it ends.
//!
//! Everything that comes from a client passes through [`escaped`] or [`json_escaped`].

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, Version};
use lendfile_core::Method;
use smallvec::SmallVec;

use super::LogFormat;
use crate::observe::{Exchange, Head};

/// Bytes of a line that need no allocation of their own: a target, a referer and a browser's name
/// are some 200.
const INLINE_BYTES: usize = 256;

/// Bytes of one field at most; a client may send 64 KiB of them.
const FIELD_BYTES: usize = 4 << 10;

/// What is known of a line when the request begins. Opaque: only the log reads it.
#[derive(Debug)]
pub struct Line {
    peer: Option<SocketAddr>,
    /// The fields that come from the request, escaped; those before the status, then those after.
    text: SmallVec<[u8; INLINE_BYTES]>,
    /// Where the latter begin.
    split: usize,
}

impl Line {
    pub(super) fn begin(format: LogFormat, head: &Head<'_>) -> Self {
        let mut text = SmallVec::new();
        let split = match format {
            LogFormat::Json => json_request(&mut text, head),
            LogFormat::Common | LogFormat::Combined => request(&mut text, head, format),
        };
        Self {
            peer: head.peer,
            text,
            split,
        }
    }

    /// Appends the whole line.
    pub(super) fn finish(
        &self,
        format: LogFormat,
        clock: &mut Clock,
        exchange: &Exchange,
        into: &mut Vec<u8>,
    ) {
        let (before, after) = self.text.split_at(self.split);
        match format {
            LogFormat::Json => {
                into.extend_from_slice(b"{\"time\":\"");
                clock.rfc3339(SystemTime::now(), into);
                into.extend_from_slice(b"\",\"peer\":");
                match self.peer {
                    Some(peer) => {
                        into.push(b'"');
                        address(into, peer.ip());
                        into.push(b'"');
                    }
                    None => into.extend_from_slice(b"null"),
                }
                into.extend_from_slice(before);
                json_outcome(into, exchange);
                into.extend_from_slice(after);
                into.extend_from_slice(b"}\n");
            }
            LogFormat::Common | LogFormat::Combined => {
                match self.peer {
                    Some(peer) => address(into, peer.ip()),
                    None => into.push(b'-'),
                }
                into.extend_from_slice(b" - - [");
                clock.common(SystemTime::now(), into);
                into.extend_from_slice(before);
                // 499: the client went away before there was an answer, as nginx has it.
                number(
                    into,
                    exchange.status.map_or(499, |status| status.as_u16().into()),
                );
                into.push(b' ');
                number(into, exchange.bytes_sent());
                into.extend_from_slice(after);
                into.push(b'\n');
            }
        }
    }
}

type Text = SmallVec<[u8; INLINE_BYTES]>;

fn request(text: &mut Text, head: &Head<'_>, format: LogFormat) -> usize {
    text.extend_from_slice(b"] \"");
    escaped(text, head.method.as_str().as_bytes());
    text.push(b' ');
    target(text, head, escaped);
    text.push(b' ');
    text.extend_from_slice(version(head.version).as_bytes());
    text.extend_from_slice(b"\" ");
    let split = text.len();
    if format == LogFormat::Combined {
        for name in [REFERER, USER_AGENT] {
            text.extend_from_slice(b" \"");
            match field(head.headers, &name) {
                Some(value) => escaped(text, value),
                None => text.push(b'-'),
            }
            text.push(b'"');
        }
    }
    split
}

fn json_request(text: &mut Text, head: &Head<'_>) -> usize {
    text.extend_from_slice(b",\"method\":\"");
    json_escaped(text, head.method.as_str().as_bytes());
    text.extend_from_slice(b"\",\"target\":\"");
    target(text, head, json_escaped);
    text.extend_from_slice(b"\",\"version\":\"");
    text.extend_from_slice(version(head.version).as_bytes());
    text.extend_from_slice(b"\",\"host\":");
    let host = field(head.headers, &HOST)
        .or_else(|| head.uri.authority().map(|host| host.as_str().as_bytes()));
    json_string(text, host);
    let split = text.len();
    text.extend_from_slice(b",\"referer\":");
    json_string(text, field(head.headers, &REFERER));
    text.extend_from_slice(b",\"user_agent\":");
    json_string(text, field(head.headers, &USER_AGENT));
    split
}

fn json_outcome(into: &mut Vec<u8>, exchange: &Exchange) {
    into.extend_from_slice(b",\"status\":");
    match exchange.status {
        Some(status) => number(into, status.as_u16().into()),
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(b",\"bytes\":");
    number(into, exchange.bytes_sent());
    into.extend_from_slice(b",\"outcome\":\"");
    into.extend_from_slice(exchange.outcome.name().as_bytes());
    into.extend_from_slice(b"\",\"via\":");
    match exchange.method() {
        Some(Method::Copy) if exchange.encrypted => into.extend_from_slice(b"\"copy (tls)\""),
        Some(method) => {
            into.push(b'"');
            into.extend_from_slice(method.name().as_bytes());
            into.push(b'"');
        }
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(b",\"duration_us\":");
    number(
        into,
        u64::try_from(exchange.duration.as_micros()).unwrap_or(u64::MAX),
    );
}

/// The target as an HTTP/1.1 request line has it: path and query, or what CONNECT and `*` have.
fn target(text: &mut Text, head: &Head<'_>, escape: fn(&mut Text, &[u8])) {
    match (head.uri.path_and_query(), head.uri.authority()) {
        (Some(path), _) => escape(text, clipped(path.as_str().as_bytes())),
        (None, Some(authority)) => escape(text, clipped(authority.as_str().as_bytes())),
        (None, None) => text.push(b'-'),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/?",
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(|value| clipped(value.as_bytes()))
}

fn clipped(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(FIELD_BYTES)]
}

fn json_string(text: &mut Text, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            text.push(b'"');
            json_escaped(text, value);
            text.push(b'"');
        }
        None => text.extend_from_slice(b"null"),
    }
}

/// What may stand in a line as it is: printable ASCII that ends no quotes and begins no escape.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends `bytes`, all but the plain ones as `prefix` and two hexadecimal digits.
fn escape(text: &mut Text, mut bytes: &[u8], prefix: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    loop {
        let plain = bytes.iter().take_while(|byte| is_plain(**byte)).count();
        text.extend_from_slice(&bytes[..plain]);
        let Some(byte) = bytes.get(plain) else {
            return;
        };
        text.extend_from_slice(prefix);
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
        bytes = &bytes[plain + 1..];
    }
}

/// As nginx escapes by default.
fn escaped(text: &mut Text, bytes: &[u8]) {
    escape(text, bytes, b"\\x");
}

/// Bytes outside of ASCII are written as the ISO 8859-1 they were once meant to be, which loses
/// nothing and is valid JSON whatever they were.
fn json_escaped(text: &mut Text, bytes: &[u8]) {
    escape(text, bytes, b"\\u00");
}

fn number(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn address(into: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        // std's way costs four times as much.
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            for (octet, end) in [(a, &b"."[..]), (b, b"."), (c, b"."), (d, b"")] {
                into.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                into.extend_from_slice(end);
            }
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec cannot fail.
            _ = write!(into, "{ip}");
        }
    }
}

/// The time, formatted once a second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// `None` before the first look.
    second: Option<u64>,
    /// `26/Nov/2026:05:48:04 +0000`
    common: [u8; 26],
    /// `2026-11-26T05:48:04`
    rfc3339: [u8; 19],
}

impl Clock {
    pub(super) fn common(&mut self, now: SystemTime, into: &mut Vec<u8>) {
        self.look(now);
        into.extend_from_slice(&self.common);
    }

    pub(super) fn rfc3339(&mut self, now: SystemTime, into: &mut Vec<u8>) {
        let millis = self.look(now);
        into.extend_from_slice(&self.rfc3339);
        into.push(b'.');
        let padding: &[u8] = match millis {
            0..10 => b"00",
            10..100 => b"0",
            _ => b"",
        };
        into.extend_from_slice(padding);
        number(into, millis.into());
        into.push(b'Z');
    }

    /// The milliseconds of the second.
    fn look(&mut self, now: SystemTime) -> u32 {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.format(now);
        }
        since.subsec_millis()
    }

    fn format(&mut self, now: SystemTime) {
        // "Thu, 26 Nov 2026 05:48:04 GMT"
        let date = httpdate::fmt_http_date(now);
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        let common = format!("{day}/{month}/{year}:{time} +0000");
        let rfc3339 = humantime::format_rfc3339_seconds(now).to_string();
        // Years have four digits in both.
        self.common.copy_from_slice(common.as_bytes());
        self.rfc3339.copy_from_slice(&rfc3339.as_bytes()[..19]);
    }
}
