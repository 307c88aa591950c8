//! What a line looks like.
//!
//! Everything that comes from a client passes through [`escaped`] or [`json_escaped`].

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::{StatusCode, Version};
use lendfile_core::Method;

use super::LogFormat;
use super::record::{Ended, Request};

/// Appends lines.
#[derive(Debug)]
pub(super) struct Formatter {
    format: LogFormat,
    clock: Clock,
}

impl Formatter {
    pub(super) fn new(format: LogFormat) -> Self {
        Self {
            format,
            clock: Clock::default(),
        }
    }

    pub(super) fn append(&mut self, into: &mut Vec<u8>, request: &Request<'_>, ended: &Ended) {
        match self.format {
            LogFormat::Json => self.json(into, request, ended),
            LogFormat::Common => self.common(into, request, ended),
            LogFormat::Combined => {
                self.common(into, request, ended);
                for value in [request.referer, request.user_agent] {
                    into.extend_from_slice(b" \"");
                    match value {
                        Some(value) => escaped(into, value),
                        None => into.push(b'-'),
                    }
                    into.push(b'"');
                }
            }
        }
        into.push(b'\n');
    }

    fn common(&mut self, into: &mut Vec<u8>, request: &Request<'_>, ended: &Ended) {
        match request.peer {
            Some(peer) => address(into, peer),
            None => into.push(b'-'),
        }
        into.extend_from_slice(b" - - [");
        self.clock.common(ended.time, into);
        into.extend_from_slice(b"] \"");
        escaped(into, request.method);
        into.push(b' ');
        escaped(into, request.target);
        into.push(b' ');
        into.extend_from_slice(version(request.version).as_bytes());
        into.extend_from_slice(b"\" ");
        // 499: the client went away before there was an answer, as nginx has it.
        let status = ended.status.as_ref().map_or("499", StatusCode::as_str);
        into.extend_from_slice(status.as_bytes());
        into.push(b' ');
        number(into, ended.bytes);
    }

    fn json(&mut self, into: &mut Vec<u8>, request: &Request<'_>, ended: &Ended) {
        into.extend_from_slice(b"{\"time\":\"");
        self.clock.rfc3339(ended.time, into);
        into.extend_from_slice(b"\",\"peer\":");
        match request.peer {
            Some(peer) => {
                into.push(b'"');
                address(into, peer);
                into.push(b'"');
            }
            None => into.extend_from_slice(b"null"),
        }
        into.extend_from_slice(b",\"method\":\"");
        json_escaped(into, request.method);
        into.extend_from_slice(b"\",\"target\":\"");
        json_escaped(into, request.target);
        into.extend_from_slice(b"\",\"version\":\"");
        into.extend_from_slice(version(request.version).as_bytes());
        into.extend_from_slice(b"\",\"host\":");
        json_string(into, request.host);
        json_outcome(into, ended);
        into.extend_from_slice(b",\"referer\":");
        json_string(into, request.referer);
        into.extend_from_slice(b",\"user_agent\":");
        json_string(into, request.user_agent);
        into.push(b'}');
    }
}

fn json_outcome(into: &mut Vec<u8>, ended: &Ended) {
    into.extend_from_slice(b",\"status\":");
    match ended.status {
        Some(status) => into.extend_from_slice(status.as_str().as_bytes()),
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(b",\"bytes\":");
    number(into, ended.bytes);
    into.extend_from_slice(b",\"outcome\":\"");
    into.extend_from_slice(ended.outcome.name().as_bytes());
    into.extend_from_slice(b"\",\"via\":");
    match ended.via {
        Some(Method::Copy) if ended.encrypted => into.extend_from_slice(b"\"copy (tls)\""),
        Some(method) => {
            into.push(b'"');
            into.extend_from_slice(method.name().as_bytes());
            into.push(b'"');
        }
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(b",\"duration_us\":");
    match ended.duration.map(|duration| duration.as_micros()) {
        Some(micros) => number(into, u64::try_from(micros).unwrap_or(u64::MAX)),
        None => into.extend_from_slice(b"null"),
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

fn json_string(text: &mut Vec<u8>, value: Option<&[u8]>) {
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
fn escape(text: &mut Vec<u8>, bytes: &[u8], prefix: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // Nearly always; without a way out of the loop, it takes many bytes at a time.
    if bytes.iter().fold(true, |all, byte| all & is_plain(*byte)) {
        return text.extend_from_slice(bytes);
    }
    for byte in bytes {
        if is_plain(*byte) {
            text.push(*byte);
        } else {
            text.extend_from_slice(prefix);
            text.push(DIGITS[usize::from(byte >> 4)]);
            text.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

/// As nginx escapes by default.
fn escaped(text: &mut Vec<u8>, bytes: &[u8]) {
    escape(text, bytes, b"\\x");
}

/// Bytes outside of ASCII are written as the ISO 8859-1 they were once meant to be, which loses
/// nothing and is valid JSON whatever they were.
fn json_escaped(text: &mut Vec<u8>, bytes: &[u8]) {
    escape(text, bytes, b"\\u00");
}

fn number(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(super) fn address(into: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        // std's way costs more than four times as much.
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    into.push(b'.');
                }
                if octet >= 100 {
                    into.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    into.push(b'0' + octet / 10 % 10);
                }
                into.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec cannot fail.
            _ = write!(into, "{ip}");
        }
    }
}

/// Formats times, anew once a second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// `None` before the first.
    second: Option<u64>,
    /// `26/Nov/2026:05:48:04 +0000`
    common: String,
    /// `2026-11-26T05:48:04`
    rfc3339: String,
}

impl Clock {
    pub(super) fn common(&mut self, now: Duration, into: &mut Vec<u8>) {
        self.tell(now.as_secs());
        into.extend_from_slice(self.common.as_bytes());
    }

    pub(super) fn rfc3339(&mut self, now: Duration, into: &mut Vec<u8>) {
        self.tell(now.as_secs());
        into.extend_from_slice(self.rfc3339.as_bytes());
        into.push(b'.');
        let millis = now.subsec_millis();
        let padding: &[u8] = match millis {
            0..10 => b"00",
            10..100 => b"0",
            _ => b"",
        };
        into.extend_from_slice(padding);
        number(into, millis.into());
        into.push(b'Z');
    }

    fn tell(&mut self, second: u64) {
        if self.second != Some(second) {
            self.second = Some(second);
            self.format(second);
        }
    }

    fn format(&mut self, second: u64) {
        let time = UNIX_EPOCH + Duration::from_secs(second);
        // "Thu, 26 Nov 2026 05:48:04 GMT"
        let date = httpdate::fmt_http_date(time);
        let (day, month, year, time_of_day) =
            (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        self.common = format!("{day}/{month}/{year}:{time_of_day} +0000");
        self.rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
        // Without the `Z` at its end, before which there are to be milliseconds.
        self.rfc3339.truncate(19);
    }
}
