//! One line of the log: the request's part is written when it begins, the rest when it ends.
//!
//! Everything that comes from a client passes through [`escaped`] or [`json_escaped`].

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, StatusCode, Version};
use lendfile_core::Method;

use super::LogFormat;
use crate::observe::{Exchange, Head};

/// Bytes of one field at most; a client may send 64 KiB of them.
const FIELD_BYTES: usize = 4 << 10;

/// More than what a line has between the fields that come from the request.
const BETWEEN_FIELDS: usize = 128;

/// What is known of a line when the request begins. Opaque: only the log reads it.
#[derive(Debug)]
pub struct Line {
    peer: Option<IpAddr>,
    /// The fields that come from the request, escaped; those before the status, then those after.
    text: Vec<u8>,
    /// Where the latter begin.
    split: usize,
}

impl Line {
    pub(super) fn begin(format: LogFormat, head: &Head<'_>) -> Self {
        let fields = Fields::of(format, head);
        // One small allocation. Room within the line, for whatever may come, would be copied
        // wherever the line goes, which costs more.
        let mut text = Vec::with_capacity(fields.len() + BETWEEN_FIELDS);
        let split = match format {
            LogFormat::Json => json_request(&mut text, &fields),
            LogFormat::Common | LogFormat::Combined => request(&mut text, &fields, format),
        };
        Self {
            peer: head.peer.map(|peer| peer.ip()),
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
        let ended = clock.time_of(exchange.ended);
        match format {
            LogFormat::Json => {
                into.extend_from_slice(b"{\"time\":\"");
                clock.rfc3339(ended, into);
                into.extend_from_slice(b"\",\"peer\":");
                match self.peer {
                    Some(peer) => {
                        into.push(b'"');
                        address(into, peer);
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
                    Some(peer) => address(into, peer),
                    None => into.push(b'-'),
                }
                into.extend_from_slice(b" - - [");
                clock.common(ended, into);
                into.extend_from_slice(before);
                // 499: the client went away before there was an answer, as nginx has it.
                let status = exchange.status.as_ref().map_or("499", StatusCode::as_str);
                into.extend_from_slice(status.as_bytes());
                into.push(b' ');
                number(into, exchange.bytes_sent());
                into.extend_from_slice(after);
                into.push(b'\n');
            }
        }
    }
}

/// What the client has a say in, not yet escaped.
struct Fields<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: &'static [u8],
    /// `None` if it is absent or not wanted, as the others.
    host: Option<&'a [u8]>,
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn of(format: LogFormat, head: &Head<'a>) -> Self {
        let authority = head.uri.authority().map(|host| host.as_str().as_bytes());
        // As an HTTP/1.1 request line has it: path and query, or what CONNECT and `*` have.
        let target = match head.uri.path_and_query() {
            Some(path) => path.as_str().as_bytes(),
            None => authority.unwrap_or(b"-"),
        };
        let wanted = |name| field(head.headers, &name);
        let (host, referer, user_agent) = match format {
            LogFormat::Common => (None, None, None),
            LogFormat::Combined => (None, wanted(REFERER), wanted(USER_AGENT)),
            LogFormat::Json => (
                wanted(HOST).or(authority),
                wanted(REFERER),
                wanted(USER_AGENT),
            ),
        };
        Self {
            method: head.method.as_str().as_bytes(),
            target: clipped(target),
            version: version(head.version).as_bytes(),
            host,
            referer,
            user_agent,
        }
    }

    fn len(&self) -> usize {
        let optional = [self.host, self.referer, self.user_agent];
        let optional = optional.iter().flatten().map(|value| value.len());
        self.method.len() + self.target.len() + optional.sum::<usize>()
    }
}

fn request(text: &mut Vec<u8>, fields: &Fields<'_>, format: LogFormat) -> usize {
    text.extend_from_slice(b"] \"");
    escaped(text, fields.method);
    text.push(b' ');
    escaped(text, fields.target);
    text.push(b' ');
    text.extend_from_slice(fields.version);
    text.extend_from_slice(b"\" ");
    let split = text.len();
    if format == LogFormat::Combined {
        for value in [fields.referer, fields.user_agent] {
            text.extend_from_slice(b" \"");
            match value {
                Some(value) => escaped(text, value),
                None => text.push(b'-'),
            }
            text.push(b'"');
        }
    }
    split
}

fn json_request(text: &mut Vec<u8>, fields: &Fields<'_>) -> usize {
    text.extend_from_slice(b",\"method\":\"");
    json_escaped(text, fields.method);
    text.extend_from_slice(b"\",\"target\":\"");
    json_escaped(text, fields.target);
    text.extend_from_slice(b"\",\"version\":\"");
    text.extend_from_slice(fields.version);
    text.extend_from_slice(b"\",\"host\":");
    json_string(text, fields.host);
    let split = text.len();
    text.extend_from_slice(b",\"referer\":");
    json_string(text, fields.referer);
    text.extend_from_slice(b",\"user_agent\":");
    json_string(text, fields.user_agent);
    split
}

fn json_outcome(into: &mut Vec<u8>, exchange: &Exchange) {
    into.extend_from_slice(b",\"status\":");
    match exchange.status {
        Some(status) => into.extend_from_slice(status.as_str().as_bytes()),
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

/// How long the system's clock is taken to go as steadily as that which is never set.
const STEADY: Duration = Duration::from_secs(1);

/// The time of day, read and formatted once a second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// One moment by both clocks.
    read: Option<(Instant, SystemTime)>,
    /// `None` before the first look.
    second: Option<u64>,
    /// `26/Nov/2026:05:48:04 +0000`
    common: [u8; 26],
    /// `2026-11-26T05:48:04`
    rfc3339: [u8; 19],
}

impl Clock {
    /// The time of day at a moment that has just been. (A look at a clock may take 40 ns, and every
    /// exchange has had two. When the system's clock is set, lines have it within [`STEADY`].)
    pub(super) fn time_of(&mut self, moment: Instant) -> SystemTime {
        let (then, time) = match self.read {
            Some(read) if moment.saturating_duration_since(read.0) < STEADY => read,
            _ => *self.read.insert((Instant::now(), SystemTime::now())),
        };
        time + moment.saturating_duration_since(then)
    }

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
