//! Preconditions, in the order of RFC 9110 §13.2.2.

use headers::{ETag, Header, HeaderMapExt, IfModifiedSince, IfRange, IfUnmodifiedSince};
use http::header::{AsHeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderValue};

use super::validators::Validators;

/// What the preconditions of a GET or HEAD allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
    /// The file, or the part asked for.
    Send,
}

/// Whether a request asks for neither conditions nor ranges, as most do: one look at each header's
/// first letters instead of seven look-ups.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    !headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("if-") || name == "range"
    })
}

/// Evaluates them. A malformed header counts as absent.
pub(super) fn evaluate(headers: &HeaderMap, validators: &Validators) -> Verdict {
    let own = text_of(&validators.etag);
    let own = Tag::parse(own.as_bytes()).map(|(tag, _)| tag);
    let strongly = |tag: Tag<'_>| !tag.weak && Some(tag) == own;
    let weakly = |tag: Tag<'_>| own.is_some_and(|own| own.opaque == tag.opaque);
    if let Some(matches) = matches(headers, IF_MATCH, strongly) {
        if !matches {
            return Verdict::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) = (
        headers.typed_get::<IfUnmodifiedSince>(),
        validators.modified,
    ) && !since.precondition_passes(modified)
    {
        return Verdict::PreconditionFailed;
    }
    if let Some(matches) = matches(headers, IF_NONE_MATCH, weakly) {
        if matches {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (headers.typed_get::<IfModifiedSince>(), validators.modified)
        && !since.is_modified(modified)
    {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// An entity tag in a header.
///
/// By hand: the library takes anything for a list, matches nothing in a list of which one tag is
/// not ASCII, and panics at a space in a tag where debug assertions are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    /// The tag that `text` begins with, and what is behind it (RFC 9110 §8.8.3).
    pub(super) fn parse(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let text = text.strip_prefix(b"\"")?;
        let is_etagc = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
        let (opaque, rest) = text.split_at(text.iter().take_while(|byte| is_etagc(byte)).count());
        Some((Self { weak, opaque }, rest.strip_prefix(b"\"")?))
    }
}

fn text_of(etag: &ETag) -> HeaderValue {
    let mut values = Vec::with_capacity(1);
    etag.encode(&mut values);
    values.pop().expect("a tag is one value")
}

/// Whether a header of entity tags is `*` or has one that `is_it`; `None` if it is not there, or is
/// malformed.
fn matches(
    headers: &HeaderMap,
    name: impl AsHeaderName,
    is_it: impl Fn(Tag<'_>) -> bool,
) -> Option<bool> {
    let mut found = None;
    for value in headers.get_all(name) {
        let matches = list_matches(value.as_bytes(), &is_it)?;
        found = Some(found.unwrap_or(false) | matches);
    }
    found
}

/// The same of one value: `*`, or tags with commas between them; empty elements are none (RFC 9110
/// §5.6.1, §13.1.1).
fn list_matches(value: &[u8], is_it: impl Fn(Tag<'_>) -> bool) -> Option<bool> {
    let mut rest = value.trim_ascii();
    if rest == b"*" {
        return Some(true);
    }
    let mut found = None;
    loop {
        rest = rest.trim_ascii_start();
        rest = match rest {
            [] => return found,
            [b',', after @ ..] => after,
            _ => {
                let (tag, after) = Tag::parse(rest)?;
                found = Some(found.unwrap_or(false) | is_it(tag));
                let after = after.trim_ascii_start();
                if !matches!(after, [] | [b',', ..]) {
                    return None;
                }
                after
            }
        };
    }
}

/// Whether a `Range` may be honoured: there is no `If-Range`, or it names this very version, by a
/// strong tag or by the exact date (RFC 9110 §13.1.5).
pub(super) fn range_applies(headers: &HeaderMap, validators: &Validators) -> bool {
    let Some(value) = headers.get(IF_RANGE) else {
        return true;
    };
    if value.as_bytes().ends_with(b"\"") {
        return !validators.etag.is_weak() && *value == text_of(&validators.etag);
    }
    // The library calls any date at or after the file's a match; the RFC asks for the same one.
    let date = headers.typed_get::<IfRange>();
    validators
        .modified
        .is_some_and(|modified| date == Some(IfRange::date(modified)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use http::header::{HeaderName, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE};

    use super::*;

    const DATE: &str = "Mon, 12 Jan 1970 13:46:40 GMT";
    const EARLIER: &str = "Mon, 12 Jan 1970 13:46:39 GMT";
    const LATER: &str = "Mon, 12 Jan 1970 13:46:41 GMT";

    fn validators(tag: &str) -> Validators {
        let modified: SystemTime = UNIX_EPOCH + Duration::from_secs(1_000_000);
        Validators {
            etag: tag.parse().unwrap(),
            last_modified: Some(modified.into()),
            modified: Some(modified),
        }
    }

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes());
                (name.clone(), value.unwrap())
            })
            .collect()
    }

    #[test]
    fn preconditions_follow_the_order_of_the_rfc() {
        use Verdict::{NotModified, PreconditionFailed, Send};
        let cases: [(&[(HeaderName, &str)], Verdict); 22] = [
            (&[], Send),
            (&[(IF_MATCH, "\"a\"")], Send),
            (&[(IF_MATCH, "*")], Send),
            (&[(IF_MATCH, "\"b\", \"c\"")], PreconditionFailed),
            (&[(IF_MATCH, "W/\"a\"")], PreconditionFailed),
            (&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, EARLIER)], Send),
            (&[(IF_UNMODIFIED_SINCE, EARLIER)], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, DATE)], Send),
            (&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (
                &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATER)],
                Send,
            ),
            (&[(IF_MODIFIED_SINCE, DATE)], NotModified),
            (&[(IF_MODIFIED_SINCE, EARLIER)], Send),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Send),
            (&[(IF_MATCH, "garbage")], Send),
            (&[(IF_MATCH, "\"a b\"")], Send),
            (&[(IF_NONE_MATCH, "\"a\" \"a\"")], Send),
            (&[(IF_MATCH, "\"é\", \"a\"")], Send),
            (&[(IF_MATCH, "\"é\"")], PreconditionFailed),
            (&[(IF_NONE_MATCH, ", \"b,c\" ,\"a\",")], NotModified),
            (
                &[(IF_NONE_MATCH, "garbage"), (IF_MODIFIED_SINCE, DATE)],
                NotModified,
            ),
            (
                &[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")],
                PreconditionFailed,
            ),
        ];
        for (list, verdict) in cases {
            assert_eq!(
                evaluate(&headers(list), &validators("\"a\"")),
                verdict,
                "{list:?}"
            );
        }
    }

    #[test]
    fn if_range_wants_a_strong_tag_or_the_exact_date() {
        for (tag, value, applies) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("\"a\"", DATE, true),
            ("\"a\"", EARLIER, false),
            ("\"a\"", LATER, false),
            ("\"a\"", "nonsense", false),
            ("\"a\"", "\"a b\"", false),
            ("\"a\"", "\"a\", \"a\"", false),
            ("\"a\"", "\"", false),
        ] {
            let headers = headers(&[(IF_RANGE, value)]);
            assert_eq!(
                range_applies(&headers, &validators(tag)),
                applies,
                "{tag} {value}"
            );
        }
    }
}
