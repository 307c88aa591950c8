//! What the values of flags may look like.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use http::{HeaderName, HeaderValue, header};
use lendfile::Method;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// An address and a port.
    Address(SocketAddr),
    /// A name that stands for addresses, and a port.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SYNTAX: &str = "give an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:80 or [::1]:0, or a name such as localhost:8080, or unix:/path/of/socket";
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(SYNTAX),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(addr) = text.parse() {
            return Ok(Self::Address(addr));
        }
        let (name, port) = text.rsplit_once(':').ok_or(SYNTAX)?;
        let letter = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        // 127.1:80 and the like would be resolved to something that nobody meant.
        let named = name.chars().all(letter) && name.contains(|c: char| c.is_ascii_alphabetic());
        match port.parse() {
            Ok(port) if named => Ok(Self::Name(name.into(), port)),
            _ => Err(SYNTAX),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A limit that can be `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrOff<T>(pub(crate) Option<T>);

fn or_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<OrOff<T>, String> {
    match text {
        "off" => Ok(OrOff(None)),
        text => parse(text).map(|value| OrOff(Some(value))),
    }
}

// What the libraries say of a wrong value speaks of their own types, so it is said here what is right.

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 500ms, 30s or 2m".into())
}

pub(crate) fn timeout(text: &str) -> Result<OrOff<Duration>, String> {
    or_off(text, |text| match duration(text) {
        Ok(Duration::ZERO) => Err("no time at all; write off for no limit".into()),
        Ok(duration) => Ok(duration),
        Err(hint) => Err(hint + ", or off"),
    })
}

pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("write a number of bytes, such as 1000, 64KiB or 10MB".into()),
    }
}

/// A number from 1 on.
pub(crate) fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "write a whole number from 1 on".into())
}

pub(crate) fn whole<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number: u64 = text
        .parse()
        .map_err(|_| "write a whole number, such as 128")?;
    T::try_from(number).map_err(|_| "that is more than can be had".into())
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, such as 127.0.0.1:9100 or [::1]:9100".into())
}

/// Bytes of a request's head. hyper reads no fewer at once.
pub(crate) fn head_bytes(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 8 << 10;
    bytes(text).and_then(|bytes| match bytes {
        LEAST.. => Ok(bytes),
        _ => Err("write 8KiB or more".into()),
    })
}

/// Bytes per second.
pub(crate) fn rate(text: &str) -> Result<OrOff<NonZeroU64>, String> {
    or_off(text, |text| {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let bytes = bytes(number)
            .map_err(|_| "write bytes per second, such as 500KiB or 10MB/s, or off")?;
        NonZeroU64::new(bytes).ok_or("nothing at all; write off for no limit".into())
    })
}

pub(crate) fn unsent(text: &str) -> Result<OrOff<NonZeroU32>, String> {
    or_off(text, |text| {
        let bytes = bytes(text).map_err(|hint| hint + ", or off")?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        NonZeroU32::new(bytes).ok_or("nothing at all; write off for no limit".into())
    })
}

pub(crate) fn count(text: &str) -> Result<OrOff<NonZeroU64>, String> {
    or_off(text, |text| {
        text.parse()
            .map_err(|_| "write a whole number from 1 on, or off".into())
    })
}

/// Permissions in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or("write permissions in octal, such as 660".into())
}

pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    const NAME: &str = "write Name: value, with letters, digits and hyphens in the name";
    let (name, value) = text.split_once(':').ok_or(NAME)?;
    let name: HeaderName = name.trim().parse().map_err(|_| NAME)?;
    // They say how long a body is, what part of a file it is, or what the connection does.
    let framing = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if framing.contains(&name) {
        return Err(format!("{name} is the server's own to set"));
    }
    let value = value.trim().parse().map_err(|_| INVISIBLE)?;
    Ok((name, value))
}

/// What a header's value has that none may have.
const INVISIBLE: &str = "it has a control character; write visible ones and spaces";

/// A `Cache-Control` value, and what it is for: every file, a media range or a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheRule {
    pub(crate) pattern: Option<String>,
    pub(crate) value: HeaderValue,
}

impl FromStr for CacheRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A directive's `=` (max-age=60) is no pattern's end: those are followed by a colon.
        let (pattern, value) = match text.split_once(':') {
            Some((pattern, value)) => (Some(pattern.trim().to_owned()), value),
            None => (None, text),
        };
        let value = value.trim().parse().map_err(|_| INVISIBLE)?;
        Ok(Self { pattern, value })
    }
}

/// A file's name; an empty one, which clap's own parser of paths refuses, stands for none.
pub(crate) fn name_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

pub(crate) fn method() -> impl TypedValueParser<Value = Method> {
    PossibleValuesParser::new(Method::ALL.iter().copied().map(Method::name))
        .map(|name| name.parse().expect("clap lets only the names pass"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_is_by_address_name_or_path() {
        for (text, listen) in [
            (
                "127.0.0.1:80",
                Some(Listen::Address(([127, 0, 0, 1], 80).into())),
            ),
            ("[::1]:0", Some(Listen::Address("[::1]:0".parse().unwrap()))),
            (
                "localhost:8080",
                Some(Listen::Name("localhost".into(), 8080)),
            ),
            ("unix:/run/x", Some(Listen::Unix("/run/x".into()))),
            ("unix:", None),
            ("8080", None),
            ("127.1:80", None),
            ("localhost", None),
            ("localhost:http", None),
            ("::1:80:", None),
        ] {
            assert_eq!(text.parse().ok(), listen, "{text}");
            if let Some(listen) = listen {
                assert_eq!(listen.to_string(), text);
            }
        }
    }

    #[test]
    fn limits_have_units_and_can_be_off() {
        assert_eq!(timeout("off").unwrap(), OrOff(None));
        assert_eq!(
            timeout("1m 30s").unwrap(),
            OrOff(Some(Duration::from_secs(90)))
        );
        assert!(timeout("0s").is_err() && timeout("30").is_err());
        assert_eq!(bytes("64KiB").unwrap(), 65536);
        assert_eq!(rate("10MB/s").unwrap(), OrOff(NonZeroU64::new(10_000_000)));
        assert_eq!(head_bytes("8KiB").unwrap(), 8192);
        assert!(head_bytes("8191").is_err());
        assert!(rate("0").is_err() && count("0").is_err());
        assert_eq!(unsent("1MiB").unwrap(), OrOff(NonZeroU32::new(1 << 20)));
        assert_eq!(unsent("off").unwrap(), OrOff(None));
        assert!(unsent("0").is_err());
        assert_eq!(count("5").unwrap(), OrOff(NonZeroU64::new(5)));
        assert_eq!(positive("2").unwrap().get(), 2);
        assert!(positive("0").is_err() && positive("-1").is_err());
        assert_eq!(whole::<u32>("0"), Ok(0));
        assert!(whole::<u32>("4294967296").is_err() && whole::<u32>("1k").is_err());
        assert_eq!(mode("660").unwrap(), 0o660);
        assert!(mode("888").is_err() && mode("1777").is_err());
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("X-Robots-Tag: noindex").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-robots-tag", &b"noindex"[..])
        );
        assert!(header("no colon").is_err() && header("a b: c").is_err());
        for name in ["Content-Length", "transfer-encoding", "Connection"] {
            assert!(header(&format!("{name}: 3")).is_err(), "{name}");
        }
    }
}
